"""What options that are BAGEL's come to: requests, weights, names of variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bagel_perf.cli.options import BITWISE_RUNGS, EVERY_RUNG, FIRST_AND_BEST
from bagel_perf.commands.common import existing, listed
from bagel_perf.commands.sizes import requests_of
from bagel_perf.schema.plans import ATTENTIONS, PRESETS, one_of
from bagel_perf.schema.requests import TASKS, Request
from bagel_perf.schema.variants import parse_variants


def requests(
    res: list[str] | None, device: str, task: str, image: Path | None, prompt: str, steps: int, seed: int
) -> tuple[Request, ...]:
    """One of each size; without any, of the size that the device is for."""
    picture = None if image is None else str(existing(image, "picture", folder=False))
    fields = {"task": one_of("task", task, TASKS), "image": picture, "prompt": prompt, "steps": steps, "seed": seed}
    return requests_of(listed(res or []), device, **fields)


def model_of(preset: str, weights: Path | None, attention: str) -> dict[str, Any]:
    """Those fields of a plan that say which model runs, and how."""
    return {
        "preset": one_of("preset", preset, PRESETS),
        "weights": None if weights is None else str(existing(weights, "weights folder", folder=True)),
        "attention": one_of("attention", attention, ATTENTIONS),
    }


def default_variants(*, ladder: bool, ablate: bool) -> str:
    return EVERY_RUNG if ladder else FIRST_AND_BEST if ablate else BITWISE_RUNGS


def names(variants: str) -> tuple[str, ...]:
    return tuple(variant.name for variant in parse_variants(variants))
