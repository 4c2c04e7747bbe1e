from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import SimulatedDevice


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedDevice]:
    with SimulatedDevice(waits.append) as device:
        yield device


def transformer_like(x: Tensor, weights: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """A bit of everything a diffusion transformer does, bf16 [T, 32] in, fp32 [1, 8, 12, 12] out."""
    h = F.layer_norm(x.float(), (32,)).to(x.dtype)
    q, k, v = torch.split(F.linear(h, weights["qkv"]), [32, 16, 16], dim=-1)
    q, k, v = (t.view(-1, t.shape[-1] // 8, 8).transpose(0, 1).unsqueeze(0) for t in (q, k, v))
    mask = torch.ones(x.shape[0], x.shape[0], dtype=torch.bool, device=x.device).tril()
    h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).squeeze(0).transpose(0, 1).flatten(1)
    h = x + F.silu(h) * F.gelu(h, approximate="tanh")
    rows = torch.arange(0, x.shape[0], 2, device=x.device)
    merged = x.new_zeros(x.shape)
    merged[rows] = h[rows]
    merged.index_put_((rows + 1,), h.narrow(0, 0, rows.shape[0]))
    merged[2:5] = h[:3].expand(3, 32)
    keep = torch.where(merged.float().norm(dim=-1) > 1.0)[0]
    merged[merged.float().sum(-1) > 0] = h[0]
    table = F.embedding(torch.unique(rows % 7), weights["table"])
    merged = torch.cat([merged, table.to(x.dtype), h[keep]]).chunk(2)[0]
    picture = torch.stack([merged[:36].float().reshape(6, 6, 32).permute(2, 0, 1)])
    picture = F.group_norm(F.conv2d(picture, weights["conv"], padding=1), 2)
    picture = picture + torch.randn(picture.shape, generator=generator, device=x.device)
    picture = torch.einsum("bchw,bcij->bchw", picture, picture).softmax(-1)
    return F.interpolate(picture, scale_factor=2.0, mode="nearest")


def inputs() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    shapes = {"qkv": (64, 32), "table": (7, 32), "conv": (8, 32, 3, 3)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    weights["qkv"] = weights["qkv"].bfloat16()
    return torch.randn(80, 32, generator=generator).bfloat16(), weights


@pytest.mark.parametrize("scope", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_transformer_gives_the_bits_of_the_cpu(scope: type[torch.no_grad]) -> None:
    x, weights = inputs()
    with scope():
        expected = transformer_like(x, weights, torch.Generator().manual_seed(5))
    with SimulatedDevice() as device, scope():
        wrapped = {name: device.wrap(weight) for name, weight in weights.items()}
        result = transformer_like(device.wrap(x), wrapped, torch.Generator().manual_seed(5))
        assert result.device == device.device
        assert torch.equal(device.unwrap(result), expected)
        assert not device.unjudged


def test_wrapping_shares_memory_both_ways(device: SimulatedDevice, waits: list[Kind]) -> None:
    host = torch.zeros(4)
    there = device.wrap(host)
    there[1:3] = 5
    host[0] = 1
    assert device.unwrap(there).tolist() == [1, 5, 5, 0]
    assert device.unwrap(there).data_ptr() == host.data_ptr()
    assert waits == []


def test_views_write_through_to_their_base(device: SimulatedDevice) -> None:
    base = torch.zeros(4, 6, device=device.device)
    base.narrow(0, 1, 2).transpose(0, 1)[2:4].fill_(3)
    torch.split(base, [1, 3])[0].copy_(torch.ones(1, 6, device=device.device))
    base.view(-1)[23:].add_(7)
    base.chunk(2, dim=1)[1][0, :1] *= 9
    expected = torch.zeros(4, 6)
    expected[1:3, 2:4] = 3
    expected[0] = 1
    expected[3, 5] = 7
    expected[0, 3] = 9
    assert torch.equal(device.unwrap(base), expected)


def test_an_upload_is_a_copy_and_a_download_too(device: SimulatedDevice) -> None:
    host = torch.zeros(3)
    there = host.to(device.device)
    host[0] = 1
    back = there.cpu()
    there += 5
    assert back.tolist() == [0, 0, 0] and device.unwrap(there).tolist() == [5, 5, 5]
    assert back.device.type == "cpu" and there.device == device.device and not there.is_cpu


def test_operators_in_place_keep_the_object(device: SimulatedDevice) -> None:
    x = torch.zeros(3, device=device.device)
    assert x.add_(1) is x and x.to(device.device) is x and x.float() is x


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: torch.where(x > 0, x, torch.ones(3)),
        lambda x: F.linear(x, torch.ones(2, 3)),
        lambda x: torch.ones(3) * x[0],
        lambda x: torch.ones(3)[x.long()],
        lambda x: x.index_put_((torch.arange(3, device=x.device),), torch.ones(3)),
        lambda x: torch.einsum("i,i->", x, torch.ones(3)),
    ],
)
def test_host_tensors_among_device_tensors_are_refused(device: SimulatedDevice, mix: object) -> None:
    x = torch.zeros(3, device=device.device)
    with pytest.raises(RuntimeError, match="same device"):
        mix(x)  # type: ignore[operator]


def test_numpy_asks_for_a_copy_first(device: SimulatedDevice) -> None:
    with pytest.raises(TypeError, match="to numpy"):
        torch.zeros(3, device=device.device).numpy()


def test_views_of_pinned_memory_are_pinned_and_copies_are_not(device: SimulatedDevice, waits: list[Kind]) -> None:
    pinned = torch.arange(6).pin_memory()
    assert pinned.is_pinned() and pinned[2:4].is_pinned() and not pinned.clone().is_pinned()
    pinned[2:4].to(device.device, non_blocking=True)
    assert waits == [] and not device.hazards
    torch.arange(6).to(device.device, non_blocking=True)
    assert waits == [] and device.hazards == {"asynchronous copy of pageable memory": 1} and not device.unjudged


def test_an_operator_that_nobody_can_judge_is_named_and_not_counted(device: SimulatedDevice, waits: list[Kind]) -> None:
    x = torch.tensor([1, 2, 2], device=device.device)
    waits.clear()
    for _ in range(2):
        torch.unique(x, dim=0)
    assert device.unjudged == {"aten.unique_dim.default": 2} and waits == []


def test_an_operator_from_elsewhere_is_looked_into_or_named(device: SimulatedDevice, waits: list[Kind]) -> None:
    @torch.library.custom_op("bagel_perf_test::twice", mutates_args=())
    def twice(x: Tensor) -> Tensor:
        return x * 2

    result = twice(torch.ones(2, device=device.device))
    assert device.unwrap(result).tolist() == [2, 2] and not device.unjudged
    torch.ops.quantized.embedding_bag_byte_prepack(torch.ones(2, 8, device=device.device))
    assert device.unjudged == {"quantized.embedding_bag_byte_prepack.default": 1} and waits == []


def test_a_module_moves_computes_and_is_copied(device: SimulatedDevice, waits: list[Kind]) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    host = copy.deepcopy(module)
    module.to(device.device)
    assert waits == ["pageable_upload"] * 4
    twin = copy.deepcopy(module)
    moved = [*module.parameters(), *twin.parameters()]
    assert all(isinstance(p, nn.Parameter) and p.device == device.device for p in moved)
    x = torch.ones(2, 3)
    assert torch.equal(device.unwrap(module(device.wrap(x))), host(x))
    assert torch.equal(device.unwrap(twin(device.wrap(x))), host(x))


def test_a_training_step_has_the_gradients_of_the_cpu(device: SimulatedDevice, waits: list[Kind]) -> None:
    module = nn.Linear(3, 1)
    host = copy.deepcopy(module)
    module.to(device.device)
    waits.clear()
    losses = []
    for net, x in ((host, torch.ones(2, 3)), (module, torch.ones(2, 3, device=device.device))):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:2] == losses[2:]
    assert module.weight.grad is not None and module.weight.grad.device == device.device
    assert torch.equal(device.unwrap(module.weight), host.weight)
    assert Counter(waits) == {"scalar_read": 2}


def test_the_default_device_may_be_the_simulated_one(device: SimulatedDevice) -> None:
    with torch.device(device.device):
        assert torch.zeros(2).device == device.device and torch.tensor([1]).device == device.device
        assert torch.zeros(2, device="cpu").device.type == "cpu"


def test_tensors_are_refused_after_the_context() -> None:
    with SimulatedDevice() as device:
        x = torch.ones(2, device=device.device)
    with pytest.raises(RuntimeError, match="after its context ended"):
        x + 1


def test_two_devices_at_once_are_refused(device: SimulatedDevice) -> None:
    with pytest.raises(RuntimeError, match="another simulated device"), SimulatedDevice():
        pass


def test_other_threads_compute_and_are_counted(device: SimulatedDevice, waits: list[Kind]) -> None:
    x = torch.ones(2, device=device.device)
    thread = threading.Thread(target=lambda: (x + 1).sum().item())
    thread.start()
    thread.join()
    assert waits == ["scalar_read"]


def test_the_process_is_left_as_it_was() -> None:
    with SimulatedDevice() as device:
        torch.ones(2, device=device.device)
    assert torch._C._get_privateuse1_backend_name() == "privateuseone"
    assert torch.ones(2).sum().item() == 2
    x = torch.ones(2, requires_grad=True)
    (gradient,) = torch.autograd.grad(x.sum(), x)
    assert gradient.tolist() == [1, 1]
