"""Commands that cannot use a GPU through PyTorch, known by name; of all others nobody can tell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

_TOOL_NAMES = """
exit cd export set unset ulimit umask : [
git uname hostname nproc lscpu getconf ldconfig ldd nvidia-smi rocm-smi ps df du free date sleep true false echo
printf test pwd id whoami uptime which ls cat head tail wc sort uniq cut tr grep cp mv rm mkdir rmdir ln touch chmod
stat readlink realpath basename dirname mktemp md5sum sha256sum tar gzip gunzip zip unzip curl wget ffmpeg ffprobe ip
ifconfig arp netstat ss stty tput clear kill cc c++ gcc g++ clang clang++ ld ld.lld as ar nm objdump objcopy strip
c++filt addr2line nvcc ptxas cuobjdump nvdisasm fatbinary cicc readelf file sync
"""
_TOOLS = frozenset(_TOOL_NAMES.split())
_HELPERS = ("from multiprocessing.resource_tracker import main", "from multiprocessing.forkserver import main")
"""Of multiprocessing itself: one watches semaphores, of the other each child is noticed by itself."""
_COMPILES = "torch/_inductor/compile_worker/__main__.py"
_SHELLS = frozenset({"sh", "bash", "dash"})
_VERSIONED = re.compile(r"-\d+(\.\d+)*$")
_BETWEEN = re.compile(r"\|\||&&|[|;&\n]")
_UNCLEAR = re.compile(r"[`(){}]|\$\(|<<")
_ASSIGNMENT = re.compile(r"\w+=")


def cannot_use_device(argv: Sequence[str]) -> bool:
    """Whether a command is known not to: a tool of the system, a compiler, or a helper of multiprocessing or torch."""
    if not argv:
        return False
    name = os.path.basename(argv[0])
    if name in _SHELLS:
        return len(argv) >= 3 and argv[1] == "-c" and shell_cannot_use_device(argv[2])
    if any(part.startswith(_HELPERS) or part.endswith(_COMPILES) for part in argv[1:]):
        return True
    return _VERSIONED.sub("", name) in _TOOLS


def shell_cannot_use_device(line: str) -> bool:
    """Whether each command of a line for the shell is such a tool; False for a line with more than plain commands."""
    if _UNCLEAR.search(line):
        return False
    return all(map(_is_tool, filter(str.strip, _BETWEEN.split(line.replace("2>&1", " ")))))


def _is_tool(command: str) -> bool:
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that is not closed here
        return False
    while words and _ASSIGNMENT.match(words[0]):
        words.pop(0)
    return not words or cannot_use_device(words)


def readable(line: str) -> str:
    """A command, cut where it is long."""
    return line if len(line) <= 80 else f"{line[:77]}..."
