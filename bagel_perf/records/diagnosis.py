"""What ``doctor`` says of a machine: rows of what is there, and what can be measured with it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bagel_perf.records import codec

SCHEMA = "bagel-perf.doctor"
VERSION = 1

State = Literal["ok", "limited", "missing"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of the machine: what was found, what that means for a measurement, and how to mend it.

    ``is_needed`` says that a measurement waits for it to be mended.
    """

    what: str
    state: State
    found: str
    means: str = ""
    remedy: str = ""
    is_needed: bool = False


class TorchFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a Python says of its torch; ``version`` is None where it has none.

    ``cuda`` is the CUDA of the build. The rest is None where there was no GPU to look for: ``sees_gpu``,
    ``records_kernels`` (by the profiler), and ``problem``, why either was not found out.
    """

    version: str | None = None
    cuda: str | None = None
    sees_gpu: bool | None = None
    records_kernels: bool | None = None
    problem: str | None = None


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All rows; ``measures`` says of each thing that can be measured how, or that it cannot be; ``next`` what to do."""

    rows: tuple[Row, ...]
    measures: dict[str, str]
    next: str

    def to_json(self) -> dict[str, Any]:
        """Gives the diagnosis as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}
