"""What options that are BAGEL's come to: requests, weights, names of variants."""

from __future__ import annotations

from pathlib import Path

from bagel_perf.cli.options import BITWISE_RUNGS, EVERY_RUNG, FIRST_AND_BEST
from bagel_perf.commands.common import existing, listed
from bagel_perf.commands.sizes import default_sizes
from bagel_perf.schema.plans import one_of
from bagel_perf.schema.requests import TASKS, Request, parse_resolution
from bagel_perf.schema.variants import parse_variants


def requests(
    res: list[str] | None, device: str, task: str, image: Path | None, prompt: str, steps: int, seed: int
) -> tuple[Request, ...]:
    """One of each size; without any, of the size that the device is for."""
    default = [f"{width}x{height}" for width, height in default_sizes(device)] if res is None else []
    return tuple(request(each, task, image, prompt, steps, seed) for each in listed(res or []) or default)


def request(res: str, task: str, image: Path | None, prompt: str, steps: int, seed: int) -> Request:
    width, height = parse_resolution(res)
    return Request(
        task=one_of("task", task, TASKS),
        width=width,
        height=height,
        prompt=prompt,
        steps=steps,
        seed=seed,
        image=None if image is None else str(existing(image, "picture", folder=False)),
    )


def folder(weights: Path | None) -> str | None:
    return None if weights is None else str(existing(weights, "weights folder", folder=True))


def default_variants(*, ladder: bool, ablate: bool) -> str:
    return EVERY_RUNG if ladder else FIRST_AND_BEST if ablate else BITWISE_RUNGS


def names(variants: str) -> tuple[str, ...]:
    return tuple(variant.name for variant in parse_variants(variants))
