"""What ``doctor`` says of a machine: rows of what is there, and what can be measured with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bagel_perf.records import codec

SCHEMA = "bagel-perf.doctor"
VERSION = 1

State = Literal["ok", "limited", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing of the machine: what was found, what that means for a measurement, and how to mend it.

    ``is_needed`` says that a measurement waits for it to be mended.
    """

    what: str
    state: State
    found: str
    means: str = ""
    remedy: str = ""
    is_needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFacts:
    """What a Python says of its torch; ``version`` is None where it has none.

    ``cuda`` is the CUDA of the build. The rest is None where there was no GPU to look for: ``sees_gpu``,
    ``records_kernels`` (by the profiler), and ``problem``, why either was not found out.
    """

    version: str | None = None
    cuda: str | None = None
    sees_gpu: bool | None = None
    records_kernels: bool | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All rows; ``measures`` says of each thing that can be measured how, or that it cannot be; ``next`` what to do."""

    rows: tuple[Row, ...]
    measures: dict[str, str]
    next: str

    def to_json(self) -> dict[str, Any]:
        """Gives the diagnosis as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}
