"""Tells of a command whether it can use the device: tools of the system and launchers are known by name."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence

_TOOL_NAMES = """
exit cd export set unset ulimit umask : [
git uname hostname nproc lscpu getconf ldconfig ldd nvidia-smi rocm-smi ps df du free date sleep true false echo
printf test pwd id whoami uptime which ls cat head tail wc sort uniq cut tr grep cp mv rm mkdir rmdir ln touch chmod
stat readlink realpath basename dirname mktemp md5sum sha256sum tar gzip gunzip zip unzip curl wget ffmpeg ffprobe ip
ifconfig arp netstat ss stty tput clear kill cc c++ gcc g++ clang clang++ ld ld.lld as ar nm objdump objcopy strip
sed awk gawk mawk tee less more column jq xz zstd bzip2 bunzip2 unxz pigz rsync ssh scp ping diff comm cmp patch find
install dd split paste tac rev nl seq yes mount umount df lsof pgrep pkill killall top htop vmstat iostat
c++filt addr2line nvcc ptxas cuobjdump nvdisasm fatbinary cicc readelf file sync raylet gcs_server redis-server
"""
_TOOLS = frozenset(_TOOL_NAMES.split())
_LAUNCHER_NAMES = """
sh bash dash zsh fish env nice ionice nohup timeout time stdbuf setsid xargs numactl taskset sudo su runuser uv uvx
poetry pdm hatch pipenv conda mamba micromamba pixi make just tini dumb-init tmux screen watch parallel script
"""
LAUNCHERS = frozenset(_LAUNCHER_NAMES.split())
"""Programs that use no device themselves, and start others that may."""
_HELPERS = ("from multiprocessing.resource_tracker import main", "from multiprocessing.forkserver import main")
"""Of multiprocessing itself: one watches semaphores, of the other each child is noticed by itself."""
_OF_UV = "from python.get_interpreter_info import main"
"""By this uv asks a Python what it is."""
_COMPILES = "torch/_inductor/compile_worker/__main__.py"
_SHELLS = frozenset({"sh", "bash", "dash", "zsh"})
_VERSIONED = re.compile(r"-\d+(\.\d+)*$")
_BETWEEN = re.compile(r"\|\||&&|[|;&\n]")
_UNCLEAR = re.compile(r"[`(){}]|\$\(|<<")
_ASSIGNMENT = re.compile(r"\w+=")
_PYTHON = re.compile(r"(python|pypy)\d*(\.\d+)*t?")


def cannot_use_device(argv: Sequence[str]) -> bool:
    """Tells whether a command is known not to: a tool, a compiler, or a helper of multiprocessing or torch."""
    if not argv:
        return False
    name = os.path.basename(argv[0])
    if name in _SHELLS:
        return len(argv) >= 3 and argv[1] == "-c" and shell_cannot_use_device(argv[2])
    if any(part.startswith(_HELPERS) or part.endswith(_COMPILES) or _OF_UV in part for part in argv[1:]):
        return True
    return _VERSIONED.sub("", name) in _TOOLS


def only_starts_others(argv: Sequence[str]) -> bool:
    """Tells whether a command is a launcher, which uses no device itself."""
    return bool(argv) and os.path.basename(argv[0]).lstrip("-") in LAUNCHERS


def is_python(argv: Sequence[str]) -> bool:
    """Tells whether a command's program is an interpreter of Python by its name."""
    return bool(argv) and _PYTHON.fullmatch(os.path.basename(argv[0])) is not None


_WITH_VALUE = "WX"
_ENDS_FLAGS = "cm"


def python_parts(argv: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Takes a command of Python apart: flags of the interpreter, and the rest from ``-m``, ``-c`` or the script on.

    Letters may stand together: of ``-uc TEXT`` the flag is ``-u`` and the rest ``-c TEXT``, of ``-mjson.tool`` the rest
    ``-m json.tool``. Values of flags are left out.
    """
    flags, rest = list[str](), list(argv[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word.startswith("--"):
            flags.append(word)
            del rest[: word == "--check-hash-based-pycs"]
            continue
        for place, letter in enumerate(word[1:], 2):
            if letter in _ENDS_FLAGS:
                return tuple(flags), (f"-{letter}", *filter(None, [word[place:]]), *rest)
            flags.append(f"-{letter}")
            if letter in _WITH_VALUE:
                del rest[: place == len(word)]
                break
    return tuple(flags), tuple(rest)


def shell_cannot_use_device(line: str) -> bool:
    """Tells whether each command of a line is such a tool; False for a line with more than plain commands."""
    return not _UNCLEAR.search(line) and all(not words or cannot_use_device(words) for words in _commands_of(line))


def _commands_of(line: str) -> Iterator[list[str]]:
    """The words of each command of a line without assignments; of one whose quote is not closed here, itself."""
    for command in filter(str.strip, _BETWEEN.split(line.replace("2>&1", " "))):
        try:
            words = shlex.split(command)
        except ValueError:
            words = [command]
        while words and _ASSIGNMENT.match(words[0]):
            words.pop(0)
        yield words


def readable(line: str) -> str:
    """Cuts a command where it is long."""
    return line if len(line) <= 80 else f"{line[:77]}..."
