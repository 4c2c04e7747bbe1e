"""Component ``prefill_layers`` as upstream: rows by context, routed at each linear layer and norm."""

from __future__ import annotations

from bagel_perf.subjects.bagel.model.contracts import LayerCache, Prefilling


def prefill_layers(state: Prefilling) -> tuple[LayerCache, ...]:
    """Keys and values of every layer; waits as ``route_experts`` does."""
    return state.layers()
