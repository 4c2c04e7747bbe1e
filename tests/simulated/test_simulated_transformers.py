"""Language models of transformers run on the device as on the CPU; tests/benchmarks/transformers_sweep.py runs all."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import SimulatedCuda

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
MODELS = {
    "LlamaForCausalLM": {},
    "MixtralForCausalLM": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "MambaForCausalLM": {"state_size": 4, "intermediate_size": 64, "time_step_rank": 2},
}


def made(name: str) -> Any:
    kind: Any = getattr(transformers, name)
    torch.manual_seed(0)
    return kind(configuration(name)).eval()


def configuration(name: str) -> Any:
    return getattr(transformers, name).config_class(**{**SIZES, **MODELS[name]})


def loss_and_gradients(model: nn.Module, ids: Tensor) -> list[Tensor]:
    loss: Any = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return [loss.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("name", MODELS)
def test_a_language_model_is_the_cpus_to_the_bit(name: str) -> None:
    model, ids = made(name), torch.arange(3, 15).view(2, 6)
    twin = copy.deepcopy(model)
    expected, tokens = loss_and_gradients(model, ids), model.generate(ids, max_new_tokens=3, do_sample=False)
    with SimulatedCuda() as device:
        twin.to("cuda")
        found = loss_and_gradients(twin, device.wrap(ids))
        same_tokens = twin.generate(device.wrap(ids), max_new_tokens=3, do_sample=False)
        assert all(tensor.is_cuda for tensor in (*found, same_tokens)) and not device.unjudged
        found = [device.unwrap(tensor) for tensor in found]
        assert torch.equal(tokens, device.unwrap(same_tokens))
    assert len(found) == len(expected) and all(map(torch.equal, expected, found))


@pytest.mark.parametrize("name", MODELS)
def test_a_language_model_is_built_on_meta(name: str) -> None:
    with SimulatedCuda():
        with torch.device("meta"):
            model = getattr(transformers, name)(configuration(name))
        assert all(weight.is_meta for weight in model.parameters())
        model.to_empty(device="cuda")
        assert all(weight.is_cuda for weight in model.parameters())


@pytest.mark.parametrize("options", [{}, {"device_map": "cuda"}, {"device_map": 0}, {"device_map": {"": "cuda:0"}}])
def test_saved_weights_are_loaded_to_the_device(options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("accelerate" if options else "transformers")
    waits: list[Kind] = []
    model, ids = made("LlamaForCausalLM"), torch.arange(3, 15).view(2, 6)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(ids).logits
    with SimulatedCuda(waits.append) as device, torch.no_grad():
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **options)
        loaded.to("cuda")
        assert waits and set(waits) == {"pageable_upload"}
        assert torch.equal(expected, device.unwrap(loaded(device.wrap(ids)).logits))
