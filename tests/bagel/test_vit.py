"""The image encoder: its layout of patches and positions, and its rounding places."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.config import VitConfig, preset
from bagel_perf.subjects.bagel.model.parameters import Linear, Norm
from bagel_perf.subjects.bagel.model.vit import Vit, build_vit, encode_image, patchify_pixels
from bagel_perf.subjects.bagel.model.weights import RandomSource

ATTENTION = Attention(backend="math", on_cuda=False)
CONFIG = VitConfig(hidden=32, num_layers=2, num_heads=2, intermediate=48, patch=14, image_size=140)
DECODER_WIDTH = 64


@pytest.fixture(scope="module")
def vit() -> Vit:
    return build_vit(RandomSource(torch.device("cpu"), 0), CONFIG, DECODER_WIDTH)


def pixels(height: int, width: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_patches_hold_channels_fastest_then_columns() -> None:
    picture = torch.arange(3 * 4 * 6).reshape(3, 4, 6)
    patches = patchify_pixels(picture, 2)
    assert patches.shape == (6, 12)
    assert patches[4].tolist() == [int(picture[c, 2 + p, 2 + q]) for p in (0, 1) for q in (0, 1) for c in (0, 1, 2)]


def test_rows_are_bf16_and_one_per_patch(vit: Vit) -> None:
    rows = encode_image(vit, pixels(42, 70), ATTENTION)
    assert (rows.shape, rows.dtype) == ((15, DECODER_WIDTH), torch.bfloat16)
    assert rows.isfinite().all()


def test_a_small_image_takes_the_top_left_corner_of_the_position_tables(vit: Vit) -> None:
    rows, cols = 3, 5
    corner = (torch.arange(rows)[:, None] * CONFIG.max_patches_per_side + torch.arange(cols)).flatten()
    outside = torch.ones(CONFIG.max_patches_per_side**2, 1, dtype=torch.bfloat16)
    outside[corner] = 0
    poisoned = dataclasses.replace(
        vit, positions=vit.positions + 9 * outside, decoder_positions=vit.decoder_positions + 9 * outside
    )
    picture = pixels(14 * rows, 14 * cols)
    assert torch.equal(encode_image(poisoned, picture, ATTENTION), encode_image(vit, picture, ATTENTION))
    moved = dataclasses.replace(vit, positions=vit.positions.roll(1, 0))
    assert not torch.equal(encode_image(moved, picture, ATTENTION), encode_image(vit, picture, ATTENTION))


def test_every_patch_sees_every_other(vit: Vit) -> None:
    picture = pixels(42, 42)
    changed = picture.clone()
    changed[:, -14:, -14:] *= -1
    before, after = (encode_image(vit, p, ATTENTION) for p in (picture, changed))
    assert (before != after).any(dim=1).all()


def test_the_encoder_equals_the_formula_written_with_autocast(vit: Vit) -> None:
    picture = pixels(56, 42)
    expected = reference(vit, picture)
    assert torch.equal(encode_image(vit, picture, ATTENTION), expected)


def test_every_parameter_counts(vit: Vit) -> None:
    picture = pixels(28, 28)
    expected = encode_image(vit, picture, ATTENTION)
    block = vit.blocks[1]
    mutants = [dataclasses.replace(vit, blocks=vit.blocks[:1])]
    for name in ("attention_norm", "qkv", "attention_out", "mlp_norm", "mlp_in", "mlp_out"):
        changed = dataclasses.replace(block, **{name: shifted(getattr(block, name))})
        mutants.append(dataclasses.replace(vit, blocks=(vit.blocks[0], changed)))
    for name in ("patch_embedding", "post_norm", "connector_in", "connector_out"):
        mutants.append(dataclasses.replace(vit, **{name: shifted(getattr(vit, name))}))
    pictures = [expected, *(encode_image(mutant, picture, ATTENTION) for mutant in mutants)]
    assert all(not torch.equal(a, b) for a, b in pairwise(pictures))
    assert all(not torch.equal(expected, other) for other in pictures[1:])


def test_the_tiny_preset_takes_980_pixels() -> None:
    tiny = preset("tiny")
    vit = build_vit(RandomSource(torch.device("cpu"), 0), tiny.vit, tiny.llm.hidden)
    rows = encode_image(vit, pixels(980, 980), ATTENTION)
    assert rows.shape == (4900, tiny.llm.hidden)
    assert 0.2 < float(rows.float().std()) < 5


def shifted(layer: Any) -> Any:
    """A layer with other weights."""
    return dataclasses.replace(layer, weight=layer.weight.roll(1, 0) + 1)


def reference(vit: Vit, picture: Tensor) -> Tensor:
    """The same encoder in plain modules' functions, LayerNorm as CUDA autocast runs it."""
    c = vit.config

    def norm(x: Tensor, n: Norm) -> Tensor:
        return F.layer_norm(x.float(), (c.hidden,), n.weight.float(), n.bias.float(), 1e-6)

    def linear(x: Tensor, layer: Linear) -> Tensor:
        return F.linear(x.bfloat16(), layer.weight, layer.bias)

    rows, cols = picture.shape[1] // 14, picture.shape[2] // 14
    ids = torch.tensor([h * 10 + w for h in range(rows) for w in range(cols)])
    x = linear(patchify_pixels(picture, 14), vit.patch_embedding) + vit.positions[ids]
    for block in vit.blocks:
        q, k, v = linear(norm(x, block.attention_norm), block.qkv).chunk(3, dim=-1)
        q, k, v = (t.float().reshape(len(ids), c.num_heads, c.head_dim).transpose(0, 1)[None] for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).reshape(len(ids), c.hidden).bfloat16()
        x = x + linear(out, block.attention_out)
        x = x + linear(F.gelu(linear(norm(x, block.mlp_norm), block.mlp_in), approximate="tanh"), block.mlp_out)
    hidden = F.gelu(linear(norm(x, vit.post_norm), vit.connector_in), approximate="tanh")
    return linear(hidden, vit.connector_out) + vit.decoder_positions[ids]
