"""``baseline`` waits where vLLM-Omni 0.20.0 waits, as often on every line; what differs is listed in docs/bagel.md.

Upstream's own code runs beside it, each with random weights of few numbers and the same layers, tokens and steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bagel_perf.records.bagel import Guidance, Request, Task
from bagel_perf.subjects.bagel.edit import request_inputs
from bagel_perf.subjects.bagel.model.preprocess import vae_pixels
from cheap_model import cheap_model
from upstream_lines import OUTSIDE, Place, Row, Upstream, Wait, documented, run_upstream, waits_of, with_text

pytestmark = pytest.mark.upstream

RELEASE = "0.20.0"
NUM_TEXT = 7
"""Five words and two markers, in the runner as here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request of both sides; ``guided`` of its steps lie in the interval of guidance."""

    task: Task = "i2i"
    side: int
    layers: int
    points: int
    guided: int
    interval: tuple[float, float] = (0.0, 1.0)
    branches: int = 3
    text_scale: float = 4.0
    image_scale: float = 2.0

    @property
    def options(self) -> str:
        """How the runner is asked for it."""
        lower, upper = self.interval
        scales = f"--text-scale {self.text_scale} --img-scale {self.image_scale} --interval {lower} {upper}"
        stages = "--t2i" if self.task == "t2i" else "--stage both"
        return f"{stages} --res {self.side} --layers {self.layers} --steps {self.points} {scales}"

    @property
    def sizes(self) -> dict[str, int]:
        """The document's letters, but for P."""
        has_picture = self.task == "i2i"
        return {
            "L": self.layers,
            "N": (self.side // 16) ** 2,
            "S": self.points - 1,
            "G": self.guided,
            "B": self.branches,
            "I": 2 if has_picture else 0,
            "X": 1,
        }

    @property
    def num_positions(self) -> int:
        """P of the baseline: the picture as latents and as patches, in two contexts, and the text in two."""
        num_patches = (self.vit_side // 14) ** 2
        return self.sizes["I"] * (self.sizes["N"] + 2 + num_patches + 2) + 2 * NUM_TEXT

    @property
    def cheap_side(self) -> int:
        """Of a picture with as many latent tokens, where one is made of 2 x 2 pixels and not of 16 x 16."""
        return self.side // 8

    @property
    def vit_side(self) -> int:
        """What the runner's tiny preset takes of the side of a picture."""
        return self.side // 14 * 14


CASES = {
    "edit at 256": Case(side=256, layers=2, points=4, guided=3),
    "edit at 384": Case(side=384, layers=3, points=5, guided=4),
    "text to image": Case(task="t2i", side=256, layers=2, points=6, guided=4, interval=(0.5, 1.0)),
    "two branches": Case(side=256, layers=1, points=3, guided=2, branches=2, image_scale=1.0),
    "one branch": Case(side=256, layers=1, points=3, guided=2, branches=1, text_scale=1.0),
}
BOTH, ALONE = documented()
STAGES = {"denoise": "dit", "decode": "dit", "adjust_positions": "ar", "mot_forward": "ar"}


@pytest.fixture(scope="module")
def runs(upstream_runner: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Upstream]:
    """All cases by name, in one process."""
    folder = tmp_path_factory.mktemp("upstream")
    found = run_upstream(upstream_runner, folder, RELEASE, [case.options for case in CASES.values()])
    return dict(zip(CASES, found, strict=True))


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture
def upstream(name: str, runs: Mapping[str, Upstream]) -> Upstream:
    return runs[name]


@pytest.fixture
def baseline(case: Case) -> list[Wait]:
    with cheap_model(case.layers, num_levels=1) as model:
        guidance = Guidance(text_scale=case.text_scale, image_scale=case.image_scale, interval=case.interval)
        request = Request(
            task=case.task, width=case.cheap_side, height=case.cheap_side, steps=case.points, guidance=guidance
        )
        inputs = request_inputs(
            request, model.config, None, 42, lambda image, _: vae_pixels(image, case.vit_side, case.vit_side)
        )
        assert inputs.noise_NC.shape[0] == case.sizes["N"]
        return waits_of(model, with_text(inputs, NUM_TEXT), "baseline")


def rows_by_place() -> Iterator[tuple[tuple[str, Place], Row]]:
    for row in BOTH:
        for place in row.places:
            yield (row.region, place), row


def test_every_line_that_waits_in_upstreams_request_is_in_one_of_the_tables_and_no_other(
    runs: Mapping[str, Upstream],
) -> None:
    matched = [key for key, _ in rows_by_place()]
    assert len(matched) == len(set(matched)) and not set(matched) & ALONE.keys()
    waited = {key[:2] for run in runs.values() for key in run.waits}
    assert waited == set(matched) | ALONE.keys()
    assert all(ALONE.values())


def test_upstreams_lines_wait_as_often_as_the_document_says(case: Case, upstream: Upstream) -> None:
    found: Counter[tuple[str, Place]] = Counter()
    for (region, place, _), count in upstream.waits.items():
        found[region, place] += count
    expected = Counter(
        {
            key: row.count(P=upstream.num_positions, **case.sizes)
            for key, row in rows_by_place()
            if case.task == "i2i" or STAGES[row.region] == "dit"
        }
    )
    assert {key: count for key, count in found.items() if key not in ALONE} == +expected


def test_the_baseline_waits_as_often_at_the_line_whose_comment_names_the_place(
    case: Case, upstream: Upstream, baseline: list[Wait]
) -> None:
    expected: Counter[tuple[str, str]] = Counter()
    in_comments = {
        (row.region, place): own for row in BOTH for place, own in zip(row.places, row.in_comments, strict=True)
    }
    for (region, place, kind), count in upstream.waits.items():
        if (region, place) in ALONE:
            continue
        (line,) = [
            wait.where
            for wait in baseline
            if in_comments[region, place] in wait.places and (wait.kind, wait.stage) == (kind, STAGES[region])
        ]
        expected[line, kind] += count
    separators = upstream.num_positions - (case.num_positions if upstream.num_positions else 0)
    assert separators == case.sizes["I"]
    found = Counter({(wait.where, wait.kind): wait.count for wait in baseline})
    (pairs,) = [(wait.where, wait.kind) for wait in baseline if "ar:792" in wait.places] or [("", "")]
    found[pairs] += separators
    assert +found == expected


def test_lines_in_no_region_upload_inputs_and_nothing_else(runs: Mapping[str, Upstream]) -> None:
    kinds = {key[2] for run in runs.values() for key in run.waits if key[0] == OUTSIDE}
    assert kinds == {"pageable_upload"}


def test_the_pull_request_leaves_in_an_edits_prefill_what_the_release_with_it_has(
    upstream_runner: Path, tmp_path: Path
) -> None:
    (after,) = run_upstream(upstream_runner, tmp_path, "0.22.0", ["--stage ar --res 64 --layers 2"])
    released: Counter[str] = Counter()
    for (region, _, _), count in after.waits.items():
        released[region] += count
    with cheap_model(2, num_levels=1) as model:
        inputs = request_inputs(
            Request(width=16, height=16, steps=2), model.config, None, 42, lambda image, _: vae_pixels(image, 56, 56)
        )
        found = waits_of(model, with_text(inputs, NUM_TEXT), "pr3987")
    own: Counter[str] = Counter()
    for wait in found:
        if wait.stage == "ar":
            own["adjust_positions" if "positions.py" in wait.where else "mot_forward"] += wait.count
    assert own == released == {"adjust_positions": 10, "mot_forward": 28 * 2 + 4}
