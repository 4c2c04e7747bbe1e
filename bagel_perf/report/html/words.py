"""Figures as a sentence has them: times on one scale, changes with a sign, counts with separators, cases in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from bagel_perf.records.results import Result
from bagel_perf.verdicts.statistics import change_of_medians_pct

MINUS = "\u2212"
TIMES = "\u00d7"
NO_BREAK = "\u00a0"
SCALES = ((1000.0, "s"), (1.0, "ms"), (1e-3, "us"), (1e-6, "ns"))
"""Milliseconds of each unit."""
SIGNIFICANT = 3
ONE_SCALE = 1000.0
"""How many times longer than the shortest the longest of times in one unit is at most."""


def times_text(values_ms: Sequence[float]) -> list[str]:
    """Times in the unit of the longest and with as many digits as the shortest needs, so that readers can divide.

    Times too far apart for that have each a unit of its own.
    """
    known = [value for value in values_ms if value > 0]
    if known and max(known) >= ONE_SCALE * min(known):
        return [times_text([value])[0] for value in values_ms]
    scale, unit = next(((ms, name) for ms, name in SCALES if max(known, default=1.0) >= ms), SCALES[-1])
    least = min(known, default=1.0) / scale
    digits = next((digits for digits in range(4) if least >= 10 ** (SIGNIFICANT - 1 - digits)), 4)
    return [f"{value / scale:,.{digits}f} {unit}" for value in values_ms]


def change_pct(before_ms: float, after_ms: float) -> float:
    """The delta of two medians in percent, as a reader gets it who divides them."""
    return change_of_medians_pct(before_ms, after_ms) or 0.0


def percent_text(value: float) -> str:
    """With a sign and one digit, more where that would be all of it; what rounds to nothing has no sign."""
    digits = next((number for number in range(1, 6) if not -100 < value <= -100 + 0.5 * 10**-number), 6)
    text = f"{abs(value):,.{digits}f}"
    return "0.0%" if text == "0.0" else f"{MINUS if value < 0 else '+'}{text}%"


def number_text(value: int) -> str:
    """With separators of thousands."""
    return f"{value:,}"


def many(number: int, noun: str) -> str:
    """``1 host sync``, ``79,557 host syncs``."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number_text(number)} {noun}{plural * (number != 1)}"


def case_text(case: str) -> str:
    """A resolution with a proper sign, any other case as it is, and words where it has no name."""
    found = re.fullmatch(r"(\d+)x(\d+)", case)
    return f"{found[1]} {TIMES} {found[2]}" if found else case if case.strip() else "(no name)"


def thing_text(result: Result, case: str) -> str:
    """What a run of a case makes: a picture of a size, or the case itself."""
    if result.outline.noun != "picture":
        return f"case {case_text(case)}"
    is_size = re.fullmatch(r"\d+x\d+", case) is not None
    return f"a {case_text(case)} picture" if is_size else f"a picture of {case}"


def unbroken(text: str) -> str:
    """The text with its figures held to their units, and sizes together, where lines break."""
    return re.sub(rf"(?<=\d) (?=(?:s|ms|us|ns|%|{TIMES})\b|{TIMES} )|(?<={TIMES}) (?=\d)", NO_BREAK, text)


def date_text(created: str) -> str:
    """The day of an ISO time in words; the text itself where it is none."""
    try:
        day = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{day.day} {day:%B %Y}"


def stopped(text: str) -> str:
    """With a full stop, as a line that begins with a name, which has no capital."""
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return stopped(f"{text[:1].upper()}{text[1:]}")
