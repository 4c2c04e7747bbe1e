"""Sizes of a BAGEL model: two presets, and what a checkpoint directory says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.model.checkpoint_files import (
    AE_FILE,
    Json,
    decoder_files,
    needed,
    read_json,
    tensor_shapes,
)

GROUP_NORM_GROUPS = 32
MAX_SIZE = 2**24
"""Of a width, a vocabulary or a picture; a hundred times what any model has."""
MAX_LAYERS = 10_000
MAX_PARAMETERS = 2**42
"""Of a decoder: four trillion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmConfig:
    """Sizes of the Qwen2 mixture-of-transformers decoder; the defaults are those of the released checkpoint."""

    hidden: int = 3584
    num_layers: int = 28
    num_heads: int = 28
    num_kv_heads: int = 4
    intermediate: int = 18944
    vocab: int = 152064
    rms_eps: float = 1e-6
    rope_theta: float = 1e6

    def __post_init__(self) -> None:
        _require_positive("decoder", self.hidden, self.num_layers, self.num_kv_heads, self.intermediate, self.vocab)
        _require_divisible("decoder width", self.hidden, self.num_heads)
        _require_divisible("number of query heads", self.num_heads, self.num_kv_heads)
        _require_divisible("decoder head size", self.head_dim, 2)
        _require_at_most("a size of the decoder", MAX_SIZE, self.hidden, self.intermediate, self.vocab)
        _require_at_most("number of layers of the decoder", MAX_LAYERS, self.num_layers)
        num_parameters = self.hidden * (self.vocab + self.num_layers * (self.intermediate + self.hidden))
        _require_at_most("number of parameters of the decoder", MAX_PARAMETERS, num_parameters)
        _require_usable("rms_norm_eps", self.rms_eps, 1.0)
        _require_usable("rope_theta", self.rope_theta, 1e15)

    @property
    def head_dim(self) -> int:
        return self.hidden // self.num_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class VitConfig:
    """Sizes of the SigLIP image encoder; ``image_size`` in pixels fixes the side of the position table."""

    hidden: int = 1152
    num_layers: int = 26
    num_heads: int = 16
    intermediate: int = 4304
    patch: int = 14
    channels: int = 3
    layer_norm_eps: float = 1e-6
    image_size: int = 980

    def __post_init__(self) -> None:
        _require_positive("image encoder", self.hidden, self.num_layers, self.intermediate, self.patch, self.channels)
        _require_divisible("image encoder width", self.hidden, self.num_heads)
        _require_divisible("image size of the image encoder", self.image_size, self.patch)
        sizes = (self.hidden, self.intermediate, self.image_size, self.channels)
        _require_at_most("a size of the image encoder", MAX_SIZE, *sizes)
        _require_at_most("number of layers of the image encoder", MAX_LAYERS, self.num_layers)
        _require_usable("layer_norm_eps", self.layer_norm_eps, 1.0)

    @property
    def head_dim(self) -> int:
        return self.hidden // self.num_heads

    @property
    def max_patches_per_side(self) -> int:
        return self.image_size // self.patch


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of the FLUX autoencoder; latents are ``scale * (z - shift)``."""

    base_channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 16
    in_channels: int = 3
    out_channels: int = 3
    scale: float = 0.3611
    shift: float = 0.1159

    def __post_init__(self) -> None:
        sizes = (self.base_channels, self.num_res_blocks, self.z_channels, self.in_channels, self.out_channels)
        _require_positive("autoencoder", *sizes, *self.channel_multipliers)
        _require_divisible("number of channels of the autoencoder", self.base_channels, GROUP_NORM_GROUPS)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, from the pixels inwards."""
        return tuple(self.base_channels * multiplier for multiplier in self.channel_multipliers)

    @property
    def downsample(self) -> int:
        """Pixels per latent position, along each side."""
        return 1 << len(self.channel_multipliers) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Token ids that delimit text and images; the defaults are Qwen2's im_start, im_end, vision_start, vision_end."""

    bos: int = 151644
    eos: int = 151645
    start_of_image: int = 151652
    end_of_image: int = 151653

    @property
    def first(self) -> int:
        """The smallest of the ids: every id below it is ordinary text."""
        return min(self.bos, self.eos, self.start_of_image, self.end_of_image)

    @property
    def last(self) -> int:
        return max(self.bos, self.eos, self.start_of_image, self.end_of_image)


@dataclass(frozen=True, slots=True, kw_only=True)
class BagelConfig:
    """Sizes of the whole model. ``max_latent_size`` is the side of the latent position table, in latent patches."""

    llm: LlmConfig = field(default_factory=LlmConfig)
    vit: VitConfig = field(default_factory=VitConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    tokens: SpecialTokens = field(default_factory=SpecialTokens)
    latent_patch: int = 2
    max_latent_size: int = 64

    def __post_init__(self) -> None:
        if self.tokens.first < 0 or self.tokens.last >= self.llm.vocab:
            raise UsageError(
                "a special token lies outside the vocabulary", value=self.tokens.last, allowed=f"below {self.llm.vocab}"
            )


PRESETS = ("7b", "tiny")


def preset(name: str) -> BagelConfig:
    """``7b``, the released shape, or ``tiny``, which takes every code path and runs on two CPU cores."""
    if name == "7b":
        return BagelConfig()
    if name == "tiny":
        return BagelConfig(
            llm=LlmConfig(hidden=32, num_layers=2, num_heads=2, num_kv_heads=1, intermediate=64, vocab=512),
            vit=VitConfig(hidden=32, num_layers=2, num_heads=2, intermediate=64),
            autoencoder=AutoencoderConfig(base_channels=32, channel_multipliers=(1, 1, 1, 1), num_res_blocks=1),
            tokens=_top_four(512),
        )
    raise UsageError("unknown preset", value=name, allowed=", ".join(PRESETS))


def config_from_directory(path: Path) -> BagelConfig:
    """Reads the sizes of a checkpoint directory.

    The two json files give the decoder and the image encoder, the tensors' shapes give the rest. ``meta.json``, which
    golden directories have, may name the special tokens and the autoencoder's scale and shift. Raises ``UsageError``.
    """
    if not path.is_dir():
        raise UsageError("no such checkpoint directory", value=str(path))
    meta = _read_meta(path / "meta.json")
    llm = _llm_config(path / "llm_config.json")
    return BagelConfig(
        llm=llm,
        vit=_vit_config(path / "vit_config.json"),
        autoencoder=_autoencoder_config(path / AE_FILE, meta),
        tokens=_special_tokens(llm.vocab, meta),
        max_latent_size=_max_latent_size(path, llm.hidden),
    )


def _llm_config(path: Path) -> LlmConfig:
    transformers = needed("transformers")  # seconds to import, and presets do without
    data = read_json(path)
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    hidden, num_layers, num_heads, num_kv_heads = _positive_ints(path.name, data, names)
    intermediate, vocab = _positive_ints(path.name, data, ("intermediate_size", "vocab_size"))
    with _foreign(path):
        parsed = transformers.Qwen2Config(**data)
        # transformers 5 moved the field into a dictionary.
        parameters = getattr(parsed, "rope_parameters", None)
        rope_theta = float(parameters["rope_theta"] if parameters else parsed.rope_theta)
        rms_eps = float(parsed.rms_norm_eps)
    return LlmConfig(
        hidden=hidden,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        intermediate=intermediate,
        vocab=vocab,
        rms_eps=rms_eps,
        rope_theta=rope_theta,
    )


def _vit_config(path: Path) -> VitConfig:
    transformers = needed("transformers")
    data = read_json(path)
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    hidden, num_layers, num_heads, intermediate = _positive_ints(path.name, data, names)
    patch, image_size = _positive_ints(path.name, data, ("patch_size", "image_size"))
    with _foreign(path):
        parsed = transformers.SiglipVisionConfig(**data)
        channels, layer_norm_eps = int(parsed.num_channels), float(parsed.layer_norm_eps)
    return VitConfig(
        hidden=hidden,
        num_layers=num_layers - 1,  # BAGEL drops SigLIP's last layer
        num_heads=num_heads,
        intermediate=intermediate,
        patch=patch,
        channels=channels,
        layer_norm_eps=layer_norm_eps,
        image_size=image_size,
    )


@contextmanager
def _foreign(path: Path) -> Iterator[None]:
    """What transformers raises on a configuration of something else becomes a ``UsageError``."""
    try:
        yield
    except Exception as error:  # its validators raise nearly anything
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path.name} does not describe BAGEL: {detail}", value=str(path.parent)) from error


def _autoencoder_config(path: Path, meta: Json) -> AutoencoderConfig:
    shapes = tensor_shapes(path)

    def size(key: str, axis: int) -> int:
        if key not in shapes or len(shapes[key]) <= axis:
            raise UsageError(f"{path.name} is not BAGEL's autoencoder: it lacks {key}", value=str(path.parent))
        return shapes[key][axis]

    base, num_levels = size("encoder.conv_in.weight", 0), _count(shapes, "encoder.down.{}.block.0.conv1.weight")
    _require_divisible("number of channels of the autoencoder", base, GROUP_NORM_GROUPS)
    widths = [size(f"encoder.down.{level}.block.0.conv1.weight", 0) for level in range(max(num_levels, 1))]
    scale, shift = _scale_and_shift(meta)
    return AutoencoderConfig(
        base_channels=base,
        channel_multipliers=tuple(width // base for width in widths),
        num_res_blocks=_count(shapes, "encoder.down.0.block.{}.conv1.weight"),
        z_channels=size("encoder.conv_out.weight", 0) // 2,
        in_channels=size("encoder.conv_in.weight", 1),
        out_channels=size("decoder.conv_out.weight", 0),
        scale=scale,
        shift=shift,
    )


def _read_meta(path: Path) -> Json:
    meta = read_json(path) if path.is_file() else {}
    for name in ("vae_config", "ids"):
        if not isinstance(meta.get(name, {}), dict):
            raise UsageError(f"meta.json does not describe BAGEL: {name}", value=meta[name], allowed="an object")
    return meta


def _scale_and_shift(meta: Json) -> tuple[float, float]:
    given = meta.get("vae_config", {})
    released = AutoencoderConfig()
    values = (given.get("scale_factor", released.scale), given.get("shift_factor", released.shift))
    if not all(isinstance(value, int | float) and abs(value) < MAX_SIZE for value in values) or not values[0]:
        what, allowed = "meta.json does not describe BAGEL: scale_factor, shift_factor", "numbers"
        raise UsageError(what, value=repr(values)[:80], allowed=allowed)
    return float(values[0]), float(values[1])


def _count(shapes: dict[str, tuple[int, ...]], template: str) -> int:
    """How many of template.format(0), template.format(1), ... are there in a row."""
    number = 0
    while template.format(number) in shapes:
        number += 1
    return number


def _max_latent_size(path: Path, hidden: int) -> int:
    key = "latent_pos_embed.pos_embed"
    shape = next((shapes[key] for shapes in map(tensor_shapes, decoder_files(path)) if key in shapes), None)
    if shape is None:
        raise UsageError(f"the checkpoint lacks {key}", value=str(path), remedy="name the folder of a BAGEL checkpoint")
    side = int(shape[0] ** 0.5 + 0.5)
    if shape != (side * side, hidden):
        allowed = f"[side^2, {hidden}]"
        raise UsageError(f"{key} is not a square table of the decoder's width", value=shape, allowed=allowed)
    return side


def _special_tokens(vocab: int, meta: Json) -> SpecialTokens:
    released = SpecialTokens()
    if released.last < vocab:
        return released
    ids = meta.get("ids")
    if ids is None:
        return _top_four(vocab)
    names = ("bos_token_id", "eos_token_id", "start_of_image", "end_of_image")
    bos, eos, start_of_image, end_of_image = _positive_ints("meta.json", ids, names)
    return SpecialTokens(bos=bos, eos=eos, start_of_image=start_of_image, end_of_image=end_of_image)


def _top_four(vocab: int) -> SpecialTokens:
    return SpecialTokens(bos=vocab - 4, eos=vocab - 3, start_of_image=vocab - 2, end_of_image=vocab - 1)


def _positive_ints(file_name: str, data: Json, names: tuple[str, ...]) -> tuple[int, ...]:
    values = []
    for name in names:
        value = data.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIZE:
            shown, allowed = repr(value)[:40], f"a positive integer, at most {MAX_SIZE}"
            raise UsageError(f"{file_name} does not describe BAGEL: {name}", value=shown, allowed=allowed)
        values.append(value)
    return tuple(values)


def _require_positive(what: str, *sizes: int) -> None:
    if min(sizes) < 1:
        raise UsageError(f"a size of the {what} is not positive", value=min(sizes), allowed="1 or more")


def _require_divisible(what: str, value: int, divisor: int) -> None:
    if divisor < 1 or value < 1 or value % divisor:
        raise UsageError(f"unusable {what}", value=value, allowed=f"a positive multiple of {divisor}")


def _require_at_most(what: str, limit: int, *sizes: int) -> None:
    if max(sizes) > limit:
        raise UsageError(f"{what} is absurd", value=_short(max(sizes)), allowed=f"at most {limit}")


def _short(size: int) -> str:
    text = str(size)
    return text if len(text) <= 20 else f"{text[:10]}... of {len(text)} digits"


def _require_usable(name: str, value: float, limit: float) -> None:
    """Finite and above 0, whatever a configuration says."""
    if not 0 < value <= limit:
        raise UsageError(f"unusable {name}", value=value, allowed=f"above 0, at most {limit:g}")
