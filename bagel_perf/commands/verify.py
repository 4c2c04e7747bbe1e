"""``verify``: a golden folder under each variant."""

from __future__ import annotations

import sys

from bagel_perf import launch
from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.records.errors import OutputsDiffer
from bagel_perf.records.events import Event, TensorEvent
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import Verification
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.text import print_verification


def run_verify(plan: Plan, json_path: str | None, *, quiet: bool) -> None:
    """Runs the plan and prints a table per variant; raises ``OutputsDiffer`` where a tensor is too far off."""
    check_json_path(json_path)
    events: list[Event] = []
    with ProgressView(sys.stderr, quiet=quiet) as view:
        launch.run_plan(plan, (events.append, view.on_event))
    checks = tuple(event.check for event in events if isinstance(event, TensorEvent))
    verification = Verification(variants=plan.variants, checks=checks)
    if not quiet:
        print_verification(verification, stream_for_people(json_path))
    write_json(json_path, verification.to_json())
    if not verification.ok:
        failed = [f"{check.variant} {check.tensor}" for check in checks if not check.ok]
        raise OutputsDiffer(
            "golden tensors differ", value=f"{len(failed)} of {len(checks)}", allowed=", ".join(failed[:3])
        )
