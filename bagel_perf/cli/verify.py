"""``verify`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.cli.options import (
    EVERY_VARIANT,
    Attention,
    Debug,
    Device,
    Json,
    Quiet,
    Variants,
    names,
)
from bagel_perf.commands.common import existing
from bagel_perf.records.plans import ATTENTIONS, DEVICES, Plan, one_of


def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Golden folder: a checkpoint and its tensors.")],
    *,
    variants: Variants = EVERY_VARIANT,
    device: Device = "auto",
    attention: Attention = "auto",
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Runs a golden folder's checkpoint under each variant against its tensors."""
    plan = Plan(
        kind="verify",
        golden=str(existing(directory, "golden folder", folder=True)),
        variants=names(variants),
        device=one_of("device", device, DEVICES),
        attention=one_of("attention", attention, ATTENTIONS),
    )
    from bagel_perf.commands.verify import run_verify

    run_verify(plan, json_path, quiet=quiet)
