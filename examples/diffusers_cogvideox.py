"""diffusers' CogVideoX pipeline with its DDIM scheduler as released, and the same steps in a loop that never waits.

Real classes of diffusers with tiny random weights: needs `pip install diffusers`, and no download.
"""

import math

import diffusers
import torch

CASES = {"20 steps": {"steps": 20}, "5 steps": {"steps": 5}}
GUIDANCE = 6.0


def setup(device):
    torch.manual_seed(0)
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=32,
        num_layers=1,
        sample_width=4,
        sample_height=4,
        sample_frames=9,
        max_text_seq_length=8,
    )
    vae = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    scheduler = diffusers.CogVideoXDDIMScheduler(  # as in CogVideoX-2b
        prediction_type="v_prediction", rescale_betas_zero_snr=True, clip_sample=False, timestep_spacing="trailing"
    )
    pipe = diffusers.CogVideoXPipeline(
        tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=scheduler
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def prepare(pipe, seed):
    """Noise, and embeddings in place of a prompt: [negative, positive]."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 3, 4, 4, 4, generator=random)
    prompts = torch.randn(2, 8, 32, generator=random)
    return noise.to(pipe.device), prompts.to(pipe.device)


def decode(pipe, latents):
    return pipe.decode_latents(latents).clamp(-1, 1).cpu()


def released_loop(pipe, steps, noise, prompts):
    return pipe(
        latents=noise,
        negative_prompt_embeds=prompts[:1],
        prompt_embeds=prompts[1:],
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        use_dynamic_cfg=True,
        height=32,
        width=32,
        num_frames=9,
        output_type="latent",
    ).frames


@torch.no_grad()
def loop_without_waits(pipe, steps, noise, prompts):
    pipe.scheduler.set_timesteps(steps)  # on the CPU, where the scheduler's coefficients are
    latents = noise
    for t in pipe.scheduler.timesteps.tolist():
        timestep = torch.full((2,), t, device=latents.device)  # the transformer's own copy; the GPU fills it
        noise_pred = pipe.transformer(
            hidden_states=torch.cat([latents] * 2),
            encoder_hidden_states=prompts,
            timestep=timestep,
            return_dict=False,
        )[0].float()
        scale = 1 + GUIDANCE * (1 - math.cos(math.pi * ((steps - t) / steps) ** 5.0)) / 2
        negative, positive = noise_pred.chunk(2)
        noise_pred = negative + scale * (positive - negative)
        latents = pipe.scheduler.step(noise_pred, t, latents, return_dict=False)[0]  # t is an int: nothing to wait for
    return latents


def as_released(pipe, case, seed):
    yield "prepare", lambda _: prepare(pipe, seed)
    yield "denoise", lambda inputs: released_loop(pipe, case["steps"], *inputs)
    yield "decode", lambda latents: decode(pipe, latents)


def without_waits(pipe, case, seed):
    yield "prepare", lambda _: prepare(pipe, seed)
    yield "denoise", lambda inputs: loop_without_waits(pipe, case["steps"], *inputs)
    yield "decode", lambda latents: decode(pipe, latents)
