"""The first screen says in one sentence what a result shows, whatever that is, and never more than it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import other_subjects
from bagel_perf.records.bagel import COMPONENTS
from bagel_perf.records.errors import RunFailed
from bagel_perf.records.outlines import Tolerance
from bagel_perf.records.results import Noise, Result
from bagel_perf.records.runs import DeviceWork
from bagel_perf.report.html.answer import answer_section
from bagel_perf.report.html.colours import variant_name
from bagel_perf.report.html.content import Badges, Bars, Bullets, Card, Cards, Culprit, Fold
from bagel_perf.report.html.page import build_page, page_html
from bagel_perf.report.html.source import source_of
from bagel_perf.report.html.words import change_pct, times_text, unbroken
from bagel_perf.verdicts.reading import load_checked
from gated_results import make_result, with_picture
from scripted import CPU

REPORTS = Path(__file__).resolve().parents[3] / "reports"
GAIN = make_result({"pr3987": {"e2e": -5.0}, "sync_free": {"e2e": -20.0}})
OF_A_FILE = other_subjects.make_result()
H200 = load_checked(REPORTS / "2026-12-01_h200_fc53e68" / "result.json")
SAME = "Every picture is the same to the bit."


def headline(result: Result) -> str:
    return answer_section(result).heading


def of_kind(result: Result, kind: type) -> list[Any]:
    return [block for block in answer_section(result).blocks if isinstance(block, kind)]


def badges(result: Result) -> dict[str, str]:
    (found,) = of_kind(result, Badges)
    return {badge.text: badge.tone for badge in found.badges}


def cards(result: Result) -> list[Card]:
    return [card for block in of_kind(result, Cards) for card in block.cards]


def wrong_picture(run: Any) -> Any:
    return with_picture(run, "sync_free")


def server(result: Result) -> Result:
    """The same as of servers, whose waits nobody counts."""
    cells = tuple(replace(cell, host_syncs=None, sync_device=None, syncs_by_component=None) for cell in result.cells)
    subject = replace(result.subject, kind="server", title="servers", details={})
    environment = replace(result.environment, device_kind="server", device_name="2 servers", torch=None)
    return replace(result, cells=cells, subject=subject, environment=environment, unit="round")


def test_a_gain_is_told_with_both_times_and_the_percent_that_they_give() -> None:
    assert headline(GAIN) == f"sync_free makes a 256 \u00d7 256 picture in 1.41 s instead of 1.76 s. {SAME}"
    assert cards(GAIN)[0].value == "\u221220.0%"
    assert cards(GAIN)[0].note == "paired change \u221220.0% (\u221220.2% to \u221219.8%)"
    assert badges(GAIN)["identical in 26 of 26 runs"] == "good"
    assert badges(GAIN)["host syncs were counted on a simulated device"] == "doubt"


def test_the_committed_result_has_its_figures() -> None:
    assert headline(H200) == f"fused makes a 256 \u00d7 256 picture in 0.477 s instead of 2.242 s. {SAME}"
    assert [(card.value, card.label) for card in cards(H200)] == [
        ("\u221278.7%", "end to end, delta of medians"),
        ("\u221226.0%", "by not waiting alone"),
        ("18,123 \u2192 1", "host syncs a picture"),
    ]
    assert cards(H200)[1].note == "sync_free, a change that was not shown; the rest came with graphs and fewer kernels"
    assert cards(H200)[2].note == "the last one is a device-to-host copy at kernels_baseline/picture.py:21"
    assert "noise \u00b115.5%" in badges(H200) and "weights are random: speed and identity only" in badges(H200)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            make_result({"pr3987": {"e2e": 8.0}}),
            f"pr3987 is slower than baseline: a 256 \u00d7 256 picture takes 1.90 s instead of 1.76 s. {SAME}",
        ),
        (
            make_result({"pr3987": {}}),
            "No difference in speed was shown between baseline and pr3987: a 256 \u00d7 256 picture takes 1.76 s and "
            f"1.76 s. {SAME}",
        ),
        (
            make_result({"pr3987": {"e2e": -5.0}}, num_pairs=3),
            "pr3987 took 1.57 s instead of 1.65 s for a 256 \u00d7 256 picture, in 3 processes, too few to be sure. "
            + SAME,
        ),
        (
            make_result({"sync_free": {"e2e": -20.0}}, environment=CPU),
            f"sync_free makes a 256 \u00d7 256 picture in 1.41 s instead of 1.76 s on a CPU. {SAME}",
        ),
        (
            make_result({"sync_free": {}}, num_pairs=1, error=RunFailed("out of memory")),
            "The run ended early, so this is a part of what was to be measured. sync_free took 1.10 s instead of 1.10 "
            f"s for a 256 \u00d7 256 picture, in 1 process, too few to be sure. {SAME}",
        ),
        (
            replace(GAIN, verdict="invalid", findings=("clocks fell",)),
            "The latencies cannot be trusted: the findings say why. sync_free took 1.41 s instead of 1.76 s for a "
            f"256 \u00d7 256 picture. {SAME}",
        ),
        (server(GAIN), f"sync_free answers with a 256 \u00d7 256 picture in 1.41 s instead of 1.76 s. {SAME}"),
        (OF_A_FILE, "folded runs case large in 0.800 s instead of 1.000 s. Its outputs are the same to the bit."),
        (
            other_subjects.make_result(num_pairs=0),
            "folded waits 8 times for the GPU for case large, as often as plain. Nothing was timed. Its outputs are "
            "the same to the bit.",
        ),
    ],
    ids=["slower", "not shown", "few", "CPU", "early", "invalid", "servers", "file", "counts"],
)
def test_each_kind_of_result_has_its_sentence(result: Result, expected: str) -> None:
    assert headline(result) == expected
    page_html(build_page((source_of(result, Path()),)))


def test_another_picture_comes_first_and_nothing_is_called_identical() -> None:
    result = make_result({"pr3987": {"e2e": -5.0}, "sync_free": {"e2e": -50.0}}, edit=wrong_picture)
    assert headline(result) == (
        "sync_free gives other pictures than baseline at 256 \u00d7 256, and no speed makes up for that. "
        "pr3987 makes a 256 \u00d7 256 picture in 1.67 s instead of 1.76 s."
    )
    assert badges(result)["sync_free: another picture at 256 \u00d7 256"] == "bad"
    assert "good" not in badges(result).values()
    (found,) = of_kind(result, Bullets)
    assert found.items == ("sync_free at 256x256 differs from baseline.",)
    (drawn,) = of_kind(result, Bars)
    assert [bar.value for bar in drawn.bars] == ["1.76 s", "1.67 s", "another picture"]


def test_a_file_that_contradicts_itself_says_that_before_anything_else() -> None:
    result = make_result({"sync_free": {"e2e": -50.0}}, edit=wrong_picture)
    odd = replace(result, verdict="pass", findings=(), exit_code=0)
    assert headline(odd) == "This file contradicts itself, so none of its figures can be trusted."
    assert cards(odd) == []


def test_a_regression_beside_a_gain_is_a_badge() -> None:
    result = make_result({"pr3987": {"e2e": -5.0}, "sync_free": {"e2e": 8.0}})
    assert headline(result).startswith("pr3987 makes")
    assert badges(result)["sync_free at 256 \u00d7 256 is slower: +8.0%"] == "bad"


def test_a_stage_that_the_whole_hides_is_a_badge() -> None:
    result = make_result({"pr3987": {"ar": 9.0, "dit": -5.0}})
    assert badges(result)["AR of pr3987 at 256 \u00d7 256 is slower: +9.0%"] == "bad"


def test_noise_above_the_change_is_in_doubt() -> None:
    floor = Noise(case="256x256", stage="e2e", delta_pct=0.0, ci_pct=(-9.0, 9.0), floor_pct=29.0, num_pairs=10)
    assert badges(replace(GAIN, noise=(floor,)))["noise \u00b129.0%, more than the change"] == "doubt"
    assert badges(replace(GAIN, noise=(replace(floor, floor_pct=2.0),)))["noise \u00b12.0%"] == "plain"


def test_a_tolerance_is_never_called_identical() -> None:
    assert badges(OF_A_FILE)["half: relative L2 0.00023 at worst, 0.001 asked for"] == "plain"
    assert badges(OF_A_FILE)["identical in 18 of 18 runs of bitwise variants"] == "good"
    variants = (OF_A_FILE.variants[0], OF_A_FILE.variants[2])
    alone = replace(
        OF_A_FILE,
        variants=variants,
        num_named=2,
        identity=tuple(each for each in OF_A_FILE.identity if each.candidate == "half"),
    )
    assert headline(alone) == (
        "half runs case large in 0.500 s instead of 1.000 s. Its outputs differ, and stay within the tolerance that it "
        "declares."
    )
    assert "good" not in badges(alone).values()
    psnr = Tolerance(kind="psnr", limit=40.0)
    checks = tuple(replace(each, tolerance=psnr, distance=50.83) for each in alone.identity)
    assert "half: PSNR 50.8 dB at worst, 40 dB asked for" in badges(replace(alone, identity=checks))


def with_work(result: Result, launches: dict[str, int], graphs: dict[str, int]) -> Result:
    """With these launches of each variant."""

    def work(name: str) -> DeviceWork:
        number = launches[name]
        return DeviceWork(launches=number, graph_launches=graphs.get(name, 0), kernels=number, copies={}, busy_ms=9.0)

    return replace(result, cells=tuple(replace(cell, work=work(cell.variant)) for cell in result.cells))


def test_what_not_waiting_gives_is_shown_where_counts_tell_it_apart_and_nowhere_else() -> None:
    result = make_result({"sync_free": {"e2e": -20.0}, "captured": {"e2e": -40.0}})
    launches = {"baseline": 30_000, "sync_free": 22_000, "captured": 500}

    def labels(each: Result) -> list[str]:
        return [card.label for card in cards(each)]

    assert "by not waiting alone" in labels(with_work(result, launches, {"captured": 3}))
    assert "by not waiting alone" not in labels(result), "nobody counted launches"
    few = make_result({"sync_free": {"e2e": -20.0}, "captured": {"e2e": -40.0}}, num_pairs=3)
    assert cards(with_work(few, launches, {"captured": 3}))[1].note == (
        "sync_free, without an interval; the rest came with graphs and fewer kernels"
    )
    fewer = {**launches, "sync_free": 4_000}
    assert "by not waiting alone" not in labels(with_work(result, fewer, {})), "something else was fused"
    assert "by not waiting alone" not in labels(with_work(result, launches, {"sync_free": 2, "captured": 3}))


def test_a_variant_that_only_waits_less_and_is_slower_is_called_slower() -> None:
    result = make_result({"sync_free": {"e2e": 8.0}, "captured": {"e2e": -40.0}})
    launches = {"baseline": 30_000, "sync_free": 22_000, "captured": 500}
    card = cards(with_work(result, launches, {"captured": 3}))[1]
    assert (card.label, card.value) == ("by not waiting alone", "+8.1%")
    assert card.note == "sync_free, which is slower; the rest came with graphs and fewer kernels"


def test_of_many_variants_the_first_the_best_and_the_last_are_drawn_and_the_rest_is_folded() -> None:
    names = [f"baseline+{each}" for each in COMPONENTS[4:11]]
    result = make_result({**{name: {"e2e": -5.0} for name in names}, "fused": {"e2e": -60.0}})
    (drawn,) = of_kind(result, Bars)
    assert [bar.name for bar in drawn.bars] == ["baseline", "fused"]
    (fold,) = of_kind(result, Fold)
    assert fold.summary == "7 more variants at 256 \u00d7 256" and len(fold.blocks[0].bars) == 7


def test_of_many_cases_those_that_fit_are_drawn_and_the_rest_is_folded() -> None:
    result = make_result({"pr3987": {"e2e": -5.0}}, sizes=[(128 * each, 128 * each) for each in range(1, 9)])
    assert [bars.title for bars in of_kind(result, Bars)] == [
        f"{size} \u00d7 {size}: latency" for size in (1024, 896, 768)
    ]
    assert [fold.summary for fold in of_kind(result, Fold)] == ["5 more cases"]


def test_bars_have_the_variants_colour_their_stages_and_the_paired_interval() -> None:
    (drawn,) = of_kind(GAIN, Bars)
    assert [{part.colour for part in bar.parts} for bar in drawn.bars] == [{variant_name(index)} for index in range(3)]
    assert [sum(part.share for part in bar.parts) for bar in drawn.bars] == pytest.approx([1.0, 0.9505, 0.8], abs=1e-3)
    assert [bar.whisker is None for bar in drawn.bars] == [True, False, False]
    assert [bar.change for bar in drawn.bars] == ["", "\u22124.9%", "\u221220.0%"]
    assert [bar.end for bar in drawn.bars] == ["7,006 syncs", "4,900 syncs", "1 sync"]


def test_servers_have_no_counts() -> None:
    assert [card.label for card in cards(server(GAIN))] == ["end to end, delta of medians"]
    assert "each server is one process, whose luck is in the change" in badges(server(GAIN))


def test_there_is_one_culprit_and_it_stands_last() -> None:
    blocks = answer_section(H200).blocks
    assert [isinstance(block, Culprit) for block in blocks].count(True) == 1 and isinstance(blocks[-1], Culprit)


def test_times_can_be_divided_as_they_stand() -> None:
    for before, after in ((1763.99, 578.2), (9170.0, 5760.0), (3.32, 2.66), (0.31, 0.029)):
        texts = times_text((before, after))
        shown = [float(text.split()[0].replace(",", "")) for text in texts]
        assert texts[0].split()[1] == texts[1].split()[1]
        assert change_pct(*shown) == pytest.approx(change_pct(before, after), abs=0.6)


def test_the_sentence_is_the_heading_of_the_page_with_the_variant_in_its_colour() -> None:
    text = page_html(build_page((source_of(GAIN, Path()),)))
    assert re.search(r'<h1 id="answer-title"><span style="color: var\(--v2\)">sync_free</span> makes a 256', text)
    assert text.count("<h1") == 1


def test_a_figure_and_its_unit_stay_on_one_line() -> None:
    text = "fused makes a 256 \u00d7 256 picture in 0.477 s instead of 2.242 s: 3 stages at 4 sizes"
    assert unbroken(text).replace("\u00a0", "_") == (
        "fused makes a 256_\u00d7_256 picture in 0.477_s instead of 2.242_s: 3 stages at 4 sizes"
    )
