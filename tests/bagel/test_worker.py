"""The real worker, end to end on the tiny preset: what it sends, and what it refuses to time."""

from __future__ import annotations

import dataclasses
import errno
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from bagel_perf import launch, worker
from bagel_perf.cli import main
from bagel_perf.measure import compare, counting
from bagel_perf.measure import stages as measure
from bagel_perf.measure.environment import resolve_device
from bagel_perf.measure.session import Turns
from bagel_perf.measure.stages import Subject
from bagel_perf.records.bagel import BUILT_IN, Request
from bagel_perf.records.errors import EnvironmentUnfit, OutputsDiffer, RunFailed, UsageError
from bagel_perf.records.events import Event, ProgressEvent, RunEvent, TensorEvent
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import Result, load
from bagel_perf.records.runs import TimedRun
from bagel_perf.subjects.bagel.bench import BagelBench, recorded_loop
from bagel_perf.subjects.bagel.golden import run_verify
from bagel_perf.subjects.bagel.loading import Loaded, resolve_attention
from bagel_perf.subjects.bagel.loading import load as load_model
from bagel_perf.subjects.bagel.model.bagel import build_bagel
from bagel_perf.subjects.bagel.model.config import preset
from bagel_perf.subjects.bagel.model.preprocess import draw_default_picture, tokenize
from bagel_perf.subjects.bagel.model.weights import RandomSource
from bagel_perf.subjects.bagel.png import encode_png
from kernels_optimized.captured.loop import CapturedLoop
from wait_formulas import FORMULAS, Counts, Sizes

SMALL = Request(width=32, height=32, steps=2)


def compare_plan(tmp_path: Path, **changes: object) -> Plan:
    fields: dict[str, object] = {
        "requests": (SMALL,),
        "variants": ("baseline", "sync_free"),
        "pairs": 2,
        "warmup": 1,
        "processes": 1,
    }
    return Plan(kind="compare", device="cpu", image_dir=str(tmp_path), **{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """The tiny preset, whose image encoder sees 25 patches: attention over 4,900 is most of a small request."""
    plan = Plan(kind="compare", device="cpu", requests=(SMALL,), variants=("baseline", "sync_free"))
    loaded = load_model(plan, lambda text, done, total: None)
    config = dataclasses.replace(loaded.model.config, vit=dataclasses.replace(loaded.model.config.vit, image_size=70))
    source = RandomSource(device=torch.device("cpu"), seed=0)
    return dataclasses.replace(loaded, model=build_bagel(source, source, config, loaded.model.attention))


def run_compare(plan: Plan, loaded: Loaded, emit: Callable[[Event], None]) -> None:
    compare.run_compare(plan, BagelBench(plan=plan, loaded=loaded), Turns(emit=emit), emit)


def runs_of(plan: Plan, loaded: Loaded) -> list[RunEvent]:
    events: list[Event] = []
    run_compare(plan, loaded, events.append)
    return [event for event in events if isinstance(event, RunEvent)]


def test_the_command_measures_every_variant_in_a_worker_of_its_own(tmp_path: Path) -> None:
    small = ["--task", "t2i", "--res", "64x48", "--steps", "2", "--device", "cpu", "--pairs", "1", "--quiet"]
    assert main(["compare", *small, "--out", str(tmp_path / "r")]) == 0
    result = load(tmp_path / "r" / "result.json")
    assert result.complete
    assert result.verdict == "pass"
    assert set(result.named) == {built_in.name for built_in in BUILT_IN if built_in.is_bitwise}
    assert {image.md5 for image in result.outputs} == {result.outputs[0].md5}
    assert host_syncs(result, "sync_free") == host_syncs(result, "fused") == {"ar": 0, "dit": 1, "e2e": 1}
    text = len(tokenize(prompt_of(result), preset("tiny"), None))
    sizes = Sizes(latents=12, positions=2 * text, guided=1, pictures=0, texts=2)
    assert host_syncs(result, "baseline") == in_all(FORMULAS["baseline"](sizes))


def test_an_edit_is_counted_and_its_picture_kept_as_the_autoencoder_takes_it(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command, in this process for its small image encoder."""

    def run_plan(plan: Plan, listeners: Sequence[Callable[[Event], None]]) -> None:
        def emit(event: Event) -> None:
            for listener in listeners:
                listener(event)

        run_compare(plan, loaded, emit)

    monkeypatch.setattr(launch, "run_plan", run_plan)
    drawn = draw_default_picture(100, 80)
    drawn.save(tmp_path / "given.png")
    small = ["--image", str(tmp_path / "given.png"), "--res", "64x48", "--steps", "2", "--device", "cpu"]
    few = ["--variants", "baseline,sync_free", "--pairs", "1", "--warmup", "0", "--quiet"]
    assert main(["compare", *small, *few, "--out", str(tmp_path / "r")]) == 0
    result = load(tmp_path / "r" / "result.json")
    assert (result.complete, result.verdict) == (True, "pass")
    assert host_syncs(result, "sync_free") == {"ar": 0, "dit": 1, "e2e": 1}
    latents, patches, text = 12, 25, len(tokenize(prompt_of(result), loaded.model.config, None))
    sizes = Sizes(latents=latents, positions=2 * (latents + 2 + patches + 2) + 2 * text, guided=1)
    assert host_syncs(result, "baseline") == in_all(FORMULAS["baseline"](sizes))
    (given,) = result.inputs
    picture = given.output
    assert picture.path == "64x48_input.png"
    with Image.open(tmp_path / "r" / picture.path) as kept:
        assert kept.tobytes() == drawn.resize((64, 48), Image.Resampling.BICUBIC).tobytes()


def prompt_of(result: Result) -> str:
    return str(result.subject.asked[result.cases[0]]["prompt"])


def in_all(waits: Counts) -> dict[str, int | None]:
    """Host syncs of each stage and of the whole."""
    stages = {stage: sum(components.values()) for stage, components in waits.items()}
    return {**stages, "e2e": sum(stages.values())}


def host_syncs(result: Result, variant: str) -> dict[str, int | None]:
    return {cell.stage: cell.host_syncs for cell in result.cells if cell.variant == variant}


@pytest.mark.parametrize(
    "plan",
    [
        Plan(kind="compare", requests=(SMALL,), variants=("baseline", "fused")),
        Plan(kind="syncs", requests=(SMALL,), variants=("baseline",)),
        Plan(kind="verify", variants=("baseline",), golden="nowhere"),
    ],
)
def test_whatever_runs_bagel_waits_for_no_gpu_that_another_run_holds(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(device: torch.device) -> NoReturn:
        raise EnvironmentUnfit("another run is using this GPU")

    monkeypatch.setattr(worker, "gpu_lock", held)
    with pytest.raises(EnvironmentUnfit, match="another run"):
        worker._run_measurement(plan, lambda event: None, io.StringIO())


def test_a_variant_is_counted_and_proved_before_anything_is_timed(tmp_path: Path, loaded: Loaded) -> None:
    purposes = [event.run.purpose for event in runs_of(compare_plan(tmp_path), loaded)]
    assert purposes == ["count", "repeat", "other_seed"] * 2 + ["warmup"] * 2 + ["timed"] * 12


def test_every_run_of_the_same_seed_gives_the_same_picture_written_once(tmp_path: Path, loaded: Loaded) -> None:
    runs = [event.run for event in runs_of(compare_plan(tmp_path), loaded)]
    by_seed = {seed: {run.output.md5 for run in runs if run.seed == seed} for seed in (42, 43)}
    assert [len(md5s) for md5s in by_seed.values()] == [1, 1]
    assert by_seed[42] != by_seed[43]
    assert {path.name for path in tmp_path.glob("*.png") if "input" not in path.name} == {
        run.output.path for run in runs if run.seed == 42
    }


def test_a_cached_picture_is_refused_before_it_is_timed(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, cache = measure.run_stages, dict[str, bytes]()

    def cached(subject: Subject, *each: object) -> bytes:
        if "png" not in cache:
            cache["png"] = real(subject)
        return cache["png"]

    monkeypatch.setattr(compare, "run_stages", cached)
    monkeypatch.setattr(counting, "run_stages", cached)
    monkeypatch.setattr(compare, "memory_by_stage", lambda subject, device: (cached(subject), {}))
    with pytest.raises(OutputsDiffer, match="another seed gives the same picture"):
        runs_of(compare_plan(tmp_path), loaded)


def test_a_picture_that_does_not_repeat_is_refused(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measure.memory_by_stage

    def drifting(subject: Subject, device: torch.device) -> tuple[bytes, dict[str, tuple[int, int]]]:
        png, peaks = real(subject, device)
        pixels = np.array(Image.open(io.BytesIO(png)))
        pixels[0, 0, 0] ^= 1
        return encode_png(pixels), peaks

    monkeypatch.setattr(compare, "memory_by_stage", drifting)
    with pytest.raises(OutputsDiffer, match="differs from itself"):
        runs_of(compare_plan(tmp_path), loaded)


def test_a_timed_run_that_records_a_graph_ends_the_comparison(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = compare_plan(tmp_path, variants=("baseline", "captured"))
    monkeypatch.setattr(CapturedLoop, "take_captures", lambda loop: (40.0,))
    events: list[Event] = []
    with pytest.raises(RunFailed, match=r"a timed run recorded a graph \(captured\)"):
        run_compare(plan, loaded, events.append)
    assert not [each for each in events if isinstance(each, RunEvent) and isinstance(each.run, TimedRun)]


def test_the_peak_of_a_variant_holds_no_recording_of_another(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = compare_plan(tmp_path, variants=("baseline", "captured", "fused"), pairs=1, warmup=0)
    loops = [loop for loop in map(recorded_loop, plan.measured) if loop is not None]
    real, recorded = measure.memory_by_stage, list[tuple[bool, ...]]()

    def observed(subject: Subject, device: torch.device) -> tuple[bytes, dict[str, tuple[int, int]]]:
        recorded.append(tuple(bool(loop._shapes) for loop in loops))
        return real(subject, device)

    monkeypatch.setattr(compare, "memory_by_stage", observed)
    runs = [event.run for event in runs_of(plan, loaded)]
    assert recorded == [(False, False), (True, False), (False, True)]
    warmups = [run.variant for run in runs if run.purpose == "warmup"]
    assert warmups == ["captured", "fused"] * 2, "each records before it is counted, and again before it is timed"


def test_an_ablation_measures_each_component_left_in_and_left_out(tmp_path: Path, loaded: Loaded) -> None:
    plan = compare_plan(tmp_path, variants=("baseline", "pr3987"), pairs=1, warmup=0, ablate=True)
    runs = [event.run for event in runs_of(plan, loaded)]
    assert {run.variant for run in runs if run.purpose == "timed"} == set(plan.measured)
    assert len(plan.measured) == 2 + 2 * 5
    assert len({run.output.md5 for run in runs if run.seed == SMALL.seed}) == 1


def test_a_disk_without_room_ends_the_run_in_one_line(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunFailed, match="no room on the disk"):
        runs_of(compare_plan(tmp_path), loaded)


def test_what_a_library_prints_does_not_reach_the_protocol() -> None:
    script = (
        "import sys; from bagel_perf import worker; protocol = worker._claim_stdout();"
        "print('noise'); protocol.write('event\\n'); protocol.flush()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "event\n"
    assert "noise" in done.stderr


def test_text_to_image_runs_without_a_picture(tmp_path: Path, loaded: Loaded) -> None:
    plan = compare_plan(tmp_path, requests=(replace(SMALL, task="t2i"),), pairs=1, warmup=0)
    runs = [event.run for event in runs_of(plan, loaded)]
    assert len({run.output.md5 for run in runs if run.seed == 42}) == 1
    assert not [*tmp_path.glob("*input*")]


def test_backends_of_a_gpu_are_refused_on_a_cpu() -> None:
    with pytest.raises(UsageError, match="math"):
        resolve_attention("cudnn", resolve_device("cpu"))


def test_golden_vectors_pass_under_every_variant(golden_dirs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    for directory in golden_dirs:
        assert main(["verify", str(directory)]) == 0
        out = capsys.readouterr().out
        assert ", 0 failed" in out
        assert [built_in.name for built_in in BUILT_IN if built_in.name not in out] == []


def spoiled(golden_dir: Path, folder: Path, suffix: str, spoil: Callable[[Tensor], Tensor]) -> tuple[Plan, str]:
    """A plan to verify a copy in which the first tensor with such a name is another, and its name."""
    copy = Path(shutil.copytree(golden_dir, folder / "golden"))
    tensors = load_file(copy / "golden.safetensors")
    name = next(name for name in tensors if name.endswith(suffix))
    tensors[name] = spoil(tensors[name])
    save_file(tensors, copy / "golden.safetensors")
    return Plan(kind="verify", golden=str(copy), variants=("sync_free",), device="cpu"), name


def test_a_wrong_golden_tensor_fails_with_its_name(golden_dir: Path, tmp_path: Path) -> None:
    plan, name = spoiled(golden_dir, tmp_path, ".latent", lambda tensor: tensor * 1.1)
    events: list[Event] = []
    run_verify(plan, events.append)
    checks = [event.check for event in events if isinstance(event, TensorEvent)]
    assert [check.tensor for check in checks if not check.ok] == [name] and len(checks) > 20


@pytest.mark.parametrize("name", ["vit_pixels", "init_noise"])
def test_a_golden_tensor_of_a_wrong_shape_is_refused_before_anything_runs(
    golden_dir: Path, tmp_path: Path, name: str
) -> None:
    plan, _ = spoiled(golden_dir, tmp_path, name, lambda tensor: tensor[..., :-1].contiguous())
    events: list[Event] = []
    with pytest.raises(UsageError, match="a golden tensor does not fit the checkpoint"):
        run_verify(plan, events.append)
    assert {type(event) for event in events} <= {ProgressEvent}
