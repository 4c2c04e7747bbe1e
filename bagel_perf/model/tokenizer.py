"""A prompt as token ids between the begin and end markers."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from bagel_perf.model.config import BagelConfig
from bagel_perf.model.needs import needed
from bagel_perf.schema.errors import UsageError

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
