"""diffusers' Flux pipeline as released, the same loop without its waits, and its step as a CUDA graph.

Real classes of diffusers with random weights: needs `pip install diffusers`, and no download. FLUX_SHAPE=released is
the shape of FLUX.1-dev (12 billion parameters, 24 GB in bfloat16, on a GPU), with FLUX_STEPS steps (20); the default
is tiny, with 4 and 6 steps.
"""

import os

import diffusers
import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

GUIDANCE = 3.5
SHAPE = os.environ.get("FLUX_SHAPE", "tiny")
STEPS = os.environ.get("FLUX_STEPS", "20")
if not STEPS.isdecimal() or int(STEPS) < 1:
    raise ValueError(f"FLUX_STEPS is {STEPS!r}; allowed: a number of steps from 1; set it so or unset it (20)")
if SHAPE == "released":
    CASES = {str(size): {"size": size, "steps": int(STEPS)} for size in (256, 512, 1024)}
    TEXT_TOKENS = 512
    TRANSFORMER = {"guidance_embeds": True}  # all else is diffusers' default: 19 + 38 blocks, 24 heads of 128
    VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32}
elif SHAPE == "tiny":
    CASES = {"64": {"size": 64, "steps": 4}, "96": {"size": 96, "steps": 6}}
    TEXT_TOKENS = 8
    TRANSFORMER = {
        "num_layers": 2,
        "num_single_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 16,
        "axes_dims_rope": (4, 6, 6),
        "guidance_embeds": True,
    }
    VAE = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 2}
else:
    raise ValueError(f"FLUX_SHAPE is {SHAPE!r}; allowed: tiny, released; set it so or unset it (tiny)")


def setup(device):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)  # weights are drawn on the device, in the type that they stay in
    with torch.device(device):
        transformer = diffusers.FluxTransformer2DModel(**TRANSFORMER)
        vae = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
            **VAE,
        )
    torch.set_default_dtype(torch.float32)
    pipe = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),  # as in FLUX.1-dev
        vae=vae,
        transformer=transformer,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
    )
    pipe.set_progress_bar_config(disable=True)
    return {"pipe": pipe, "recorded": {}}


def prepare(pipe, case, seed):
    """Noise, and embeddings in place of a prompt: T5's of each token, CLIP's of all."""
    random = torch.Generator().manual_seed(seed)
    config = pipe.transformer.config
    noise = torch.randn(1, (case["size"] // 16) ** 2, config.in_channels, generator=random)
    prompt = torch.randn(1, TEXT_TOKENS, config.joint_attention_dim, generator=random)
    pooled = torch.randn(1, config.pooled_projection_dim, generator=random)
    noise, prompt, pooled = noise.bfloat16(), prompt.bfloat16(), pooled.bfloat16()
    return noise.to(pipe.device), prompt.to(pipe.device), pooled.to(pipe.device)


@torch.no_grad()
def decode(pipe, case, latents):
    """As the pipeline ends; with the latents, as pixels have fewer bits."""
    unpacked = pipe._unpack_latents(latents, case["size"], case["size"], pipe.vae_scale_factor)
    unpacked = unpacked / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    image = pipe.vae.decode(unpacked, return_dict=False)[0]
    return {"pictures": pipe.image_processor.postprocess(image, output_type="pil"), "latents": latents}


def released_loop(state, case, noise, prompt, pooled):
    return state["pipe"](
        latents=noise,
        prompt_embeds=prompt,
        pooled_prompt_embeds=pooled,
        num_inference_steps=case["steps"],
        guidance_scale=GUIDANCE,
        height=case["size"],
        width=case["size"],
        output_type="latent",
    ).images


def filled(numbers, device):
    """A tensor of numbers that the host has; the GPU fills it, and nothing is copied."""
    return torch.stack([torch.full((), number, device=device) for number in numbers.tolist()])


def set_timesteps(pipe, case, noise):
    """The pipeline's own, on the CPU and without a copy of it to the GPU."""
    scheduler, steps = pipe.scheduler, case["steps"]
    shift = [scheduler.config[key] for key in ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")]
    mu = calculate_shift(noise.shape[1], *shift)
    scheduler.set_timesteps(steps, sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    scheduler.timesteps = filled(scheduler.timesteps, noise.device)
    scheduler.sigmas = filled(scheduler.sigmas, noise.device)
    scheduler.set_begin_index(0)


def constants(case, like):
    """Guidance, and positions of text and image, made on the GPU."""
    side = case["size"] // 16
    image = torch.zeros(side, side, 3, device=like.device, dtype=like.dtype)
    image[..., 1] += torch.arange(side, device=like.device)[:, None]
    image[..., 2] += torch.arange(side, device=like.device)
    return {
        "guidance": torch.full((1,), GUIDANCE, device=like.device),
        "txt_ids": torch.zeros(TEXT_TOKENS, 3, device=like.device, dtype=like.dtype),
        "img_ids": image.flatten(0, 1),
    }


def velocity(pipe, latents, t, prompt, pooled, constant):
    return pipe.transformer(
        hidden_states=latents,
        timestep=t.expand(1).to(latents.dtype) / 1000,
        pooled_projections=pooled,
        encoder_hidden_states=prompt,
        return_dict=False,
        **constant,
    )[0]


@torch.no_grad()
def sync_free_loop(state, case, latents, prompt, pooled):
    pipe = state["pipe"]
    set_timesteps(pipe, case, latents)
    constant = constants(case, latents)
    for t in pipe.scheduler.timesteps:
        change = velocity(pipe, latents, t, prompt, pooled, constant)
        latents = pipe.scheduler.step(change, t, latents, return_dict=False)[0]
    return latents


class RecordedStep:
    """A step of the loop above in memory that stays where it is; its first call is recorded, later ones replay it."""

    def __init__(self, pipe, case, inputs):
        self.pipe = pipe
        self.inputs = [each.clone() for each in inputs]
        self.constant = constants(case, inputs[0])
        self.now = torch.zeros(3, device=inputs[0].device)
        self.replay = None

    def run(self):
        latents, prompt, pooled = self.inputs
        t, sigma, next_sigma = self.now.unbind()
        change = velocity(self.pipe, latents, t, prompt, pooled, self.constant)
        latents.copy_(latents.float() + (next_sigma - sigma) * change)  # what scheduler.step does, its index apart

    def __call__(self, now):
        self.now.copy_(now)
        if self.replay is None:
            self.run()  # this one counts: while a graph is recorded no kernel runs
            self.replay = recorded(self.run, self.now.device)
        else:
            self.replay()


def recorded(run, device):
    """A CUDA graph's replay, or `run` itself where there are no graphs: on a CPU, and on a simulated device."""
    if device.type != "cuda":
        return run
    try:
        graph = torch.cuda.CUDAGraph()
    except RuntimeError:
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # `with torch.cuda.graph(graph)` would wait, and empty the allocator's cache
        graph.capture_begin(capture_error_mode="thread_local")
        run()
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


@torch.no_grad()
def captured_loop(state, case, *inputs):
    pipe = state["pipe"]
    if case["size"] not in state["recorded"]:
        state["recorded"][case["size"]] = RecordedStep(pipe, case, inputs)
    step = state["recorded"][case["size"]]
    for own, given in zip(step.inputs, inputs, strict=True):
        own.copy_(given)
    set_timesteps(pipe, case, inputs[0])
    times, sigmas = pipe.scheduler.timesteps, pipe.scheduler.sigmas
    for now in torch.stack([times, sigmas[:-1], sigmas[1:]], 1):
        step(now)
    return step.inputs[0].clone()


def stages_of(loop, state, case, seed):
    yield "prepare", lambda _: prepare(state["pipe"], case, seed)
    yield "denoise", lambda inputs: loop(state, case, *inputs)
    yield "decode", lambda latents: decode(state["pipe"], case, latents)


def released(state, case, seed):
    yield from stages_of(released_loop, state, case, seed)


def sync_free(state, case, seed):
    yield from stages_of(sync_free_loop, state, case, seed)


def captured(state, case, seed):
    yield from stages_of(captured_loop, state, case, seed)
