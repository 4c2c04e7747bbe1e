"""The tables of what ``upstream_ahead.py`` measured, from its files."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bagel_perf.verdicts.statistics import median_interval

OURS = ("baseline", "pr3987", "sync_free", "captured", "fused")
FLASH = "/flash"
"""Ends the name of a variant of ours that takes the attention kernel which the releases take here."""
STAGES = ("inputs", "prefill", "denoise", "decode")
"""Inputs: pixels for both encoders, tokens and noise, on the host, which a release makes in its prefill."""
Json = dict[str, Any]


def total_ms(run: Json) -> float:
    return float(sum(run["ms"].values()))


def print_tables(paths: Sequence[Path]) -> None:
    """Medians by side, and for each release its ratio to each variant of ours: of medians, and paired by round."""
    for path in paths:
        try:
            blocks = json.loads(path.read_text())["blocks"]
        except (OSError, ValueError, KeyError, TypeError) as problem:
            remedy = "name a file that upstream_ahead.py wrote"
            raise SystemExit(f"error: no measurement ({path}); {type(problem).__name__}: {problem}; {remedy}") from None
        for block in blocks:
            print_block(block)


def print_block(block: Json) -> None:
    rounds = block["rounds"]
    runs = [(side, run) for one in (block["warm"], *rounds) for side, run in one.items()]
    failed = {side: run["error"].partition(". ")[0] for side, run in runs if "error" in run}
    sides = [side for side in block["warm"] if side not in failed]
    if not rounds or not sides:
        print(f"{block['kind']}: nothing to show, {len(rounds)} rounds; failed: {failed or 'none'}", file=sys.stderr)
        return
    print(f"\n### {block['kind']}: {len(rounds)} {'rounds' if len(rounds) > 1 else 'round'}\n")
    print("| side |", " | ".join(STAGES), "| whole (min to max) | a step | J | host syncs | launches | GPU busy |")
    print("|---" + "|---:" * 10 + "|")
    for side in sides:
        own = [one[side] for one in rounds]
        stages = {name: statistics.median(run["ms"][name] for run in own) for name in own[0]["ms"]}
        whole = [total_ms(run) for run in own]
        joules = [run["joule"] for run in own if run["joule"] is not None]
        steps, counts = own[0]["steps"], block["counts"].get(side, {})
        work = counts.get("work", {}).values()
        cells = [
            *(f"{stages[name]:.1f}" if name in stages else "in prefill" for name in STAGES),
            f"{statistics.median(whole):.1f} ({min(whole):.1f} to {max(whole):.1f})",
            f"{stages['denoise'] / steps:.2f}",
            f"{statistics.median(joules):.0f}" if joules else "-",
            f"{sum(counts['host_syncs'].values()):,}" if "host_syncs" in counts else "-",
            f"{sum(each['launches'] for each in work):,}" if work else "-",
            f"{100 * sum(each['busy_ms'] for each in work) / statistics.median(whole):.0f}%" if work else "-",
        ]
        print(f"| {side} | {' | '.join(cells)} |")
    print()
    ours = [side for side in sides if side.removesuffix(FLASH) in OURS]
    for release in (side for side in sides if side not in ours):
        for side in ours:
            ratios = [total_ms(one[release]) / total_ms(one[side]) for one in rounds]
            median, interval = median_interval(ratios)
            shown = "no interval" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
            before, after = (statistics.median(total_ms(one[each]) for one in rounds) for each in (release, side))
            print(f"- {release} / {side}: medians {before / after:.2f}, paired {median:.2f} ({shown})")
    for side, problem in failed.items():
        print(f"- {side} failed: {problem}")
    hashes = {side: {one[side]["sha256"][:12] for one in (block["warm"], *rounds)} for side in sides}
    print("- pixels:", ", ".join(f"{side} {' '.join(sorted(found))}" for side, found in hashes.items()))
    if "floors" in block:
        for floor in block["floors"]["floors"]:
            parts = {each["name"]: round(each["floor_ms"], 1) for each in floor["components"]}
            listed = ", ".join(f"{name} {ms}" for name, ms in parts.items())
            print(f"- floor of {floor['stage']}: {sum(parts.values()):.1f} ms: {listed}")
