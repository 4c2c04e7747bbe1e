"""Sources of parameters: seeded random numbers, a checkpoint directory, and the bare shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.bagel import build_bagel
from bagel_perf.subjects.bagel.model.checkpoint_files import (
    AE_FILE,
    TensorHeader,
    decoder_files,
    reading,
    tensor_headers,
)
from bagel_perf.subjects.bagel.model.config import BagelConfig
from bagel_perf.subjects.bagel.model.parameters import BF16

Progress = Callable[[int, int], None]
"""Called with the bytes that are loaded and the bytes there are."""

UNUSED_KEY = "language_model.lm_head.weight"
"""In every checkpoint; neither stage predicts a token."""

_NUM_LISTED = 10


@dataclass(frozen=True, slots=True)
class RandomSource:
    """Normally distributed parameters, drawn on the device in the dtype they are used in; fixed tables by formula."""

    device: torch.device
    seed: int
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "generator", torch.Generator(self.device).manual_seed(self.seed))

    def take(
        self, key: str, shape: tuple[int, ...], *, dtype: torch.dtype = BF16, std: float, mean: float = 0.0
    ) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device).normal_(mean, std, generator=self.generator)

    def take_table(self, key: str, side: int, width: int) -> Tensor:
        return sincos_table(side, width).to(self.device)


@dataclass(frozen=True, slots=True)
class MetaSource:
    """Lists the keys and shapes that are asked for, and gives tensors without storage."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def take(
        self, key: str, shape: tuple[int, ...], *, dtype: torch.dtype = BF16, std: float, mean: float = 0.0
    ) -> Tensor:
        self.shapes[key] = shape
        return torch.empty(shape, dtype=dtype, device=torch.device("meta"))

    def take_table(self, key: str, side: int, width: int) -> Tensor:
        return self.take(key, (side**2, width), std=0.0)


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """Tensors of open safetensors files, read one at a time straight to the files' device.

    ``file_by_key`` holds open files; ``on_load`` gets the bytes of each tensor once it is there.
    """

    file_by_key: Mapping[str, Any]
    on_load: Callable[[int], None]

    def take(
        self, key: str, shape: tuple[int, ...], *, dtype: torch.dtype = BF16, std: float, mean: float = 0.0
    ) -> Tensor:
        tensor: Tensor = self.file_by_key[key].get_tensor(key)
        assert tensor.shape == shape, key
        self.on_load(tensor.nbytes)
        return tensor.to(dtype)

    def take_table(self, key: str, side: int, width: int) -> Tensor:
        return self.take(key, (side**2, width), std=0.0)


@contextmanager
def open_checkpoint(
    directory: Path, config: BagelConfig, device: torch.device, on_progress: Progress
) -> Iterator[tuple[CheckpointSource, CheckpointSource]]:
    """Sources of the decoder's and of the autoencoder's parameters, as ``build_bagel`` wants them.

    All headers are checked before the first tensor is read. Raises ``UsageError`` where a file is missing, truncated or
    foreign, or where keys, shapes or dtypes are not those of ``config``.
    """
    paths = decoder_files(directory), (directory / AE_FILE,)
    expected = expected_shapes(config)
    for shapes, files, dtype in zip(expected, paths, ("BF16", "F32"), strict=True):
        found = {key: header for path in files for key, header in tensor_headers(path).items()}
        check_keys(shapes, found, dtype=dtype, where=files[0].name if len(files) == 1 else f"{len(files)} shards")
    loaded = _Loaded(total=_num_bytes(expected[0], 2) + _num_bytes(expected[1], 4), on_progress=on_progress)
    with ExitStack() as stack:
        decoder, autoencoder = (_open_all(stack, files, device) for files in paths)
        yield CheckpointSource(decoder, loaded.add), CheckpointSource(autoencoder, loaded.add)


def expected_shapes(config: BagelConfig) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Keys and shapes of ema.safetensors and of ae.safetensors for a model of these sizes."""
    source, autoencoder_source = MetaSource(), MetaSource()
    build_bagel(source, autoencoder_source, config, Attention(backend="math", on_cuda=False))
    return source.shapes | {UNUSED_KEY: (config.llm.vocab, config.llm.hidden)}, autoencoder_source.shapes


def check_keys(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, TensorHeader], *, dtype: str, where: str
) -> None:
    """Raises ``UsageError`` unless ``found`` holds exactly the expected keys, with their shapes and this dtype.

    The message names up to ten problems, the notes of the exception (``__notes__``) hold all of them.
    """
    problems = [f"missing {key} {list(expected[key])}" for key in expected if key not in found]
    problems += [f"unexpected {key} {list(found[key].shape)}" for key in found if key not in expected]
    for key in expected.keys() & found.keys():
        header = found[key]
        if header.shape != expected[key]:
            problems.append(f"{key} has shape {list(header.shape)}, not {list(expected[key])}")
        if header.dtype != dtype:
            problems.append(f"{key} has dtype {header.dtype}, not {dtype}")
    if not problems:
        return
    num_more = len(problems) - _NUM_LISTED
    more = f", and {num_more} more" if num_more > 0 else ""
    error = UsageError(
        f"{where} does not fit the model's configuration: {', '.join(problems[:_NUM_LISTED])}{more}",
        remedy="--debug lists them all" if more else "",
    )
    for problem in problems:
        error.add_note(problem)
    raise error


def sincos_table(side: int, width: int) -> Tensor:
    """Fixed 2-D positions on the host, bf16 [side^2, width], row h * side + w (reference/bagel.md A4).

    The first half of a row holds sines and cosines of w, the second half those of h.
    """
    assert width % 4 == 0
    omega = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * omega
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    grid_of_w, grid_of_h = line.expand(side, side, -1), line[:, None].expand(side, side, -1)
    return torch.cat([grid_of_w, grid_of_h], dim=-1).flatten(0, 1).float().to(BF16)


@dataclass(slots=True)
class _Loaded:
    """Adds up what both sources have read."""

    total: int
    on_progress: Progress
    done: int = 0

    def add(self, num_bytes: int) -> None:
        self.done += num_bytes
        self.on_progress(self.done, self.total)


def _open_all(stack: ExitStack, files: tuple[Path, ...], device: torch.device) -> dict[str, Any]:
    opened = [stack.enter_context(reading(path, str(device))) for path in files]
    return {key: file for file in opened for key in file.keys()}  # noqa: SIM118 (not a mapping)


def _num_bytes(shapes: Mapping[str, tuple[int, ...]], num_bytes_each: int) -> int:
    return num_bytes_each * sum(math.prod(shape) for key, shape in shapes.items() if key != UNUSED_KEY)
