"""Programs that ask for "cuda" run on the simulated device unchanged, and leave the process as it was."""

from __future__ import annotations

import asyncio
import copy
import importlib
import io
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.variable import Variable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import NotSimulated, SimulatedCuda

MODULES = (
    torch,
    torch.cuda,
    torch.cuda.memory,
    torch.cuda.random,
    torch.cuda.streams,
    torch.cuda.graphs,
    torch.cuda.nvtx,
    torch.Tensor,
    torch.accelerator,
    torch.jit,
    torch._C,
    torch.backends.cuda,
    torch.autograd.function.Function,
    torch.autograd.function.FunctionCtx,
    torch.autograd.function.BackwardCFunction,
    Variable,
    torch.autograd.graph.saved_tensors_hooks,
    torch.storage._StorageBase,
    threading.Thread,
)


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


def attributes() -> dict[tuple[int, str], int]:
    return {(number, name): id(value) for number, owner in enumerate(MODULES) for name, value in vars(owner).items()}


@pytest.mark.parametrize("error", [None, KeyError])
def test_every_attribute_is_the_identical_object_afterwards(error: type[Exception] | None) -> None:
    importlib.import_module("torch._dynamo")  # optimizers and checkpoints import it, which adds attributes of its own
    before, default = attributes(), torch.get_default_device()
    try:
        with SimulatedCuda():
            assert attributes() != before
            torch.set_default_device("cuda")
            if error is not None:
                raise error
    except KeyError:
        pass
    assert attributes() == before
    assert torch.get_default_device() == default and torch.zeros(1).device.type == "cpu"


def test_the_process_seems_to_have_one_gpu(device: SimulatedCuda) -> None:
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.cuda.current_device() == 0
    assert torch.accelerator.current_accelerator() == torch.device("cuda")
    assert torch.cuda.get_device_name() == "simulated CUDA device" == torch.cuda.get_device_properties(0).name
    assert torch.cuda.get_device_capability() == (9, 0) and torch.cuda.is_bf16_supported()
    assert torch.cuda.memory_allocated() == 0 and torch.cuda.memory_stats()["allocated_bytes.all.peak"] == 0
    x = torch.zeros(2, device="cuda")
    assert x.is_cuda and not x.is_cpu and x.get_device() == 0 and str(x.device) == "cuda:0"
    assert x.type() == "torch.cuda.FloatTensor" and isinstance(x, vars(torch.cuda)["FloatTensor"])
    with pytest.raises(RuntimeError, match="invalid device ordinal 1"):
        torch.zeros(2, device="cuda:1")


def test_streams_and_events_count_who_waits_for_them(device: SimulatedCuda, waits: list[Kind]) -> None:
    stream, start, end = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    with torch.cuda.stream(stream):
        assert torch.cuda.current_stream() == stream
        torch.ones(2, device="cuda").record_stream(stream)
    torch.cuda.current_stream().wait_stream(stream)
    end.record()
    assert torch.cuda.current_stream() == torch.cuda.default_stream() != stream and end.query() and waits == []
    assert start.elapsed_time(end) >= 0
    stream.synchronize()
    end.synchronize()
    torch.cuda.synchronize()
    torch.accelerator.synchronize()
    assert waits == ["explicit_sync"] * 4


def test_what_was_never_recorded_is_not_waited_for(device: SimulatedCuda, waits: list[Kind]) -> None:
    for make in (torch.cuda.Event, torch.Event, lambda: torch.cuda.Event(enable_timing=True, blocking=True)):
        event = make()
        event.synchronize()
        event.wait()
        torch.cuda.current_stream().wait_event(event)
        assert event.query() and waits == []
        event.record()
        assert event.query() and waits == []
        event.synchronize()
        event.record(torch.cuda.Stream())
        event.synchronize()
        assert waits == ["explicit_sync"] * 2
        waits.clear()
    torch.cuda.empty_cache()
    torch.cuda.ipc_collect()
    torch.cuda.mem_get_info()
    with pytest.raises(ValueError, match="recorded"):
        torch.cuda.Event(enable_timing=True).elapsed_time(torch.cuda.Event(enable_timing=True))
    assert waits == []


def test_new_threads_pools_and_tasks_see_the_device(device: SimulatedCuda, waits: list[Kind]) -> None:
    def work(factor: int = 1) -> float:
        return (torch.ones(3, device="cuda") * factor).sum().item()

    async def tasks() -> list[float]:
        return list(await asyncio.gather(asyncio.to_thread(work, 2), asyncio.to_thread(work, 3)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, [1, 2])) == [3, 6]
    assert asyncio.run(tasks()) == [6, 9]
    assert waits == ["scalar_read"] * 5


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.cuda.CUDAGraph(),
        lambda: torch.cuda.graph(Any),  # type: ignore[arg-type]
        lambda: torch.cuda.make_graphed_callables(nn.Linear(2, 2), ()),
        lambda: torch.cuda.MemPool(),
        lambda: torch.cuda.caching_allocator_alloc(8),
        lambda: torch.distributed.init_process_group("nccl"),
    ],
)
def test_what_is_not_simulated_is_refused_by_name(device: SimulatedCuda, ask: Callable[[], object]) -> None:
    with pytest.raises(NotSimulated, match=r"torch\.(cuda\.\w+|distributed over NCCL) is not simulated"):
        ask()


def test_compilers_run_eagerly_and_are_noted(device: SimulatedCuda) -> None:
    @torch.compile(mode="reduce-overhead")
    def twice(x: Tensor) -> Tensor:
        return x * 2

    linear = nn.Linear(2, 2).cuda()
    assert twice(torch.ones(2, device="cuda")).is_cuda and torch.compile(linear) is linear
    assert device.notes == {"torch.compile ran eagerly": 2}


def test_moving_a_module_keeps_its_parameters_and_ties(device: SimulatedCuda, waits: list[Kind]) -> None:
    net = nn.ModuleDict({"a": nn.Embedding(4, 3), "b": nn.Linear(3, 4, bias=False)})
    net["b"].weight = net["a"].weight
    weight = net["a"].weight
    net.cuda()
    assert net["a"].weight is net["b"].weight is weight and weight.is_cuda and isinstance(weight, nn.Parameter)
    assert waits == ["pageable_upload"] and repr(weight).startswith("Parameter containing:\ntensor([[")
    twin = copy.deepcopy(net)
    assert twin["a"].weight is twin["b"].weight is not weight and twin["a"].weight.is_cuda
    net.cpu()
    assert type(weight) is nn.Parameter and weight.device.type == "cpu"


def test_a_checkpoint_goes_to_the_device_it_is_loaded_to(device: SimulatedCuda, waits: list[Kind]) -> None:
    file = io.BytesIO()
    torch.save({"x": torch.arange(3.0, device="cuda"), "y": torch.zeros(2)}, file)
    assert waits == ["d2h_copy"]
    loaded = [torch.load(io.BytesIO(file.getvalue()), map_location=where) for where in (None, "cpu", "cuda")]
    assert [(one["x"].is_cuda, one["y"].is_cuda) for one in loaded] == [(True, False), (False, False), (True, True)]
    assert waits == ["d2h_copy", *["pageable_upload"] * 3]
    assert pickle.loads(pickle.dumps(loaded[0]["x"])).tolist() == [0, 1, 2]


def test_safetensors_load_to_the_device(device: SimulatedCuda, tmp_path: Any) -> None:
    from safetensors.torch import load_file, save_file

    save_file({"x": torch.arange(3.0, device="cuda")}, tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors", device="cuda")["x"].is_cuda


class Block(nn.Module):
    """Attention and a feed-forward network, each added to what they are given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        widened: Tensor = self.mlp(x)
        return x + widened


def test_training_a_transformer_waits_for_the_scaler_and_the_loss(device: SimulatedCuda, waits: list[Kind]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(50, 32), Block(32), Block(32), nn.Linear(32, 50)).cuda()
    loader = DataLoader(TensorDataset(torch.randint(0, 50, (16, 12))), batch_size=4, shuffle=True, pin_memory=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    scaler = torch.amp.GradScaler("cuda")
    waits.clear()
    for (batch,) in loader:
        x = batch.to("cuda", non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = F.cross_entropy(net(x[:, :-1]).float().flatten(0, 1), x[:, 1:].flatten())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        assert loss.item() > 0
    assert Counter(waits) == {"scalar_read": 8}  # of 4 batches: infinities found by the scaler, and the loss
    assert not device.unjudged and not device.hazards


def test_autograd_functions_hooks_and_checkpoints_get_device_tensors(device: SimulatedCuda, waits: list[Kind]) -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            result = x * x
            ctx.save_for_backward(x, result)
            return result

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            x, result = ctx.saved_tensors
            assert grads[0].is_cuda and x.is_cuda and result.is_cuda
            return 2 * x * grads[0]

    x = torch.arange(3.0, device="cuda", requires_grad=True)
    y = Square.apply(x)  # type: ignore[no-untyped-call]
    y.register_hook(lambda grad: grad * grad.sum().item())
    checkpoint(lambda z: z[z > 0] * torch.ones((), device="cuda"), y, use_reentrant=False).sum().backward()
    assert x.grad is x.grad and x.grad is not None and x.grad.is_cuda
    assert device.unwrap(x.grad).tolist() == [0, 4, 8]
    # the mask of the forward pass, of its repetition and of its gradient; the hook
    assert Counter(waits) == {"mask_gather": 2, "mask_scatter": 1, "scalar_read": 1}


def test_a_gradient_that_crosses_devices_is_copied_back(device: SimulatedCuda, waits: list[Kind]) -> None:
    x = torch.ones(2, device="cuda", requires_grad=True)
    (x * 2).cpu().sum().backward()
    assert x.grad is not None and x.grad.is_cuda and waits == ["d2h_copy", "pageable_upload"]


@pytest.mark.parametrize("backend", [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_any_backend_of_attention_may_be_asked_for(device: SimulatedCuda, backend: SDPBackend) -> None:
    q = torch.randn(1, 2, 4, 8, device="cuda", dtype=torch.bfloat16)
    with sdpa_kernel([backend]):
        assert F.scaled_dot_product_attention(q, q, q, is_causal=True).is_cuda


def test_transforms_keep_the_device(device: SimulatedCuda) -> None:
    x = torch.randn(4, 3, device="cuda")
    assert torch.vmap(lambda row: row.sum())(x).is_cuda
    assert torch.func.grad(lambda z: (z**2).sum())(x).is_cuda


def test_generators_of_the_device_make_its_random_numbers(device: SimulatedCuda) -> None:
    draws = [torch.rand(2, device="cuda", generator=torch.Generator("cuda").manual_seed(3)) for _ in range(2)]
    assert torch.equal(draws[0], draws[1]) and torch.Generator("cuda").device.type == "cuda"
    state = torch.cuda.get_rng_state()
    first = torch.rand(2, device="cuda")
    torch.cuda.set_rng_state(state)
    assert torch.equal(first, torch.rand(2, device="cuda"))
    assert isinstance(torch.default_generator, torch.Generator)


def test_an_asynchronous_copy_of_pageable_memory_is_a_hazard(device: SimulatedCuda, waits: list[Kind]) -> None:
    torch.ones(2).to("cuda", non_blocking=True)
    assert device.hazards.total() == 1 and waits == [] and not device.unjudged


def test_a_language_model_of_transformers_generates(device: SimulatedCuda, waits: list[Kind]) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
    )
    model: Any = Qwen2ForCausalLM(config)
    model.to("cuda").eval()
    waits.clear()
    ids = torch.randint(3, 64, (1, 6), device="cuda")
    out = model.generate(ids, max_new_tokens=5, do_sample=True, top_k=5)
    assert out.is_cuda and out.shape[1] > 6
    assert waits.count("scalar_read") >= out.shape[1] - 6 and not device.unjudged
