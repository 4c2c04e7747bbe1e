"""Names of the slots: replaceable pieces of control flow."""

from __future__ import annotations

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
