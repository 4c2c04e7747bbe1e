"""Makes what a plan chooses of the model (device, preset, attention), and binds variants to their components."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

import kernels_baseline
from bagel_perf.measure.environment import environment_of, resolve_device
from bagel_perf.records.bagel import parse_variant
from bagel_perf.records.errors import UsageError
from bagel_perf.records.outlines import Scalar
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import Environment
from bagel_perf.subjects.bagel.model.attention import Attention, Backend, default_backend
from bagel_perf.subjects.bagel.model.bagel import Bagel, build_bagel
from bagel_perf.subjects.bagel.model.config import BagelConfig, config_from_directory, preset
from bagel_perf.subjects.bagel.model.contracts import Components
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.subjects.bagel.model.weights import RandomSource, open_checkpoint
from bagel_perf.syncs.regions import traced
from kernels_optimized import approx_norm, captured, fused, pr3987, sync_free

VARIANTS: dict[str, Components] = {
    "baseline": kernels_baseline.COMPONENTS,
    "pr3987": pr3987.COMPONENTS,
    "sync_free": sync_free.COMPONENTS,
    "captured": captured.COMPONENTS,
    "fused": fused.COMPONENTS,
    "approx_norm": approx_norm.COMPONENTS,
}


def bind(variant: str) -> Components:
    """The components of a variant as ``pr3987`` or ``baseline+timestep_schedule``; UsageError if there is none."""
    built_in_by_component = parse_variant(variant).built_in_by_component
    return Components(
        **{component: getattr(VARIANTS[built_in], component) for component, built_in in built_in_by_component.items()}
    )


def with_regions(components: Components) -> Components:
    """The same components, each call in a region of the component's name; timed passes use the bare components."""
    return Components(**{f.name: traced(f.name, getattr(components, f.name)) for f in fields(components)})


WEIGHT_SEED = 0

Report = Callable[[str, int, int], None]
"""(text, done, total): progress for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model on its device, where that is, and what the model was made from."""

    model: Bagel
    environment: Environment
    details: dict[str, Scalar]


def resolve_attention(choice: str, device: torch.device) -> Attention:
    """The attention backend; UsageError where the device cannot run it."""
    backend: Backend = default_backend(device) if choice == "auto" else choice  # type: ignore[assignment]
    if device.type != "cuda" and backend != "math":
        raise UsageError(
            "attention backend needs CUDA",
            value=backend,
            allowed="math or auto on a CPU",
            remedy="use --attention auto",
        )
    return Attention(backend=backend, on_cuda=device.type == "cuda")


def load(plan: Plan, report: Report, warn: Callable[[str], None] = lambda text: None) -> Loaded:
    """Builds the model of a plan with random or released weights; warns of one that is too large for the device."""
    device = resolve_device(plan.device)
    attention = resolve_attention(plan.attention, device)
    directory = Path(plan.weights) if plan.weights else None
    name = plan.preset if plan.preset != "auto" else "7b" if device.type == "cuda" else "tiny"
    config = config_from_directory(directory) if directory else preset(name)
    if directory is None and name == "7b" and device.type == "cpu":
        warn("the 7b preset on a CPU takes 29 GB and is slow on a CPU; --preset tiny is made for it")
    model = _build(config, directory, device, attention, report)
    environment = environment_of(device, Path(__file__).parent)
    return Loaded(model=model, environment=environment, details=_details(model, directory, name))


def _build(
    config: BagelConfig, directory: Path | None, device: torch.device, attention: Attention, report: Report
) -> Bagel:
    if directory is None:
        report("making random weights", 0, 1)
        source = RandomSource(device=device, seed=WEIGHT_SEED)
        return build_bagel(source, source, config, attention)
    text = f"loading {directory.name}"
    with open_checkpoint(directory, config, device, lambda done, total: report(text, done, total)) as sources:
        return build_bagel(*sources, config, attention)


def _details(model: Bagel, directory: Path | None, preset_name: str) -> dict[str, Scalar]:
    return {
        "preset": "checkpoint" if directory else preset_name,
        "attention": model.attention.backend,
        "weights": directory.resolve().name if directory else f"random seed {WEIGHT_SEED}",
        "params": count_parameters(model),
        "layers": model.config.llm.num_layers,
    }


def count_parameters(model: Bagel) -> int:
    """Elements of all tensors of the model; the language model's output head is not among them."""
    counts: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        counts.append(tensor.numel())
        return tensor

    map_tensors(model, count)
    return sum(counts)
