"""The denoising loop of vllm-omni 0.30.0 with the lengths that the host knows in place of a padding mask.

``compare released@ENV=FILE:released lengths@ENV=FILE:lengths``, or ``syncs lengths@ENV=FILE:lengths``; ENV is an
environment with vllm-omni 0.30.0, and the settings are those of ``examples/vllm_omni_bagel.py``. ``lengths`` packs the
branches' keys instead of padding them, and takes upstream's own path for packed sequences.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

PATH = Path(__file__).resolve().parents[2] / "examples" / "vllm_omni_bagel.py"
spec = importlib.util.spec_from_file_location("vllm_omni_bagel", PATH)
assert spec is not None and spec.loader is not None
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
CASES, setup, released = example.CASES, example.setup, example.stages


def lengths(state: Any, case: dict[str, Any], seed: int) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Yields the stages of the release, of which ``denoise`` packs keys and values."""

    def denoise(call: Any) -> Any:
        with packing(state.pipeline):
            return state.denoise(call)

    yield "prefill", lambda _: state.until_denoise(case, seed)
    yield "denoise", denoise
    yield "decode", state.decode


def packed(tensors: list[torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
    """Joins branches [rows, heads, size] in place of ``left_pad_stack``; gives their rows instead of a mask."""
    return torch.cat(tensors).unsqueeze(0), [tensor.shape[0] for tensor in tensors]


@contextmanager
def packing(pipeline: Any) -> Iterator[None]:
    """Has every layer attend over packed branches."""
    upstream: Any = importlib.import_module("vllm_omni.diffusion.models.bagel.bagel_transformer")
    offsets: dict[tuple[int, ...], torch.Tensor] = {}
    padded = upstream.left_pad_stack
    attentions = [layer.self_attn.attn_noncausal for layer in pipeline.language_model.model.layers]

    def places(rows: list[int], device: torch.device) -> torch.Tensor:
        """Where each branch begins and where the last one ends, made once for all layers and steps."""
        if tuple(rows) not in offsets:
            ends = [0, *itertools.accumulate(rows)]
            made = [torch.full((1,), end, dtype=torch.int32, device=device) for end in ends]
            offsets[tuple(rows)] = torch.cat(made)
        return offsets[tuple(rows)]

    def attend(native: Callable[..., Any]) -> Callable[..., Any]:
        def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, metadata: Any) -> Any:
            num_branches, num_queries = q.shape[:2]
            rows, queries = metadata.attn_mask, [num_queries] * num_branches
            extra = {
                "cu_seqlens_q": places(queries, q.device),
                "cu_seqlens_k": places(rows, q.device),
                "max_seqlen_q": num_queries,
                "max_seqlen_k": max(rows),
            }
            out = native(q.flatten(0, 1).unsqueeze(0), k, v, type(metadata)(extra=extra))
            return out.view(num_branches, num_queries, *out.shape[2:])

        return forward

    upstream.left_pad_stack = packed
    for attention in attentions:
        attention.forward = attend(attention.forward)
    try:
        yield
    finally:
        upstream.left_pad_stack = padded
        for attention in attentions:
            del attention.forward
