"""Two servers side by side: stages in one unit, verdicts, identity, and what a server does wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from bagel_perf.cli import main
from bagel_perf.commands.measuring import measured
from bagel_perf.recorder import Recorder, make_image_dir
from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import BagelPerfError, UsageError
from bagel_perf.records.outlines import TOGETHER
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import Result
from bagel_perf.records.runs import RepeatedRun, TimedRun, WarmupRun, runs_of
from bagel_perf.records.servers import Api, Served, duration_ms, durations_ms, is_server, parse_servers
from bagel_perf.report.html.page import build_page, page_html
from bagel_perf.report.html.source import source_of
from bagel_perf.report.summary import summary_markdown, verdict_lines
from bagel_perf.subjects.server_client import ServerClient, is_loopback
from bagel_perf.subjects.servers import run_servers
from bagel_perf.verdicts.reading import load_checked
from fake_servers import STAGES_MS, FakeServer, PlantedClock, connecting

SLOW_STAGE = "stage_1_gen_ms"
Compared = tuple[Result, BagelPerfError | None]


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Compared]:
    """Compares servers of this process under a clock that only they move; gives the result as it is read again."""
    monkeypatch.chdir(tmp_path)

    def compare(
        *fakes: FakeServer, sizes: tuple[int, ...] = (64,), task: Any = "i2i", api: Api = "chat", **more: Any
    ) -> Compared:
        labels = ("before", "after", "third")[: len(fakes)]
        urls = [f"{label}=http://{label}:80" for label in labels]
        requests = tuple(Request(width=size, height=size, steps=3, task=task) for size in sizes)
        served = Served(servers=parse_servers(urls), api=api)
        plan = Plan(kind="compare", requests=requests, variants=labels, served=served, order_seed=1, **more)
        out = Path("out")
        plan = replace(plan, image_dir=make_image_dir(out))
        recorder = Recorder(plan=plan, command="bagel-perf compare", out=out)
        connect = connecting(dict(zip(labels, fakes, strict=True)), PlantedClock())

        def how(plan: Plan, recorder: Recorder, view: Callable[[Any], None]) -> None:
            run_servers(plan, recorder.on_event, connect)

        error = measured(plan, recorder, quiet=True, how=how)
        assert recorder.result is not None, error
        assert load_checked(out).cells == recorder.result.cells
        return load_checked(out), error

    return compare


def verdicts(result: Result) -> dict[str, str]:
    return {delta.stage: delta.verdict for delta in result.deltas}


def test_equal_servers_show_no_difference(compared: Callable[..., Compared]) -> None:
    result, error = compared(FakeServer(), FakeServer())
    assert error is None and (result.verdict, result.exit_code) == ("pass", 0)
    assert verdicts(result) == dict.fromkeys((*STAGES_MS, "e2e"), "no difference shown")
    assert result.unit == "round" and result.processes == 1 and result.stage_sums == ()
    assert {each.num_processes for each in result.deltas} == {12}
    assert [each.stage for each in result.noise] == [*STAGES_MS, "e2e"]
    assert all(check.identical and check.num_runs == 16 for check in result.identity)


def test_a_planted_delay_of_a_fifth_is_seen_in_its_stage_and_the_whole_alone(compared: Callable[..., Compared]) -> None:
    result, error = compared(FakeServer(), FakeServer(slower={SLOW_STAGE: 1.2}))
    assert error is None and result.exit_code == 0
    found = verdicts(result)
    assert found.pop(SLOW_STAGE) == found.pop("e2e") == "regressed"
    assert set(found.values()) == {"no difference shown"}
    (slow,) = (each for each in result.deltas if each.stage == SLOW_STAGE)
    assert slow.delta_pct == pytest.approx(20, abs=1)


@pytest.mark.parametrize(("limit", "code"), [("e2e:10%", 1), ("e2e:30%", 0)])
def test_a_limit_is_held_round_by_round(
    limit: str, code: int, compared: Callable[..., Compared], capsys: pytest.CaptureFixture[str]
) -> None:
    compared(FakeServer(), FakeServer(slower={SLOW_STAGE: 1.2}))
    assert main(["gate", "result", "out", "--limit", limit]) == code
    out = capsys.readouterr().out
    assert "rounds stand for processes: each server is one" in out
    assert ("regressed: after at 64x64: e2e +" in out) == bool(code)


def test_stages_are_ms_whatever_unit_they_are_told_in(compared: Callable[..., Compared]) -> None:
    result, _ = compared(FakeServer(jitter=0.0), FakeServer(jitter=0.0))
    medians = {cell.stage: cell.median_ms for cell in result.cells if cell.variant == "after"}
    assert medians == pytest.approx({**STAGES_MS, "e2e": sum(STAGES_MS.values())})


def test_a_pixel_ends_in_code_3_and_no_latency_of_its_server(compared: Callable[..., Compared]) -> None:
    result, _ = compared(FakeServer(), FakeServer(has_pixel=True))
    assert (result.verdict, result.exit_code) == ("outputs differ", 3)
    assert result.findings == ("after at 64x64 differs from before",)
    assert [check.num_differing for check in result.identity] == [1]
    assert not result.deltas and all(not cell.latency_ms for cell in result.cells if cell.variant == "after")


def test_what_a_server_does_not_tell_is_unknown_and_never_0(compared: Callable[..., Compared]) -> None:
    result, error = compared(FakeServer(stages_ms={"odd": 5.0}, peak_mb=0.0), FakeServer(stages_ms={"odd": 5.0}))
    assert error is None and result.stages == TOGETHER and result.timed_stages == ("e2e",)
    assert {(cell.host_syncs, cell.launches, cell.sync_device) for cell in result.cells} == {(None, None, None)}
    assert [cell.peak_bytes for cell in result.cells] == [None, 1024 * 2**20]
    environment = result.environment
    assert environment.device_kind == "server" and environment.torch is environment.commit is None
    assert "before tells odd, whose unit is not known: not compared" in result.warnings
    assert "the servers tell no stage in common: e2e at the client alone is compared" in result.warnings


def test_one_stage_in_common_is_told_beside_the_whole(compared: Callable[..., Compared]) -> None:
    one = FakeServer(stages_ms={"stage_0_gen_ms": 5.0, "stage_1_queue_wait_ms": 1.0})
    result, _ = compared(one, FakeServer(stages_ms={"stage_0_gen_ms": 5.0, "ar_stage_0": 2.0}))
    assert result.timed_stages == ("stage_0_gen_ms", "e2e")
    assert "after tells ar_stage_0, which is 0 or not told by all: not compared" in result.warnings


def test_each_round_asks_all_with_one_seed_in_an_order_of_its_own(compared: Callable[..., Compared]) -> None:
    first, second = FakeServer(), FakeServer()
    result, _ = compared(first, second, sizes=(64, 32), pairs=6)
    assert result.cases == ("64x64", "32x32") and len(result.runs) == 2 * (2 * (3 + 1 + 6) + 6)
    for case in result.cases:
        rounds = [run for run in runs_of(TimedRun, result.runs) if run.case == case]
        assert all(len({run.seed for run in rounds if run.round == number}) == 1 for number in range(6))
        assert sum(run.is_control for run in rounds) == 6
    seeds = [asked["seed"] for _, asked in first.seen]
    assert len(seeds) == 2 * (3 + 1 + 12) and {asked["num_inference_steps"] for _, asked in first.seen} == {3}
    assert len([*runs_of(WarmupRun, result.runs)]) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("task", "api", "path"),
    [
        ("i2i", "chat", "/v1/chat/completions"),
        ("t2i", "chat", "/v1/chat/completions"),
        ("i2i", "images", "/v1/images/edits"),
        ("t2i", "images", "/v1/images/generations"),
    ],
)
def test_each_task_goes_to_its_endpoint(task: str, api: Api, path: str, compared: Callable[..., Compared]) -> None:
    fake = FakeServer()
    result, error = compared(fake, FakeServer(), task=task, api=api, pairs=6)
    assert error is None and result.exit_code == 0
    assert {path for path, _ in fake.seen} == {path}
    (asked,) = {str({**asked, "seed": 0}): asked for _, asked in fake.seen}.values()
    assert len(result.inputs) == (task == "i2i")
    if api == "chat":
        kinds = [part["type"] for part in asked["messages"][0]["content"]]
        assert kinds == ["text", "image_url"][: 1 + (task == "i2i")]
        assert asked["modalities"] == ["image"] and (asked["width"], asked["height"]) == (64, 64)
        assert asked["model"] == "BAGEL-fake"
    else:
        assert asked["size"] == "64x64" and asked["prompt"] == "Change the color to blue"
        assert ("image" in asked) == (task == "i2i")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("status", "a server answers with status 500 (after, http://after:80); CUDA out of memory"),
        ("redirect", "a server answers with status 307 (after, http://after:80); redirects are not followed"),
        ("no json", "an answer is no JSON, or cut off (after"),
        ("no picture", "an answer has no picture (after"),
        ("half a picture", "after: a picture is no picture, or cut off ("),
        ("no base64", "a picture of an answer is no base64 (after"),
        ("other size", "a picture is 65x64 (after, http://after:80); 64x64 was asked for"),
        ("no stages", "a server tells no time of stage_0_gen_ms any more (after"),
        ("packed", "a server answers in a packed form that was not asked for (after"),
    ],
)
def test_a_wrong_answer_is_a_failed_run_with_its_reason(
    broken: str, words: str, compared: Callable[..., Compared]
) -> None:
    result, error = compared(FakeServer(), FakeServer(broken=broken, breaks_at=6))
    assert error is not None and str(error).startswith(words) and "\n" not in str(error)
    assert (result.verdict, result.exit_code, result.complete) == ("incomplete", 6, False)
    assert [*runs_of(TimedRun, result.runs)]


def test_an_answer_without_end_is_cut_off(compared: Callable[..., Compared], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bagel_perf.subjects.server_client.MAX_ANSWER_BYTES", 1000)
    clock = PlantedClock()
    client = connecting({"before": FakeServer(broken="large")}, clock)(
        server=parse_servers(["before=http://before"])[0], api="chat", timeout_s=5
    )
    with pytest.raises(BagelPerfError, match=r"an answer is too large \(before, http://before\)"):
        client.ask(Request(width=64, height=64), 1, None)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("noise", "a server's picture differs from itself on a second request (after at 64x64); nothing was timed"),
        ("flat", "a server gives a flat picture (spread 0 grey levels) (after at 64x64)"),
    ],
)
def test_a_server_that_disproves_itself_is_not_timed(
    broken: str, words: str, compared: Callable[..., Compared]
) -> None:
    result, error = compared(FakeServer(), FakeServer(broken=broken))
    assert str(error).startswith(words) and result.exit_code == 3
    assert not [*runs_of(TimedRun, result.runs)]


def test_files_that_differ_and_show_the_same_pixels_are_the_same_picture(compared: Callable[..., Compared]) -> None:
    result, error = compared(FakeServer(), FakeServer(compress_level=9))
    assert error is None and result.exit_code == 0
    files = {run.variant: run.output.file_md5 for run in runs_of(RepeatedRun, result.runs)}
    pixels = {run.output.md5 for run in runs_of(RepeatedRun, result.runs)}
    assert len(set(files.values())) == 2 and len(pixels) == 1


def test_tables_page_and_summary_say_what_is_known(compared: Callable[..., Compared]) -> None:
    result, _ = compared(FakeServer(), FakeServer(model="other"), FakeServer())
    assert "after has model other, where before has BAGEL-fake" in result.warnings
    assert result.subject.details["after: model"] == "other" and result.subject.details["before: health"] == 200
    text = summary_markdown(result)
    assert "Latency of servers, e2e at the client, BAGEL-fake, other: before -> third" in text.replace("\\", "")
    assert "Medians are of 12 rounds" in text and "processes;" not in text and "Host syncs" not in text
    assert "- host syncs are unknown: nobody watched the servers' processes" in verdict_lines(result)
    html = page_html(build_page((source_of(result, Path("out")),)))
    assert "each server is one" in html and "torch None" not in html
    assert "bagel-perf syncs" not in html and "Floors" not in html


@pytest.mark.parametrize(
    ("name", "value", "ms"),
    [
        ("stage_0_gen_ms", 12.5, 12.5),
        ("preprocess_ms", 3, 3.0),
        ("BagelPipeline.forward", 1.5, 1500.0),
        ("BagelPipeline.vae.encode", 0.25, 250.0),
        (".vae.decode", 0.25, 250.0),
        ("ar_stage_0", 0.5, 500.0),
        ("load_us", 1500, 1.5),
        ("denoise_s", 2, 2000.0),
        ("stage_0", 2, None),
        ("denoise", 2, None),
        ("stage_0_gen_ms", "12", None),
        ("stage_0_gen_ms", True, None),
        ("stage_0_gen_ms", -1, None),
        ("stage_0_gen_ms", float("nan"), None),
    ],
)
def test_a_duration_has_the_unit_of_its_name(name: str, value: object, ms: float | None) -> None:
    assert duration_ms(name, value) == ms
    assert durations_ms({name: value}) == ({} if ms is None else {name: ms})


def test_a_server_is_named_by_its_root() -> None:
    servers = parse_servers(["http://localhost:8000", "new=https://[::1]/v1", "a b=HTTP://h/"])
    assert [(each.label, each.url) for each in servers] == [
        ("localhost-8000", "http://localhost:8000"),
        ("new", "https://[::1]"),
        ("a b", "http://h"),
    ]
    assert not is_server("loop.py") and not is_server("a/b=http://h") and is_server("before=http://h:1")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["http://h:1", "http://h:1"],
            r"two servers have one name \(h-1\); give each a label of its own: before=http://h:1",
        ),
        (["http://h:99999"], r"server is not understood \(http://h:99999\)"),
        (["http://:80"], "server is not understood"),
        (["http://h/v2"], r"server is named by its root \(http://h/v2\); .* did you mean http://h"),
        (["http://h?a=1"], "server is named by its root"),
        (["http://u:secret@h"], r"server has a password in its name; (?!.*secret)"),
        (["-x=http://h"], "label may not begin with a dash"),
    ],
)
def test_a_server_that_is_named_wrongly_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_servers(texts)


def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert [is_loopback(host) for host in ("localhost", "127.0.0.9", "::1", "10.0.0.1", "host")] == [True] * 3 + [
        False
    ] * 2
    clients = [
        ServerClient(server=parse_servers([url])[0], api="chat", timeout_s=1.0)
        for url in ("http://127.0.0.1:1", "http://h:1")
    ]
    proxied = [
        bool([each for each in client._http._mounts.values() if isinstance(each, httpx2.HTTPTransport)])
        for client in clients
    ]
    for client in clients:
        client.close()
    assert proxied == [False, True]
