"""Random programs, counted on the simulated device and named by the classifier of a GPU: both go by the same rules.

A program is a few statements over device and host tensors, whose waits each of the two tells: the device from the
operators inside a call, the classifier from the call. The kinds have to be the same, one by one, and the counts the
same under autograd, without it and in inference mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bagel_perf.records.sites import Kind
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.simulated.tensor import is_simulated
from bagel_perf.syncs import calls
from bagel_perf.syncs.calls import _CallLog, kind_of_wait

Pairs = list[tuple[Kind, Kind]]
MODES: tuple[Callable[[], AbstractContextManager[object]], ...] = (
    contextlib.nullcontext,
    torch.no_grad,
    torch.inference_mode,
)
NUMBERS = st.sampled_from(["1", "2", "s", "s - 1", "(s + 1)", "i"])
BOUNDS = st.sampled_from(["", "1", "s", "i"])
PARTS = st.one_of(
    st.sampled_from(["0", "i", "s", "...", "None", "ids", "hi", "[0, 2]", "h3", "range(2)"]),
    st.builds("{}:{}".format, BOUNDS, BOUNDS),
)
INDICES = st.one_of(
    PARTS, st.builds("{}, {}".format, PARTS, PARTS), st.sampled_from(["m", "m, 0", "m, :2", "hm", "m, m4"])
)
VALUES = st.sampled_from(["0.0", "f", "torch.tensor(1.0)", "h[0]"])
TEMPLATES = [
    "x.sum({n} - 1)",
    "x.narrow(0, {n} - 1, 2)",
    "x.roll({n})",
    "x.repeat({n}, 1)",
    "x.tril({n})",
    "F.pad(x, (0, {n}))",
    "x.split({n})",
    "x.new_zeros(({n}, 2))",
    "torch.zeros({n}, 3, device='cuda')",
    "torch.arange({n}, device='cuda')",
    "torch.full((2,), {n}, device='cuda')",
    "x.topk({n})",
    "x.cumsum({n} - 1)",
    "torch.cat([x, x], {n} - 1)",
    "torch.add(x, x, alpha={n})",
    "x.clamp(min={n})",
    "x.clamp({n}, 9.0)",
    "torch.linspace(0.0, {n}, 4, device='cuda')",
    "F.interpolate(x[None, None], size=({n}, 2))",
    "torch.tensor([f, {n}], device='cuda')",
    "torch.tensor({n})",
    "x.unsqueeze({n} - 1)",
    "torch.where(x > {n}, x, f)",
    "torch.where(x > 0.5, x, torch.tensor(0.0))",
    "x.masked_fill(x > {n}, f)",
    "torch.bincount(ids, minlength={n})",
    "torch.isin(p, ids)",
    "int({n})",
    "bool(f > {n})",
    "max(p)",
    "p.tolist()",
    "h.to('cuda')",
    "x.cpu()",
    "m.nonzero()",
    "torch.where(m)",
    "p.unique()",
    "x.masked_select(x > 0.5)",
    "x.repeat_interleave(p4, 0)",
    "torch.equal(x, x + 1)",
    "(x @ x.T).softmax(0).mean()",
    "F.layer_norm(x, (6,))",
    "nn.functional.one_hot(p4)",
    "x.index_put_((ids,), f)",
    "x.index_put_((hi,), f)",
    "x.index_fill_(0, ids, f)",
    "x.copy_(x + 1)",
    "h.copy_(t)",
    "t.copy_(h)",
]
CALLS = st.sampled_from(TEMPLATES)
STATEMENTS = st.one_of(
    st.builds("x[{}]".format, INDICES),
    st.builds("x[{}] = {}".format, INDICES, VALUES),
    st.builds(lambda call, number: call.replace("{n}", number), CALLS, NUMBERS),
)
PROGRAMS = st.lists(STATEMENTS, min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def on_the_simulated_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "on_gpu", is_simulated)


def names() -> dict[str, object]:
    return {
        "torch": torch,
        "F": F,
        "nn": nn,
        "x": torch.rand(4, 6).to("cuda"),
        "t": torch.rand(6).to("cuda"),
        "p": torch.arange(6).to("cuda"),
        "p4": torch.tensor([1, 2, 1, 2]).to("cuda"),
        "m": torch.tensor([True, False, True, False]).to("cuda"),
        "m4": torch.tensor([True, False, True, False, False, False]).to("cuda"),
        "s": torch.tensor(2).to("cuda"),
        "f": torch.tensor(0.5).to("cuda"),
        "ids": torch.tensor([0, 2]).to("cuda"),
        "h": torch.rand(6),
        "h3": torch.tensor(1),
        "hi": torch.tensor([0, 2]),
        "hm": torch.tensor([True, False, True, False]),
        "i": 1,
    }


def waits_of(program: list[str], mode: Callable[[], AbstractContextManager[object]]) -> tuple[list[str], Pairs]:
    """Statements that could run, and (kind from the operators, kind from the call) of each of their waits."""
    heard: Pairs = []
    ran: list[str] = []
    with SimulatedCuda() as device:
        known = names()
        with device.listening(lambda kind: heard.append((kind, kind_of_wait()))), _CallLog(), mode():
            for statement in program:
                before = len(heard)
                try:
                    exec(statement, known)
                    ran.append(statement)
                except (IndexError, RuntimeError, TypeError, ValueError):  # an index or a shape that does not fit
                    del heard[before:]
        assert not device.unjudged, (ran, device.unjudged)
    return ran, heard


SLOW = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@SLOW
@given(PROGRAMS)
def test_the_device_and_the_classifier_name_the_same_kinds(program: list[str]) -> None:
    ran, heard = waits_of(program, contextlib.nullcontext)
    assert [pair for pair in heard if pair[0] != pair[1]] == [], ran


@SLOW
@given(PROGRAMS)
def test_a_program_waits_alike_under_autograd_and_without_it(program: list[str]) -> None:
    first, *others = ([kind for kind, _ in waits_of(program, mode)[1]] for mode in MODES)
    assert others == [first, first]


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_call_is_named_alike_with_a_number_and_with_a_device_scalar(template: str) -> None:
    num_ran = 0
    for number in ("1", "2", "s", "s - 1"):
        ran, heard = waits_of([template.replace("{n}", number)], contextlib.nullcontext)
        num_ran += len(ran)
        assert [pair for pair in heard if pair[0] != pair[1]] == [], ran
    assert num_ran >= 2
