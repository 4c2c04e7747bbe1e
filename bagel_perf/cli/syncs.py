"""``syncs`` on the command line."""

from __future__ import annotations

import random
import shlex
from typing import Annotated

import typer

from bagel_perf.cli.options import (
    DEFAULT_PROMPT,
    WORDS,
    Against,
    Attention,
    Budgets,
    Case,
    CheckSaving,
    CountingDevice,
    Debug,
    Image,
    Json,
    KeptTrace,
    Preset,
    Quiet,
    QuietOps,
    Steps,
    Task,
    Weights,
    model_of,
    names,
    requests,
)
from bagel_perf.commands.common import given_options, listed, only_one, writable
from bagel_perf.records.bagel import GRAMMAR
from bagel_perf.records.errors import ProgramEnded
from bagel_perf.records.plans import DEVICES, Plan, one_of


def syncs(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar=WORDS, help="Files, or a program, to watch.")] = None,
    *,
    case: Case = None,
    against: Against = None,
    variant: Annotated[str, typer.Option(help=f"Without these: {GRAMMAR} to watch.")] = "baseline",
    res: Annotated[list[str] | None, typer.Option(metavar="SIDE|WxH", help="Resolution.", show_default="256")] = None,
    task: Task = "i2i",
    image: Image = None,
    prompt: str = DEFAULT_PROMPT,
    steps: Steps = 15,
    seed: int = 42,
    preset: Preset = "auto",
    weights: Weights = None,
    device: CountingDevice = "auto",
    attention: Attention = "auto",
    budget: Budgets = None,
    quiet_op: QuietOps = None,
    profile: Annotated[bool, typer.Option(help="Also tell what each site costs; CUDA only.")] = True,
    check_saving: CheckSaving = False,
    pairs: Annotated[int | None, typer.Option(help="Timed pairs of --check-saving; 6 or more.")] = None,
    keep_trace: KeptTrace = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 12,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Counts and names every host sync of a file's stages, a program or a variant; on a GPU with what it costs."""
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
        **model_of(preset, weights, attention),
        device=watching.device,
        pairs=pairs,
        budgets=watching.budgets,
        profile=profile,
        check_saving=check_saving,
        trace_path=watching.trace_path,
        order_seed=random.SystemRandom().randrange(2**31),
    )
    work.watch_variant(plan, output)
