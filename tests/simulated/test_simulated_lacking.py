"""What CUDA has and the CPU lacks runs all the same, gives CUDA's types, and is counted once and noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import NotSimulated, SimulatedCuda

aten = torch.ops.aten
HALF, BF16, C32 = torch.float16, torch.bfloat16, torch.complex32


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


def halves(*shape: int, dtype: torch.dtype = HALF) -> Tensor:
    return torch.linspace(0.1, 2.0, torch.Size(shape).numel(), device="cuda").reshape(shape).to(dtype)


def integers(dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.arange(8, device="cuda", dtype=dtype)


def resized(mode: str, dtype: torch.dtype) -> Tensor:
    return F.interpolate(halves(1, 2, 8, 8, dtype=dtype), size=(3, 5), mode=mode, antialias=True)


NARROW: dict[str, tuple[Callable[[], Tensor], torch.dtype]] = {
    "histc of int64": (lambda: torch.histc(integers(), 4, 0, 7), torch.int64),
    "histc of int32": (lambda: torch.histc(integers(torch.int32), 4, 0, 7), torch.int32),
    "histc of uint8": (lambda: integers(torch.uint8).histc(bins=4, min=0, max=7), torch.uint8),
    "bilinear antialiased half": (lambda: resized("bilinear", HALF), HALF),
    "bicubic antialiased half": (lambda: resized("bicubic", HALF), HALF),
    "bilinear antialiased bf16": (lambda: resized("bilinear", BF16), BF16),
    "fft of half": (lambda: torch.fft.fft(halves(8)), C32),
    "rfft of half": (lambda: torch.fft.rfft(halves(8)), C32),
    "irfft of half": (lambda: torch.fft.irfft(torch.fft.rfft(halves(8))), HALF),
    "fft2 of half": (lambda: torch.fft.ifft2(torch.fft.fft2(halves(4, 4))), C32),
    "cos of half complex": (lambda: torch.cos(torch.fft.fft(halves(8))), C32),
    "product into float32": (lambda: torch.mm(halves(2, 3), halves(3, 2), out_dtype=torch.float32), torch.float32),
    "batched": (lambda: torch.bmm(halves(1, 2, 3), halves(1, 3, 2), out_dtype=torch.float32), torch.float32),
    "with a bias": (lambda: torch.addmm(halves(2), halves(2, 3), halves(3, 2), out_dtype=torch.float32), torch.float32),
    "batched, with a bias": (
        lambda: torch.baddbmm(halves(1, 2, 2), halves(1, 2, 3), halves(1, 3, 2), out_dtype=torch.float32),
        torch.float32,
    ),
    "nansum of complex": (lambda: torch.nansum(torch.fft.fft(halves(8).float())), torch.complex64),
    "nanmean of complex": (lambda: torch.nanmean(torch.fft.fft(halves(8).float())), torch.complex64),
    "convolution of cuDNN": (
        lambda: torch.cudnn_convolution(
            halves(1, 2, 4, 4), halves(2, 2, 3, 3), (0, 0), (1, 1), (1, 1), 1, False, False, False
        ),
        HALF,
    ),
    "multi_margin_loss of half": (lambda: F.multi_margin_loss(halves(2, 4), integers()[:2]), HALF),
    "avg_pool3d of half": (lambda: F.avg_pool3d(halves(1, 1, 4, 4, 4), 2), HALF),
    "rrelu of half": (lambda: F.rrelu(-halves(4), training=True), HALF),
    "cos of half complex in place": (lambda: torch.fft.fft(halves(8)).cos_(), C32),
    "trace of bool": (lambda: torch.trace(torch.eye(3, device="cuda", dtype=torch.bool)), torch.int64),
    "abs of bool": (lambda: torch.abs(torch.ones(3, device="cuda", dtype=torch.bool)), torch.bool),
}


@pytest.mark.parametrize("name", NARROW)
def test_a_type_that_the_cpu_lacks_is_run_in_a_wider_one(name: str, device: SimulatedCuda, waits: list[Kind]) -> None:
    run, dtype = NARROW[name]
    made = run()
    assert (made.is_cuda, made.dtype, waits) == (True, dtype, [])
    assert sum(device.notes.values()) >= 1


@pytest.mark.parametrize("scope", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_values_are_those_of_the_wider_type(scope: Any, device: SimulatedCuda) -> None:
    with scope():
        made = device.unwrap(resized("bilinear", HALF))
        wide = F.interpolate(device.unwrap(halves(1, 2, 8, 8)).float(), size=(3, 5), mode="bilinear", antialias=True)
        counts = device.unwrap(torch.histc(integers() % 3, 3, 0, 2))
    assert torch.equal(made, wide.half()) and counts.tolist() == [3, 3, 2]


def test_gradients_pass_through_what_the_cpu_lacks(device: SimulatedCuda) -> None:
    x = halves(1, 1, 8, 8).requires_grad_()
    F.interpolate(x, size=(4, 4), mode="bilinear", antialias=True).sum().backward()
    signal = halves(8).requires_grad_()
    torch.fft.rfft(signal).abs().sum().backward()
    for leaf in (x, signal):
        assert leaf.grad is not None and leaf.grad.is_cuda and leaf.grad.dtype == HALF and bool(leaf.grad.any())


def test_what_waits_is_counted_once_although_it_ran_twice(device: SimulatedCuda, waits: list[Kind]) -> None:
    torch.histc(integers(), 4)
    assert waits == ["scalar_read", "scalar_read"]


CALLS: list[float] = []


def read_and_fail(x: Tensor) -> Any:
    """Offers itself to modes, as torch's functions of Python do."""
    if has_torch_function((x,)):
        return handle_torch_function(read_and_fail, (x,), x)
    CALLS.append(x.sum().item())
    return torch.linalg.qr(x)


def test_what_fails_for_good_does_not_run_the_functions_around_it_again(
    device: SimulatedCuda, waits: list[Kind]
) -> None:
    CALLS.clear()
    with pytest.raises(NotImplementedError, match="not implemented for 'Half'"):
        read_and_fail(halves(2, 2))
    assert len(CALLS) == 1 and waits == ["scalar_read"]


@pytest.mark.parametrize("scope", [torch.inference_mode, torch.enable_grad])
def test_functions_that_check_types_run_in_any_scope(scope: Any, device: SimulatedCuda) -> None:
    with scope():
        assert torch.fft.fft(halves(8)).dtype == C32 and torch.fft.irfft2(torch.fft.rfft2(halves(4, 4))).dtype == HALF


def test_in_place_and_out_write_to_the_tensor_that_was_given(device: SimulatedCuda) -> None:
    x, out = torch.fft.fft(halves(8)), torch.empty(4, device="cuda", dtype=torch.int64)
    expected = device.unwrap(x).to(torch.complex64).cos().to(C32)
    assert x.cos_() is x and torch.equal(torch.view_as_real(device.unwrap(x)), torch.view_as_real(expected))
    assert torch.histc(integers(), 4, 0, 7, out=out) is out and device.unwrap(out).tolist() == [2, 2, 2, 2]


def test_a_note_says_what_ran_otherwise(device: SimulatedCuda) -> None:
    torch.histc(integers(), 4, 0, 7)
    torch.mm(halves(2, 2), halves(2, 2), out_dtype=torch.float32)
    assert device.notes == {
        "aten.histc ran in float64: the CPU has none in int64": 1,
        "aten.mm.dtype was made of other operators: the CPU has none": 1,
    }


def test_what_cuda_lacks_too_fails_as_there(device: SimulatedCuda) -> None:
    with pytest.raises(RuntimeError, match="Low precision dtypes not supported"):
        torch.linalg.inv(halves(2, 2))
    with pytest.raises(NotImplementedError, match="not implemented for 'Half'"):
        torch.linalg.qr(halves(2, 2))
    with pytest.raises(RuntimeError, match="not implemented for 'Bool'"):
        torch.histc(integers().bool(), 4, 0, 1)
    assert not device.notes


def test_the_host_lacks_what_it_lacked(device: SimulatedCuda) -> None:
    with pytest.raises(NotImplementedError, match="not implemented for 'Long'"):
        torch.histc(torch.arange(8), 4, 0, 7)


def test_an_operator_of_cuda_alone_is_refused_by_its_name(device: SimulatedCuda) -> None:
    with pytest.raises(NotSimulated, match=r"aten\._cslt_compress is not simulated: the CPU has no such operator"):
        aten._cslt_compress(halves(8, 8))


def test_attention_over_packed_sequences_is_attention_over_each(device: SimulatedCuda) -> None:
    q, k, v = (halves(5, 2, 8) for _ in range(3))
    bounds = torch.tensor([0, 2, 5], device="cuda", dtype=torch.int32)
    packed = aten._flash_attention_forward(q, k, v, bounds, bounds, 3, 3, 0.0, True, False)[0]
    alone = aten._flash_attention_forward(*(t[None, 2:] for t in (q, k, v)), None, None, 3, 3, 0.0, True, False)[0]
    assert packed.is_cuda and packed.shape == q.shape and torch.equal(packed[2:].cpu(), alone[0].cpu())


def test_efficient_attention_takes_positions_before_heads(device: SimulatedCuda) -> None:
    q, k, v = (halves(1, 5, 2, 8) for _ in range(3))
    made = aten._efficient_attention_forward(q, k, v, None, None, None, None, None, 0.0, 1, True)[0]
    turned = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    expected = aten._scaled_dot_product_efficient_attention(*turned, None, True, 0.0, True)[0]
    assert torch.equal(made.cpu(), expected.transpose(1, 2).cpu())


def test_flash_attention_of_fewer_queries_sees_the_last_key(device: SimulatedCuda) -> None:
    q, k, v = halves(1, 2, 1, 8), halves(1, 2, 4, 8), halves(1, 2, 4, 8)
    masked, whole = (aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)[0] for causal in (True, False))
    assert torch.equal(masked.cpu(), whole.cpu())


ATTENTION: dict[str, Callable[..., Any]] = {
    "flash": lambda q, k, v, **o: aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True, **o),
    "efficient": lambda q, k, v, **o: aten._scaled_dot_product_efficient_attention(q, k, v, None, True, 0.0, True, **o),
    "cudnn": lambda q, k, v, **o: aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, True, **o),
}


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_by_name_is_attention(name: str, scale: float | None, device: SimulatedCuda) -> None:
    by_name = attended(lambda q, k, v: ATTENTION[name](q, k, v, scale=scale)[0])
    by_function = attended(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale))
    for one, other in zip(by_name, by_function, strict=True):
        assert one.dtype == other.dtype and torch.allclose(one.cpu().float(), other.cpu().float(), atol=1e-2)


def attended(run: Callable[[Tensor, Tensor, Tensor], Tensor]) -> list[Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (torch.randn(1, 2, 6, 8, device="cuda", generator=generator).half().requires_grad_() for _ in range(3))
    output = run(q, k, v)
    (output.float() ** 2).sum().backward()
    return [output.detach(), *(leaf.grad for leaf in (q, k, v) if leaf.grad is not None)]
