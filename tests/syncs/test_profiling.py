"""The third witness: what becomes of its profile on a CPU, and what a report takes from the trace of a GPU."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity

from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import SyncReport, Witnesses
from bagel_perf.syncs.hearing import hearing
from bagel_perf.syncs.profiling import NUM_PREDICTED, TAKEN, Profiled, profiling
from bagel_perf.syncs.sites import SyncCollector
from bagel_perf.traces.analyse import MarkedTrace, analyse
from fake_waits import Source
from trace_scenes import Scene, item
from trace_stories import trace_of

pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available")


def torch_profiler() -> AbstractContextManager[object]:
    return torch.profiler.profile(activities=[ProfilerActivity.CPU])


def autograd_profiler() -> AbstractContextManager[object]:
    return torch.autograd.profiler.profile(use_cpu=True)


@pytest.mark.parametrize("make", [torch_profiler, autograd_profiler])
def test_a_program_with_a_profiler_of_its_own_takes_ours_and_keeps_its_events(
    make: Callable[[], AbstractContextManager[object]], tmp_path: Path
) -> None:
    with profiling(tmp_path / "trace.json.gz") as profiled:
        for _ in range(2):
            with make() as own:
                torch.ones(3).cumsum(0)
        torch.ones(3).sum()
    assert profiled.was_taken and profiled.marked is None
    assert "aten::cumsum" in {event.key for event in own.key_averages()}  # type: ignore[attr-defined]
    assert not (tmp_path / "trace.json.gz").exists()
    report = report_of(SyncCollector("cuda"))
    assert profiled.with_predicted_savings(report, []) == report and profiled.predicted_saving_ms([0]) is None


def test_a_profiler_of_the_programs_that_ends_after_ours_keeps_its_events() -> None:
    own = torch_profiler()
    with profiling() as profiled:
        own.__enter__()
        torch.ones(3).cumsum(0)
    torch.ones(3).cumprod(0)
    own.__exit__(None, None, None)
    assert profiled.was_taken
    assert {"aten::cumsum", "aten::cumprod"} <= {event.key for event in own.key_averages()}  # type: ignore[attr-defined]


def test_after_a_profile_that_was_taken_the_next_one_is_there() -> None:
    with profiling(), torch_profiler():
        pass
    with profiling() as profiled:
        torch.ones(3).sum()
    assert not profiled.was_taken and profiled.marked is not None


def test_the_window_of_a_profile_holds_the_numbers_of_its_waits(tmp_path: Path) -> None:
    source, collector = Source(), SyncCollector("cuda")
    with profiling(tmp_path / "trace.json.gz") as profiled, hearing(collector, source, source.listening):
        source.wait()
        with profiled.window(collector):
            for kind in ("nonzero", "nonzero", "d2h_copy"):
                source.wait(kind)
    assert profiled.marked is not None
    trace = profiled.marked.findings.trace
    numbers = {each.kind: each.number for each in collector.counted()}
    assert trace.marker_numbers.tolist() == [numbers["nonzero"]] * 2 + [numbers["d2h_copy"]]
    assert profiled.marked.findings.window.is_marked
    kept = json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))
    assert sum(event.get("name", "").startswith("bagel_perf.wait ") for event in kept["traceEvents"]) == 3


def test_an_error_of_the_program_ends_the_profile_and_passes() -> None:
    with pytest.raises(ZeroDivisionError), profiling():
        raise ZeroDivisionError
    assert not torch._C._autograd._profiler_enabled()


def report_of(collector: SyncCollector) -> SyncReport:
    total = collector.total()
    return SyncReport(
        device="cuda",
        host_syncs=total,
        unexplained=1,
        sites=collector.sites(),
        witnesses=Witnesses(callbacks=total),
        notes=("before",),
    )


def heard(*kinds: str) -> SyncCollector:
    """A collector of waits, number ``i`` being those of the ``i``-th kind."""
    source, collector = Source(), SyncCollector("cuda")
    with hearing(collector, source, source.listening):
        for kind in kinds:
            source.wait(kind)
    return collector


def read(scene: Scene, start: int, number: int | None) -> None:
    """A kernel of 60 us and a read that waits 80 us for it, announced by a marker unless ``number`` is None."""
    scene.op("aten::mm", start, start + 12)
    scene.kernel((start + 2, start + 10), (start + 12, start + 72))
    if number is not None:
        scene.op(f"bagel_perf.wait {number}", start + 21, start + 22)
    item(scene, start + 20, (start + 74, start + 76), start + 109)


def window(scene: Scene, end: int) -> Scene:
    scene.annotation("bagel_perf.window", 0, end)
    return scene


def with_predicted_savings(scene: Scene, collector: SyncCollector) -> SyncReport:
    profiled = Profiled()
    profiled.marked = MarkedTrace.of(trace_of(scene))
    return profiled.with_predicted_savings(report_of(collector), collector.counted())


def site_of(report: SyncReport, kind: str) -> SyncSite:
    (site,) = (site for site in report.sites if site.kind == kind)
    return site


def test_a_site_has_the_times_of_the_waits_with_its_number() -> None:
    scene = Scene()
    for start, number in ((0, 0), (200, 1), (400, 1)):
        read(scene, start, number)
    report = with_predicted_savings(window(scene, 600), heard("scalar_read", "nonzero", "nonzero"))
    one, two = site_of(report, "scalar_read"), site_of(report, "nonzero")
    assert (one.blocked_ms, two.blocked_ms) == (0.080, 0.160)
    assert one.lost_gpu_ms and two.lost_gpu_ms
    marked = MarkedTrace.of(trace_of(scene))
    assert (one.predicted_saving_ms, two.predicted_saving_ms) == (
        marked.predicted_saving_ms({0}),
        marked.predicted_saving_ms({1}),
    )
    assert one.predicted_saving_ms and two.predicted_saving_ms and one.predicted_saving_ms != two.predicted_saving_ms
    assert report.sites == (two, one), "the one that caused most idle time comes first"
    assert (report.host_syncs, report.unexplained, report.witnesses.cupti) == (3, 1, 3)
    assert report.notes == ("before",) and report.profile is not None


def test_each_wait_that_is_drawn_names_its_site() -> None:
    scene = Scene()
    for start, number in ((0, 0), (200, 1), (400, 1), (600, None)):
        read(scene, start, number)
    report = with_predicted_savings(window(scene, 800), heard("scalar_read", "nonzero", "nonzero"))
    assert report.profile is not None
    (whole,) = report.profile.lanes
    assert [report.sites[place].kind for place in whole.places[:3]] == ["scalar_read", "nonzero", "nonzero"]
    assert whole.places[3] == -1, "no callback announced it"
    assert len(whole.places) == len(whole.syncs)


def test_a_trace_alone_knows_no_sites_of_a_harness() -> None:
    scene = Scene()
    read(scene, 0, 0)
    assert analyse(trace_of(window(scene, 200))).lanes[0].places == ()


def test_the_operators_name_a_kind_that_the_callback_did_not_know() -> None:
    scene = Scene()
    read(scene, 0, 0)
    read(scene, 200, 1)
    report = with_predicted_savings(window(scene, 400), heard("unknown", "mask_gather"))
    assert sorted(site.kind for site in report.sites) == ["mask_gather", "scalar_read"]


def test_waits_that_only_the_profile_saw_are_sites_of_their_own_and_unexplained() -> None:
    scene = Scene()
    read(scene, 0, 0)
    scene.annotation("sample", 200, 600)
    for start in (200, 400):
        scene.op("aten::multinomial", start + 15, start + 150)
        read(scene, start, None)
    report = with_predicted_savings(window(scene, 700), heard("explicit_sync"))
    (unseen,) = (site for site in report.sites if site.kind == "scalar_read")
    assert (unseen.file, unseen.line, unseen.region, unseen.count) == ("", 0, "sample", 2)
    assert (unseen.op, unseen.blocked_ms) == ("aten::multinomial", 0.160)
    assert (report.host_syncs, report.unexplained) == (3, 1 + 2)
    assert (report.witnesses.callbacks, report.witnesses.cupti) == (1, 3)
    assert report.notes == (
        "before",
        "2 waits were seen by CUPTI alone: a library waits inside the operators named",
    )


def test_a_marker_without_a_wait_is_noted_and_its_site_took_no_time() -> None:
    scene = Scene()
    read(scene, 0, 0)
    scene.op("bagel_perf.wait 1", 150, 151)
    report = with_predicted_savings(window(scene, 400), heard("scalar_read", "nonzero"))
    lost = site_of(report, "nonzero")
    assert (lost.blocked_ms, lost.lost_gpu_ms, lost.count) == (0.0, 0.0, 1)
    assert (report.host_syncs, report.unexplained, report.witnesses.cupti) == (2, 1 + 1, 1)
    assert report.notes[1:] == ("1 waits that callbacks announced have no runtime call in the profile",)


def test_waits_outside_the_window_are_nobodys() -> None:
    scene = Scene()
    read(scene, 0, 0)
    read(scene, 500, None)
    report = with_predicted_savings(window(scene, 300), heard("scalar_read"))
    assert (report.host_syncs, report.unexplained, report.witnesses.cupti) == (1, 1, 1)


def test_only_the_sites_that_lost_most_have_a_predicted_saving() -> None:
    scene, end = Scene(), 0
    num_sites = NUM_PREDICTED + 2
    for number in range(num_sites):
        read(scene, end, number)
        end += (
            140 + 4 * number
        )  # the GPU is idle for longer after each, and not so long that the host did something else
    read(scene, end, num_sites)
    source, collector = Source(), SyncCollector("cuda")
    with hearing(collector, source, source.listening):
        exec("\n".join(["wait()"] * (num_sites + 1)), {"wait": source.wait})  # a line each
    report = with_predicted_savings(window(scene, end + 200), collector)
    lost_ms = [site.lost_gpu_ms or 0.0 for site in report.sites]
    assert len(set(lost_ms)) == len(lost_ms) == num_sites + 1
    assert lost_ms == sorted(lost_ms, reverse=True)
    assert [site.predicted_saving_ms is not None for site in report.sites] == [True] * NUM_PREDICTED + [False] * 3


def test_the_note_tells_how_to_leave_profiling_to_the_program() -> None:
    assert "--no-profile" in TAKEN
