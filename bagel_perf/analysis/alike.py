"""Whether two results may be held against each other: made on alike machines, of the same requests, interleaved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from bagel_perf.schema.outlines import SubjectInfo
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import Environment, differing_fields

COMPARED = ("commit", "dirty")
"""Fields of an environment that may differ: what two results are compared for."""
LATER = ("host_cpu",)
"""Fields that older versions did not have."""
GATE_COMMAND = "bagel-perf gate "


def unlike(reference: Result, candidate: Result, unknown: Collection[str] = ()) -> list[str]:
    """Each field of environments, subjects and cases that differs, with both values, but what is ``unknown`` of one."""
    but = (*COMPARED, *unknown)
    environments = unlike_environments(reference.environment, candidate.environment, but)
    subjects = unlike_subjects(reference.subject, candidate.subject, but)
    return [*environments, *subjects, *_unlike_values({"seed": reference.seed}, {"seed": candidate.seed}, ())]


def unlike_makings(reference: Result, candidate: Result, but: Collection[str] = COMPARED) -> list[str]:
    """Each field ``but`` some that differs of where two results were made, and of what their subjects were made from.

    As the machine and the versions, and of BAGEL the preset and the weights.
    """
    environments = unlike_environments(reference.environment, candidate.environment, but)
    return [*environments, *_unlike_values(reference.subject.details, candidate.subject.details, but)]


def unlike_environments(
    reference: Environment, candidate: Environment, but: Collection[str] = COMPARED
) -> tuple[str, ...]:
    """Each field that differs ``but`` some, with both values; one that an older version did not tell is none."""
    names = differing_fields(reference, candidate)
    told = [name for name in names if name not in LATER or None not in _values(name, reference, candidate)]
    return tuple(_both(name, reference, candidate) for name in told if name not in but)


def unlike_subjects(
    reference: SubjectInfo | None, candidate: SubjectInfo | None, but: Collection[str] = COMPARED
) -> Iterator[str]:
    """Each detail that differs ``but`` some, and what the cases that both have ask for, but for the seed.

    As BAGEL's preset and weights, its prompt and steps. Of None nothing is known, so nothing differs.
    """
    if reference is None or candidate is None:
        return
    yield from _unlike_values(reference.details, candidate.details, but)
    for case in (case for case in candidate.asked if case in reference.asked):
        for each in _unlike_values(reference.asked[case], candidate.asked[case], ("seed",)):
            yield f"at {case} {each}"


def _unlike_values(before: Mapping[str, object], after: Mapping[str, object], but: Collection[str]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key) and key not in but:
            yield f"{key} {before.get(key)} and {after.get(key)}"


def _both(name: str, reference: object, candidate: object) -> str:
    before, after = _values(name, reference, candidate)
    return f"{name} {before} and {after}"


def _values(name: str, *records: object) -> tuple[object, ...]:
    return tuple(getattr(record, name) for record in records)


def are_interleaved(reference: Result, candidate: Result) -> bool:
    """Whether one ``gate`` measured both in turns, so that their rounds are pairs."""
    is_gate = candidate.command.startswith(GATE_COMMAND) and candidate.command == reference.command
    return is_gate and candidate.order_seed == reference.order_seed
