"""``compare`` of servers that listen on the loopback: exit codes, one line for each way to fail, and no torch."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bagel_perf as bp
from bagel_perf.cli import main
from bagel_perf.records.results import Result
from bagel_perf.verdicts.reading import load_checked
from fake_servers import FakeServer, listening

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]
QUICK = {"stage_0_gen_ms": 1.0, "stage_1_gen_ms": 4.0}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quick(**fields: object) -> FakeServer:
    return FakeServer(stages_ms=QUICK, **fields)  # type: ignore[arg-type]


def compared(before: FakeServer, after: FakeServer, *arguments: str, code: int = 0) -> Result:
    """The result of a comparison that ends in this code."""
    with listening(before) as first, listening(after) as second:
        argv = ["compare", f"before={first}", f"after={second}", "--res", "64", "--steps", "3", *arguments]
        assert main([*argv, "--out", "out", "--quiet"]) == code
    return load_checked(Path("out"))


def test_a_planted_delay_is_told_by_the_stage_and_at_the_client() -> None:
    # Too few rounds for verdicts, which on a clock of their own are those of tests/subjects.
    result = compared(FakeServer(), FakeServer(slower={"stage_1_gen_ms": 1.5}), "--pairs", "2", "--html")
    found = {delta.stage: delta.delta_pct for delta in result.deltas}
    assert found["stage_1_gen_ms"] == pytest.approx(50, abs=2) and found["stage_0_gen_ms"] == pytest.approx(0, abs=2)
    told = {cell.stage: cell.latency_ms for cell in result.cells if cell.variant == "after"}
    assert all(e2e > sum(parts) for e2e, *parts in zip(told.pop("e2e"), *told.values(), strict=True))
    assert Path("out/report.html").stat().st_size > 10_000
    names = {path.suffix for path in Path("out").iterdir()}
    assert names == {".json", ".md", ".html", ".png"}


def test_a_pixel_ends_in_code_3(capsys: Capture) -> None:
    compared(quick(), quick(has_pixel=True), "--pairs", "1", code=3)
    assert capsys.readouterr().err.startswith("error: outputs differ (after at 64x64 differs from before)")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("cut", "error: an answer is cut off, or no HTTP (after, http://127.0.0.1:"),
        ("slow", "error: an answer takes too long (after, http://127.0.0.1:"),
    ],
)
def test_half_an_answer_and_a_late_one_are_failed_runs(broken: str, words: str, capsys: Capture) -> None:
    result = compared(quick(), quick(broken=broken, breaks_at=4), "--pairs", "1", "--timeout", "0.5", code=6)
    told = capsys.readouterr().err
    assert told.startswith(words) and told.count("\n") == 1 and "what was measured is in out/result.json" in told
    assert result.verdict == "incomplete"


@contextmanager
def dripping() -> Iterator[str]:
    """A server that sends a byte now and then, and so is never silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                try:
                    for _ in range(100):
                        connection.sendall(b" ")
                        time.sleep(0.05)
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_bytes_that_trickle_in_do_not_stretch_the_time_an_answer_may_take(capsys: Capture) -> None:
    with dripping() as slow, listening(quick()) as good:
        begun = time.monotonic()
        assert main(["compare", f"before={slow}", f"after={good}", "--timeout", "0.3", "--out", "out"]) == 6
        assert time.monotonic() - begun < 3
    assert "an answer takes too long (before, " in capsys.readouterr().err


def test_nobody_at_the_other_end_is_told_before_anything_is_measured(capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with listening(quick()) as good:
        assert main(["compare", f"before={good}", f"after=http://127.0.0.1:{port}", "--out", "out", "--quiet"]) == 6
    assert capsys.readouterr().err.startswith(f"error: a server cannot be reached (after, http://127.0.0.1:{port})")
    assert not any(Path("out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://h:1"], "one server has nothing to be compared with (http://h:1); two"),
        (["http://h:1", "loop.py"], "something else among servers (loop.py); a server is named http://HOST:PORT"),
        (["a=http://h:1", "b=http://h:2", "--preset", "tiny"], "--preset is for what runs here, not for servers"),
        (["a=http://h:1", "b=http://h:2", "--pairs", "auto"], "--pairs auto is for processes"),
        (["a=http://h:1", "b=http://h:2", "--concurrency", "x"], "concurrency is no number (x)"),
        (["a=http://h:1", "b=http://h:2", "--concurrency", "0"], "concurrency is not possible (0); 1 to 256"),
        (["a=http://h:1", "b=http://h:2", "--rate", "nan"], "rate is not possible (nan)"),
        (["a=http://h:1", "b=http://h:2", "--timeout", "0"], "timeout is not possible (0.0)"),
        (["a=http://h:1", "b=http://h:2", "--api", "soap"], "unknown api (soap); allowed: chat, images"),
        (["a=http://h:1", "b=http://h:2", "--requests", "5"], "--requests is for a level of load"),
        (["a=http://h:1", "b=http://h:2", "--image", "no.png"], "picture does not exist (no.png)"),
        (["before.py", "after.py", "--timeout", "3"], "--timeout is for servers, named http://HOST:PORT"),
        (["--rate", "3"], "--rate is for servers"),
    ],
)
def test_what_means_nothing_to_servers_is_refused(arguments: list[str], words: str, capsys: Capture) -> None:
    assert main(["compare", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")


def test_a_picture_of_the_users_own_is_sent_as_it_is(capsys: Capture) -> None:
    with listening(quick()) as first, listening(quick()) as second:
        targets = f"before={first},after={second}"
        assert main(["compare", targets, "--res", "64", "--pairs", "1", "--out", "a", "--quiet"]) == 0
        picture = next(path for path in Path("a").iterdir() if "input" in path.name)
        Path("no.png").write_bytes(picture.read_bytes()[:50])
        again = ["compare", targets, "--res", "64", "--pairs", "1", "--quiet"]
        assert main([*again, "--image", str(picture), "--out", "b"]) == 0
        assert main([*again, "--image", "no.png", "--out", "c"]) == 2
    hashes = [load_checked(Path(name)).outputs[0].md5 for name in ("a", "b")]
    assert hashes[0] == hashes[1]
    assert capsys.readouterr().err.startswith("error: picture cannot be read (no.png)")


def test_servers_are_compared_where_torch_is_not_installed() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules.update(torch=None, nvtx=None, transformers=None, safetensors=None)
from bagel_perf.cli import main
sys.exit(main(sys.argv[1:]))
"""
    with listening(quick()) as first, listening(quick()) as second:
        argv = ["compare", first, second, "--res", "64", "--pairs", "1", "--out", "out", "--quiet", "--json", "-"]
        done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["subject"]["kind"] == "server" and result["environment"]["torch"] is None


def test_a_script_compares_servers_as_well() -> None:
    with listening(quick()) as first, listening(quick(has_pixel=True)) as second:
        found = bp.compare(f"a={first}", f"b={second}", cases=["64"], pairs=1, out="out", quiet=True)
    assert (found.exit_code, found.verdict) == (3, "outputs differ")
    assert set(found.cells.variant) == {"a", "b"} and set(found.samples.case) == {"64x64"}


def test_no_http_client_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("bagel_perf.commands.serving.CLIENT", "no_such_client")
    assert main(["compare", "http://h:1", "http://h:2", "--out", "out"]) == 5
    told = "error: no_such_client is not installed; pip install 'bagel-perf[servers]'\n"
    assert capsys.readouterr().err == told
