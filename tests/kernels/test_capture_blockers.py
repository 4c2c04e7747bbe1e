"""What prevents a CUDA graph of a denoise step: the waits of upstream's, and without them the tensors of each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bagel_perf.records.blockers import CaptureReport
from bagel_perf.simulated import SimulatedCuda
from bagel_perf.subjects.bagel.loading import VARIANTS
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.syncs.blockers import watch_capture

MakeRequest = Callable[..., Any]
STEPS_OF_EACH = {
    ("address", "x.to(self.weight.dtype)"),
    ("address", "self.velocity(latents_NC, step, components) * step.dt"),
}
"""Latents and step size are new tensors each step, whatever the variant."""


def report_of(make_request: MakeRequest, variant: str) -> CaptureReport:
    with SimulatedCuda() as simulated:
        request = make_request(num_timesteps=5)
        on_device = replace(request, model=map_tensors(request.model, simulated.wrap))
        with watch_capture("step") as watch:
            on_device.png(VARIANTS[variant])
        return watch.report(variant)


def found(report: CaptureReport) -> set[tuple[str, str]]:
    return {(each.kind, each.expressions[0]) for each in report.blockers}


def test_a_step_that_does_not_wait_lacks_buffers_for_what_changes(make_request: MakeRequest) -> None:
    report = report_of(make_request, "sync_free")
    assert found(report) == STEPS_OF_EACH | {("address", "t_N[:, None]")}
    assert report.num_entries == 4 and all(each.effect == "freezes" for each in report.blockers)


def test_the_waits_of_upstreams_step_stop_a_graph_each_by_its_line(make_request: MakeRequest) -> None:
    report = report_of(make_request, "baseline")
    waits = {(each.file.rpartition("/")[2], each.expressions[0]) for each in report.blockers if each.kind == "wait"}
    assert waits == {
        ("lengths.py", "max(query.device_B)"),
        ("lengths.py", "max(kv.device_B)"),
        ("merge.py", "key_TKE.new_zeros((num_rows, *key_TKE.shape[1:]))"),
        ("merge.py", "value_TKE.new_zeros((num_rows, *value_TKE.shape[1:]))"),
        ("step_input.py", "markers_2D.new_zeros((sum(layout.sequence.device_B), markers_2D.shape[1]))"),
        ("step_input.py", "step.t_N.unique()"),
    }
    assert found(report) > STEPS_OF_EACH


def test_a_step_in_the_interval_of_guidance_takes_another_path_than_one_outside(make_request: MakeRequest) -> None:
    with SimulatedCuda() as simulated:
        request = make_request(num_timesteps=6, interval=(0.5, 1.0))
        on_device = replace(request, model=map_tensors(request.model, simulated.wrap))
        with watch_capture("step") as watch:
            on_device.png(VARIANTS["sync_free"])
    kinds = [each.kind for each in watch.report().blockers]
    assert "shape" in kinds or "branch" in kinds
