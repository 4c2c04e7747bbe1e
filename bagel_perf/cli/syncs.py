"""``syncs`` on the command line."""

from __future__ import annotations

import random
import shlex
from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.cli.bagel import folder, names, requests
from bagel_perf.cli.options import (
    DEFAULT_PROMPT,
    Attention,
    Budgets,
    Debug,
    Image,
    Json,
    Preset,
    Quiet,
    QuietOps,
    Steps,
    Task,
    Weights,
)
from bagel_perf.commands.common import given_options, listed, only_one, writable
from bagel_perf.schema.errors import ProgramEnded
from bagel_perf.schema.plans import ATTENTIONS, DEVICES, PRESETS, Plan, one_of
from bagel_perf.schema.variants import GRAMMAR


def syncs(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET... | -- python SCRIPT ARGS...]", help="Files, or a program, to watch."),
    ] = None,
    *,
    case: Annotated[
        str | None, typer.Option(metavar="NAME", help="Case of a file.", show_default="its first one")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="TARGET|FILE.json", help="Compare with a target, or with JSON of syncs.")
    ] = None,
    variant: Annotated[str, typer.Option(help=f"Without these: {GRAMMAR} to watch.")] = "baseline",
    res: Annotated[list[str] | None, typer.Option(metavar="SIDE|WxH", help="Resolution.", show_default="256")] = None,
    task: Task = "i2i",
    image: Image = None,
    prompt: str = DEFAULT_PROMPT,
    steps: Steps = 15,
    seed: int = 42,
    preset: Preset = "auto",
    weights: Weights = None,
    device: Annotated[str, typer.Option(metavar="|".join(DEVICES), help="cpu: the simulated device.")] = "auto",
    attention: Attention = "auto",
    budget: Budgets = None,
    quiet_op: QuietOps = None,
    profile: Annotated[bool, typer.Option(help="Also price each site; CUDA only.")] = True,
    check_price: Annotated[bool, typer.Option("--check-price", help="Put the top site's price to the test.")] = False,
    pairs: Annotated[int | None, typer.Option(help="Timed pairs of --check-price; 6 or more.")] = None,
    keep_trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the profile's trace, for `trace`; Kineto JSON, gzipped.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 12,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Counts and names every host sync of a file's stages, a program or a variant; on a GPU prices them."""
    from bagel_perf.commands import syncs as work
    from bagel_perf.commands.sync_targets import Job, watch_command

    output = work.Output(top=top, json_path=json_path, quiet=quiet)
    subject = work.subject_of(command, has_dashes="--" in shlex.split(context.obj))
    work.refuse_idle_options(given_options(context), subject, profile=profile)
    watching = work.Watching(
        device=one_of("device", device, DEVICES),
        budgets=work.parse_budgets(budget or []),
        quiet_ops=work.parse_quiet_ops(quiet_op or []),
        profile=profile,
        trace_path=None if keep_trace is None else str(writable(keep_trace, "--keep-trace").absolute()),
    )
    if command:
        job = Job(case=case, seed=seed, against=against, watching=watching, output=output)
        raise ProgramEnded(watch_command(command, job, is_program=subject == "program"))
    plan = Plan(
        kind="syncs",
        requests=requests([only_one(listed(res or ["256"]))], device, task, image, prompt, steps, seed),
        variants=names(variant),
        preset=one_of("preset", preset, PRESETS),
        weights=folder(weights),
        device=watching.device,
        attention=one_of("attention", attention, ATTENTIONS),
        pairs=pairs,
        budgets=watching.budgets,
        profile=profile,
        check_price=check_price,
        trace_path=watching.trace_path,
        order_seed=random.SystemRandom().randrange(2**31),
    )
    work.watch_variant(plan, output)
