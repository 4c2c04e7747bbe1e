"""BAGEL of an installed vLLM-Omni, in this process: one picture, by upstream's own pipeline, in upstream's stages.

One file for any two releases: `bagel-perf compare before=FILE after=FILE --before-env A --after-env B`. Weights are
random unless a folder of real ones is named. Needs `pip install vllm vllm-omni`; settings are environment variables.
"""

import contextlib
import dataclasses
import inspect
import json
import math
import os
import tempfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

PROMPT = "Change the color to blue"
STRIDE = 16  # pixels a latent token, each way
SHAPES = {
    "tiny": {
        "llm": {"hidden_size": 128, "layers": 3, "heads": 4, "kv_heads": 2, "mlp": 256, "vocabulary": 512},
        "vit": {"hidden_size": 64, "layers": 2, "heads": 2, "mlp": 128, "side": 56},
        "vae_channels": 32,
    },
    "7b": {
        "llm": {"hidden_size": 3584, "layers": 28, "heads": 28, "kv_heads": 4, "mlp": 18944, "vocabulary": 152064},
        "vit": {"hidden_size": 1152, "layers": 26, "heads": 16, "mlp": 4304, "side": 980},
        "vae_channels": 128,
    },
}
STORED = ("config.json", "llm_config.json", "vit_config.json", "*.safetensors")


def setting(name, default, read, allowed):
    """Reads an environment variable; ValueError with what is allowed where it cannot be read."""
    text = os.environ.get(name, default)
    try:
        return read(text)
    except (KeyError, ValueError):
        raise ValueError(f"{name} is {text!r}; allowed: {allowed}; set it so or unset it ({default})") from None


def one_of(*names):
    return lambda text: {name: name for name in names}[text]


def whole(smallest, largest):
    return lambda text: {str(number): number for number in range(smallest, largest + 1)}[text.strip()]


def sizes(text):
    found = [int(part) for part in text.split(",")]
    if any(size < STRIDE or size > 1024 or size % STRIDE for size in found):
        raise ValueError(text)
    return found


def interval(text):
    low, high = (float(part) for part in text.split(","))
    if not 0 <= low <= high <= 1:
        raise ValueError(text)
    return low, high


SHAPE = setting("OMNI_BAGEL_SHAPE", "tiny", one_of(*SHAPES), "tiny, 7b")
LAYERS = setting("OMNI_BAGEL_LAYERS", str(SHAPES[SHAPE]["llm"]["layers"]), whole(1, 28), "1 to 28 layers")
WEIGHTS = setting("OMNI_BAGEL_WEIGHTS", "random", str, "random, or the folder of ByteDance-Seed/BAGEL-7B-MoT")
TASK = setting("OMNI_BAGEL_TASK", "i2i", one_of("i2i", "t2i"), "i2i, t2i")
SIZES = setting("OMNI_BAGEL_SIZES", "256,512,1024", sizes, f"multiples of {STRIDE} up to 1024, with commas")
STEPS = setting("OMNI_BAGEL_STEPS", "15", whole(2, 1000), "2 to 1000 time points")
INTERVAL = setting("OMNI_BAGEL_INTERVAL", "0.4,1", interval, "LOW,HIGH between 0 and 1; guidance is on between them")
ATTENTION = setting(
    "OMNI_BAGEL_ATTENTION",
    "default",
    one_of("default", "FLASH_ATTN", "TORCH_SDPA"),
    "default (what vllm-omni takes by itself), FLASH_ATTN, TORCH_SDPA",
)
TOLERANCE = os.environ.get("OMNI_BAGEL_TOLERANCE")  # as "psnr:30"; two releases need not give the same bits

CASES = {str(size): {"task": TASK, "size": size, "points": STEPS} for size in SIZES}


def setup(device):
    """Builds the pipeline on a CUDA device, or on the one that takes its place."""
    omni = Omni(device)
    return omni.build(shape_folder() if WEIGHTS == "random" else WEIGHTS)


def stages(state, case, seed):
    """Yields upstream's forward, cut where it calls the denoising loop and where it decodes."""
    yield "prefill", lambda _: state.until_denoise(case, seed)
    yield "denoise", state.denoise
    yield "decode", state.decode


def whole(state, case, seed):
    """Calls upstream's forward as it is, for the same picture."""
    with state.context():
        return picture_of(state.pipeline.forward(state.request(case, seed)))


def given_picture(size):
    """The picture to edit, drawn by code: a disc on a gradient."""
    y, x = np.mgrid[0:size, 0:size] / size
    inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1
    return Image.fromarray(np.uint8(255 * np.stack([np.where(inside, 0.9, x), y, 1 - x], axis=-1)))


def picture_of(output):
    """The PIL picture of what forward returned: by itself, in a list, or by name."""
    found = output.output
    while not isinstance(found, Image.Image):
        found = next(iter(found.values() if isinstance(found, dict) else found))
    return found


class DenoiseReachedError(Exception):
    """Upstream's forward has come to its denoising loop: (arguments, named arguments, dtype of autocast or None)."""

    def __init__(self, *call):
        super().__init__("the denoising loop is reached")
        self.call = call


class Omni:
    """What is needed of the installed vllm-omni. RuntimeError where it is missing, or not as this file knows it."""

    def __init__(self, device):
        self.device = device
        self.is_simulated = device.type != "cuda" or torch.cuda.get_device_name(device).startswith("simulated")
        try:
            self.version = version("vllm-omni")
        except PackageNotFoundError:
            raise RuntimeError("vllm-omni is missing; pip install vllm vllm-omni") from None
        missing = [name for name in STORED if not any(Path(WEIGHTS).glob(name))]
        if WEIGHTS != "random" and missing:
            remedy = "set it to the folder of ByteDance-Seed/BAGEL-7B-MoT, or unset it for random weights"
            raise RuntimeError(f"no BAGEL in OMNI_BAGEL_WEIGHTS ({WEIGHTS}); it has no {', '.join(missing)}; {remedy}")
        try:
            found = self.get("diffusion.distributed.utils", "get_local_device")().type
        except NotImplementedError:
            found = "no device"
        if found != device.type:
            remedy = "run it on a machine with an NVIDIA GPU"
            raise RuntimeError(f"vllm-omni {self.version} finds {found}, not {device.type}; {remedy}")

    def get(self, module, name):
        """A name of vllm-omni."""
        try:
            return getattr(import_module(f"vllm_omni.{module}"), name)
        except (ImportError, AttributeError) as problem:
            known = "this file knows 0.20.0, 0.22.0 and 0.30.0"
            raise RuntimeError(f"vllm-omni {self.version} has no {module}.{name} ({problem}); {known}") from problem

    def optional(self, module, name):
        """A name of vllm-omni, or None where this release has none."""
        try:
            return getattr(import_module(f"vllm_omni.{module}"), name, None)
        except ModuleNotFoundError:
            return None

    def build(self, folder):
        """The pipeline with its weights, ready for requests."""
        from vllm.config import DeviceConfig, VllmConfig, set_current_vllm_config

        platform = self.get("platforms", "current_omni_platform")
        self.config = self.get("diffusion.data", "OmniDiffusionConfig")(
            model=str(folder), model_class_name="BagelPipeline", dtype=torch.bfloat16, num_gpus=1, **self.attention()
        )
        self.vllm_config = VllmConfig(device_config=DeviceConfig(device=self.device.type))
        if not self.is_simulated:  # as upstream's worker does: compiled norms first
            self.vllm_config.kernel_config.ir_op_priority = platform.get_default_ir_op_priority(self.vllm_config)
        if WEIGHTS == "random" and SHAPE == "tiny":
            self.narrow_vae()
        current = self.optional("diffusion.config", "set_current_diffusion_config")
        pipeline_class = self.get("diffusion.models.bagel.pipeline_bagel", "BagelPipeline")
        before = torch.get_default_dtype()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.context())
            stack.enter_context(set_current_vllm_config(self.vllm_config))
            self.join_one_process()
            if current is not None:
                stack.enter_context(current(self.config))
            stack.callback(torch.set_default_dtype, before)
            torch.set_default_dtype(torch.bfloat16)
            stack.enter_context(torch.device(self.device))
            self.pipeline = pipeline_class(od_config=self.config)
        self.pipeline.eval()
        if WEIGHTS == "random":
            randomize(self.pipeline)
        else:
            self.pipeline.load_weights(stored_weights(folder))
        if self.is_simulated:
            without_compiled_kernels(self.pipeline)
        return self

    def attention(self):
        """The config's argument for the attention kernel."""
        if ATTENTION == "default":
            return {}
        config, spec = (self.optional("diffusion.data", name) for name in ("AttentionConfig", "AttentionSpec"))
        if config is None:
            os.environ["DIFFUSION_ATTENTION_BACKEND"] = ATTENTION
            return {}
        return {"diffusion_attention_config": config(default=spec(backend=ATTENTION))}

    def narrow_vae(self):
        """Has the pipeline build its VAE with fewer channels."""
        module = import_module("vllm_omni.diffusion.models.bagel.pipeline_bagel")
        released = self.get("diffusion.models.bagel.pipeline_bagel", "default_ae_params")
        narrow = dataclasses.replace(released(), ch=SHAPES[SHAPE]["vae_channels"])
        module.default_ae_params = lambda: narrow

    def join_one_process(self):
        """Makes the process groups that upstream's layers ask for, of this process alone."""
        if torch.distributed.is_initialized():
            return
        start = self.get("diffusion.distributed.parallel_state", "init_distributed_environment")
        groups = self.get("diffusion.distributed.parallel_state", "initialize_model_parallel")
        backend = "gloo" if self.is_simulated else None
        store = tempfile.mkdtemp(prefix="omni-bagel-")
        start(world_size=1, rank=0, local_rank=0, distributed_init_method=f"file://{store}/store", backend=backend)
        groups(data_parallel_size=1, sequence_parallel_size=1, backend=backend)

    def context(self):
        """What upstream's worker sets around a request."""
        enter = self.get("diffusion.forward_context", "set_forward_context")
        return enter(vllm_config=self.vllm_config, omni_diffusion_config=self.config)

    def request(self, case, seed):
        """A request as upstream's worker gets it. Seeds torch: upstream draws the VAE's latents before it seeds."""
        torch.manual_seed(seed)
        prompt = {"prompt": PROMPT}
        if case["task"] == "i2i":
            prompt["multi_modal_data"] = {"image": given_picture(case["size"])}
        sampling = self.get("inputs.data", "OmniDiffusionSamplingParams")(
            height=case["size"],
            width=case["size"],
            num_inference_steps=case["points"],
            seed=seed,
            extra_args={"cfg_interval": INTERVAL, "cfg_text_scale": 4.0, "cfg_img_scale": 2.0},
        )
        request = self.get("diffusion.request", "OmniDiffusionRequest")
        if "prompts" in inspect.signature(request).parameters:
            return request(prompts=[prompt], sampling_params=sampling, request_id="one")
        batch = self.get("diffusion.worker.request_batch", "DiffusionRequestBatch")
        return batch(requests=[request(prompt=prompt, sampling_params=sampling, request_id="one")])

    def until_denoise(self, case, seed):
        """Runs upstream's forward up to its denoising loop, and gives the loop's arguments."""
        bagel = self.pipeline.bagel

        def reached(*arguments, **named):
            kind = self.device.type
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
            raise DenoiseReachedError(arguments, named, dtype)

        bagel.generate_image = reached
        try:
            with self.context():
                self.pipeline.forward(self.request(case, seed))
        except DenoiseReachedError as reason:
            return reason.call
        finally:
            del bagel.generate_image
        raise RuntimeError(f"vllm-omni {self.version}: BagelPipeline.forward did not call bagel.generate_image")

    def denoise(self, call):
        """Runs upstream's denoising loop, in the modes in which forward calls it."""
        arguments, named, dtype = call
        autocast = torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)
        with self.context(), torch.inference_mode(), autocast:
            return self.pipeline.bagel.generate_image(*arguments, **named)[0][0]

    def decode(self, latents):
        """Runs upstream's decoder on what the loop gave: a row for each 16 x 16 pixels of a square picture."""
        side = math.isqrt(latents.shape[0]) * STRIDE
        with self.context(), torch.inference_mode():
            return self.pipeline._decode_image_from_latent(
                self.pipeline.bagel, self.pipeline.vae, latents, (side, side)
            )


def randomize(pipeline):
    """Fills all weights but the fixed position tables, on their device: norms near one, the rest near zero."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in pipeline.named_parameters():
            if name.endswith("pos_embed.pos_embed"):
                continue
            is_scale = parameter.dim() < 2 and not name.endswith("bias")
            parameter.normal_(1.0 if is_scale else 0.0, 0.02)


def stored_weights(folder):
    """(name, tensor) of every safetensors file of a folder."""
    from safetensors import safe_open

    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            yield from ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 - it is no dict


def without_compiled_kernels(pipeline):
    """Takes the paths that upstream takes where its kernels cannot run, as on a simulated device."""
    for module in pipeline.modules():
        if hasattr(module, "_forward_method"):
            module._forward_method = module.forward_native
        if hasattr(module, "_mot_fallback"):
            module._mot_gemm_dispatch = module._mot_fallback


def shape_folder():
    """A folder with the configuration and tokenizer of a BAGEL of SHAPE, and no weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = Path(tempfile.mkdtemp(prefix="omni-bagel-"))
    llm, vit = SHAPES[SHAPE]["llm"], SHAPES[SHAPE]["vit"]
    files = {
        "config.json": {
            "vae_config": {"z_channels": 16, "downsample": 8},
            "vit_config": {"patch_size": 14, "hidden_size": vit["hidden_size"]},
            "vit_max_num_patch_per_side": 70,
            "connector_act": "gelu_pytorch_tanh",
            "latent_patch_size": 2,
            "max_latent_size": max(SIZES) // STRIDE,
        },
        "llm_config.json": {
            "vocab_size": llm["vocabulary"],
            "hidden_size": llm["hidden_size"],
            "intermediate_size": llm["mlp"],
            "num_hidden_layers": LAYERS,
            "num_attention_heads": llm["heads"],
            "num_key_value_heads": llm["kv_heads"],
            "rope_theta": 1000000.0,
            "max_position_embeddings": 32768,
        },
        "vit_config.json": {
            "hidden_size": vit["hidden_size"],
            "intermediate_size": vit["mlp"],
            "num_hidden_layers": vit["layers"],
            "num_attention_heads": vit["heads"],
            "image_size": 980,
            "patch_size": 14,
        },
        "preprocessor_config.json": {
            "image_processor_type": "SiglipImageProcessor",
            "size": {"height": vit["side"], "width": vit["side"]},
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<unk>", *PROMPT.split()])}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    return folder
