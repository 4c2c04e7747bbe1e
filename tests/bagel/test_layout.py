"""The packed layouts hold the counts of reference/bagel.md C4 and C5."""

from __future__ import annotations

import pytest
import torch

import kernels_baseline
from bagel_perf.subjects.bagel.model.contracts import Components
from bagel_perf.subjects.bagel.model.layout import (
    PLACEHOLDER_ID,
    PrecisionSpan,
    PrefillLayout,
    QueryLayout,
    complement,
    precision_spans,
    und_precision_spans,
)
from bagel_perf.subjects.bagel.model.packing import (
    edit_parts,
    latent_position_ids,
    pack_parts,
    pack_queries,
    text_parts,
)
from kernels_optimized import sync_free

CPU = torch.device("cpu")
PROMPT = [1, 2, 3, 4, 5, 6, 7, 8]


def edit(num_latents: int, num_patches: int) -> PrefillLayout:
    return pack_parts(edit_parts(len(PROMPT), num_latents, num_patches), PROMPT, CPU)


@pytest.mark.parametrize(("num_latents", "kv_lengths"), [(256, (5168, 5160, 8)), (4096, (9008, 9000, 8))])
def test_an_edit_has_the_kv_lengths_of_the_two_stage_path_without_its_separator(
    num_latents: int, kv_lengths: tuple[int, int, int]
) -> None:
    layout = edit(num_latents, 4900)
    assert tuple(context.length for context in layout.contexts) == kv_lengths
    assert tuple(context.next_position for context in layout.contexts) == (10, 2, 8)
    assert layout.num_rows == sum(kv_lengths) == layout.positions_P.shape[0] == layout.token_ids_P.shape[0]


def test_positions_count_each_context_up_from_zero() -> None:
    layout = edit(4, 9)
    falls = (layout.positions_P[1:] < layout.positions_P[:-1]).nonzero().flatten() + 1
    assert falls.tolist() == [context.start for context in layout.contexts[1:]]


def test_text_to_image_has_an_empty_context_without_text() -> None:
    layout = pack_parts(text_parts(len(PROMPT)), PROMPT, CPU)
    assert [(context.name, context.length) for context in layout.contexts] == [
        ("main", 8),
        ("cfg_text", 0),
        ("cfg_img", 8),
    ]
    assert layout.contexts[1].next_position == 0
    assert layout.latent_spans == ()


def test_only_image_blocks_are_placeholders() -> None:
    layout = edit(4, 9)
    kept = layout.token_ids_P[layout.token_ids_P != PLACEHOLDER_ID].tolist()
    assert kept == PROMPT * 2


def test_latent_spans_leave_the_markers_out() -> None:
    layout = edit(4, 9)
    assert layout.latent_spans == ((1, 5), (26, 30))
    assert complement(layout.latent_spans, layout.num_rows) == ((0, 1), (5, 26), (30, 50))


def test_markers_of_latents_are_exact_and_everything_else_is_not() -> None:
    layout = edit(4, 9)
    spans = precision_spans(layout)
    assert [(s.start, s.stop, s.exact) for s in spans] == [
        (0, 6, True),
        (6, 25, False),
        (25, 31, True),
        (31, 50, False),
    ]
    und = und_precision_spans(layout)
    assert [(s.start, s.stop, s.exact) for s in und] == [(0, 2, True), (2, 21, False), (21, 23, True), (23, 42, False)]


def test_neighbours_of_equal_precision_are_one_span() -> None:
    assert precision_spans(pack_parts(text_parts(len(PROMPT)), PROMPT, CPU)) == (
        PrecisionSpan(start=0, stop=16, exact=False),
    )


def queries_of(layout: PrefillLayout, components: Components) -> QueryLayout:
    return pack_queries(layout.contexts, (10, 2, 8), latent_position_ids(2, 2, 64, CPU), components.branch_offsets)


@pytest.mark.parametrize(
    "components", [kernels_baseline.COMPONENTS, sync_free.COMPONENTS], ids=["baseline", "sync_free"]
)
def test_queries_follow_their_context_in_the_merged_cache(components: Components) -> None:
    layout = edit(4, 9)
    queries = queries_of(layout, components)
    assert queries.past.host == (25, 17, 8)
    assert queries.segments == (((0, 6), (0, 31)), ((6, 12), (31, 54)), ((12, 18), (54, 68)))
    assert queries.query_kv_rows_T.tolist() == [*range(25, 31), *range(48, 54), *range(62, 68)]
    rows = torch.cat([queries.query_kv_rows_T, queries.past_kv_rows])
    assert rows.sort().values.tolist() == list(range(68))
    assert queries.positions_T.tolist() == [10] * 6 + [2] * 6 + [8] * 6


def test_device_tensors_and_host_mirrors_agree() -> None:
    layout = edit(4, 9)
    queries = queries_of(layout, kernels_baseline.COMPONENTS)
    for lengths in (queries.sequence, queries.queries, queries.past):
        assert lengths.device_B.tolist() == list(lengths.host)
    gen_rows = queries.routing.gen_rows
    assert gen_rows is not None
    assert gen_rows.tolist() == [row for start, stop in queries.routing.latent_spans for row in range(start, stop)]


def test_latent_positions_stride_by_the_table_not_by_the_picture() -> None:
    assert latent_position_ids(2, 3, 64, CPU).tolist() == [0, 1, 2, 64, 65, 66]
