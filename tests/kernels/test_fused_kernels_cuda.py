"""The kernels of ``fused`` give the bits of PyTorch's own operators, for whatever they are given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.contracts import GroupNorm, LayerCache
from bagel_perf.subjects.bagel.model.decoder import RmsNorm
from kernels_optimized.fused import heads, ops, reference
from kernels_optimized.fused.rows import PackedRows

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

D, H, K, E = 3584, 28, 4, 128
INPUTS = ("random", "large", "small", "subnormal", "special")


def values(kind: str, *shape: int, seed: int = 0) -> Tensor:
    """bf16 on the GPU: normal, near the largest and smallest, subnormal, or with infinities and NaN among them."""
    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.randn(shape, generator=generator, device="cuda")
    scale = {"large": 1e37, "small": 1e-30, "subnormal": 1e-39}.get(kind, 1.0)
    x = (x * scale).bfloat16()
    if kind == "special":
        flat = x.view(-1)
        flat[::9973] = float("inf")
        flat[1::9967] = -float("inf")
        flat[2::9949] = float("nan")
        flat[3::97] = -0.0
    return x


def norm(size: int, seed: int) -> RmsNorm:
    return RmsNorm(weight=1 + 0.02 * values("random", size, seed=seed), eps=1e-6)


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == torch.bfloat16
    is_nan = expected.isnan()
    assert torch.equal(actual.isnan(), is_nan)
    different = (actual.view(torch.int16) != expected.view(torch.int16)) & ~is_nan
    assert not different.any(), f"{int(different.sum())} of {different.numel()} differ"


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("num_gen", "num_und"), [(256, 2), (512, 4), (768, 6), (12288, 6), (8064, 6), (24, 6)])
def test_sum_and_norm(kind: str, num_gen: int, num_und: int) -> None:
    from kernels_optimized.fused.kernels import norm as norm_kernels

    x, update = (values(kind, num_gen + num_und, D, seed=seed) for seed in (1, 2))
    norms = norm(D, 3), norm(D, 4)
    rows = torch.randperm(num_gen + num_und, device="cuda")
    for added, placed in ((None, None), (update, None), (update, rows)):
        ours = norm_kernels.add_norm(x, added, *norms, num_gen, placed)
        theirs = reference.add_norm(x, added, *norms, num_gen, placed)
        for actual, expected in zip(ours, theirs, strict=True):
            assert_same_bits(actual, expected)


def packed(
    num_gen: int, num_und: int, num_kv_rows: int, *, packs_heads: bool = False, has_coarse: bool = False
) -> PackedRows:
    num_rows = num_gen + num_und
    generator = torch.Generator("cuda").manual_seed(5)
    angles = torch.randn(num_rows, 1, E, generator=generator, device="cuda")
    return PackedRows(
        num_gen=num_gen,
        query_rows_R=torch.randperm(num_rows, generator=generator, device="cuda"),
        kv_rows_R=torch.randperm(num_kv_rows, generator=generator, device="cuda")[:num_rows],
        cos_T1E=angles.cos().bfloat16(),
        sin_T1E=angles.sin().bfloat16(),
        exact_R=torch.rand(num_rows, generator=generator, device="cuda") < 0.5 if has_coarse else None,
        packs_heads=packs_heads,
    )


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("packs_heads", "has_coarse"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize(("num_gen", "num_und"), [(256, 2), (512, 4), (768, 6), (12288, 6), (0, 12)])
def test_norm_and_rotation_of_heads_and_their_places(
    kind: str, num_gen: int, num_und: int, packs_heads: bool, has_coarse: bool
) -> None:
    from kernels_optimized.fused.kernels import rotate as rotate_kernels

    num_kv_rows = num_gen + num_und + 100
    rows = packed(num_gen, num_und, num_kv_rows, packs_heads=packs_heads, has_coarse=has_coarse)
    qkv = values(kind, num_gen + num_und, H + 2 * K, E, seed=6)
    norms = (norm(E, 7), norm(E, 8)), (norm(E, 9), norm(E, 10))
    before = values("random", num_kv_rows, K, E, seed=11)
    results = []
    for function in (rotate_kernels.norm_and_rotate, reference.norm_and_rotate):
        merged = LayerCache(key_PKE=before.clone(), value_PKE=before.clone())
        results.append((function(qkv, *norms, rows, merged), merged.key_PKE, merged.value_PKE))
    for actual, expected in zip(*results, strict=True):
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize(
    ("num_channels", "height", "width"),
    [
        (512, 32, 32),
        (512, 128, 128),
        (256, 256, 256),
        (256, 1024, 1024),
        (128, 1024, 1024),
        (128, 768, 1024),
        (64, 64, 8),
    ],
)
def test_norm_of_groups(kind: str, activate: bool, num_channels: int, height: int, width: int) -> None:
    shape = (1, num_channels, height, width)
    x = (values(kind, *shape, seed=15) + values(kind, 1, num_channels, 1, 1, seed=16)).contiguous(
        memory_format=torch.channels_last
    )
    weight, bias = (values("random", num_channels, seed=seed).float() for seed in (17, 18))
    group_norm = GroupNorm(weight=weight, bias=bias, num_groups=32, eps=1e-6)
    actual = ops.norm_activate(x, group_norm, activate=activate)
    assert actual.dtype == torch.bfloat16 and actual.is_contiguous(memory_format=torch.channels_last)
    assert_same_bits(actual, reference.norm_activate(x, group_norm, activate=activate).bfloat16())


@pytest.mark.parametrize(("num_channels", "height", "width"), [(512, 3, 5), (32, 32, 32), (192, 64, 64)])
def test_what_the_kernel_does_not_cover_is_pytorchs(num_channels: int, height: int, width: int) -> None:
    x = values("random", 1, num_channels, height, width).contiguous(memory_format=torch.channels_last)
    norm = GroupNorm(weight=x[0, :, 0, 0].float(), bias=x[0, :, 0, 1].float(), num_groups=32, eps=1e-6)
    assert torch.equal(ops.norm_activate(x, norm, activate=True), reference.norm_activate(x, norm, activate=True))


def test_activation_of_every_bf16() -> None:
    from kernels_optimized.fused.kernels import silu as silu_kernels

    every = torch.arange(-(2**15), 2**15, device="cuda").to(torch.int16).view(torch.bfloat16)
    ups = values("special", 64, 1, seed=12)
    gate_up = torch.cat([every.expand(64, -1), ups.expand(64, every.shape[0])], dim=1).contiguous()
    assert_same_bits(silu_kernels.silu_mul(gate_up), reference.silu_mul(gate_up))


def test_activation_of_the_released_width() -> None:
    from kernels_optimized.fused.kernels import silu as silu_kernels

    gate_up = values("random", 77, 2 * 18944, seed=13)
    assert_same_bits(silu_kernels.silu_mul(gate_up), reference.silu_mul(gate_up))


def test_another_order_of_summation_gives_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is not blind: a norm with its mean summed by twice as many threads differs somewhere."""
    from kernels_optimized.fused.kernels import norm as norm_kernels

    x, norms = values("random", 12294, D, seed=14), (norm(D, 3), norm(D, 4))
    expected = reference.add_norm(x, None, *norms, 12288)[1]
    assert torch.equal(norm_kernels.add_norm(x, None, *norms, 12288)[1], expected)
    monkeypatch.setattr(norm_kernels, "threads_of_mean", lambda *_: 64)
    assert not torch.equal(norm_kernels.add_norm(x, None, *norms, 12288)[1], expected)


def test_the_kernels_are_used_here() -> None:
    assert ops._kernels_agree(torch.device("cuda", 0))


@pytest.mark.parametrize("num_keys", [268, 5419, 5429])
def test_packed_heads_keep_the_bits_of_attention(num_keys: int) -> None:
    attention = Attention(backend="cudnn", on_cuda=True)
    q, k, v = (values("random", rows, heads, E, seed=15) for rows, heads in ((258, H), (num_keys, K), (num_keys, K)))
    packed_q = q.unflatten(1, (K, -1)).transpose(1, 2).flatten(1, 2)
    with attention.scope():
        actual = heads.full(attention, packed_q, k, v, packed=True)
        assert_same_bits(actual, heads.full(attention, q, k, v, packed=False))
