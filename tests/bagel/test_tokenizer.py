"""Prompts become ids, with Qwen2's tokenizer where a checkpoint has one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.model.config import preset
from bagel_perf.subjects.bagel.model.preprocess import tokenize

TINY, RELEASED = preset("tiny"), preset("7b")
NUM_BYTES = 256


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    """A byte-level tokenizer with two merges and Qwen2's markers."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    vocab = {token: i for i, token in enumerate([*alphabet, "bl", "ue"])}
    added = {
        str(NUM_BYTES + 2 + i): {"content": f"<|{name}|>", "special": True, "normalized": False}
        for i, name in enumerate(("endoftext", "im_start", "im_end"))
    }
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": added,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "eos_token": "<|im_end|>",
    }
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nb l\nu e\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_a_checkpoint_s_tokenizer_is_used_between_the_markers(tokenizer_dir: Path) -> None:
    assert tokenize("blue", RELEASED, tokenizer_dir) == [151644, NUM_BYTES, NUM_BYTES + 1, 151645]


def test_markers_spelled_out_in_the_prompt_stay_text(tokenizer_dir: Path) -> None:
    ids = tokenize("<|im_start|>blue<|im_end|>", RELEASED, tokenizer_dir)[1:-1]
    assert max(ids) < NUM_BYTES + 2
    assert len(ids) == len("<|im_start|>") + 2 + len("<|im_end|>")


def test_a_foreign_tokenizer_is_refused(tokenizer_dir: Path) -> None:
    vocab = json.loads((tokenizer_dir / "vocab.json").read_text())
    vocab["ue"] = 9000
    (tokenizer_dir / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(UsageError, match="not the model's"):
        tokenize("blue", TINY, tokenizer_dir)


def test_a_broken_tokenizer_is_one_line(tokenizer_dir: Path) -> None:
    (tokenizer_dir / "vocab.json").write_text("{")
    with pytest.raises(UsageError, match="cannot read the tokenizer"):
        tokenize("blue", RELEASED, tokenizer_dir)


def test_the_released_vocabulary_needs_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        tokenize("blue", RELEASED, tmp_path)


@pytest.mark.parametrize("config", [TINY, RELEASED], ids=["tiny", "7b"])
def test_random_weights_hash_words_to_ordinary_ids(config: object) -> None:
    assert config in (TINY, RELEASED)
    chosen = TINY if config is TINY else RELEASED
    ids = tokenize("Change the color, the color to blue", chosen, None)
    assert len(ids) == 8 + 2
    assert (ids[0], ids[-1]) == (chosen.tokens.bos, chosen.tokens.eos)
    assert max(ids[1:-1]) < chosen.tokens.first
    assert ids[2] == ids[5]
    assert ids != tokenize("Change the color, the color to green", chosen, None)


def test_hashes_are_the_same_in_every_process() -> None:
    assert tokenize("Change the color to blue", TINY, None) == [508, 318, 442, 13, 336, 32, 509]


def test_a_small_vocabulary_needs_no_tokenizer_files(tmp_path: Path) -> None:
    assert tokenize("blue", TINY, tmp_path) == tokenize("blue", TINY, None)


@pytest.mark.parametrize("prompt", ["", " \n\t"])
def test_a_blank_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(UsageError, match="prompt is empty"):
        tokenize(prompt, TINY, None)
