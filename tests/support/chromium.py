"""Chromium without a network, and what a page in it asked for and complained about."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
AXE = Path(__file__).resolve().parents[2] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"

Scheme = Literal["light", "dark"]

PHONE, TABLET, DESK = 360, 768, 1440
"""Widths in CSS pixels."""

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
# Chromium tells a refused script to the log, but an alert or a refused style by an attribute might go unseen.
WATCHES = """
window.violations = [];
document.addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective + ' ' + e.blockedURI));
"""


# A page of ours says when its controls are there.
LIVE = "return !document.getElementById('live') || document.documentElement.dataset.live === 'ready'"


def missing() -> list[str]:
    """What the browser tests need and is not here, found without importing or starting anything."""
    modules = [name for name in ("selenium", "pypdf") if importlib.util.find_spec(name) is None]
    return modules + [path.name for path in (CHROMIUM, CHROMEDRIVER, AXE) if not path.exists()]


class Browser:
    """One Chromium; a page is opened with no emulation left over from the last one."""

    def __init__(self, profile: Path) -> None:
        self.driver = _start(profile)
        self.cdp("Network.enable")
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCHES)

    def cdp(self, method: str, **parameters: object) -> dict[str, Any]:
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(method, parameters)
        return answer

    def run(self, script: str, *arguments: object) -> Any:
        """What a function body of JavaScript returns in the page."""
        return self.driver.execute_script(script, *arguments)

    def open(self, page: Path, *, width: int = DESK, scheme: Scheme = "light", scripts: bool = True) -> None:
        self.driver.get("about:blank")
        self.cdp("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.cdp("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.show(width=width, scheme=scheme)
        self._log("browser")
        self._log("performance")
        self.driver.get(page.as_uri())
        if scripts:
            self.wait_for(lambda: bool(self.run(LIVE)))

    def show(self, *, width: int = DESK, scheme: Scheme = "light", media: Literal["", "print"] = "") -> None:
        """A phone is mobile in that it obeys the viewport's meta element. A medium that is named holds for PDF too."""
        phone = width <= PHONE
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.cdp("Emulation.setEmulatedMedia", media=media, features=features)

    def open_details(self) -> None:
        """As a reader would, one by one."""
        self.run("document.querySelectorAll('details').forEach(d => { d.open = true; });")

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened, its own among them; data that it brings is not asked for."""
        entries = self._log("performance")
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Lines of the console, and what the page's policy refused."""
        return [entry["message"] for entry in self._log("browser")] + list(self.run("return window.violations"))

    def _log(self, kind: Literal["browser", "performance"]) -> list[dict[str, Any]]:
        """What came since the last call."""
        entries: list[dict[str, Any]] = self.driver.execute("getLog", {"type": kind})["value"]
        return entries

    def press(self, key: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(key).perform()

    def wait_for(self, condition: Callable[[], bool], limit_s: float = 10.0) -> None:
        end_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end_s, f"not within {limit_s} s"
            time.sleep(0.05)

    def pdf(self) -> bytes:
        answer = self.cdp("Page.printToPDF", preferCSSPageSize=True, paperWidth=8.27, paperHeight=11.69)
        return b64decode(answer["data"])

    def close(self) -> None:
        self.driver.quit()


def _start(profile: Path) -> Chrome:
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    os.environ.setdefault("SE_AVOID_STATS", "true")
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.unhandled_prompt_behavior = "ignore"  # an alert is then an error of the next call
    return Chrome(options=options, service=ChromeService(executable_path=str(CHROMEDRIVER)))
