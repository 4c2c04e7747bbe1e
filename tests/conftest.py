"""One thread for every torch of the tests, little for the garbage collector, and where shared folders are."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# Before anything imports torch, here and in the programs that tests start: threads that wait for each other on a busy
# machine make operators of a few elements up to a hundred times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Takes back what whoever started the tests has ignored, as nohup and background jobs do; programs inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Keeps the garbage collector from looking through all tests and torch at each full collection.

    Every timed run makes one.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def golden_dirs() -> list[Path]:
    """Golden directories: BAGEL_GOLDEN_DIR or shared/golden beside the repository, or the folders in it.

    The test is skipped where there is none.
    """
    root = Path(os.environ.get("BAGEL_GOLDEN_DIR") or REPOSITORY.parent / "shared" / "golden")
    found = [path.parent for path in sorted([*root.glob("golden.safetensors"), *root.glob("*/golden.safetensors")])]
    if not found:
        pytest.skip(f"no golden vectors in {root}; name their directory in BAGEL_GOLDEN_DIR")
    return found


@pytest.fixture(scope="session")
def golden_dir(golden_dirs: list[Path]) -> Path:
    """One golden directory."""
    return golden_dirs[0]


@pytest.fixture(scope="session")
def upstream_runner() -> Path:
    """The script that runs BAGEL as vLLM-Omni released it: in BAGEL_UPSTREAM or shared/upstream beside the repository.

    The test is skipped where it is missing, or a package that it needs.
    """
    runner = Path(os.environ.get("BAGEL_UPSTREAM") or REPOSITORY.parent / "shared" / "upstream") / "bagel_upstream.py"
    if not runner.exists():
        pytest.skip(f"no {runner}; name the folder of vLLM-Omni's runner in BAGEL_UPSTREAM")
    missing = [name for name in ("einops", "pydantic", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"vLLM-Omni's sources need {' and '.join(missing)}; make install")
    return runner


@pytest.fixture(autouse=True)
def plain_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as in a file, whatever the shell or the test runner says of its own width."""
    monkeypatch.delenv("COLUMNS", raising=False)
