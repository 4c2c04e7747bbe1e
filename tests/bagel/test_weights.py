"""Sources of weights and configurations, and what a wrong checkpoint directory says."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.bagel import Bagel, build_bagel
from bagel_perf.subjects.bagel.model.checkpoint_files import TensorHeader, tensor_shapes
from bagel_perf.subjects.bagel.model.config import BagelConfig, SpecialTokens, config_from_directory, preset
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.subjects.bagel.model.weights import (
    UNUSED_KEY,
    RandomSource,
    check_keys,
    expected_shapes,
    open_checkpoint,
    sincos_table,
)

CPU = torch.device("cpu")
ATTENTION = Attention(backend="math", on_cuda=False)


def load(directory: Path, config: BagelConfig | None = None) -> tuple[Bagel, list[tuple[int, int]]]:
    config = config or config_from_directory(directory)
    progress: list[tuple[int, int]] = []
    with open_checkpoint(directory, config, CPU, lambda done, total: progress.append((done, total))) as sources:
        return build_bagel(*sources, config, ATTENTION), progress


def refused(directory: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(directory)
    assert "\n" not in str(caught.value)
    return caught.value


def tensors(model: Bagel) -> list[Tensor]:
    found: list[Tensor] = []
    map_tensors(model, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_tensors(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(path)
    change(state)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)


def test_the_released_shape_has_the_released_keys_and_parameters() -> None:
    decoder, autoencoder = expected_shapes(preset("7b"))
    assert (len(decoder), len(autoencoder)) == (1223, 244)
    counts = [sum(torch.Size(shape).numel() for shape in shapes.values()) for shapes in (decoder, autoencoder)]
    assert counts == [14_607_260_128, 83_819_683]


def test_the_sizes_of_a_directory_are_read(golden_dir: Path) -> None:
    config = config_from_directory(golden_dir)
    meta = json.loads((golden_dir / "meta.json").read_text())
    vit = json.loads((golden_dir / "vit_config.json").read_text())
    llm = json.loads((golden_dir / "llm_config.json").read_text())
    assert config.vit.num_layers == vit["num_hidden_layers"] - 1
    assert (config.llm.rope_theta, config.llm.rms_eps) == (llm["rope_theta"], llm["rms_norm_eps"])
    assert list(config.autoencoder.channel_multipliers) == meta["vae_config"]["ch_mult"]
    assert config.autoencoder.num_res_blocks == meta["vae_config"]["num_res_blocks"]
    assert config.autoencoder.downsample == meta["vae_config"]["downsample"]
    assert config.tokens.bos == meta["ids"]["bos_token_id"]
    assert config.max_latent_size == 64


def test_special_tokens_fall_back_to_the_top_of_a_small_vocabulary(checkpoint_dir: Path) -> None:
    (checkpoint_dir / "meta.json").unlink()
    assert config_from_directory(checkpoint_dir).tokens == SpecialTokens(
        bos=508, eos=509, start_of_image=510, end_of_image=511
    )
    assert config_from_directory(checkpoint_dir).autoencoder.scale == 0.3611


def test_meta_json_may_rescale_the_autoencoder(checkpoint_dir: Path) -> None:
    edit_json(checkpoint_dir / "meta.json", lambda meta: meta["vae_config"].update(scale_factor=0.5))
    assert config_from_directory(checkpoint_dir).autoencoder.scale == 0.5


def test_a_checkpoint_is_loaded_with_progress(golden_dir: Path) -> None:
    model, progress = load(golden_dir)
    state = load_file(golden_dir / "ema.safetensors")
    assert torch.equal(model.decoder.embedding, state["language_model.model.embed_tokens.weight"])
    assert torch.equal(model.vit.connector_out.weight, state["connector.fc2.weight"])
    assert progress[-1][0] == progress[-1][1]
    assert progress == sorted(progress)
    autoencoder = load_file(golden_dir / "ae.safetensors")
    assert torch.equal(model.autoencoder.encoder.conv_in.weight, autoencoder["encoder.conv_in.weight"].bfloat16())
    assert torch.equal(model.autoencoder.encoder.norm_out.weight, autoencoder["encoder.norm_out.weight"])


@pytest.mark.parametrize("index_name", ["model.safetensors.index.json", "ema.safetensors.index.json"])
def test_shards_give_the_model_of_one_file(checkpoint_dir: Path, index_name: str) -> None:
    whole, _ = load(checkpoint_dir)
    state = load_file(checkpoint_dir / "ema.safetensors")
    weight_map = {key: f"part-{i % 3}.safetensors" for i, key in enumerate(state)}
    for name in set(weight_map.values()):
        save_file({key: tensor for key, tensor in state.items() if weight_map[key] == name}, checkpoint_dir / name)
    weight_map["encoder.conv_in.weight"] = "ae.safetensors"
    (checkpoint_dir / index_name).write_text(json.dumps({"weight_map": weight_map}))
    (checkpoint_dir / "ema.safetensors").unlink()
    sharded, _ = load(checkpoint_dir)
    assert all(torch.equal(a, b) for a, b in zip(tensors(whole), tensors(sharded), strict=True))
    (checkpoint_dir / "part-1.safetensors").unlink()
    assert "part-1.safetensors is missing" in str(refused(checkpoint_dir))


@pytest.mark.parametrize("name", ["llm_config.json", "vit_config.json", "ema.safetensors", "ae.safetensors"])
def test_a_missing_file_is_named(checkpoint_dir: Path, name: str) -> None:
    (checkpoint_dir / name).unlink()
    assert f"{name} is missing" in str(refused(checkpoint_dir))


@pytest.mark.parametrize("name", ["ema.safetensors", "ae.safetensors"])
@pytest.mark.parametrize("length", [0, 5, 2000, -100])
def test_a_truncated_file_is_named(checkpoint_dir: Path, name: str, length: int) -> None:
    path = checkpoint_dir / name
    path.write_bytes(path.read_bytes()[:length])
    assert f"{name} is truncated" in str(refused(checkpoint_dir))


@pytest.mark.parametrize("name", ["llm_config.json", "vit_config.json"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"hidden_size": "wide"}', "\x00"])
def test_a_foreign_configuration_is_named(checkpoint_dir: Path, name: str, text: str) -> None:
    (checkpoint_dir / name).write_text(text)
    assert name in str(refused(checkpoint_dir))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", 3),
        ("num_key_value_heads", 3),
        ("vocab_size", 3),
        ("rms_norm_eps", "x"),
        ("hidden_size", 0),
    ],
)
def test_an_impossible_configuration_is_one_line(checkpoint_dir: Path, key: str, value: object) -> None:
    edit_json(checkpoint_dir / "llm_config.json", lambda config: config.update({key: value}))
    refused(checkpoint_dir)


def test_a_directory_of_something_else_is_one_line(tmp_path: Path, checkpoint_dir: Path) -> None:
    assert "no such checkpoint directory" in str(refused(tmp_path / "absent"))
    assert "llm_config.json is missing" in str(refused(tmp_path))
    shutil.copyfile(checkpoint_dir / "ema.safetensors", checkpoint_dir / "ae.safetensors")
    assert "not BAGEL's autoencoder" in str(refused(checkpoint_dir))


def test_every_wrong_key_is_listed(checkpoint_dir: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> None:
        state["stranger.weight"] = state.pop("connector.fc1.bias")
        state["vae2llm.weight"] = state["vae2llm.weight"].T
        state["llm2vae.bias"] = state["llm2vae.bias"].float()

    edit_tensors(checkpoint_dir / "ema.safetensors", spoil)
    error = refused(checkpoint_dir)
    expected = {
        "missing connector.fc1.bias [128]",
        "unexpected stranger.weight [128]",
        "vae2llm.weight has shape [64, 128], not [128, 64]",
        "llm2vae.bias has dtype F32, not BF16",
    }
    assert set(error.__notes__) == expected
    assert all(problem in str(error) for problem in expected)


def test_a_long_list_of_wrong_keys_is_cut_in_the_message_only() -> None:
    found = {f"k{i}": TensorHeader(shape=(1,), dtype="BF16") for i in range(25)}
    with pytest.raises(UsageError, match="and 15 more") as caught:
        check_keys({}, found, dtype="BF16", where="ema.safetensors")
    assert len(caught.value.__notes__) == 25


def test_the_output_head_is_expected_and_not_loaded(checkpoint_dir: Path) -> None:
    edit_tensors(checkpoint_dir / "ema.safetensors", lambda state: state.pop(UNUSED_KEY))
    assert refused(checkpoint_dir).__notes__ == [f"missing {UNUSED_KEY} [512, 128]"]


def test_position_tables_follow_the_formula_of_the_released_ones(golden_dir: Path) -> None:
    state = load_file(golden_dir / "ema.safetensors")
    for key in ("vit_pos_embed.pos_embed", "latent_pos_embed.pos_embed"):
        num_rows, width = state[key].shape
        assert torch.equal(sincos_table(int(num_rows**0.5), width), state[key])


def test_the_column_comes_first_in_a_position_table() -> None:
    table = sincos_table(4, 8).float()
    row, col = 2, 3
    omega = torch.tensor([1.0, 0.01])
    expected = [*(col * omega).sin(), *(col * omega).cos(), *(row * omega).sin(), *(row * omega).cos()]
    assert torch.allclose(table[row * 4 + col], torch.stack(expected), atol=4e-3)


def test_random_weights_follow_the_seed_and_nothing_else() -> None:
    config = preset("tiny")
    first, again, other = (
        build_bagel(RandomSource(CPU, seed), RandomSource(CPU, seed + 9), config, ATTENTION) for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    assert not torch.equal(first.decoder.embedding, other.decoder.embedding)
    assert torch.equal(first.latent_positions, other.latent_positions)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(first))


def test_a_checkpoint_of_other_sizes_lists_its_shapes(golden_dir: Path) -> None:
    config = config_from_directory(golden_dir)
    wider = dataclasses.replace(config, llm=dataclasses.replace(config.llm, intermediate=512))
    with pytest.raises(UsageError, match="has shape"):
        load(golden_dir, wider)


def test_a_tensor_that_a_header_names_twice_is_refused(tmp_path: Path) -> None:
    entry = b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = b"{" + entry + b", " + entry + b"}"
    path = tmp_path / "twice.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UsageError, match=r"twice\.safetensors has two tensors of one name .* given twice"):
        tensor_shapes(path)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 10**30},
        {"num_hidden_layers": 10**9},
        {"vocab_size": 10**12},
        {"intermediate_size": 2**23, "hidden_size": 2**23, "num_hidden_layers": 9999},
        {"rope_theta": 0.0},
        {"rope_theta": -1e6},
        {"rms_norm_eps": 0.0},
        {"rms_norm_eps": 1e300},
    ],
    ids=str,
)
def test_absurd_sizes_are_one_line(tmp_path: Path, change: dict[str, float]) -> None:
    sizes: dict[str, float] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 64, "vocab_size": 512,
    }  # fmt: skip
    (tmp_path / "llm_config.json").write_text(json.dumps(sizes | change))
    with pytest.raises(UsageError) as caught:
        config_from_directory(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ['{"hidden_size": 1, "hidden_size": 2}', '{"a": NaN}', "[" * 100_000, "\udcff"])
def test_a_configuration_that_says_two_things_or_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "llm_config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"llm_config\.json is "):
        config_from_directory(tmp_path)
