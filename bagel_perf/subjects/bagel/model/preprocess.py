"""Inputs on the host: a picture read or drawn and turned into the pixels of either encoder, a prompt as token ids.

Suffixes: 3 colors, H rows, W columns.
"""

from __future__ import annotations

import re
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.model.checkpoint_files import needed
from bagel_perf.subjects.bagel.model.config import BagelConfig
from bagel_perf.subjects.pictures import draw_default_picture as draw_default_picture

FILES = "tokenizer.json, or vocab.json and merges.txt"

_QWEN_VOCAB = 151670
"""Ids that Qwen2's tokenizer uses."""


def tokenize(prompt: str, config: BagelConfig, directory: Path | None) -> list[int]:
    """[begin] + ids of the text + [end] (reference/bagel.md C1), without a chat template.

    With tokenizer files in the checkpoint directory, Qwen2's tokenizer makes the ids; markers spelled out in the prompt
    stay text. Random weights have no tokenizer, nor has a checkpoint with a small vocabulary: there each word and each
    punctuation mark is hashed to an id below the markers, which gives a prompt of the usual length and no meaning.
    Raises ``UsageError`` for a blank prompt, and for missing, broken or foreign tokenizer files.
    """
    if not prompt.strip():
        raise UsageError("the prompt is empty", value=repr(prompt), remedy="say what to change with --prompt")
    tokens = config.tokens
    if directory is not None and _has_files(directory):
        ids = _qwen_ids(prompt, directory)
        if max(ids, default=0) >= tokens.first:
            allowed = f"ids below {tokens.first}"
            raise UsageError("the tokenizer is not the model's", value=f"id {max(ids)}", allowed=allowed)
    elif directory is not None and config.llm.vocab >= _QWEN_VOCAB:
        raise UsageError("the checkpoint has no tokenizer", value=str(directory), allowed=FILES)
    else:
        ids = [_hashed_id(word, tokens.first) for word in re.findall(r"\w+|[^\w\s]", prompt)]
    return [tokens.bos, *ids, tokens.eos]


def _has_files(directory: Path) -> bool:
    present = [(directory / name).is_file() for name in ("tokenizer.json", "vocab.json", "merges.txt")]
    return present[0] or (present[1] and present[2])


def _qwen_ids(prompt: str, directory: Path) -> list[int]:
    transformers = needed("transformers")  # seconds to import, and random weights do without
    try:
        tokenizer = transformers.Qwen2Tokenizer.from_pretrained(str(directory), local_files_only=True)
        ids = tokenizer(prompt, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UsageError(f"cannot read the tokenizer: {error}", value=str(directory), allowed=FILES) from error
    return [int(token) for token in ids]


def _hashed_id(word: str, num_ids: int) -> int:
    return zlib.crc32(word.encode()) % num_ids


_FORMATS = "a PNG, JPEG, WebP or another picture that Pillow reads"


def load_picture(path: Path) -> Image.Image:
    """A picture file as 8-bit RGB: grey, palette, CMYK and 16-bit are converted, transparency is put on white.

    Raises ``UsageError`` for what is missing, unreadable, no picture, truncated, or larger than Pillow's safety limit.
    """
    if not path.is_file():
        raise UsageError("no such picture", value=str(path), allowed=_FORMATS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        allowed = f"up to {Image.MAX_IMAGE_PIXELS} pixels"
        raise UsageError("the picture is too large", value=str(path), allowed=allowed) from error
    except UnidentifiedImageError as error:
        raise UsageError("not a picture", value=str(path), allowed=_FORMATS) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise UsageError(f"cannot read the picture: {error}", value=str(path), allowed=_FORMATS) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB; transparency is put on white."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode == "F":
        return Image.fromarray(np.asarray(image).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Pillow clips 16-bit grey instead of scaling it."""
    grey = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray((grey // 257).astype(np.uint8)).convert("RGB")


def vae_pixels(image: Image.Image, width: int, height: int) -> Tensor:
    """The autoencoder's input in [-1, 1], fp32 [3, H, W], resized with Pillow's bicubic filter."""
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    values_3HW = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    return ((values_3HW - 0.5) / 0.5).contiguous()


def picture_of(pixels_3HW: Tensor) -> Tensor:
    """The picture, uint8 [H, W, 3], that ``vae_pixels`` made these values of."""
    return ((pixels_3HW * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def vit_pixels(image: Image.Image, side: int = 980) -> Tensor:
    """The image encoder's input in [-1, 1], fp32 [3, side, side]: the aspect ratio is not kept.

    To the bit what transformers' processor of SigLIP makes of an RGB picture, without the seconds of its import.
    """
    return vae_pixels(image, side, side)
