"""``syncs`` on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from bagel_perf.cli.options import (
    DEFAULT_PROMPT,
    WORDS,
    After,
    Against,
    Apart,
    Attach,
    Attention,
    Budgets,
    Capture,
    Case,
    CheckSaving,
    CountingDevice,
    Debug,
    Image,
    Json,
    KeptTrace,
    Paused,
    Preset,
    Prompt,
    Quiet,
    QuietOps,
    Raise,
    Seed,
    SkipFirst,
    Steps,
    Task,
    Weights,
    model_of,
    names,
    requests,
)
from bagel_perf.commands.common import given_options, listed, only_one
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
    prompt: Prompt = DEFAULT_PROMPT,
    steps: Steps = 15,
    seed: Seed = 42,
    preset: Preset = "auto",
    weights: Weights = None,
    device: CountingDevice = "auto",
    attention: Attention = "auto",
    budget: Budgets = None,
    quiet_op: QuietOps = None,
    after: After = "",
    skip_first: SkipFirst = None,
    raises: Raise = False,
    capture: Capture = "",
    paused: Paused = False,
    apart: Apart = False,
    attach: Attach = None,
    profile: Annotated[bool, typer.Option(help="Also tell what each site costs; CUDA only.")] = True,
    check_saving: CheckSaving = False,
    pairs: Annotated[int | None, typer.Option(help="Timed pairs of --check-saving; 6 or more.")] = None,
    keep_trace: KeptTrace = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 12,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Counts and names every host sync of a file's stages, a command with all its processes, or a variant."""
    from bagel_perf.commands import sync_options as options
    from bagel_perf.commands.attach import attach_to
    from bagel_perf.commands.sync_targets import Job, watch_command
    from bagel_perf.commands.syncs import Output, watch_variant

    output = Output(top=top, json_path=json_path, quiet=quiet, apart=apart)
    if attach is not None:
        attach_to(attach, command or [], given_options(context), output)
        return
    subject = options.checked_subject(command, given_options(context), context.obj, profile=profile)
    texts = (budget, quiet_op, skip_first)
    asked = {"profile": profile, "after": after, "capture": capture, "is_paused": paused}
    watching = options.watching_of(one_of("device", device, DEVICES), texts, keep_trace, raises=raises, **asked)
    if command:
        job = Job(case=case, seed=seed, against=against, watching=watching, output=output)
        raise ProgramEnded(watch_command(command, job, is_program=subject == "program"))
    plan = Plan(
        kind="syncs",
        requests=requests([only_one(listed(res or ["256"]))], device, task, image, prompt, steps, seed),
        variants=names(variant),
        **model_of(preset, weights, attention),
        **options.of_plan(watching, pairs=pairs, check_saving=check_saving),
    )
    watch_variant(plan, output)
