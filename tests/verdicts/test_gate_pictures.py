"""What pictures and latents of tier 1 disprove, and on which side of the latents the mistake is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf.records.bagel import Request
from bagel_perf.records.expectations import Expected, ExpectedPicture
from bagel_perf.records.runs import OtherSeedRun, RepeatedRun, Run, RunT
from bagel_perf.verdicts.drift import request_label
from bagel_perf.verdicts.gate_pictures import picture_findings, print_findings
from scripted import make_run

REQUEST = Request(width=48, height=64)
KINDS: tuple[type[RepeatedRun | OtherSeedRun], ...] = (RepeatedRun, OtherSeedRun)


def run(kind: type[RunT], variant: str = "baseline", *, latents: str = "", picture: str = "") -> RunT:
    """A run whose latents and picture follow from its seed, unless they are given."""
    made = make_run(kind, variant, REQUEST)
    shown = replace(made.output, latents_sha256=latents or f"latents of {made.seed}")
    return replace(made, output=replace(shown, md5=picture, sha256=picture) if picture else shown)


def messages(*runs: Run) -> list[str]:
    return [finding.message for finding in picture_findings([REQUEST], ["baseline", "fused"], runs)]


def test_runs_that_repeat_each_other_give_no_finding() -> None:
    assert messages(*(run(kind, variant) for variant in ("baseline", "fused") for kind in KINDS)) == []


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        ("", "baseline at 48x64 gives the same picture for different latents; is it kept from another request?"),
        ("same", "baseline at 48x64 gives the same latents for different seeds; does its noise come from its seed?"),
    ],
)
def test_alike_pictures_of_different_seeds_are_placed_before_or_behind_the_latents(latents: str, message: str) -> None:
    runs = [run(kind, latents=latents, picture="same") for kind in KINDS]
    assert messages(*runs) == ["baseline at 48x64 gives the same picture for different seeds", message]


def test_of_flat_pictures_no_more_is_said_than_that_they_are_flat() -> None:
    runs = [run(kind, latents="nothing", picture="flat") for kind in KINDS]
    flat = [replace(each, output=replace(each.output, spread=0.0)) for each in runs]
    assert [message.partition(" (")[0] for message in messages(*flat)] == [
        "baseline at 48x64 gives the same picture for different seeds",
        "baseline at 48x64 gives a flat picture",
    ]


def test_latents_that_a_picture_hides_are_a_finding() -> None:
    (message,) = messages(run(RepeatedRun), run(RepeatedRun, "fused", latents="others"))
    assert message.startswith("fused gives other latents than baseline")


PICTURE = ExpectedPicture(
    request=request_label(REQUEST),
    pixels="00ff",
    latents="11ee",
    contexts_print=(0.5, -0.25),
    latents_print=(1.0, 2.0),
    pixels_print=(127.0, 90.0),
)
EXPECTED = Expected(reason="a test", made_with={}, pictures=(PICTURE,), runs=())


@pytest.mark.parametrize(
    ("prints", "what"),
    [
        ({}, None),
        ({"latents_print": (1.01, 2.01), "pixels_print": (127.2, 90.1)}, None),
        ({"latents_print": (1.1, 2.2)}, "the latents"),
        ({"contexts_print": (0.503, -0.25)}, "the contexts"),
        ({"pixels_print": (131.0, 90.0)}, "the pixels"),
        ({"pixels_print": (131.0,)}, "the pixels"),
        ({"latents_print": (math.nan, 2.0)}, "the latents"),
    ],
)
def test_a_fingerprint_may_be_off_by_rounding_and_no_more(prints: dict[str, Any], what: str | None) -> None:
    ours = replace(EXPECTED, pictures=(replace(PICTURE, **prints),))
    found = [finding.message for finding in print_findings([REQUEST], EXPECTED, ours)]
    assert [message.partition(" of the reference")[0] for message in found] == ([] if what is None else [what])
