"""A server while a picture is made: it answers, bounds its line, drops who left, and drains."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx2
import pytest

from bagel_servers import Served, served

LONG_STEPS = 250
OPTIONS = ("--max-steps", "1000", "--max-queue", "1")


def until(holds: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def begin(pool: ThreadPoolExecutor, server: Served, steps: int = LONG_STEPS) -> Future[httpx2.Response]:
    return pool.submit(server.generate, num_inference_steps=steps)


def is_running(server: Served, num_waiting: int) -> Callable[[], bool]:
    return lambda: (server.metric("num_requests_running"), server.metric("num_requests_waiting")) == (1, num_waiting)


def test_a_full_line_refuses_and_drops_who_left_and_sigterm_finishes_what_runs_and_waits_and_exits_with_0() -> None:
    with served(*OPTIONS) as server, ThreadPoolExecutor() as pool:
        running = begin(pool, server, steps=2 * LONG_STEPS)
        until(is_running(server, 0))
        start_s = time.monotonic()
        assert httpx2.get(f"{server.url}/health").status_code == 200
        assert time.monotonic() - start_s < 1 and not running.done()
        with pytest.raises(httpx2.ReadTimeout):  # it waits behind the first, and its client leaves
            httpx2.post(
                f"{server.url}/v1/images/generations", json={"prompt": "gone", "width": 64, "height": 64}, timeout=0.2
            )
        until(is_running(server, 0))
        waiting = begin(pool, server, steps=3)
        until(is_running(server, 1))
        refused = server.generate()
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert [running.result().status_code, waiting.result().status_code] == [200, 200]
        assert waiting.result().json()["metrics"]["stage_durations"]["queue_wait_ms"] > 0
        made = server.metric('stage_gen_time_s_count{stage="1"}')
        assert made == 2  # the one whose client left was never made
        assert len([line for line in server.log() if " 499 " in line]) == 1
        answers = [begin(pool, server)]
        until(is_running(server, 0))
        answers.append(begin(pool, server, steps=3))
        until(is_running(server, 1))
        server.terminate()
        until(lambda: any("draining" in line for line in server.log()))
        refused = server.generate()
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
        assert httpx2.get(f"{server.url}/health").status_code == 503
        assert [answer.result().status_code for answer in answers] == [200, 200]
        assert server.process.wait(20) == 0


def test_sigterm_refuses_at_its_bound_those_who_still_wait() -> None:
    with served(*OPTIONS, "--drain", "0") as server, ThreadPoolExecutor() as pool:
        running = begin(pool, server)
        until(is_running(server, 0))
        waiting = begin(pool, server)
        until(is_running(server, 1))
        server.terminate()
        assert (waiting.result().status_code, running.result().status_code) == (503, 200)
        assert server.process.wait(20) == 0
