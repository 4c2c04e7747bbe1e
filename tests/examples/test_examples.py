"""The files of ``examples`` through every command: what each waits for, to the wait, and that outputs are equal."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

import pytest
import torch

from bagel_perf.cli import main
from bagel_perf.verdicts.reading import load_checked
from forked_workers import fork_watched, fork_workers

Capture = pytest.CaptureFixture[str]

FOLDER = Path(__file__).resolve().parents[2] / "examples"
EXPECTATIONS = FOLDER / "bagel-perf.toml"
SCHEDULER = "diffusers/schedulers/scheduling_ddim_cogvideox.py"
PIPELINE = "diffusers/pipelines/cogvideo/pipeline_cogvideox.py"
FLUX = "diffusers/pipelines/flux/pipeline_flux.py"
GENERATION = "transformers/generation/utils.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A file, its functions from the one that waits to the last, and their waits by case and stage."""

    file: str
    functions: tuple[str, ...]
    waits: dict[tuple[str, str], tuple[int, ...]]
    lines: dict[str, int]
    """Waits of the first function in the first case, by file and source text."""
    cases: tuple[str, ...] = ()
    """Those that are compared; all, where none is named."""
    package: str = "torch"

    @property
    def targets(self) -> list[str]:
        return [f"{FOLDER / self.file}:{function}" for function in self.functions]


TOY = Example(
    file="toy_loop.py",
    functions=("plain", "fast"),
    waits={
        ("small", "encode"): (1, 1),
        ("small", "denoise"): (2 * 4, 0),
        ("small", "decode"): (1, 1),
        ("small", "e2e"): (10, 2),
        ("large", "encode"): (1, 1),
        ("large", "denoise"): (2 * 10, 0),
        ("large", "decode"): (1, 1),
        ("large", "e2e"): (22, 2),
    },
    lines={
        'toy_loop.py torch.tensor([0.5**step] * case["rows"], device=x.device)': 4,
        "toy_loop.py delta.abs().max().item()": 4,
        'toy_loop.py noise.to(state["device"])': 1,
        "toy_loop.py x.clamp(-1, 1).cpu()": 1,
    },
)
COGVIDEOX = Example(
    file="diffusers_cogvideox.py",
    functions=("as_released", "without_waits"),
    package="diffusers",
    cases=("20 steps",),
    waits={
        ("20 steps", "prepare"): (2, 2),
        ("20 steps", "denoise"): (1 + 79, 0),
        ("20 steps", "decode"): (1, 1),
        ("20 steps", "e2e"): (83, 3),
    },
    lines={
        f"{SCHEDULER} prev_timestep >= 0 / self.alphas_cumprod[prev_timestep]": 20 + 19,  # none precedes 0
        f"{SCHEDULER} self.alphas_cumprod[timestep]": 20,
        f"{PIPELINE} t.item()": 20,
        f"{SCHEDULER} torch.from_numpy(timesteps).to(device)": 1,
        "diffusers_cogvideox.py noise.to(pipe.device) / prompts.to(pipe.device)": 2,
        "diffusers_cogvideox.py pipe.decode_latents(latents).clamp(-1, 1).cpu()": 1,
    },
)
DIFFUSERS_FLUX = Example(
    file="diffusers_flux.py",
    functions=("released", "sync_free", "captured"),
    package="diffusers",
    waits={
        (case, stage): numbers
        for case in ("64", "96")  # as often for 4 steps as for 6: no wait is in a step
        for stage, numbers in {
            "prepare": (3, 3, 3),  # noise, and embeddings of two text encoders
            "denoise": (3, 0, 0),  # sigmas, and positions of text and of image
            "decode": (1, 1, 1),
            "e2e": (7, 4, 4),
        }.items()
    },
    lines={
        "diffusers_flux.py noise.to(pipe.device) / prompt.to(pipe.device) / pooled.to(pipe.device)": 3,
        f"{FLUX} torch.zeros(prompt_embeds.shape[1], 3).to(device=device, dtype=dtype)": 1,
        f"{FLUX} latent_image_ids.to(device=device, dtype=dtype)": 1,
        "diffusers/schedulers/scheduling_flow_match_euler_discrete.py "
        "torch.from_numpy(sigmas).to(dtype=torch.float32, device=device)": 1,
        "diffusers/image_processor.py images.cpu()": 1,
    },
)
DECODE = Example(
    file="transformers_decode.py",
    functions=("as_released", "every_8_tokens", "no_check"),
    package="transformers",
    waits={
        ("stops early", "e2e"): (2 + 7 + 11, 2 + 2, 2),  # the 11th of 32 tokens is the end
        ("many rows", "e2e"): (2 + 8 + 16, 2 + 2, 2),
    },
    lines={
        f"{GENERATION} bool(unfinished_sequences.max() == 0)": 11,
        f"{GENERATION} torch.tensor(token, device=device, dtype=torch.long)": 3,
        f"{GENERATION} torch.isin(eos_token_tensor, pad_token_tensor).any()": 1,
        f"{GENERATION} (eos_token_tensor < 0).any()": 1,
        f'{GENERATION} (model_kwargs["attention_mask"] == 1).all()': 1,
        f"{GENERATION} (encoder_input_ids < 0).any()": 1,
        "transformers_decode.py ids.to(model.device)": 1,
        "transformers_decode.py padded(out[:, ids.shape[1] :], case).cpu()": 1,
    },
)
EXAMPLES = (TOY, COGVIDEOX, DIFFUSERS_FLUX, DECODE)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, and processes that are forked."""
    monkeypatch.chdir(tmp_path)
    fork_workers(monkeypatch)
    fork_watched(monkeypatch)


@pytest.fixture(params=EXAMPLES, ids=[each.file for each in EXAMPLES])
def example(request: pytest.FixtureRequest) -> Example:
    """Each of them whose package is installed; imported here, so that no fork has to."""
    found: Example = request.param
    needed(found)
    return found


def needed(example: Example) -> None:
    """Skips the test where a package is missing."""
    module = pytest.importorskip(example.package, reason=f"{example.file} needs {example.package}")
    if example.package == "diffusers":
        assert module.CogVideoXPipeline and module.FluxPipeline, "diffusers imports when it is asked for something"


def watched(target: str) -> dict[str, int]:
    """Waits by file and source text."""
    assert main(["syncs", target, "--json", "syncs.json", "--quiet"]) == 0
    report = json.loads(Path("syncs.json").read_text())
    assert (report["device"], report["unexplained"]) == ("simulated", 0)
    counts: Counter[str] = Counter()
    for site in report["sites"]:
        counts[f"{site['file']} {' / '.join(site['expressions'])}"] += site["count"]
    return dict(counts)


def test_outputs_are_identical_and_each_stage_waits_as_often_as_this(example: Example) -> None:
    cases = [part for case in example.cases for part in ("--case", case)]
    assert main(["compare", *example.targets, *cases, "--out", "kept", "--quiet"]) == 0
    result = load_checked(Path("kept"))
    assert result.verdict == "pass" and result.named == example.functions
    assert all(check.identical and check.num_runs >= 4 for check in result.identity)
    counts = {(cell.case, cell.stage, cell.variant): cell.host_syncs for cell in result.cells}
    assert counts == {
        (*key, name): number
        for key, numbers in example.waits.items()
        for name, number in zip(example.functions, numbers, strict=True)
    }
    assert main(["report", "kept", "--out", "page", "--quiet"]) == 0
    assert example.file in Path("page/report.html").read_text()
    summary = Path("page/summary.md").read_text()
    for (case, stage), numbers in example.waits.items():
        assert f"| {case} | {stage} | {' | '.join(map(str, numbers))} |" in summary


def test_what_waits_is_named_by_line(example: Example) -> None:
    assert watched(example.targets[0]) == example.lines


def test_counts_are_those_that_are_committed(capsys: Capture) -> None:
    for example in EXAMPLES:
        needed(example)
    assert main(["gate", "counts", "--expect", str(EXPECTATIONS)]) == 0
    checks = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("host syncs of ")]
    passed = [words[3].rstrip(",") for words in checks if words[-1] == "pass"]
    assert passed == sorted(f"{each.file}:{name}" for each in EXAMPLES for name in each.functions)


def test_a_wait_that_comes_back_fails_the_gate(capsys: Capture) -> None:
    for name in (EXPECTATIONS.name, TOY.file):
        shutil.copy(FOLDER / name, name)
    source = Path(TOY.file).read_text()
    worse = source.replace('torch.full((case["rows"],), 0.5**step', 'torch.tensor([0.5**step] * case["rows"]')
    assert worse != source
    Path(TOY.file).write_text(worse)
    assert main(["gate", "counts", f"{TOY.file}:fast", "--quiet"]) == 7
    line = [number for number, text in enumerate(worse.splitlines(), start=1) if "torch.tensor(" in text][-1]
    expected = f"(toy_loop.py:fast: toy_loop.py:{line} denoise_fast: pageable upload: 4 new)"
    assert expected in capsys.readouterr().err


@pytest.mark.skipif(find_spec("vllm_omni") is not None, reason="vllm-omni is installed")
def test_bagel_of_vllm_omni_says_in_one_line_what_is_missing(capsys: Capture) -> None:
    target = str(FOLDER / "vllm_omni_bagel.py")
    for command in (["compare", f"before={target}", f"after={target}"], ["syncs", target]):
        assert main([*command, "--quiet"]) == 6
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("error: setup fails (") and "vllm-omni is missing" in error


def test_flux_as_released_has_the_weights_of_flux_dev(monkeypatch: pytest.MonkeyPatch) -> None:
    needed(DIFFUSERS_FLUX)
    monkeypatch.setenv("FLUX_SHAPE", "released")
    example = run_path(str(FOLDER / DIFFUSERS_FLUX.file))
    pipe = example["setup"](torch.device("meta"))["pipe"]
    counts = [sum(each.numel() for each in part.parameters()) for part in (pipe.transformer, pipe.vae)]
    assert counts == [11_901_408_320, 83_819_683]
    assert {each.dtype for part in (pipe.transformer, pipe.vae) for each in part.parameters()} == {torch.bfloat16}
    assert example["CASES"]["1024"] == {"size": 1024, "steps": 20}
    monkeypatch.setenv("FLUX_SHAPE", "small")
    with pytest.raises(ValueError, match="FLUX_SHAPE is 'small'; allowed: tiny, released"):
        run_path(str(FOLDER / DIFFUSERS_FLUX.file))
    monkeypatch.delenv("FLUX_SHAPE")
    for steps in ("x", "0", "-1", ""):
        monkeypatch.setenv("FLUX_STEPS", steps)
        with pytest.raises(ValueError, match=f"FLUX_STEPS is '{steps}'; allowed: a number of steps from 1; set it"):
            run_path(str(FOLDER / DIFFUSERS_FLUX.file))


def test_nothing_of_ours_is_imported_and_each_file_is_explained() -> None:
    files = sorted(FOLDER.glob("*.py"))
    text = (FOLDER / "README.md").read_text()
    assert len(files) == 5 and all(f"## `{file.name}`" in text for file in files)
    assert not [file.name for file in files if "bagel_perf" in file.read_text()]


@pytest.mark.parametrize("example", EXAMPLES, ids=[each.file for each in EXAMPLES])
def test_the_page_shows_these_counts(example: Example) -> None:
    rows = {" ".join(line.split()) for line in (FOLDER / "README.md").read_text().splitlines()}
    for (case, stage), numbers in example.waits.items():
        assert f"{case} {stage} {' '.join(map(str, numbers))}" in rows
