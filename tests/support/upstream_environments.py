"""Environments in which a release of vLLM-Omni seems installed: its sources, from the folder of ``shared``.

``upstream_environments.py FOLDER RELEASE`` makes one for use outside of tests.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tarfile
import tempfile
import venv
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(os.environ.get("BAGEL_UPSTREAM", Path(__file__).resolve().parents[3] / "shared" / "upstream"))

START = '''"""Imports a release's sources when vllm or vllm_omni is asked for, as that looks for a device."""

import importlib.abc
import importlib.machinery
import sys

TREE, SHIM = {tree!r}, {shim!r}


class Imported(importlib.abc.Loader):
    def create_module(self, spec):
        return sys.modules[spec.name]

    def exec_module(self, module):
        pass


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname not in ("vllm", "vllm_omni"):
            return None
        sys.meta_path.remove(self)
        install()
        module = sys.modules[fullname]
        spec = importlib.machinery.ModuleSpec(fullname, Imported(), is_package=True)
        spec.submodule_search_locations = list(module.__path__)
        return spec


def install():
    """Without a GPU or a simulated one, vLLM is told of one, and puts its tensors on the CPU."""
    import torch

    told = {{"get_device_name": "simulated CUDA device", "get_device_capability": (9, 0)}}
    asked = {{name: getattr(torch.cuda, name) for name in told}}

    def answer(name):
        return lambda device=None: asked[name](device) if torch.cuda.is_available() else told[name]

    for name in told:
        setattr(torch.cuda, name, answer(name))
    sys.path.insert(1, SHIM)
    try:
        import shim

        shim.install(TREE, TREE)
    finally:
        for name in told:
            setattr(torch.cuda, name, asked[name])
    import vllm_omni.platforms
    from vllm.platforms.cuda import NonNvmlCudaPlatform
    from vllm.platforms.interface import DeviceCapability

    def get_device_capability(cls, device_id=0):
        found = torch.cuda.get_device_capability(device_id) if torch.cuda.is_available() else (9, 0)
        return DeviceCapability(*found)

    def get_torch_device(cls, local_rank=None):
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")

    def set_device(cls, device):
        if torch.cuda.is_available():
            torch.cuda.set_device(device)

    def get_device_name(cls, device_id=0):
        return torch.cuda.get_device_name(device_id) if torch.cuda.is_available() else "none"

    def get_device_count(cls):
        return 1

    NonNvmlCudaPlatform.get_device_capability = classmethod(get_device_capability)
    platform = type(vllm_omni.platforms._current_omni_platform)
    for function in (get_device_capability, get_torch_device, set_device, get_device_name, get_device_count):
        setattr(platform, function.__name__, classmethod(function))

    class AlwaysOn(torch.autocast):
        """BagelPipeline turns autocast off on a CPU, and mixes dtypes all the same."""

        def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
            super().__init__(device_type, dtype, device_type == "cpu" or enabled, cache_enabled)

    torch.autocast = AlwaysOn


sys.meta_path.insert(0, Finder())
'''


def trees() -> Path:
    """The folder of the releases' sources, unpacked from the archive where it is not yet."""
    folder = Path(os.environ.get("BAGEL_UPSTREAM_TREES", Path(tempfile.gettempdir(), "bagel_upstream_trees")))
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in other processes unpack it, too
        if not (folder / "complete").exists():
            with tarfile.open(FOLDER / "trees.tar.xz") as archive:
                archive.extractall(folder, filter="data")
            (folder / "complete").touch()
    return folder


def make_environment(folder: Path, release: str) -> Path:
    """Makes a virtual environment with this one's packages and a release of vLLM-Omni; gives its folder."""
    found = trees()
    venv.create(folder, symlinks=True)
    ours = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    packages = next(folder.glob("lib/python*/site-packages"))
    if sys.version_info[:2] == (3, 12) and find_spec("pydantic") is None:
        ours.append(str(found / "site312"))
    lines = [*ours, str(found / release), "import started_upstream"]
    (packages / "upstream.pth").write_text("\n".join(lines) + "\n")
    (packages / "started_upstream.py").write_text(START.format(tree=str(found / release), shim=str(FOLDER)))
    if find_spec("einops") is None:
        (packages / "einops").symlink_to(found / "site312" / "einops")
    return folder


if __name__ == "__main__":
    print(make_environment(Path(sys.argv[1]), sys.argv[2]))
