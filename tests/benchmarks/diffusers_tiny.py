"""Pipelines of diffusers with tiny random components, and what to call them with; prompts come as embeddings."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

diffusers: Any = importlib.import_module("diffusers")  # not a dependency of the package, nor of its checks

NUM_TOKENS, WIDTH = 7, 32
Made = tuple[Any, dict[str, Any]]


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _image_vae(latent_channels: int) -> Any:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        latent_channels=latent_channels,
        norm_num_groups=4,
        shift_factor=0.06,
        scaling_factor=1.5,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _video_vae(kind: Any, **options: Any) -> Any:
    channels = 16
    return kind(base_dim=4, z_dim=channels, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **options)


def _euler() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler()


def flux() -> Made:
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    encoders = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipe = diffusers.FluxPipeline(scheduler=_euler(), vae=_image_vae(4), transformer=transformer, **encoders)
    return pipe, {"prompt_embeds": _random(1, NUM_TOKENS, WIDTH), "pooled_prompt_embeds": _random(1, WIDTH)}


def stable_diffusion_3() -> Made:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=WIDTH,
    )
    names = [f"{kind}{number}" for kind in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")]
    pipe = diffusers.StableDiffusion3Pipeline(
        scheduler=_euler(), vae=_image_vae(4), transformer=transformer, **dict.fromkeys(names)
    )
    return pipe, {
        "prompt_embeds": _random(1, NUM_TOKENS, WIDTH),
        "negative_prompt_embeds": _random(1, NUM_TOKENS, WIDTH),
        "pooled_prompt_embeds": _random(1, WIDTH),
        "negative_pooled_prompt_embeds": _random(1, WIDTH),
    }


def qwen_image() -> Made:
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    vae = _video_vae(diffusers.AutoencoderKLQwenImage)
    pipe = diffusers.QwenImagePipeline(
        scheduler=_euler(), vae=vae, text_encoder=None, tokenizer=None, transformer=transformer
    )
    mask = torch.ones(1, NUM_TOKENS, dtype=torch.long)
    return pipe, {
        "prompt_embeds": _random(1, NUM_TOKENS, WIDTH),
        "prompt_embeds_mask": mask,
        "negative_prompt_embeds": _random(1, NUM_TOKENS, WIDTH),
        "negative_prompt_embeds_mask": mask,
    }


def wan() -> Made:
    transformer = diffusers.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=WIDTH,
        ffn_dim=32,
        freq_dim=16,
        num_layers=2,
        rope_max_seq_len=32,
    )
    vae = _video_vae(diffusers.AutoencoderKLWan)
    pipe = diffusers.WanPipeline(
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )
    return pipe, {
        "prompt_embeds": _random(1, NUM_TOKENS, WIDTH),
        "negative_prompt_embeds": _random(1, NUM_TOKENS, WIDTH),
        "num_frames": 5,
    }


def z_image() -> Made:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    pipe = diffusers.ZImagePipeline(
        scheduler=_euler(), vae=_image_vae(16), text_encoder=None, tokenizer=None, transformer=transformer
    )
    return pipe, {
        "prompt_embeds": [_random(NUM_TOKENS, WIDTH)],
        "negative_prompt_embeds": [_random(NUM_TOKENS + 2, WIDTH)],
    }


def cogvideox() -> Made:
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=WIDTH,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        max_text_seq_length=NUM_TOKENS,
    )
    vae = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    pipe = diffusers.CogVideoXPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=transformer,
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )
    return pipe, {
        "prompt_embeds": _random(1, NUM_TOKENS, WIDTH),
        "negative_prompt_embeds": _random(1, NUM_TOKENS, WIDTH),
        "num_frames": 8,
        "use_dynamic_cfg": True,
    }


PIPELINES: dict[str, Callable[[], Made]] = {
    "Flux": flux,
    "Stable Diffusion 3": stable_diffusion_3,
    "Qwen-Image": qwen_image,
    "Wan": wan,
    "Z-Image": z_image,
    "CogVideoX": cogvideox,
}
