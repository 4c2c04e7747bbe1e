"""The result of ``verify``: every golden tensor under every variant."""

from __future__ import annotations

from typing import Any

import msgspec

from bagel_perf.schema import codec
from bagel_perf.schema.runs import TensorCheck

SCHEMA = "bagel-perf.verify"
VERSION = 1


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The checks in the order in which they were made; ``variants`` are all that were asked for."""

    variants: tuple[str, ...]
    checks: tuple[TensorCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether every variant was checked and nothing exceeds its limit."""
        return all(map(self.of, self.variants)) and all(check.ok for check in self.checks)

    def of(self, variant: str) -> tuple[TensorCheck, ...]:
        """The checks of one variant."""
        return tuple(check for check in self.checks if check.variant == variant)

    def to_json(self) -> dict[str, Any]:
        """The checks as a JSON object, by variant."""
        variants: dict[str, list[dict[str, Any]]] = {}
        for variant in self.variants:
            variants[variant] = [codec.to_json(check) for check in self.of(variant)]
        for check in (check for checks in variants.values() for check in checks):
            del check["variant"]
        return {"schema": SCHEMA, "version": VERSION, "variants": variants, "ok": self.ok}
