"""HTML reports of committed results, of a history with timelines, and of a result whose strings try to be more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bagel_perf.records.results import Result
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.html.page import build_page, page_html
from bagel_perf.report.html.source import source_of
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.verdicts.reading import load_checked
from rank_scenes import four_ranks, rank_files

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ("2026-11-26_h100-80gb_3e079d6", "2026-11-23_h200_252761e")
HOSTILE = "hostile"
HISTORY = "history"
GATE = "gate"
LARGEST = "h200"
"""A committed page, with eight timelines."""
TRACE = "trace"
RANKS = "ranks"
WAITS = "waits"
"""Of a report of syncs alone, without a drawing of matplotlib."""
PAGES = (*COMMITTED, HISTORY, HOSTILE, GATE, LARGEST, TRACE, RANKS, WAITS)

OF_HISTORY = ("2026-11-23_h200_252761e", "2026-11-26_h200_5841467", "2026-11-26_h200_5841467-2")

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
    """The page of a name, written into a folder by the command line."""
    out = folder / name
    if name == GATE:
        return _gate_page(folder)
    if name in (TRACE, RANKS):
        return _trace_page(name, folder)
    if name == LARGEST:
        return ROOT / "reports" / "pages" / name / "report.html"
    if name == HOSTILE:
        return _hostile_page(out)
    command = [sys.executable, "-m", "bagel_perf", "report", *map(str, _files(name, folder)), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "report.html"


def _gate_page(folder: Path) -> Path:
    """Of the last result of the history, which its gate refuses: the reference comes from another machine."""
    page = folder / "gate.html"
    before, after = ("2026-11-26_h200_5841467-2", "2026-11-27_h100-80gb_cd33067-2")
    command = [
        sys.executable,
        "-m",
        "bagel_perf",
        "gate",
        "result",
        f"reports/{after}",
        "--reference",
        f"reports/{before}",
    ]
    done = subprocess.run([*command, "--html", str(page)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    return page


def _trace_page(name: str, folder: Path) -> Path:
    """Of a committed trace against another one, or of made-up ranks."""
    page, traces = folder / f"{name}.html", ROOT / "tests" / "data" / "traces"
    inputs = [traces / "torch211_h100.json.gz", "--against", traces / "torch211_h100_stacks.json.gz"]
    if name == RANKS:
        inputs = list(rank_files(folder, four_ranks()))
    command = [sys.executable, "-m", "bagel_perf", "trace", *map(str, inputs), "--html", str(page), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return page


def _files(name: str, folder: Path) -> list[Path]:
    if name == HISTORY:
        return [*(ROOT / "reports" / each for each in OF_HISTORY), _profiled_run(folder)]
    if name == WAITS:
        return [ROOT / "reports" / "syncs-h100" / "pr3987-256.json"]
    return [ROOT / "reports" / name]


def _profiled_run(folder: Path) -> Path:
    """A committed report of syncs with the profile of a committed trace, for the timelines."""
    syncs = ROOT / "reports" / "syncs-h100"
    report = SyncReport.from_json(json.loads((syncs / "pr3987-256.json").read_text(encoding="utf-8")))
    profiled = replace(report, profile=analyse(read_trace(syncs / "pr3987_t2i.json.gz")))
    path = folder / "profiled.json"
    path.write_text(json.dumps(profiled.to_json()), encoding="utf-8")
    return path


def _hostile_page(folder: Path) -> Path:
    """Past the reader, which refuses most of what is in it."""
    data = json.loads(json.dumps(load_checked(ROOT / "reports" / COMMITTED[0]).to_json()))
    _spoil(data)
    folder.mkdir()
    page = folder / "report.html"
    page.write_text(page_html(build_page((source_of(Result.from_json(data), folder),))), encoding="utf-8")
    return page


def _spoil(data: dict[str, Any]) -> None:
    for asked in data["subject"]["asked"].values():
        asked.update(prompt=SHOWN["prompt"], image=REMOTE)
    data["subject"]["details"].update(weights=FORMULA, attention=IMAGE)
    texts = {"device_name": SHOWN["device_name"], "torch": TEMPLATE, "driver": CDATA, "platform": ENDS_STYLE}
    data["environment"].update(texts, commit=LINK, python=ENTITY, cuda=MARKDOWN)
    data.update(command=SHOWN["command"], warnings=[SHOWN["warning"]], findings=[SHOWN["finding"]])
    for number, image in enumerate(data["outputs"]):
        image["path"] = (IMAGE, LINK, REMOTE, SCRIPT, "../../etc/passwd", "/etc/passwd")[number % 6]
    for run in data["runs"]:
        run["output"]["path"] = REMOTE
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
