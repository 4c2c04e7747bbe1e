"""Names of the slots (replaceable pieces of control flow) and of the stages that are measured."""

from __future__ import annotations

from typing import Literal

SLOTS: tuple[str, ...] = (
    "pack_contexts",
    "adjust_positions",
    "route_experts",
    "attention_lengths",
    "merge_kv",
    "timestep_schedule",
    "step_input",
    "denoise_loop",
    "norm_activate",
)

Stage = Literal["ar", "dit", "e2e"]

STAGES: tuple[Stage, ...] = ("ar", "dit", "e2e")


def summed_stages(stage: Stage) -> tuple[Stage, ...]:
    """The stages whose counts make up those of ``stage``: those of ``e2e`` are counted as ``ar`` and ``dit``."""
    return ("ar", "dit") if stage == "e2e" else (stage,)


def as_stage(name: str) -> Stage:
    """The stage of this name; KeyError if there is none."""
    return {stage: stage for stage in STAGES}[name]  # type: ignore[index]
