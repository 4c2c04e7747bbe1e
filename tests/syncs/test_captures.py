"""Work is recorded once and replayed, on a GPU and elsewhere; what waits or reaches for the host is refused by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from bagel_perf.simulated import SimulatedCuda
from bagel_perf.syncs.captures import CaptureRefused, Recorder, is_refusal

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=GPU)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "cuda":
        yield torch.device("cuda", 0)
        return
    with SimulatedCuda() as simulated:
        yield simulated.device


WAITS: list[Callable[[Tensor], object]] = [
    lambda x: x.sum().item(),
    lambda x: bool(x.any()),
    lambda x: x[x > 0],
    lambda x: x.nonzero(),
    lambda x: x.unique(),
    lambda x: x.cpu(),
    lambda x: x.new_zeros(int(x.max())),
    lambda x: torch.tensor([1.0], device=x.device),
    lambda x: x.add_(torch.ones(3).to(x.device)),
    lambda x: x.copy_(torch.ones(3)),
    lambda x: x.copy_(torch.ones(3), non_blocking=True),
    lambda x: x.copy_(torch.ones(3).pin_memory(), non_blocking=True),
    lambda x: x.add_(torch.ones(3).pin_memory().to(x.device, non_blocking=True)),
    lambda x: x.to("cpu", non_blocking=True),
    lambda x: torch.empty(3, pin_memory=True).copy_(x, non_blocking=True),
    lambda x: torch._foreach_copy_([x], [torch.ones(3)]),
]


def test_replays_read_and_write_where_the_recording_did(device: torch.device) -> None:
    x, y = torch.zeros(3, device=device), torch.zeros(3, device=device)

    def work() -> None:
        y.copy_(x * 2 + y)

    work()
    recording = Recorder(device).record(work)
    assert y.tolist() == [0.0] * 3  # recording runs nothing
    for value, expected in ((1.0, 2.0), (5.0, 12.0)):
        x.fill_(value)
        recording.replay()
        assert y.tolist() == [expected] * 3


def test_recordings_of_a_recorder_do_not_disturb_each_other(device: torch.device) -> None:
    recorder, x = Recorder(device), torch.ones(1000, device=device)
    outs = [torch.zeros(1000, device=device) for _ in range(3)]

    def work_for(number: int) -> Callable[[], None]:
        def work() -> None:
            outs[number].copy_((x * number).exp().log() + number)

        return work

    for number in range(3):
        work_for(number)()
    recordings = [recorder.record(work_for(number)) for number in range(3)]
    for _ in range(2):
        for number in (2, 0, 1):
            recordings[number].replay()
    for number, out in enumerate(outs):
        assert torch.allclose(out, torch.full_like(out, 2.0 * number))


@pytest.mark.parametrize("wait", WAITS, ids=range(len(WAITS)))
def test_what_waits_or_uses_host_memory_is_refused_with_its_line(
    device: torch.device, wait: Callable[[Tensor], object]
) -> None:
    x = torch.ones(3, device=device)
    recorder = Recorder(device)
    line = wait.__code__.co_firstlineno
    with pytest.raises(CaptureRefused, match=rf"recorded work may not .*tests/syncs/test_captures\.py:{line};"):
        recorder.record(lambda: wait(x)).replay()
    # What follows is as if nothing had been recorded.
    y = x * 2
    recorder.record(lambda: x.copy_(y)).replay()
    assert x.tolist() == [2.0] * 3


def test_want_of_memory_is_no_refusal() -> None:
    """Whoever catches a refusal would look for a wait that is not there."""
    assert is_refusal(RuntimeError("operation not permitted when stream is capturing"))
    assert not is_refusal(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_refusal(CaptureRefused("recorded work may not wait"))
    assert not is_refusal(KeyError("not CUDA's"))


def test_on_a_cpu_the_work_runs_again() -> None:
    x = torch.zeros(2)
    recording = Recorder(torch.device("cpu")).record(lambda: x.add_(1))
    recording.replay()
    recording.replay()
    assert (x.tolist(), recording.is_graph, recording.capture_ms) == ([2.0, 2.0], False, 0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_records_a_graph_and_says_how_long_it_took() -> None:
    x = torch.zeros(2, device="cuda")
    recording = Recorder(torch.device("cuda", 0)).record(lambda: x.add_(1))
    assert recording.is_graph and recording.capture_ms > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorder_whose_recordings_are_gone_records_again() -> None:
    recorder, x = Recorder(torch.device("cuda", 0)), torch.zeros(2, device="cuda")
    for number in range(1, 4):
        recorder.record(lambda: x.add_(torch.ones(2, device="cuda"))).replay()
        assert x.tolist() == [float(number)] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_capture_stays_open_after_any_error() -> None:
    x = torch.zeros(4, device="cuda")

    def fails() -> None:
        x.add_(1)
        raise KeyError("not CUDA's")

    recorder = Recorder(x.device)
    with pytest.raises(KeyError):
        recorder.record(fails)
    recording = recorder.record(lambda: x.add_(1))
    recording.replay()
    assert x.tolist() == [1.0] * 4
