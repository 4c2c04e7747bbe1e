"""On a GPU a wait's kind follows from the call it happens in; on the simulated device from the operators. They agree.

Here the log of calls that is used on a GPU listens to the simulated device, so that both can be asked about one wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch

from bagel_perf.records.sites import Kind
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.simulated.tensor import is_simulated
from bagel_perf.syncs import calls
from bagel_perf.syncs.calls import _CallLog, kind_of_wait
from sync_catalogue import EXPRESSIONS, evaluate
from sync_table_cases import FROM_SOURCE, TABLE, Expression, operands

# Python functions of torch's own that wait in several ways; on a GPU a profile tells them apart.
COMPOSITE = ("ctc_loss", "repr(", "print(", "str(", "storage()", "torch.save", "segment_reduce", "Normal(", "5 in p")
# These read while the simulated device has its tensors look like the host's, so the log cannot be asked here.
HIDDEN = ("write(o.x, o.s, 1.0)", "write(o.x, (o.s, o.s), 1.0)")
PLAIN = [text for text, _ in EXPRESSIONS if text not in HIDDEN and not any(name in text for name in COMPOSITE)]


@pytest.fixture(autouse=True)
def on_the_simulated_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "on_gpu", is_simulated)


def kinds(device: SimulatedCuda, run: Expression) -> list[tuple[Kind, Kind]]:
    """(kind from the operators, kind from the call) of each wait."""
    heard: list[tuple[Kind, Kind]] = []
    o = operands(device.device)
    with device.listening(lambda kind: heard.append((kind, kind_of_wait()))), _CallLog():
        run(o)
    return heard


def disagreements(heard: list[tuple[Kind, Kind]]) -> list[tuple[Kind, Kind]]:
    """An explicit wait is asked for by name on a GPU, and is no call of the log's."""
    return [pair for pair in heard if pair[0] != pair[1] and pair[0] != "explicit_sync"]


def disputed(expressions: Mapping[str, Expression]) -> dict[str, list[tuple[Kind, Kind]]]:
    """The disagreements over each expression that has some; of all at least a third wait at all."""
    with SimulatedCuda() as device:
        heard = {name: kinds(device, expression) for name, expression in expressions.items()}
    assert sum(map(bool, heard.values())) > len(heard) / 3
    return {name: found for name, each in heard.items() if (found := disagreements(each))}


def test_both_name_the_kinds_of_the_table_alike() -> None:
    assert disputed({name: expression for name, expression, _ in TABLE + FROM_SOURCE}) == {}


def test_both_name_the_kinds_of_the_catalogue_alike() -> None:
    assert disputed({text: partial(evaluate, text) for text in PLAIN}) == {}


def test_outside_of_any_call_the_kind_is_unknown() -> None:
    assert kind_of_wait() == "unknown"


def test_the_log_leaves_values_and_errors_alone() -> None:
    with _CallLog():
        assert torch.ones(2).sum().item() == 2
        with pytest.raises(RuntimeError, match="size"):
            torch.ones(2) + torch.ones(3)
    assert kind_of_wait() == "unknown"
