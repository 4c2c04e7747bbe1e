"""Servers under load: closed and open loops, what they refuse and get wrong, and how it is told."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.recorder import Recorder
from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import UsageError
from bagel_perf.records.loads import Load
from bagel_perf.records.results import Result
from bagel_perf.records.servers import Served, parse_servers
from bagel_perf.report.load_tables import load_tables, percentile
from bagel_perf.report.text import column_widths
from bagel_perf.subjects import server_load
from bagel_perf.subjects.server_client import ServerClient
from bagel_perf.subjects.server_load import Level, levels_of, loads_of
from bagel_perf.verdicts.reading import load_checked
from fake_servers import FakeServer, listening

STAGES = {"stage_0_gen_ms": 5.0}
NUM_BEFORE = 3 + 1 + 2
"""Requests of a server that is no reference before it is put under load: proofs, warm-up, two rounds."""


def quick(**fields: object) -> FakeServer:
    return FakeServer(stages_ms=STAGES, **fields)  # type: ignore[arg-type]


def loads(fake: FakeServer, level: Level, num_requests: int) -> Load:
    """One level of load of one server."""
    with listening(fake) as url:
        served = Served(
            servers=parse_servers([f"a={url}"]),
            concurrency=(level.concurrency,) if level.concurrency else (),
            rates=(level.rate_rps,) if level.rate_rps else (),
            num_requests=num_requests,
        )
        client = ServerClient(server=served.servers[0], api="chat", timeout_s=10, max_connections=level.num_threads)
        request = Request(width=64, height=64, task="t2i")
        (found,) = loads_of(levels_of(served)[0], served, request, None, {"a": client}, 5, random.Random(0))
        client.close()
    return found


def test_a_closed_loop_keeps_so_many_requests_under_way() -> None:
    fake = quick()
    found = loads(fake, Level(concurrency=4), 24)
    assert len(found.latency_ms) == 24 and (found.num_refused, found.failures) == (0, {})
    # One works, three wait: each answer takes four times the work, and is told to have waited three of them.
    assert found.queue_ms is not None
    assert sorted(found.queue_ms)[12] > 2 * STAGES["stage_0_gen_ms"] and found.num_differing is None
    assert sum(found.latency_ms) / 1e3 / found.duration_s > 2.5
    seeds = [asked["seed"] for _, asked in fake.seen]
    assert sorted(seeds) == sorted([*range(5, 9), *range(5, 29)])


def test_requests_of_an_open_loop_arrive_whether_or_not_others_were_answered() -> None:
    slow = FakeServer(stages_ms={"stage_0_gen_ms": 40.0})
    found = loads(slow, Level(rate_rps=100.0), 12)
    # Twelve arrive in about 120 ms and take 480: the last waits for all others, from its arrival.
    assert max(found.latency_ms) > 200 and found.duration_s > 0.45
    assert len(slow.seen) == 12


def test_arrivals_follow_from_their_seed_and_keep_to_their_rate() -> None:
    arrivals = server_load._arrivals(10.0, 4000, 3)
    assert arrivals is not None and arrivals == server_load._arrivals(10.0, 4000, 3)
    assert arrivals != server_load._arrivals(10.0, 4000, 4)
    gaps = [b - a for a, b in pairwise(arrivals)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.1, rel=0.1)
    # Exponential: one in e gaps is longer than the mean.
    assert sum(gap > 0.1 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)


def compared(after: FakeServer, *arguments: str, code: int) -> Result:
    with listening(quick()) as first, listening(after) as second:
        argv = ["compare", f"before={first}", f"after={second}", "--res", "64", "--pairs", "2", "--out", "out"]
        assert main([*argv, "--concurrency", "1,3", "--requests", "6", "--quiet", *arguments]) == code
    return load_checked(Path("out"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own."""
    monkeypatch.chdir(tmp_path)


def test_every_level_of_every_server_is_in_the_result_and_its_table() -> None:
    result = compared(quick(), "--rate", "50", code=0)
    assert [(load.level, load.variant) for load in result.loads] == [
        (level, variant) for level in ("1 at once", "3 at once", "50/s") for variant in ("before", "after")
    ]
    assert {load.num_differing for load in result.loads if load.variant == "after"} == {0}
    (table,) = load_tables(result)
    assert [row[:2] for row in table.rows[:2]] == [("1 at once", "before"), ("1 at once", "after")]
    assert all(row[-3:] == ("6", "0", "0") for row in table.rows) and sum(column_widths(table, 200)) < 120
    assert table.title == "Under load at 64x64" and table.title in Path("out/summary.md").read_text()


def test_a_run_that_was_killed_under_load_is_read_with_the_levels_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Recorder, error: object) -> None:
        """Leaves what a kill leaves."""

    monkeypatch.setattr(Recorder, "finish", killed)
    with listening(quick()) as first, listening(quick()) as second:
        argv = ["compare", f"before={first}", f"after={second}", "--res", "64", "--pairs", "2", "--out", "out"]
        main([*argv, "--concurrency", "1", "--requests", "3", "--quiet"])
    result = load_checked(Path("out"))
    assert result.verdict == "incomplete" and [load.variant for load in result.loads] == ["before", "after"]
    assert result.unit == "round" and result.stages == ("stage_0_gen_ms",)


def test_refusals_for_too_much_load_are_told_and_no_failure() -> None:
    result = compared(quick(broken="busy", breaks_at=NUM_BEFORE + 6), code=0)
    assert sum(load.num_refused for load in result.loads if load.variant == "after") > 0
    assert all(not load.failures for load in result.loads)
    (table,) = load_tables(result)
    assert any(row[-2] != "0" for row in table.rows)


@pytest.mark.parametrize("broken", ["status", "half a picture", "no picture"])
def test_requests_that_fail_under_load_end_in_code_6_when_all_is_measured(
    broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = compared(quick(broken=broken, breaks_at=NUM_BEFORE + 10), code=6)
    assert len(result.loads) == 4 and sum(load.num_failed for load in result.loads) > 0
    assert "requests under load failed (after, " in capsys.readouterr().err
    failed = [load for load in result.loads if load.failures]
    assert all(len(load.latency_ms) + load.num_failed == 6 for load in failed)


def test_another_picture_under_load_ends_in_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    result = compared(quick(broken="noise", breaks_at=NUM_BEFORE + 10), code=3)
    assert result.verdict == "outputs differ" and sum(load.num_differing or 0 for load in result.loads) > 0
    assert "pictures under load are others (after at 64x64, " in capsys.readouterr().err


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.99, 4.0), (0.25, 1.0), (0.26, 2.0), (0.0, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value


def test_without_answers_there_is_no_percentile() -> None:
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": None},
        {"rate_rps": 2.0},
        {"duration_s": 0.0},
        {"latency_ms": (0.0,)},
        {"queue_ms": (1.0, 2.0)},
        {"num_refused": -1},
        {"failures": {"cut off": 0}},
    ],
)
def test_a_load_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    right: dict[str, object] = {
        "case": "64x64",
        "variant": "a",
        "concurrency": 1,
        "duration_s": 1.0,
        "latency_ms": (5.0,),
    }
    Load(**right)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a level of load of a "):
        Load(**{**right, **wrong})  # type: ignore[arg-type]
