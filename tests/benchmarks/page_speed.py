"""How soon the page of a large trace is seen, and how many frames a second it draws while it is zoomed and moved.

``python tests/benchmarks/page_speed.py --size-mb 1000 --json figures.json`` makes a trace, has ``trace`` make its page,
and opens that in Chromium, drawn by the processor, without a network. ``--trace`` takes a trace of your own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from chromium import DESK, Browser, missing  # noqa: E402
from trace_speed import make_trace, processor  # noqa: E402

PAINT = "return performance.getEntriesByName('first-contentful-paint').map(each => each.startTime)[0]"
# In each frame the wheel turns: in for a while, then out; then the window is moved by the keys.
FRAMES = """
const done = arguments[arguments.length - 1], seconds = arguments[0];
const canvas = document.querySelector('.lanes'), box = canvas.getBoundingClientRect();
const times = [], begun = performance.now();
const turn = deltaY => canvas.dispatchEvent(new WheelEvent('wheel', {ctrlKey: true, deltaY,
    clientX: box.left + box.width * 0.6, clientY: box.top + 30, bubbles: true, cancelable: true}));
const press = key => canvas.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
function frame(now) {
    times.push(now);
    const part = (performance.now() - begun) / (1000 * seconds);
    if (part >= 1) { done(times); return; }
    if (part < 0.4) turn(-20); else if (part < 0.8) turn(20); else press(part < 0.9 ? 'ArrowRight' : 'ArrowLeft');
    requestAnimationFrame(frame);
}
canvas.scrollIntoView({block: 'center'});
requestAnimationFrame(frame);
"""


def measure(browser: Browser, page: Path, seconds: float = 4.0) -> dict[str, float]:
    """First paint, time until the controls are there, frames a second while zooming, and the longest frame, in ms."""
    browser.open(page, width=DESK)
    browser.wait_for(lambda: browser.run(PAINT) is not None)  # told after the frame that it was in
    paint_ms = browser.run(PAINT)
    live_ms = browser.run("return performance.getEntriesByName('live').map(each => each.startTime)[0]")
    browser.driver.set_script_timeout(10 * seconds + 20)
    times = browser.driver.execute_async_script(FRAMES, seconds)
    lengths = [after - before for before, after in itertools.pairwise(times)]
    return {
        "bytes": page.stat().st_size,
        "first_paint_ms": paint_ms,
        "controls_ms": live_ms,
        "frames_a_second": 1000 * len(lengths) / sum(lengths),
        "median_frame_ms": statistics.median(lengths),
        "longest_frame_ms": max(lengths),
    }


def page_of(trace: Path, folder: Path) -> Path:
    """What ``trace --html`` makes of a trace."""
    page = folder / "trace.html"
    command = [sys.executable, "-m", "bagel_perf", "trace", str(trace), "--html", str(page), "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True)
    return page


def main() -> None:
    """Makes a trace and its page, opens it several times, prints and writes figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--trace", type=Path, help="use this trace instead of making one")
    parser.add_argument("--page", type=Path, help="use this page instead of making one")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if absent := missing():
        raise SystemExit(f"error: {', '.join(absent)} missing; make test-browser installs them")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made: dict[str, Any] = {}
        page = options.page
        if page is None:
            trace = options.trace or folder / "trace.json"
            if options.trace is None:
                made["num_events"] = make_trace(trace, options.size_mb * 1_000_000)
            begun_s = time.perf_counter()
            page = page_of(trace, folder)
            made |= {"num_bytes": trace.stat().st_size, "page_made_s": time.perf_counter() - begun_s}
        browser = Browser(folder / "profile")
        runs = [measure(browser, page) for _ in range(options.runs)]
        version = browser.driver.capabilities["browserVersion"]
        browser.close()
    figures = {"trace": made, "machine": processor(), "chromium": version, "runs": runs}
    for run in runs:
        print("  ".join(f"{name} {value:.1f}" for name, value in run.items()))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
