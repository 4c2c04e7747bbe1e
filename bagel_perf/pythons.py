"""How a process of ours is started under any Python: nothing of ours is looked for in the folder that it starts in."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

from bagel_perf.records.errors import INTERRUPTED, EnvironmentUnfit, UsageError

_START = """import sys; sys.path += [each for each in {paths!r} if each not in sys.path]
try:
    from {module} import start
    start()
except KeyboardInterrupt:  # while torch is imported, before anybody listens, or after
    sys.exit({interrupted})"""
_FINDS_TORCH = """import sys; sys.path = [each for each in sys.path if each] + {paths!r}
from importlib.util import find_spec; sys.exit(0 if find_spec("torch") else {missing})"""
_MISSING = 44
"""An exit code that no Python has by itself."""


def python_of(environment: str | None) -> str:
    """The Python of a virtual environment, ours for None; ``UsageError`` where the folder has none."""
    if environment is None:
        return sys.executable
    python = Path(environment) / "bin" / "python"
    if not python.is_file():
        allowed = "the folder of a virtual environment, with bin/python in it"
        raise UsageError("no Python in that environment", value=environment, allowed=allowed)
    return str(python)


def module_command(module: str, environment: str | None = None) -> tuple[str, ...]:
    """Calls ``start`` of a module of ours; a virtual environment's own packages come before those that we have."""
    return python_of(environment), "-P", "-c", _start(module, with_ours=environment is not None)


def require_torch(python: str = sys.executable, *, with_ours: bool = False) -> None:
    """Raises ``EnvironmentUnfit`` where a Python has no torch; ``with_ours`` says that it is given our packages, too.

    Nothing is imported for that: in this process torch is looked up, another Python takes 30 ms.
    """
    if python == sys.executable:
        is_there = importlib.util.find_spec("torch") is not None
    else:
        command = [python, "-c", _FINDS_TORCH.format(paths=_folders(with_ours=with_ours), missing=_MISSING)]
        try:
            is_there = subprocess.run(command, capture_output=True, check=False).returncode != _MISSING
        except OSError:  # whoever starts it says why it cannot be started
            is_there = True
    if not is_there:
        raise EnvironmentUnfit(
            "torch is not installed",
            value=python,
            allowed="show, report, trace, gate result and doctor do without",
            remedy="pip install 'bagel-perf[torch]'",
        )


def _start(module: str, *, with_ours: bool) -> str:
    return _START.format(paths=_folders(with_ours=with_ours), module=module, interrupted=INTERRUPTED)


def _folders(*, with_ours: bool) -> list[str]:
    """The folder of this package, and those of all others that we have."""
    folders = [str(Path(__file__).parents[1])]
    if with_ours:
        folders += [sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    return list(dict.fromkeys(folders))
