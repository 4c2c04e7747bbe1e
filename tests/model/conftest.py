"""Where the golden vectors are, and a checkpoint directory that tests may break."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from torch import Tensor

from bagel_perf.model.checkpoint_files import reading

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """BAGEL_GOLDEN_DIR, or the golden directory beside the repository; the test is skipped where there is neither."""
    named = os.environ.get("BAGEL_GOLDEN_DIR")
    directory = Path(named) if named else REPOSITORY.parent / "shared" / "golden" / "a"
    if not (directory / "golden.safetensors").is_file():
        pytest.skip(f"no golden vectors in {directory}; name another directory in BAGEL_GOLDEN_DIR")
    return directory


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    with reading(golden_dir / "golden.safetensors") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)


@pytest.fixture
def checkpoint_dir(golden_dir: Path, tmp_path: Path) -> Path:
    """A writable copy of the golden checkpoint."""
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in golden_dir.iterdir():
        shutil.copyfile(file, copy / file.name)
    return copy
