"""What is printed about a trace fits a terminal, warns first, and ends with what to do next."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.traces import TraceReport
from bagel_perf.report.table import NONE
from bagel_perf.report.trace_summary import headline, next_line, print_trace
from bagel_perf.report.trace_tables import region_table, short_name, short_op
from bagel_perf.traces.against import difference
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace
from trace_scenes import Scene, item, two_steps
from trace_stories import trace_of

FOLDER = Path(__file__).resolve().parents[1] / "data" / "traces"
FIXTURES = sorted(path.name for path in FOLDER.iterdir())


def report_of(scene: Scene) -> TraceReport:
    return analyse(trace_of(scene))


def text_of(report: TraceReport, top: int = 10) -> str:
    stream = io.StringIO()
    print_trace(report, top, stream)
    return stream.getvalue()


def rows_of(text: str, title: str) -> list[list[str]]:
    """The cells of each line of a table, its header first."""
    lines = text[text.index(f"\n{title}\n") + 1 :].split("\n\n")[0].splitlines()[1:]
    return [re.split(r"\s{2,}", line.strip()) for line in lines if not line.startswith("─")]


@pytest.mark.parametrize("name", FIXTURES)
def test_tables_of_real_traces_fit_into_100_columns(name: str) -> None:
    report = analyse(read_trace(FOLDER / name))
    for each in (report, replace(report, difference=difference(report, report))):
        tables = re.sub(r"(?m)^(WARNING|next|-|held|counted|\d+ host|GPU busy|torch).*$", "", text_of(each))
        assert max(map(len, tables.splitlines())) <= 100


def test_the_first_lines_say_what_was_read_and_where_the_time_went() -> None:
    lines = text_of(report_of(two_steps())).splitlines()
    assert lines[:4] == [
        "scene.json: torch.profiler trace, CUDA 12.4, Made-up GPU, 6 kB, 49 events",
        "GPU busy 0.26 of 0.37 ms (71%), idle 0.11 ms; 6 launches",
        "2 host syncs: 2 x scalar read",
        "held the host 0.17 ms; the GPU was idle in them and until the next work for 0.06 ms; "
        "all would take 0.090 ms less without them",
    ]


def test_idle_classes_stand_by_size_and_those_that_do_not_occur_are_left_out() -> None:
    rows = rows_of(text_of(report_of(two_steps())), "Why the GPU was idle")
    assert [row[0] for row in rows] == [
        *("cause", "restart after a sync", "CPU elsewhere", "launch overhead", "in a host sync"),
        *("queued", "launch-bound"),
    ]
    assert rows[1][1:3] == ["0.050", "47%"]


def test_places_are_listed_with_their_cost() -> None:
    scene = two_steps()
    scene.frame("models/attention.py(17): forward", 60, 160)
    rows = rows_of(text_of(report_of(scene)), "Host syncs")
    assert rows[0] == ["kind", "where", "count", "blocked", "idle caused", "saving"]
    assert rows[1] == ["scalar read", "models/attention.py:17 forward, item", "1", "0.077", "0.056", "0.060"]


def test_the_last_line_names_the_line_to_look_at_and_what_to_write_instead() -> None:
    scene = two_steps()
    scene.frame("models/attention.py(17): forward", 60, 160)
    last = text_of(report_of(scene)).splitlines()[-1]
    assert last.startswith("next: models/attention.py:17 forward, item (1 wait, 0.060 ms): try x = ")
    assert "torch.where" in last


def test_a_host_that_is_too_slow_is_told_so_and_not_to_remove_waits() -> None:
    scene = Scene()
    scene.annotation("step", 0, 3000)
    for i in range(30):
        scene.op("aten::mm", 90 * i, 90 * i + 80)
        scene.kernel((90 * i + 60, 90 * i + 70), (90 * i + 72, 90 * i + 75))
    item(scene, 2800, (2810, 2812), 2816)
    scene.kernel((2830, 2835), (2840, 2842))
    last = text_of(report_of(scene)).splitlines()[-1]
    assert last.startswith(
        "next: of 2.91 ms idle, 77% is launch-bound (mostly step, longest gap at 0.07 ms): launch less"
    )


def test_a_cpu_that_does_something_else_is_told_where() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.op("aten::ones", 20, 900)
    scene.kernel((952, 960), (965, 970))
    last = text_of(report_of(scene)).splitlines()[-1]
    assert "of 0.96 ms idle, 92% is CPU elsewhere (mostly aten::ones, longest gap at 0.02 ms): see what" in last


def test_a_busy_gpu_points_to_its_kernels() -> None:
    scene = Scene()
    scene.kernel((0, 5), (6, 9000), name="flash_attention")
    scene.kernel((10, 15), (9000, 9001))
    assert (
        text_of(report_of(scene)).splitlines()[-1]
        == "next: the GPU is busy; make its work faster, first flash_attention"
    )


def test_warnings_stand_before_all_figures() -> None:
    scene = two_steps()
    scene.works.clear()
    lines = text_of(report_of(scene)).splitlines()
    assert lines[1].startswith("WARNING: NO GPU EVENTS")
    assert "lost GPU" not in "\n".join(lines)
    assert lines[-1].startswith("next: record the GPU as well")


def test_unreliable_idle_time_is_not_printed_anywhere() -> None:
    scene = two_steps()
    for start in (400, 500, 600):
        scene.call("cudaGraphLaunch", start, start + 5)
    scene.kernel((700, 705), (710, 720))
    text = text_of(report_of(scene))
    assert "IDLE TIME IS UNRELIABLE AND NOT SHOWN" in text.splitlines()[1]
    assert "idle time unknown" in text
    assert "Why the GPU was idle" not in text
    assert "lost GPU" not in text
    assert "--cuda-graph-trace=node" in text.splitlines()[-1]


def test_rows_that_are_cut_off_are_counted() -> None:
    report = analyse(read_trace(FOLDER / "torch211_h100.json.gz"))
    text = text_of(report, 2)
    assert "2 of 7 are shown, and --top shows more." in text
    assert len(rows_of(text, "Host syncs")) == 1 + 2 + 2


def test_a_report_without_regions_has_a_table_without_rows() -> None:
    report = replace(analyse(read_trace(FOLDER / "torch211_h100.json.gz")), regions=())
    assert region_table(report, 2).rows == ()


def test_what_changed_is_printed_with_its_direction() -> None:
    before, after = report_of(two_steps()), two_steps()
    item(after, 400, (420, 422), 430)
    after.kernel((440, 444), (450, 460), name="void at::native::new_kernel<int>")
    report = report_of(after)
    text = text_of(replace(report, difference=difference(report, before)))
    assert ["host syncs", "2", "4", "+2 (+100%)"] in rows_of(text, "Against scene.json")
    rows = rows_of(text, "Host syncs that changed")
    assert {tuple(row[:2]) for row in rows[1:]} == {("new", "scalar read"), ("new", "explicit synchronization")}
    assert ["new", "new_kernel<int>", "0 -> 1", "0.000 -> 0.010"] in rows_of(text, "Kernels whose number changed")


def test_names_lose_what_all_have() -> None:
    name = "void at::native::(anonymous namespace)::softmax_warp_forward<float, float, 10, true>(float*, int)"
    assert short_name(name) == "softmax_warp_forward<flo.."
    assert short_name("gemm") == "gemm"
    assert short_op("aten::index > aten::nonzero") == "index"
    assert short_op("MyLayer > aten::nonzero") == "MyLayer > aten::nonzero"


def test_what_is_unknown_is_no_zero() -> None:
    report = analyse(read_trace(FOLDER / "torch213_cpu_stacks.json.gz"))
    assert headline(report)[-1] == "host syncs unknown"
    assert headline(report)[0].endswith("launches unknown")
    regions = region_table(report, 10)
    assert {row[2:5] for row in regions.rows} == {(NONE, NONE, NONE)}
    assert next_line(report) == "next: record the GPU as well; without it nothing can be told of waits"
