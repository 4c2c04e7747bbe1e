"""One denoise step of the components of a variant, in memory that stays where it is.

Suffixes: N latent tokens, C latent channels (64).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import Components, LayerCache, Step
from bagel_perf.subjects.bagel.model.denoise import Branches, DenoiseState


class ComponentStep:
    """Copies the tensors of every request of a shape into its own, so that no request's are overwritten."""

    def __init__(self, state: DenoiseState, components: Components) -> None:
        self._state = _owned(state)
        self._components = components
        self.latents_NC = torch.empty_like(state.noise_NC)
        self._t_N = torch.empty_like(state.noise_NC[:, 0])
        self._dt = torch.empty_like(self._t_N[0])

    def load(self, state: DenoiseState) -> None:
        """Noise, the contexts' keys and values, and rotary tables; all else follows from the shape."""
        self.latents_NC.copy_(state.noise_NC)
        torch._foreach_copy_(_tensors(self._state), _tensors(state))

    def prepare(self, state: DenoiseState, step: Step) -> None:
        """The step's time and width."""
        self._t_N.copy_(step.t_N)
        self._dt.copy_(step.dt)

    def run(self, *, guided: bool) -> None:
        """The model's own step, by its components."""
        step = Step(t_N=self._t_N, dt=self._dt, in_window=guided)
        self.latents_NC.copy_(self._state.advance(self.latents_NC, step, self._components))


def _owned(state: DenoiseState) -> DenoiseState:
    """The state with keys, values and rotary tables of its own; the plain branch's begin the guided branches', too."""
    caches = tuple(
        LayerCache(key_PKE=cache.key_PKE.clone(), value_PKE=cache.value_PKE.clone()) for cache in state.guided.caches
    )
    guided = _with_caches(state.guided, caches)
    if state.plain is state.guided:
        return replace(state, guided=guided, plain=guided)
    used = state.plain.layout.num_past_rows
    begun = tuple(LayerCache(key_PKE=cache.key_PKE[:used], value_PKE=cache.value_PKE[:used]) for cache in caches)
    return replace(state, guided=guided, plain=_with_caches(state.plain, begun))


def _with_caches(branches: Branches, caches: tuple[LayerCache, ...]) -> Branches:
    rows = replace(branches.rows, cos_T1E=branches.rows.cos_T1E.clone(), sin_T1E=branches.rows.sin_T1E.clone())
    return replace(branches, rows=rows, caches=caches)


def _tensors(state: DenoiseState) -> list[Tensor]:
    """What differs between requests of a shape. The plain branch's keys and values begin the guided branches'."""
    kinds = (state.guided,) if state.plain is state.guided else (state.guided, state.plain)
    tables = [table for branches in kinds for table in (branches.rows.cos_T1E, branches.rows.sin_T1E)]
    return tables + [part for cache in state.guided.caches for part in (cache.key_PKE, cache.value_PKE)]
