"""The golden tensors, and a checkpoint directory that tests may break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch import Tensor

from bagel_perf.subjects.bagel.model.checkpoint_files import reading


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
