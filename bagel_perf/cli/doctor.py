"""``doctor`` on the command line."""

from __future__ import annotations

from bagel_perf.cli.options import Debug, Json, Quiet


def doctor(json_path: Json = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """Says what this machine can and cannot measure, and how to mend it."""
    from bagel_perf.commands.doctor import run_doctor

    run_doctor(json_path, quiet=quiet)
