"""Whether two results may be held against each other: made on alike machines, of the same requests, interleaved."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from bagel_perf.schema.requests import Request
from bagel_perf.schema.results import Result, res_label
from bagel_perf.schema.runs import Environment, differing_fields

COMPARED = ("commit", "dirty")
"""Fields of an environment that may differ: what two results are compared for."""
LATER = ("host_cpu",)
"""Fields that older versions did not have."""
GATE_COMMAND = "bagel-perf gate "


def unlike(reference: Result, candidate: Result, unknown: Collection[str] = ()) -> list[str]:
    """Each field of the environments and requests that differs, with both values; none that is ``unknown`` of one."""
    environments = unlike_environments(reference.environment, candidate.environment, (*COMPARED, *unknown))
    return [*environments, *_unlike_requests(reference, candidate)]


def unlike_environments(
    reference: Environment, candidate: Environment, but: Collection[str] = COMPARED
) -> tuple[str, ...]:
    """Each field that differs ``but`` some, with both values; one that an older version did not tell is none."""
    names = differing_fields(reference, candidate)
    told = [name for name in names if name not in LATER or None not in _values(name, reference, candidate)]
    return tuple(_both(name, reference, candidate) for name in told if name not in but)


def _unlike_requests(reference: Result, candidate: Result) -> Iterator[str]:
    """Of the resolutions that both have."""
    theirs = {_size(request): request for request in reference.requests}
    for request in candidate.requests:
        before = theirs.get(_size(request), request)
        for field in dataclasses.fields(request):
            if getattr(before, field.name) != getattr(request, field.name):
                yield f"at {res_label(*_size(request))} {_both(field.name, before, request)}"


def _both(name: str, reference: object, candidate: object) -> str:
    before, after = _values(name, reference, candidate)
    return f"{name} {before} and {after}"


def _values(name: str, *records: object) -> tuple[object, ...]:
    return tuple(getattr(record, name) for record in records)


def _size(request: Request) -> tuple[int, int]:
    return request.width, request.height


def are_interleaved(reference: Result, candidate: Result) -> bool:
    """Whether one ``gate`` measured both in turns, so that their rounds are pairs."""
    is_gate = candidate.command.startswith(GATE_COMMAND) and candidate.command == reference.command
    return is_gate and candidate.order_seed == reference.order_seed
