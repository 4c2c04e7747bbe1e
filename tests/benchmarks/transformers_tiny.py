"""Tiny configurations of the models of transformers: the defaults, with every size cut down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

NUM_LAYERS, VOCABULARY, MAX_PARAMETERS = 2, 256, 40_000_000
_IDS = re.compile(r"(token|start|end|pad|bos|eos|sep|cls)_(id|index|ids)$|_token_id$|_index$")
_WORDS = r"vocab_size$|unpadded_vocab_size|vocab_size_per_layer_input|shape_vocab_size|hash_byte_group_vocab"
_LAYERS = r"num_hidden_layers$|^n_layers?$|^num_layers$|(encoder|decoder)_layers$|num_(encoder|decoder)_layers$"
_KV_HEADS = r"num_key_value_heads$|num_kv_heads|num_query_groups"
_SMALL = {
    _WORDS: VOCABULARY,
    _LAYERS: NUM_LAYERS,
    _KV_HEADS: 2,
    r"linear_num_key_heads|index_n_heads": 2,
    r"linear_num_value_heads|linear_num_heads": 4,
    r"num_attention_heads$|^n_heads?$|^num_heads$|attention_heads$|mamba_n_heads|n_mamba_heads": 4,
    r"^(hidden_size|n_embd|d_model|dim|emb_dim|embedding_size|embedding_dim|input_embedding_size)$": 64,
    r"^(output_embedding_size|word_embed_proj_dim|attention_hidden_size|lru_width|backbone_hidden_size)$": 64,
    r"qk_rope_head_dim|rotary_dim": 8,
    r"^qk_head_dim$": 24,
    r"head_dim$|dim_head$|d_head$|kv_channels|attention_head_size": 16,
    r"intermediate_size|ffn_dim|ffn_hidden_size|d_inner|dim_ff|^dff$|n_inner|feed_forward_size": 96,
    r"lora_rank|adapter_rank|norm_rank|laurel_rank|lowrank": 16,
    r"num_experts$|num_local_experts|n_routed_experts|moe_num_experts|num_routed_experts": 4,
    r"experts_per_tok|moe_topk|moe_k$|top_k_experts|num_selected": 2,
    r"^(n_group|topk_group|num_expert_group)$": 1,
    r"positions$|position_embeddings$|max_seq_len$|^n_ctx$|model_max_length|context_length": 128,
    r"sliding_window|window_size|local_attention|chunk_size|chunk_length": 16,
    r"d_state|state_size|ssm_state|index_topk": 8,
    r"first_k_dense_replace|num_kv_shared_layers|num_nextn": 1,
}
"""Sizes by patterns of names; the first that is found holds."""
_WANTED = {
    "head_dim": 16,
    "num_key_value_heads": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
}
"""What a default leaves open, and a model needs."""
_SPECIAL: dict[str, dict[str, Any]] = {
    "xmod": {"default_language": "en_XX"},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": (4, 8),
        "axial_pos_embds_dim": (16, 48),
        "attn_layers": ["local"],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    "longcat_flash": {"head_dim": 8},
    "bamba": {"num_hidden_layers": 2, "attn_layer_indices": [1]},
    "granitemoehybrid": {"num_hidden_layers": 2, "layer_types": ["mamba", "attention"]},
    "cohere_compass_text": {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]},
    "lfm2_moe": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]},
    "zamba2": {"num_hidden_layers": 3, "layers_block_type": ["mamba", "hybrid", "mamba"]},
}
_DIMENSION = re.compile(r"size$|_dim$|^dim|_rank$|^d_|n_embd|ffn|channels|^dff$|width$")


def tiny_configurations(kind: Any, model_type: str) -> Iterator[Any]:
    """Candidates from small to large; which of them a model takes is found by building it.

    The first have sizes that go together in most models, with more layers where two hold only one kind of them. The
    others divide the default's own sizes, which keeps whatever relation a model needs between them.
    """
    values = kind(**_SPECIAL.get(model_type, {})).to_dict()
    sizes = [
        *(_named(values, num_layers, num_kv) for num_kv in (2, 4) for num_layers in (2, 4, 8)),
        *(_divided(values, by) for by in (16, 8, 4, 1)),
    ]
    for chosen in sizes:
        try:
            yield kind(**{**chosen, **_SPECIAL.get(model_type, {})})
        except Exception:  # each configuration checks itself, with errors of its own
            continue


def _overridable(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    skipped = {
        "transformers_version",
        "model_type",
        "architectures",
        "layer_types",
        "mlp_layer_types",
        "rope_parameters",
    }
    for name, value in values.items():
        if name not in skipped:
            yield name, value


def _named(values: dict[str, Any], num_layers: int, num_kv: int) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, value in _overridable(values):
        if isinstance(value, dict) and name.endswith("_config"):
            chosen[name] = _named(value, num_layers, num_kv)
        elif name in _WANTED and value is None:
            chosen[name] = _WANTED[name]
        elif isinstance(value, int) and not isinstance(value, bool):
            if _IDS.search(name):
                chosen[name] = min(value, 3)
                continue
            sizes = {**_SMALL, _LAYERS: num_layers, _KV_HEADS: num_kv}
            size = next((size for pattern, size in sizes.items() if re.search(pattern, name)), None)
            if size is not None and value > 0:
                chosen[name] = min(value, size)
    return chosen


def _divided(values: dict[str, Any], by: int) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, value in _overridable(values):
        if isinstance(value, dict) and name.endswith("_config"):
            chosen[name] = _divided(value, by)
        elif not isinstance(value, int) or isinstance(value, bool):
            continue
        elif _IDS.search(name):
            chosen[name] = min(value, 3)
        elif re.search(_WORDS, name):
            chosen[name] = min(value, VOCABULARY)
        elif re.search(_LAYERS, name):
            chosen[name] = min(value, NUM_LAYERS)
        elif _DIMENSION.search(name) and value >= 64 and value % by == 0:
            chosen[name] = value // by
    return chosen
