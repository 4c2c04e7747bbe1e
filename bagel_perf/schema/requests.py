"""A request: what is asked of the model, whatever the variant."""

from __future__ import annotations

import re
from typing import Literal, get_args

import msgspec

from bagel_perf.schema.errors import UsageError

Task = Literal["i2i", "t2i"]
Renorm = Literal["global", "channel", "text_channel"]

TASKS: tuple[Task, ...] = get_args(Task)

LATENT_PIXELS = 16
MAX_PIXELS = 1024
MAX_SEED = 2**63 - 1_000_001
"""The seeds after it, of which each round of a comparison takes one, fit torch's generators too."""


class Guidance(msgspec.Struct, frozen=True, kw_only=True):
    """Classifier-free guidance; it acts while the time t lies in ``interval[0] < t <= interval[1]``."""

    text_scale: float = 4.0
    image_scale: float = 2.0
    interval: tuple[float, float] = (0.0, 1.0)
    renorm: Renorm = "text_channel"
    renorm_min: float = 0.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One picture to make: ``width`` x ``height`` pixels, from a prompt and, for ``i2i``, an input picture.

    ``image`` is the path of the input picture; None stands for the one that the package draws. ``steps`` counts the
    points of the schedule, so the model iterates ``steps - 1`` times. Raises ``UsageError``.
    """

    task: Task = "i2i"
    width: int
    height: int
    prompt: str = "Change the color to blue"
    steps: int = 15
    seed: int = 42
    timestep_shift: float = 3.0
    guidance: Guidance = Guidance()
    image: str | None = None

    def __post_init__(self) -> None:
        check_resolution(self.width, self.height)
        if self.task not in TASKS:
            raise UsageError("unknown task", value=self.task, allowed="allowed: " + ", ".join(TASKS))
        if self.steps < 2:
            raise UsageError("too few steps", value=self.steps, allowed="at least 2")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError("seed is out of range", value=self.seed, allowed=f"0 to {MAX_SEED}")
        if not self.prompt.strip():
            raise UsageError("prompt is empty", remedy='give one with --prompt "TEXT"')
        if self.task == "t2i" and self.image is not None:
            raise UsageError("t2i takes no picture", value=self.image, remedy="leave --image out, or use --task i2i")

    @property
    def case(self) -> str:
        """The name of the case that asks for it."""
        return f"{self.width}x{self.height}"


def parse_resolution(text: str) -> tuple[int, int]:
    """(width, height) of ``1024`` or ``768x1024``; ``UsageError`` when it is neither or out of range."""
    match = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text.strip())
    if match is None:
        raise UsageError("resolution is not understood", value=text, allowed="SIDE or WIDTHxHEIGHT, as 768x1024")
    width = int(match[1])
    height = int(match[2] or match[1])
    check_resolution(width, height)
    return width, height


def check_resolution(width: int, height: int) -> None:
    """Raises ``UsageError`` unless both sides are multiples of 16 from 16 to 1024."""
    for side in (width, height):
        if side % LATENT_PIXELS or not LATENT_PIXELS <= side <= MAX_PIXELS:
            allowed = f"each side a multiple of {LATENT_PIXELS} from {LATENT_PIXELS} to {MAX_PIXELS}"
            nearest = min(max(round(side / LATENT_PIXELS) * LATENT_PIXELS, LATENT_PIXELS), MAX_PIXELS)
            remedy = f"{nearest} is the nearest to {side}"
            raise UsageError("resolution is not possible", value=f"{width}x{height}", allowed=allowed, remedy=remedy)
