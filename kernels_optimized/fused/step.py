"""One denoise step over rows sorted by weight set.

Suffixes: N latent tokens, C latent channels (64), R packed rows, D model width, B branches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.contracts import Components, Step
from bagel_perf.subjects.bagel.model.denoise import Branches, DenoiseState, guide
from kernels_optimized.fused.heads import may_pack_heads
from kernels_optimized.fused.layers import decode
from kernels_optimized.fused.rows import MergedKv, StepRows, step_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Steps with guidance, or without."""

    rows: StepRows
    kv: MergedKv

    @property
    def num_branches(self) -> int:
        return len(self.rows.segments)


class FusedStep:
    """The step of one shape; what no step changes is computed when the first request of the shape comes."""

    def __init__(self, state: DenoiseState, components: Components) -> None:
        self._model = state.model
        self._scales = state.sampling.scales
        self._kinds: dict[bool, _Kind] = {}
        model, layout = state.model, state.plain.layout
        self.latents_NC = torch.empty_like(state.noise_NC)
        self._dt = torch.empty_like(state.noise_NC[0, 0])
        self._markers_2D = model.embed_markers()
        self._positions_ND = model.latent_positions[layout.latent_position_ids_N]
        self._time_1D = torch.empty_like(self._markers_2D[:1])
        self._times_1D: list[Tensor] = []
        self._num_steps = 0

    def load(self, state: DenoiseState) -> None:
        """Noise, and the contexts' keys and values of the kinds of step that have occurred."""
        self.latents_NC.copy_(state.noise_NC)
        self._num_steps = 0
        for guided, kind in self._kinds.items():
            branches = _branches(state, guided=guided)
            kind.kv.load(branches)
            kind.rows.cos_T1E.copy_(branches.rows.cos_T1E)
            kind.rows.sin_T1E.copy_(branches.rows.sin_T1E)

    def prepare(self, state: DenoiseState, step: Step) -> None:
        """The step's width, and its embedded time: of the first request, because all have the same times."""
        if self._num_steps == len(self._times_1D):
            # Embedded once for each latent, as elsewhere, because another number of rows may take another kernel.
            self._times_1D.append(self._model.time_embedder(step.t_N)[:1].clone())
        self._time_1D.copy_(self._times_1D[self._num_steps])
        self._dt.copy_(step.dt)
        self._num_steps += 1
        if step.in_window not in self._kinds:
            branches = _branches(state, guided=step.in_window)
            rows = step_rows(branches, packs_heads=may_pack_heads(self._model, branches.segments))
            kind = _Kind(rows=rows, kv=MergedKv(branches))
            kind.kv.load(branches)
            self._kinds[step.in_window] = kind

    def run(self, *, guided: bool) -> None:
        """The latents, one Euler step further."""
        model, kind = self._model, self._kinds[guided]
        hidden_TD = decode(model, self._packed_input(model, kind.num_branches), kind.rows, kind.kv.layers)
        # A GEMM over each branch with its markers, as elsewhere.
        v_BNC = torch.stack([model.latent_out(h)[1:-1] for h in hidden_TD.chunk(kind.num_branches)])
        self.latents_NC.sub_(guide(v_BNC, self._scales) * self._dt)

    def _packed_input(self, model: Bagel, num_branches: int) -> Tensor:
        x_ND = model.latent_in(self.latents_NC) + self._time_1D + self._positions_ND
        return torch.cat([x_ND] * num_branches + [self._markers_2D] * num_branches)


def _branches(state: DenoiseState, *, guided: bool) -> Branches:
    return state.guided if guided else state.plain
