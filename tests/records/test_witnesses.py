from __future__ import annotations

import pytest

from bagel_perf.records.syncs import Witnesses


@pytest.mark.parametrize(
    ("witnesses", "num_disputed"),
    [
        (Witnesses(callbacks=5, debug_mode=5), 0),
        (Witnesses(callbacks=5, debug_mode=3), 2),
        (Witnesses(callbacks=3, debug_mode=5), 2),
        (Witnesses(callbacks=0, debug_mode=0), 0),
        (Witnesses(callbacks=0, debug_mode=4), 4),
        (Witnesses(callbacks=4, debug_mode=0), 4),
        # The mode knows nothing of devices and events: of so many callbacks there is no warning.
        (Witnesses(callbacks=5, debug_mode=3, blind=2), 0),
        (Witnesses(callbacks=5, debug_mode=5, blind=2), 2),
        (Witnesses(callbacks=5, debug_mode=0, blind=5), 0),
    ],
)
def test_callbacks_and_warnings_dispute_the_waits_by_which_they_differ(witnesses: Witnesses, num_disputed: int) -> None:
    assert witnesses.num_disputed == num_disputed


@pytest.mark.parametrize(
    "witnesses",
    [
        Witnesses(),
        Witnesses(callbacks=5),
        Witnesses(debug_mode=5),
        Witnesses(callbacks=5, blind=2),
        Witnesses(callbacks=5, cupti=7),  # those are sites of their own
        Witnesses(simulated=5),
    ],
)
def test_a_witness_alone_disputes_nothing(witnesses: Witnesses) -> None:
    assert witnesses.num_disputed == 0
