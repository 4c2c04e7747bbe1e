"""An error about a variant is short: what is wrong, what was meant, and a remedy that is accepted."""

from __future__ import annotations

import pytest

from bagel_perf.records.bagel import GRAMMAR, Variant, parse_variant, parse_variants
from bagel_perf.records.errors import UsageError


def remedied(error: BaseException) -> Variant:
    """The variant that a message recommends, which has to be allowed."""
    return parse_variant(str(error).rpartition("; try ")[2])


@pytest.mark.parametrize("text", ["captured-merge_kv", "captured-step_input-adjust_positions"])
def test_a_component_that_waits_cannot_be_recorded(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_variant(text)
    assert str(caught.value).startswith(f"the loop of captured cannot record what waits ({text}); try ")
    assert remedied(caught.value).name in ("sync_free-merge_kv", "sync_free-step_input")


@pytest.mark.parametrize("text", ["fused-merge_kv", "approx_norm-merge_kv"])
def test_a_component_that_the_loop_does_without_cannot_be_put_back(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_variant(text)
    assert str(caught.value).startswith(f"the loop of fused does without merge_kv ({text}); try ")
    assert remedied(caught.value).name == "sync_free-merge_kv"


def test_a_component_that_the_loop_does_without_cannot_be_pinned() -> None:
    text = "baseline+denoise_loop+merge_kv"
    with pytest.raises(UsageError) as caught:
        parse_variant(text)
    assert str(caught.value) == f"the loop of fused does without merge_kv ({text}); leave +merge_kv out"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "sync_fre",
            "unknown variant (sync_fre); did you mean sync_free; bagel-perf compare --help lists all variants",
        ),
        ("fast", f"unknown variant (fast); {GRAMMAR}; bagel-perf compare --help lists all variants"),
        ("+merge_kv", f"unknown variant (+merge_kv); {GRAMMAR}; bagel-perf compare --help lists all variants"),
        (
            "fused+merge-kv",
            "unknown component (+merge); did you mean +merge_kv; bagel-perf compare --help lists all components",
        ),
        ("fused-wings", f"unknown component (-wings); {GRAMMAR}; bagel-perf compare --help lists all components"),
        ("fused+", f"unknown component (+); {GRAMMAR}; bagel-perf compare --help lists all components"),
        ("baseline--merge_kv", f"unknown component (-); {GRAMMAR}; bagel-perf compare --help lists all components"),
        (
            "sync_free+merge_kv",
            "variant takes merge_kv from sync_free already (sync_free+merge_kv); leave +merge_kv out",
        ),
    ],
)
def test_an_error_about_a_variant_names_what_is_wrong_and_what_to_do(text: str, error: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_variant(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "baseline+",
        "baseline+wings",
        "+merge_kv",
        "baseline-merge_kv",
        "sync_free+merge_kv",
        "captured+merge_kv",
        "captured-attention_lengths",
        "fused-attention_lengths",
        "baseline+denoise_loop+attention_lengths",
        "approx_norm+merge_kv",
        "sync_free-pack_contexts",
        "baseline--merge_kv",
        "fused,captured+encode_picture+pack_contexts+prefill_layers+denoise_loop+norm_activate",
        "baseline,baseline",
        "baseline,",
    ],
)
def test_an_error_about_variants_adds_few_words_to_their_names(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_variants(text)
    assert len(f"error: {caught.value}") <= len(text) + 100


@pytest.mark.parametrize("text", ["", " ", "baseline,", "baseline,,fused"])
def test_a_variant_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^a variant has no name \('{text}'\); .*; leave the option out"):
        parse_variants(text)
