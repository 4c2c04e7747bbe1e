"""``examples/vllm_omni_bagel.py`` on released sources where an installation would be, tiny and without a GPU."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.records.errors import RunFailed
from bagel_perf.subjects.files import UserFile
from bagel_perf.verdicts.reading import load_checked
from upstream_environments import FOLDER, make_environment, trees

Capture = pytest.CaptureFixture[str]

TARGET = Path(__file__).resolve().parents[2] / "examples" / "vllm_omni_bagel.py"
LENGTHS = TARGET.parents[1] / "tests" / "benchmarks" / "upstream_lengths.py"
NUM_LATENTS, NUM_LAYERS, NUM_POINTS = 16, 3, 4
DENOISE = {
    # Of 4 points 0.20.0 and 0.30.0 make 3 steps, 0.22.0 makes 4; all of them with guidance.
    "0.20.0": 3 * (NUM_LATENTS + 3 + 2 + 2 * NUM_LAYERS + 2 * 3 * NUM_LAYERS) + 4 + 1,
    "0.22.0": 4 * 2 + 2,
    "0.30.0": 3 * (3 + 3 * NUM_LAYERS) + 2,
}
needs_upstream = pytest.mark.skipif(
    not (FOLDER / "trees.tar.xz").is_file(),
    reason="needs the sources of vLLM-Omni in ../shared/upstream (BAGEL_UPSTREAM)",
)


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, and the smallest picture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # upstream is large
    for name, value in {"SIZES": "64", "STEPS": str(NUM_POINTS), "TOLERANCE": "psnr:20"}.items():
        monkeypatch.setenv(f"OMNI_BAGEL_{name}", value)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An environment for each release whose sources are there."""
    folder = tmp_path_factory.mktemp("environments")
    return {each: make_environment(folder / each, each) for each in DENOISE if (trees() / each).is_dir()}


def target_in(environment: Path, function: str = "") -> str:
    return f"release@{environment}={TARGET}{function}"


@needs_upstream
@pytest.mark.upstream
def test_two_releases_are_compared_by_stage(environments: dict[str, Path]) -> None:
    options = ["--before-env", str(environments["0.20.0"]), "--after-env", str(environments["0.22.0"])]
    assert main(["compare", f"before={TARGET}", f"after={TARGET}", *options, "--out", "kept", "--quiet"]) == 0
    result = load_checked(Path("kept"))
    counts = {(cell.stage, cell.variant): cell.host_syncs for cell in result.cells}
    assert counts["denoise", "before"] == DENOISE["0.20.0"] and counts["denoise", "after"] == DENOISE["0.22.0"]
    assert counts["decode", "before"] == counts["decode", "after"] == 1
    rows = {" ".join(line.split()) for line in (TARGET.parent / "README.md").read_text().splitlines()}
    for stage in ("prefill", "denoise", "decode", "e2e"):
        assert f"64 {stage} {counts[stage, 'before']} {counts[stage, 'after']}" in rows
    (check,) = result.identity
    assert check.is_ok and not check.identical, "0.22.0 makes a step more"


@needs_upstream
@pytest.mark.upstream
@pytest.mark.parametrize(("release", "task"), [("0.30.0", "i2i"), ("0.30.0", "t2i")])
def test_the_denoising_loop_of_a_release_waits_as_often_as_this(
    environments: dict[str, Path], release: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if release not in environments:
        pytest.skip(f"needs the sources of {release}")
    monkeypatch.setenv("OMNI_BAGEL_TASK", task)
    assert main(["syncs", target_in(environments[release]), "--json", "syncs.json", "--quiet"]) == 0
    report = json.loads(Path("syncs.json").read_text())
    regions: Counter[str] = Counter()
    for site in report["sites"]:
        regions[site["region"]] += site["count"]
    assert regions["denoise"] == DENOISE[release] and regions["decode"] == 1
    assert (report["device"], report["unexplained"], report["unjudged"]) == ("simulated", 0, {})


@needs_upstream
@pytest.mark.upstream
def test_the_cut_changes_nothing(environments: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNI_BAGEL_TASK", "t2i")
    environment = environments["0.22.0"]
    cut = f"cut@{environment}={TARGET}:stages"
    assert main(["compare", cut, f"whole@{environment}={TARGET}:whole", "--out", "kept", "--quiet"]) == 0
    result = load_checked(Path("kept"))
    assert all(check.identical for check in result.identity)
    assert len({cell.host_syncs for cell in result.cells}) == 1


@needs_upstream
@pytest.mark.upstream
def test_lengths_instead_of_a_padding_mask_give_the_same_picture(environments: dict[str, Path]) -> None:
    if "0.30.0" not in environments:
        pytest.skip("needs the sources of 0.30.0")
    place = f"@{environments['0.30.0']}={LENGTHS}"
    assert main(["compare", f"old{place}:released", f"new{place}:lengths", "--out", "kept", "--quiet"]) == 0
    result = load_checked(Path("kept"))
    counts = {(cell.stage, cell.variant): cell.host_syncs for cell in result.cells}
    assert counts["denoise", "old"] == DENOISE["0.30.0"] and counts["denoise", "new"] == 3 * 3 + 2
    assert all(check.identical for check in result.identity)


@needs_upstream
@pytest.mark.upstream
def test_a_release_is_held_and_another_fails(environments: dict[str, Path], capsys: Capture) -> None:
    held, other = target_in(environments["0.22.0"]), target_in(environments["0.20.0"])
    options = ["--expect", "bagel-perf.toml", "--quiet"]
    assert main(["gate", "counts", held, "--update", "as released", *options]) == 0
    assert main(["gate", "counts", held, *options]) == 0
    capsys.readouterr()
    assert main(["gate", "counts", other, *options]) == 7
    assert "vllm_omni/diffusion/models/bagel/bagel_transformer.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SHAPE", "large", "tiny, 7b"),
        ("TASK", "edit", "i2i, t2i"),
        ("SIZES", "250", "multiples of 16 up to 1024"),
        ("STEPS", "1", "2 to 1000 time points"),
        ("INTERVAL", "0.4", "LOW,HIGH between 0 and 1"),
        ("LAYERS", "none", "1 to 28 layers"),
        ("LAYERS", "1000000", "1 to 28 layers"),
        ("ATTENTION", "fa3", "default (what vllm-omni takes by itself), FLASH_ATTN, TORCH_SDPA"),
    ],
)
def test_a_wrong_setting_is_one_line(name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"OMNI_BAGEL_{name}", value)
    with pytest.raises(RunFailed) as raised:
        UserFile.load(TARGET)
    error = str(raised.value)
    assert "\n" not in error and f"OMNI_BAGEL_{name} is '{value}'; allowed: {allowed}" in error
    assert "or unset it" in error


@needs_upstream
def test_a_folder_without_weights_is_one_line(
    environments: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("OMNI_BAGEL_WEIGHTS", "nowhere")
    assert main(["syncs", target_in(environments["0.22.0"]), "--quiet"]) == 6
    assert "no BAGEL in OMNI_BAGEL_WEIGHTS (nowhere); it has no config.json, llm_" in capsys.readouterr().err


@needs_upstream
def test_a_folder_of_configurations_alone_is_no_bagel(
    environments: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("config.json", "llm_config.json", "vit_config.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setenv("OMNI_BAGEL_WEIGHTS", str(tmp_path))
    assert main(["syncs", target_in(environments["0.22.0"]), "--quiet"]) == 6
    assert "; it has no *.safetensors; set it to the folder" in capsys.readouterr().err
