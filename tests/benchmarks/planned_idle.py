"""Whether ``trace`` charges idle time to what caused it, held to programs whose idle time is arranged and known.

``planned_idle.py --out DIR`` records the programs of ``planned_programs`` on a GPU and judges the traces: what each
cause has to be within ``MAX_OFF``, what has to be named, and that everything adds up. ``--keep`` leaves the traces
beside the figures; ``--judge DIR`` judges those once more, anywhere. ``--dry-run`` rehearses all of it without a GPU.
The exit code is 1 where something is not as it has to be.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MAX_OFF = 0.05
MAX_ROUNDING_MS = 1e-6
ROW = "{:13} {:15} {:>10} {:>10} {:>8}  {:4} {}"


def judged(folder: Path, name: str, program: dict[str, Any]) -> dict[str, Any]:
    """Sets what the trace of a program is said to show beside what was planned."""
    from bagel_perf.traces.analyse import report_of
    from bagel_perf.traces.findings import examine
    from bagel_perf.traces.formats.reading import read_trace
    from bagel_perf.traces.replay import PredictedSavings

    if "error" in program:
        return {"rows": [], "failures": [program["error"]]}
    findings = examine(read_trace(folder / f"{name}.json.gz"))
    report = report_of(findings, PredictedSavings(findings))
    if report.gpu_idle_ms is None:
        return {"rows": [], "failures": ["no idle time", *report.warnings]}
    rows = [_row(report, each) for each in program["planned"]]
    failures = [f"{row['cause']}: {why}" for row in rows for why in row.pop("failures")]
    failures += [*_sums(report), *_gaps(findings)]
    if program.get("captured_launches", 0) != report.captured_launches:
        failures.append(f"{report.captured_launches} launches captured, {program.get('captured_launches', 0)} in truth")
    causes = {cause: round(time_ms, 3) for cause, time_ms in report.idle_by_cause_ms.items() if time_ms >= 0.0005}
    culprits = [f"{each.idle_ms:.3f} ms {each.cause}: {each.what}" for each in report.culprits[:8]]
    return {
        "rows": rows,
        "failures": failures,
        "window_ms": report.window_ms,
        "idle_ms": report.gpu_idle_ms,
        "idle_by_cause_ms": causes,
        "culprits": culprits,
        "launches": report.launches,
        "captured_launches": report.captured_launches,
        "host_syncs": report.host_syncs,
        "warnings": [*report.warnings],
    }


def _row(report: Any, planned: dict[str, Any]) -> dict[str, Any]:
    """Compares one cause."""
    cause, planned_ms = planned["cause"], planned["planned_ms"]
    found_ms = report.idle_by_cause_ms.get(cause, 0.0)
    off_ms = found_ms - planned_ms
    main = next((each.what for each in report.culprits if each.cause == cause), "")
    failures = []
    if planned_ms <= 0:
        failures.append("nothing was planned, so nothing is shown")
    elif abs(off_ms) > max(MAX_OFF * planned_ms, planned["slack_ms"]):
        failures.append(f"{found_ms:.3f} ms, planned {planned_ms:.3f} ms")
    if not re.search(planned["named"], main):
        failures.append(f"named '{main}', not '{planned['named']}'")
    off = off_ms / planned_ms if planned_ms > 0 else 0.0
    return {
        "cause": cause,
        "planned_ms": round(planned_ms, 4),
        "attributed_ms": round(found_ms, 4),
        "off_percent": round(100 * off, 2),
        "known_from": planned["known_from"],
        "named": main,
        "failures": failures,
    }


def _sums(report: Any) -> list[str]:
    """Finds totals of a report that do not add up."""
    failures = []
    both_ms = report.gpu_busy_ms + report.gpu_idle_ms
    if abs(both_ms - report.window_ms * len(report.devices)) > MAX_ROUNDING_MS * 1e3:
        failures.append(f"busy and idle are {both_ms} ms, the window {report.window_ms} ms")
    if abs(sum(report.idle_by_cause_ms.values()) - report.gpu_idle_ms) > MAX_ROUNDING_MS * 1e3:
        failures.append(f"causes add up to {sum(report.idle_by_cause_ms.values())} ms of {report.gpu_idle_ms} ms")
    for gap in report.gaps:
        parts_ms = sum(part.duration_ms for part in gap.parts)
        if abs(parts_ms - gap.duration_ms) > MAX_ROUNDING_MS:
            failures.append(f"the parts of a gap of {gap.duration_ms} ms add up to {parts_ms} ms")
    return failures


def _gaps(findings: Any) -> list[str]:
    """Finds gaps, all of them and not the worst alone, whose parts do not fill them one after the other."""
    parts, gaps, failures = findings.idle.parts, findings.idle.gaps, []
    for gap in range(len(gaps)):
        mine = parts.gap == gap
        edges = [gaps.start_us[gap], *parts.end_us[mine]]
        if [*parts.start_us[mine], gaps.end_us[gap]] != edges or sorted(edges) != edges:
            failures.append(f"the parts of the gap at {gaps.start_us[gap]} us do not follow each other")
    return failures


def judge(folder: Path) -> bool:
    """Judges all traces of a folder, prints a table, writes ``planned_idle.json``; tells whether all is right."""
    recorded = json.loads((folder / "planned.json").read_text(encoding="utf-8"))
    found = {name: judged(folder, name, program) for name, program in recorded["programs"].items()}
    print(ROW.format("program", "cause", "planned ms", "found ms", "off", "", "named"))
    for name, result in found.items():
        for row in result["rows"]:
            state = "ok" if not any(each.startswith(f"{row['cause']}: ") for each in result["failures"]) else "OFF"
            times = f"{row['planned_ms']:.3f}", f"{row['attributed_ms']:.3f}", f"{row['off_percent']:+.2f}%"
            print(ROW.format(name, row["cause"], *times, state, row["named"][:60]))
    failures = [f"{name}: {failure}" for name, result in found.items() for failure in result["failures"]]
    print("\n".join(failures) if failures else "all within the tolerance, and everything adds up")
    text = json.dumps({**recorded, "max_off": MAX_OFF, "judged": found}, indent=1)
    (folder / "planned_idle.json").write_text(text + "\n", encoding="utf-8")
    return not failures


def main(arguments: list[str] | None = None) -> int:
    """Records, judges, or does both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the figures")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="judge the traces that were kept there")
    parser.add_argument("--keep", action="store_true", help="keep the traces")
    parser.add_argument("--dry-run", action="store_true", help="stand in for a GPU")
    parser.add_argument("--programs", help="some of them, with commas between")
    options = parser.parse_args(arguments)
    if options.judge is not None:
        return 0 if judge(options.judge) else 1
    if options.out is None:
        parser.error("--out or --judge is missing")
    from planned_programs import PROGRAMS, record_all

    names = options.programs.split(",") if options.programs else [*PROGRAMS]
    if unknown := [each for each in names if each not in PROGRAMS]:
        parser.error(f"no such program: {unknown[0]}; there are {', '.join(PROGRAMS)}")
    begun_s = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    record_all(options.out, names, is_rehearsal=options.dry_run)
    recorded_s = time.perf_counter() - begun_s
    is_right = judge(options.out)
    print(f"recorded in {recorded_s:.0f} s, judged in {time.perf_counter() - begun_s - recorded_s:.0f} s")
    for trace in [] if options.keep else [options.out / f"{name}.json.gz" for name in names]:
        trace.unlink(missing_ok=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
