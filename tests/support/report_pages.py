"""HTML reports of committed results, and of one in which everything that is text tries to be something else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ("2026-11-26_h100-80gb_3e079d6", "2026-11-23_h200_252761e")
HOSTILE = "hostile"
PAGES = (*COMMITTED, HOSTILE)

SCRIPT = "<script>window.pwned=1</script>"
IMAGE = '"><img src=x onerror="window.pwned=1">'
LINK = "javascript:window.pwned=1"
ENDS_SCRIPT = "</script><svg onload=window.pwned=1>"
ENDS_STYLE = "</style></title></textarea></details><b onmouseover='window.pwned=1'>"
CDATA = "]]><![CDATA[-->"
TEMPLATE = "{{7*7}}"
FORMULA = r"$\frac{1}{2}$"
REMOTE = "http://example.invalid/x.png"
ENTITY = "&lt;i&gt;&#x3c;"
MARKDOWN = f"[a]({LINK}) ![b]({REMOTE})"

SHOWN = {
    "prompt": SCRIPT,
    "command": f"bagel-perf compare {IMAGE}",
    "device_name": ENDS_SCRIPT,
    "warning": f"variant {IMAGE}{SCRIPT} is slow {FORMULA}",
    "finding": f"variant {MARKDOWN} {TEMPLATE} {ENDS_STYLE} differs {CDATA} {ENTITY}",
}
"""What a page has to show as it is, by where it stands in the result."""


def report_of(name: str, folder: Path) -> Path:
    """The page of a committed result or of the hostile one, written into a folder by the command line."""
    out = folder / name
    result = _hostile_result(folder) if name == HOSTILE else ROOT / "reports" / name
    command = [sys.executable, "-m", "bagel_perf", "report", str(result), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "report.html"


def _hostile_result(folder: Path) -> Path:
    data = json.loads((ROOT / "reports" / COMMITTED[0] / "result.json").read_text(encoding="utf-8"))
    _spoil(data)
    path = folder / "hostile-result" / "result.json"
    path.parent.mkdir()
    path.write_text(json.dumps(data), encoding="utf-8")
    return path.parent


def _spoil(data: dict[str, Any]) -> None:
    for request in (data["request"], *data["requests"]):
        request.update(prompt=SHOWN["prompt"], image=REMOTE)
    texts = {"device_name": SHOWN["device_name"], "torch": TEMPLATE, "driver": CDATA, "platform": ENDS_STYLE}
    data["environment"].update(texts, commit=LINK, weights=FORMULA, attention=IMAGE, python=ENTITY, cuda=MARKDOWN)
    data.update(command=SHOWN["command"], warnings=[SHOWN["warning"]], findings=[SHOWN["finding"]])
    for number, image in enumerate(data["images"]):
        image["path"] = (IMAGE, LINK, REMOTE, SCRIPT, "../../etc/passwd", "/etc/passwd")[number % 6]
    for run in data["runs"]:
        run["picture"]["path"] = REMOTE
        if run["purpose"] == "count":
            run["sites"] = [_site(run["measurements"][0]["stage"])]


def _site(region: str) -> dict[str, Any]:
    return {
        "kind": "scalar_read",
        "file": f"{SCRIPT}/{IMAGE}.py",
        "line": 7,
        "function": ENDS_SCRIPT,
        "region": region,
        "count": 1,
        "expressions": [f"x[{SCRIPT}].item()", TEMPLATE, FORMULA],
        "caller": f"{LINK}:3",
        "op": CDATA,
        "allowed": IMAGE,
    }
