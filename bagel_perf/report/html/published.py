"""What the pull request says of itself, for comparison."""

from __future__ import annotations

VARIANT = "pr3987"
SOURCE = "vllm-project/vllm-omni pull request 3987: H800, AR and DiT on separate GPUs, 15 steps, means of 5"
DELTAS_PCT: dict[tuple[str, str], float] = {
    ("256x256", "ar"): -16.4,
    ("256x256", "dit"): -4.1,
    ("1024x1024", "ar"): -13.1,
    ("1024x1024", "dit"): -4.6,
}
"""By resolution and stage, as printed there."""
