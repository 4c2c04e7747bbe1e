"""Which files make up a checkpoint directory, what their headers hold, and which packages are needed to read them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bagel_perf.records.codec import parse_json
from bagel_perf.records.errors import EnvironmentUnfit, UsageError


def needed(name: str) -> Any:
    """Imports a package of the extra ``bagel``; EnvironmentUnfit where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        remedy = "pip install 'bagel-perf[bagel]', or leave --weights out"
        raise EnvironmentUnfit("a checkpoint takes a package that is missing", value=name, remedy=remedy) from problem


Json = dict[str, Any]

AE_FILE = "ae.safetensors"
DECODER_FILE = "ema.safetensors"
INDEX_FILES = ("ema.safetensors.index.json", "model.safetensors.index.json")

HEADER_SIZE_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
"""As safetensors has it."""

_REMEDY = "name the folder of a BAGEL checkpoint"


def read_json(path: Path) -> Json:
    """The object in a json file. Raises ``UsageError`` where there is none."""
    try:
        data = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"{path.name} is missing", value=str(path.parent), remedy=_REMEDY) from error
    except OSError as error:
        raise UsageError(f"cannot read {path.name}: {error.strerror}", value=str(path.parent)) from error
    except RecursionError as error:
        raise UsageError(f"{path.name} is nested too deeply", value=str(path.parent), remedy=_REMEDY) from error
    except ValueError as error:
        what = f"{path.name} is not json"
        raise UsageError(what, value=str(path.parent), allowed=str(error), remedy=_REMEDY) from error
    if not isinstance(data, dict):
        raise UsageError(f"{path.name} holds no json object", value=str(path.parent), remedy=_REMEDY)
    return data


def decoder_files(directory: Path) -> tuple[Path, ...]:
    """``ema.safetensors``, or the shards that an index names; the autoencoder is not among them."""
    if (directory / DECODER_FILE).is_file():
        return (directory / DECODER_FILE,)
    index = next((directory / name for name in INDEX_FILES if (directory / name).is_file()), None)
    if index is None:
        what = "is missing, and so is an index of shards" if directory.is_dir() else "cannot be read: no such directory"
        raise UsageError(f"{DECODER_FILE} {what}", value=str(directory), remedy=_REMEDY)
    shards = read_json(index).get("weight_map")
    names = sorted(set(map(str, shards.values())) - {AE_FILE}) if isinstance(shards, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise UsageError(f"{index.name} names no shards", value=str(directory), allowed="file names in weight_map")
    return tuple(directory / name for name in names)


@contextmanager
def reading(path: Path, device: str = "cpu") -> Iterator[Any]:
    """An open safetensors file whose tensors go straight to ``device``. Raises ``UsageError`` for a broken one."""
    library = needed("safetensors")
    with _open(library, path, device) as file:
        try:
            yield file
        except library.SafetensorError as error:
            raise _corrupt(path, error) from error


def _open(library: Any, path: Path, device: str) -> Any:
    """Of two equal keys in a header safetensors takes one in silence."""
    _check_header(path)
    try:
        return library.safe_open(path, framework="pt", device=device)
    except library.SafetensorError as error:
        raise _corrupt(path, error) from error
    except FileNotFoundError as error:
        raise UsageError(f"{path.name} is missing", value=str(path.parent), remedy=_REMEDY) from error
    except OSError as error:
        raise UsageError(f"cannot read {path.name}: {error.strerror or error}", value=str(path.parent)) from error


def _check_header(path: Path) -> None:
    """Raises ``UsageError`` for a header that names a tensor twice; what else is wrong safetensors says itself."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(HEADER_SIZE_BYTES), "little")
            header = file.read(size) if size <= MAX_HEADER_BYTES else b""
    except OSError:
        return
    try:
        parse_json(header)
    except (ValueError, RecursionError) as error:
        if "twice" in str(error):
            what = f"{path.name} has two tensors of one name"
            remedy = "download it again"
            raise UsageError(what, value=str(path.parent), allowed=str(error), remedy=remedy) from error


def _corrupt(path: Path, error: Exception) -> UsageError:
    what = f"{path.name} is truncated, corrupt or no safetensors file: {error}"
    return UsageError(what, value=str(path.parent), remedy="download it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorHeader:
    """What a safetensors header says of a tensor; ``dtype`` in its own spelling (``BF16``, ``F32``)."""

    shape: tuple[int, ...]
    dtype: str


def tensor_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors of a safetensors file by key, from its header alone. Raises ``UsageError``."""
    with reading(path) as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        return {k: TensorHeader(shape=tuple(s.get_shape()), dtype=str(s.get_dtype())) for k, s in slices.items()}


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file by key, from its header alone. Raises ``UsageError``."""
    return {key: header.shape for key, header in tensor_headers(path).items()}
