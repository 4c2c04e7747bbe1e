"""The one table of what waits: operators of PyTorch, how often each makes the host wait on CUDA, and for what.

Everything that has to know asks here: the simulated device, the classifier on a GPU, the recorder of graphs, the
reader of traces, and the page of the documentation that lists them (``docs/what-waits.md``). Where there is no number,
arguments decide, in ``rules.operators``; what a call from Python does besides, as to upload a list that stands
for an index, is in ``rules.calls``.

Measured on NVIDIA H100 and H200, torch 2.11.0+cu130, by CUDA's callbacks and CUPTI: ``tests/data/sync_catalogue.json``
and ``sync_expressions.json`` have expressions, ``reports/operator-waits`` the operators inside 27,000 samples of
torch's own tests. An operator that never waited there is in ``quiet_operators``; of one that is in neither table
nothing is known, and it is named as unjudged.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import msgspec

from bagel_perf.records.sites import Kind


class Rule(msgspec.Struct, frozen=True):
    """What is known of an operator: ``waits`` host syncs of ``kind`` a call.

    ``waits`` is None where arguments decide; ``when`` says in words how.
    """

    kind: Kind
    waits: int | None
    when: str = ""


LU = "0 for square matrices and for no elements; else a library waits: open"
ISIN = "3, or 1 where assumed unique, from 10 n**0.145 test elements on, n being the number of elements; else 0"

RULES: dict[str, Rule] = {
    "_local_scalar_dense": Rule("scalar_read", 1),
    "allclose": Rule("scalar_read", 1),
    "equal": Rule("scalar_read", None, "1; 0 for other shapes, for no elements, and for a tensor and itself"),
    "is_nonzero": Rule("scalar_read", 1),
    "histc": Rule("scalar_read", None, "2 where min equals max, as by default; else, and for no elements, 0"),
    "linspace.Scalar_Tensor": Rule("scalar_read", None, "1 for each limit that is a device tensor"),
    "linspace.Tensor_Scalar": Rule("scalar_read", None, "1 for each limit that is a device tensor"),
    "linspace.Tensor_Tensor": Rule("scalar_read", None, "1 for each limit that is a device tensor"),
    "logspace.Scalar_Tensor": Rule("scalar_read", None, "1 for each limit that is a device tensor"),
    "logspace.Tensor_Scalar": Rule("scalar_read", None, "1 for each limit that is a device tensor"),
    "logspace.Tensor_Tensor": Rule("scalar_read", None, "1 for each limit that is a device tensor"),
    "masked_fill.Tensor": Rule("scalar_read", None, "1 where the value is a device tensor"),
    "index_fill.int_Tensor": Rule("scalar_read", None, "1 where the value is a device tensor"),
    "normal.Tensor_Tensor": Rule("scalar_read", 2),
    "normal.float_Tensor": Rule("scalar_read", 2),
    "fake_quantize_per_channel_affine_cachemask": Rule("scalar_read", 2),
    "quantize_per_channel": Rule("scalar_read", 2),
    "quantize_per_tensor.tensor_qparams": Rule("scalar_read", 2),
    "searchsorted": Rule("scalar_read", None, "2 with a sorter, whose largest and smallest are checked; else 0"),
    "segment_reduce": Rule("scalar_read", None, "2 with lengths, unless unsafe; else 0"),
    "_grouped_mm": Rule("scalar_read", None, "1 for offsets, unless all is bfloat16"),
    "nonzero": Rule("nonzero", 1),
    "argwhere": Rule("nonzero", 1),
    "_unique": Rule("nonzero", 1),
    "_unique2": Rule("nonzero", 1),
    "_to_sparse": Rule("nonzero", 1),
    "_to_sparse_csr": Rule("nonzero", 2),
    "bincount": Rule("nonzero", None, "2; 0 for no elements"),
    "isin.Tensor_Tensor": Rule("nonzero", None, ISIN),
    "isin.Scalar_Tensor": Rule("nonzero", None, ISIN),
    "repeat_interleave.Tensor": Rule("nonzero", None, "2; 0 with output_size"),
    "unique_consecutive": Rule(
        "nonzero", None, "1 without dim; along a dimension a library waits, and how often is open"
    ),
    "index": Rule("mask_gather", None, "1 for each mask on the device"),
    "masked_select": Rule("mask_gather", 1),
    "masked_scatter_backward": Rule("mask_gather", 1),
    "index_put": Rule("mask_scatter", None, "1 for each mask on the device"),
    "_index_put_impl_": Rule("mask_scatter", None, "1 for each mask on the device"),
    "_ctc_loss.default": Rule("d2h_copy", 3),
    "_ctc_loss.Tensor": Rule("d2h_copy", 5),
    "_ctc_loss_backward.default": Rule("d2h_copy", 3),
    "_ctc_loss_backward.Tensor": Rule("d2h_copy", 5),
    "_linalg_check_errors": Rule("unknown", 1),
    "_linalg_svd": Rule("unknown", None, "2; 0 for no elements; of a matrix over 32 x 32 a library waits: open"),
    "linalg_lstsq": Rule("unknown", 1),
    "linalg_lu": Rule("unknown", None, LU),
    "linalg_lu_factor_ex": Rule("unknown", None, LU),
    "linalg_pinv.atol_rtol_tensor": Rule("unknown", None, "2; 0 for no elements; open for hermitian or over 32 x 32"),
    "cholesky": Rule("unknown", None, "1; 0 for no elements"),
    "mode": Rule("unknown", None, "0 along at most 2048 elements; beyond that a library waits: open"),
    "copy_": Rule("d2h_copy", 0, "1 between host and device, unless asynchronous"),
    "_to_copy": Rule("d2h_copy", 0, "1 between host and device, unless asynchronous"),
    "_foreach_copy_": Rule("d2h_copy", 0, "1 for each pair between host and device, unless asynchronous"),
    "where.self": Rule("pageable_upload", None, "1 for each 0-d host tensor among the condition and the values"),
    "mm": Rule("unknown", 0, "of sparse matrices open"),
}
"""By name, or by name and overload where overloads differ; ``name_`` and ``.out`` wait as ``name`` does."""

_LISTED_AT = Path(__file__).with_name("quiet_operators.json")


@cache
def quiet_operators() -> dict[str, frozenset[str]]:
    """Overloads, by operator, that never waited in any sample; written by ``tests/benchmarks/operator_waits.py``."""
    listed: dict[str, list[str]] = json.loads(_LISTED_AT.read_text(encoding="utf-8"))["operators"]
    return {name: frozenset(overloads) for name, overloads in listed.items()}


@cache
def recorded_names(kind: Kind) -> frozenset[str]:
    """Operators whose waits are of a kind, as a profile records them: without overload, in place or not."""
    names = {name.partition(".")[0] for name, rule in RULES.items() if rule.kind == kind}
    return frozenset(f"aten::{name}{ending}" for name in names for ending in ("", "_"))
