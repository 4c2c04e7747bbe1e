"""Host syncs of each stage and component as closed forms of a request's sizes."""

from __future__ import annotations

from dataclasses import dataclass

from bagel_perf.records.bagel import Request

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Layers, latent tokens, branches, packed positions, guided and plain steps, contexts of picture and text."""

    layers: int = 2
    latents: int
    branches: int = 3
    positions: int
    guided: int
    plain: int = 0
    pictures: int = 2
    texts: int = 1

    @property
    def steps(self) -> int:
        return self.guided + self.plain

    def per_layer_and_step(self, guided: int, plain: int) -> int:
        return self.layers * (self.guided * guided + self.plain * plain)


def baseline(s: Sizes) -> Counts:
    """Upstream's waits; a plain step fails the interval's first comparison and runs one branch."""
    routing = 35 * s.layers + 6 if s.pictures else 7 * s.layers + 1
    return {
        "ar": {
            "adjust_positions": s.positions - 1 + 2 * s.pictures + s.texts + 1,
            "route_experts": routing,
        },
        "dit": {
            "timestep_schedule": s.steps * (s.latents + 1) + 2 * s.guided + s.plain,
            "step_input": 2 * s.steps,
            "merge_kv": s.per_layer_and_step(2, 2),
            "attention_lengths": s.per_layer_and_step(2 * s.branches, 2),
            "denoise_loop": 1,
            "": 1,
        },
    }


def pr3987(s: Sizes) -> Counts:
    """What the pull request leaves."""
    return {
        "ar": {
            "adjust_positions": 1 + 2 * s.pictures + s.texts + 2,
            "route_experts": 28 * s.layers + 4 if s.pictures else 0,
        },
        "dit": {
            "timestep_schedule": 1 + s.steps,
            "step_input": 2 * s.steps,
            "merge_kv": s.per_layer_and_step(2, 2),
            "attention_lengths": s.per_layer_and_step(2, 2),
            "denoise_loop": 1,
            "": 1,
        },
    }


def sync_free(_: Sizes) -> Counts:
    """The picture's copy to the host alone."""
    return {"ar": {}, "dit": {"": 1}}


FORMULAS = {
    "baseline": baseline,
    "pr3987": pr3987,
    "sync_free": sync_free,
    "captured": sync_free,
    "fused": sync_free,
    "approx_norm": sync_free,
}


def nonzero(counts: Counts) -> Counts:
    """Leaves out the components that do not wait."""
    return {
        stage: {component: count for component, count in by_component.items() if count}
        for stage, by_component in counts.items()
    }


def sizes_of_edit(request: Request, *, num_text: int, num_layers: int) -> Sizes:
    """Sizes of an edit with guidance in every step: the picture as latents and as 4,900 patches, in two contexts."""
    latents = (request.height // 16) * (request.width // 16)
    positions = 2 * (latents + 2 + 4900 + 2) + 2 * num_text
    return Sizes(layers=num_layers, latents=latents, positions=positions, guided=request.steps - 1)
