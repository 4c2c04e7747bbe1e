"""Host syncs of each stage and component as closed forms of a request's sizes."""

from __future__ import annotations

from dataclasses import dataclass

from bagel_perf.records.bagel import COMPONENTS, Request, parse_variant

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

    @property
    def offsets(self) -> int:
        """Of the query block and of each branch, where there is more than one."""
        return 1 + self.branches if self.branches > 1 else 0

    def per_layer_and_step(self, guided: int, plain: int) -> int:
        return self.layers * (self.guided * guided + self.plain * plain)


def baseline(s: Sizes) -> Counts:
    """Upstream's waits; a plain step fails the interval's first comparison and runs one branch."""
    return {
        "ar": {
            "adjust_positions": s.positions - 1 + 3 * s.pictures + s.texts + 1 if s.pictures else 0,
            "route_experts": 35 * s.layers + 6 if s.pictures else 0,
        },
        "dit": {
            "branch_offsets": s.offsets,
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
            "adjust_positions": 1 + 3 * s.pictures + s.texts + 2 if s.pictures else 0,
            "route_experts": 28 * s.layers + 4 if s.pictures else 0,
        },
        "dit": {
            "branch_offsets": s.offsets,
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


SWALLOWED_BY_FUSED = {"step_input", "merge_kv", "attention_lengths"}


def mixture(name: str, s: Sizes) -> Counts:
    """Each component's waits by the formula of the variant that fills it; ``s`` is what its contexts are packed to."""
    owners = dict(zip(COMPONENTS, parse_variant(name).owners, strict=True))
    swallowed = {
        "ar": {"route_experts"} if owners["prefill_layers"] == "fused" else set(),
        "dit": SWALLOWED_BY_FUSED if owners["denoise_loop"] == "fused" else set(),
    }
    counts = {
        stage: {
            component: 0
            if component in swallowed[stage]
            else FORMULAS[owners.get(component, "baseline")](s)[stage].get(component, 0)
            for component in components
        }
        for stage, components in baseline(s).items()
    }
    if (
        s.pictures
        and not swallowed["ar"]
        and (owners["route_experts"], owners["adjust_positions"]) == ("pr3987", "baseline")
    ):
        counts["ar"]["route_experts"] += 1  # upstream's positions leave it open whether there are understanding rows
    return counts


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
