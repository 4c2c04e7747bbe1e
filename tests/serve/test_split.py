"""AR and DiT as two Ray actors: the pictures of one process, to the bit, and the hand-over in figures."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bagel_perf.launch import stat_of
from bagel_perf.measure.stages import run_stages
from bagel_perf.records.bagel import Request
from bagel_perf.records.plans import Plan
from bagel_perf.records.syncs import SyncReport
from bagel_perf.serve.pictures import read_picture
from bagel_perf.subjects.bagel.bench import count_stages
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import Loaded, bind, load, with_regions
from bagel_servers import Served, picture, served

NUM_LAYERS = 2
"""Of the tiny preset, each with keys and values."""
OF_CLOCK = 2
"""Synchronizations of the server's clock, where a stage begins and where it ends."""

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served("--split") as found:
        yield found


@pytest.fixture(scope="module")
def fused() -> Loaded:
    plan = Plan(kind="serve", variants=("fused",), device="cpu", preset="tiny")
    return load(plan, lambda text, done, total: None)


def unsplit(loaded: Loaded, fields: dict[str, Any]) -> bytes:
    """The PNG of the request in one process."""
    image = read_picture(picture(), 1 << 20, "image") if fields["task"] == "i2i" else None
    request = Request(**fields)
    inputs = request_inputs(request, loaded.model.config, None, request.seed, image=image)
    png: bytes = run_stages(edit_subject(loaded.model, inputs, bind("fused")))
    return png


def ask(server: Served, fields: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The PNG of the request in two processes, and its figures."""
    body = {("num_inference_steps" if name == "steps" else name): value for name, value in fields.items()}
    if body.pop("task") == "i2i":
        answer = server.post("images/edits", data=body, files={"image": picture()}).json()
    else:
        answer = server.post("images/generations", json=body).json()
    return base64.b64decode(answer["data"][0]["b64_json"]), answer["metrics"]


def test_pictures_of_two_processes_are_those_of_one(server: Served, fused: Loaded) -> None:
    shapes = [("i2i", 64, 64, 3), ("t2i", 32, 64, 2), ("i2i", 96, 32, 2), ("t2i", 64, 64, 4)]
    asked = [
        {"task": task, "width": width, "height": height, "steps": steps, "seed": seed, "prompt": f"picture {seed}"}
        for seed, (task, width, height, steps) in enumerate(shapes)
    ]
    with ThreadPoolExecutor() as pool:  # at once, so that AR of one runs beside DiT of another
        found = list(pool.map(lambda fields: ask(server, fields), asked))
    assert [png for png, _ in found] == [unsplit(fused, fields) for fields in asked]


def test_the_hand_over_is_told_beside_the_stages(server: Served, fused: Loaded) -> None:
    fields: dict[str, Any] = {"task": "i2i", "width": 64, "height": 64, "steps": 2, "seed": 1, "prompt": "blue"}
    before = server.metric("kv_wait_s_count")
    metrics = ask(server, fields)[1]
    durations, transfer = metrics["stage_durations"], metrics["kv_transfer"]
    assert durations.keys() == {
        "queue_wait_ms",
        "stage_0_gen_ms",
        "stage_1_gen_ms",
        "kv_wait_ms",
        "stage_1_queue_wait_ms",
    }
    assert transfer["transport"] == "object_store" and transfer["latency_ms"] == durations["kv_wait_ms"] > 0
    image = read_picture(picture(), 1 << 20, "image")
    inputs = request_inputs(Request(**fields), fused.model.config, None, 1, image=image)
    cache = edit_subject(fused.model, inputs, bind("fused")).stages[0].run(None)
    assert transfer["num_bytes"] == sum(layer.key_PKE.nbytes + layer.value_PKE.nbytes for layer in cache.layers)
    assert transfer["gb_per_s"] == pytest.approx(transfer["num_bytes"] / transfer["latency_ms"] / 1e6)
    assert server.metric("kv_wait_s_count") == before + 1


def test_a_bad_request_leaves_both_processes_as_they_were(server: Served) -> None:
    assert server.post("images/edits", data={"prompt": "a"}, files={"image": b"none"}).status_code == 400
    assert server.generate().status_code == 200


def stage_processes(server: Served) -> list[int]:
    """Numbers of the actors' processes that come from this server."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    parents = {number: int(stat[1]) for number in numbers if (stat := stat_of(number))}

    def is_of_the_server(number: int) -> bool:
        return number == server.process.pid or (number in parents and is_of_the_server(parents[number]))

    return [
        number
        for number in parents
        if is_of_the_server(number) and command_of(number).startswith((b"ray::ArActor", b"ray::DitActor"))
    ]


def command_of(number: int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_process_that_dies_costs_its_requests_and_is_started_anew(server: Served) -> None:
    first = server.generate(seed=5).json()["data"]
    processes = stage_processes(server)
    assert len(processes) == 2
    os.kill(max(processes), signal.SIGKILL)
    end_s = time.monotonic() + 60
    while (answer := server.generate(seed=5)).status_code != 200:
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "stage_unavailable"
        assert int(answer.headers["Retry-After"]) > 0 and time.monotonic() < end_s
        time.sleep(0.2)
    assert answer.json()["data"] == first
    assert set(stage_processes(server)) != set(processes)


def test_a_split_server_is_counted_in_the_process_of_each_stage(tmp_path: Path, fused: Loaded) -> None:
    fields: dict[str, Any] = {"task": "i2i", "width": 64, "height": 64, "steps": 3, "seed": 1, "prompt": "blue"}
    waits = tmp_path / "waits.json"
    with served("--split", "--variant", "pr3987", "--preset", "tiny", watched=waits) as server:
        for _ in range(2):
            ask(server, fields)
    found: Counter[tuple[str, str]] = Counter()
    for site in SyncReport.from_json(json.loads(waits.read_text())).sites:
        found[str(site.process).partition(".")[0], site.region.partition("/")[0] or site.function] += site.count
    inputs = request_inputs(
        Request(**fields), fused.model.config, None, 1, image=read_picture(picture(), 1 << 20, "image")
    )
    counts = count_stages(fused.model, lambda copy: edit_subject(copy, inputs, with_regions(bind("pr3987"))))
    alone = {each.stage: each.host_syncs or 0 for each in counts.measurements}
    copy, loading = "_mapped.<locals>.<genexpr>", "RandomSource.take_table"
    assert found == {
        ("ray::ArActor", loading): 2,
        ("ray::ArActor", "ar"): 2 * (alone["ar"] + OF_CLOCK),
        ("ray::ArActor", copy): 2 * 2 * NUM_LAYERS,
        ("ray::DitActor", loading): 2,
        ("ray::DitActor", copy): 2 * 2 * NUM_LAYERS,
        ("ray::DitActor", "DitActor.take"): 2,
        ("ray::DitActor", "dit"): 2 * (alone["dit"] + OF_CLOCK),
    }
