"""What pictures and latents of tier 1 disprove, and on which side of the latents the mistake is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bagel_perf.analysis.gate_pictures import picture_findings
from bagel_perf.schema.requests import Request
from bagel_perf.schema.runs import Purpose, Run
from scripted import make_run

REQUEST = Request(width=48, height=64)
PURPOSES: tuple[Purpose, ...] = ("repeat", "other_seed")


def run(purpose: Purpose, variant: str = "baseline", *, latents: str = "", picture: str = "") -> Run:
    """A run whose latents and picture follow from its seed, unless they are given."""
    made = make_run(purpose, variant, REQUEST)
    shown = replace(made.picture, latents_sha256=latents or f"latents of {made.seed}")
    return replace(made, picture=replace(shown, md5=picture, pixels_sha256=picture) if picture else shown)


def messages(*runs: Run) -> list[str]:
    return [finding.message for finding in picture_findings([REQUEST], ["baseline", "fused"], runs)]


def test_runs_that_repeat_each_other_give_no_finding() -> None:
    assert messages(*(run(purpose, variant) for variant in ("baseline", "fused") for purpose in PURPOSES)) == []


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        ("", "baseline at 48x64 gives the same picture for different latents; is it kept from another request?"),
        ("same", "baseline at 48x64 gives the same latents for different seeds; does its noise come from its seed?"),
    ],
)
def test_alike_pictures_of_different_seeds_are_placed_before_or_behind_the_latents(latents: str, message: str) -> None:
    runs = [run(purpose, latents=latents, picture="same") for purpose in PURPOSES]
    assert messages(*runs) == ["baseline at 48x64 gives the same picture for different seeds", message]


def test_of_flat_pictures_no_more_is_said_than_that_they_are_flat() -> None:
    runs = [run(purpose, latents="nothing", picture="flat") for purpose in PURPOSES]
    flat = [replace(each, picture=replace(each.picture, spread=0.0)) for each in runs]
    assert [message.partition(" (")[0] for message in messages(*flat)] == [
        "baseline at 48x64 gives the same picture for different seeds",
        "baseline at 48x64 gives a flat picture",
    ]


def test_latents_that_a_picture_hides_are_a_finding() -> None:
    (message,) = messages(run("repeat"), run("repeat", "fused", latents="others"))
    assert message.startswith("fused gives other latents than baseline")
