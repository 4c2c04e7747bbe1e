"""``gate`` on the command line: of this tree, of counts, of a result, against a revision."""

from __future__ import annotations

import random
import shlex
from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.cli.options import (
    DEFAULT_PROMPT,
    FIRST_AND_BEST,
    GATES,
    WORDS,
    Attention,
    Case,
    Cases,
    CountingDevice,
    Debug,
    Device,
    Github,
    Image,
    Json,
    Judged,
    Junit,
    Limits,
    Out,
    Page,
    Preset,
    Prompt,
    Quiet,
    QuietOps,
    Resolutions,
    Seed,
    Steps,
    Summary,
    Task,
    Variants,
    Warmup,
    Weights,
    model_of,
    names,
    requests,
)
from bagel_perf.commands.common import given_options, listed
from bagel_perf.records.errors import UsageError
from bagel_perf.records.expectations import DEFAULT_FILE
from bagel_perf.records.gates import EXPECTED_FILE
from bagel_perf.records.plans import DEVICES, Plan, one_of
from bagel_perf.records.targets import DEFAULT_SEED

HELP = "Files, or a program, whose host syncs are held."


def gate_counts(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar=WORDS, help=HELP, show_default="all that the file expects")
    ] = None,
    *,
    expect: Annotated[Path, typer.Option(metavar="FILE.toml", help="Expected counts.")] = DEFAULT_FILE,
    update: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Write the counts of these anew, and why they are what they are."),
    ] = None,
    case: Case = None,
    seed: Annotated[int, typer.Option(help="Given to the functions of a file.")] = DEFAULT_SEED,
    device: CountingDevice = "cpu",
    quiet_op: QuietOps = None,
    junit: Junit = None,
    summary: Summary = None,
    html: Page = None,
    github: Github = False,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Holds the host syncs of files, or of a program, to a file of expectations, in both directions."""
    from bagel_perf.commands import gate_counts as work
    from bagel_perf.commands.gate_result import GateOutput
    from bagel_perf.commands.sync_options import Watching, parse_quiet_ops

    is_command = "--" in shlex.split(context.obj)
    if is_command and case is not None:
        raise UsageError("--case is about files, not about a program", remedy="drop it, or name a FILE.py")
    watching = Watching(
        device=one_of("device", device, DEVICES), quiet_ops=parse_quiet_ops(quiet_op or []), profile=False
    )
    asked = work.Asked(
        words=tuple(words or ()),
        is_command=is_command,
        case=case,
        seed=seed,
        expect=expect,
        update=update,
        watching=watching,
    )
    work.gate_counts(
        asked, GateOutput(json_path=json_path, junit=junit, summary=summary, html=html, github=github, quiet=quiet)
    )


def gate(
    context: typer.Context,
    *,
    expected: Annotated[Path, typer.Option(help="Expected counters; TOML.")] = EXPECTED_FILE,
    update: Annotated[
        str | None, typer.Option(metavar="REASON", help="Write the expected counters anew, and why.")
    ] = None,
    junit: Junit = None,
    summary: Summary = None,
    html: Page = None,
    github: Github = False,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Counts BAGEL's variants of this tree without a GPU, and fails on another number or picture."""
    from bagel_perf.commands.gate import gate_tree
    from bagel_perf.commands.gate_result import GateOutput

    if context.args:
        allowed = "it holds the tree it stands in"
        raise UsageError("gate alone does not take this", value=context.args[0], allowed=allowed, remedy=GATES)
    output = GateOutput(json_path=json_path, junit=junit, summary=summary, html=html, github=github, quiet=quiet)
    gate_tree(expected, update, output)


def gate_result(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="File or folder of compare.")],
    *,
    limit: Limits = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Hold each variant to itself in another result.")
    ] = None,
    variant: Judged = None,
    junit: Junit = None,
    summary: Summary = None,
    html: Page = None,
    github: Github = False,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Judges the latencies and outputs of a result; runs nothing."""
    from bagel_perf.commands.gate_result import GateOutput, checked_reference, policy_of
    from bagel_perf.commands.gate_result import gate_result as judge

    output = GateOutput(json_path=json_path, junit=junit, summary=summary, html=html, github=github, quiet=quiet)
    judge(result, checked_reference(reference), policy_of(limit, variant), output)


def gate_revision(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(metavar="REV", help="A revision of git.")],
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="A file, or a function of one.", show_default="BAGEL's variants"),
    ] = None,
    *,
    limit: Limits = None,
    variant: Judged = None,
    case: Cases = None,
    res: Resolutions = None,
    variants: Variants = FIRST_AND_BEST,
    task: Task = "i2i",
    image: Image = None,
    prompt: Prompt = DEFAULT_PROMPT,
    steps: Steps = 15,
    seed: Seed = 42,
    preset: Preset = "auto",
    weights: Weights = None,
    device: Device = "auto",
    attention: Attention = "auto",
    pairs: Annotated[int | None, typer.Option(help="Processes of each tree.", show_default="6, or as needed")] = None,
    warmup: Warmup = None,
    out: Out = None,
    junit: Junit = None,
    summary: Summary = None,
    html: Page = None,
    github: Github = False,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measures this tree, or a file in it, in turns with a revision of git, and holds it to that."""
    from bagel_perf.commands.gate_result import GateOutput, policy_of
    from bagel_perf.commands.gate_revision import FileGate, gate_file
    from bagel_perf.commands.gate_revision import gate_revision as measure

    output = GateOutput(json_path=json_path, junit=junit, summary=summary, html=html, github=github, quiet=quiet)
    policy = policy_of(limit, variant)
    if target is not None:
        cases = tuple(listed(case or []))
        asked = FileGate(
            target=target, revision=revision, cases=cases, seed=seed, device=device, pairs=pairs, warmup=warmup, out=out
        )
        gate_file(asked, policy, output, command=context.obj, given=given_options(context))
        return
    plan = Plan(
        kind="compare",
        requests=requests(res, device, task, image, prompt, steps, seed),
        variants=names(variants),
        **model_of(preset, weights, attention),
        device=one_of("device", device, DEVICES),
        pairs=pairs,
        warmup=warmup,
        order_seed=random.SystemRandom().randrange(2**31),
    )
    measure(plan, revision, policy, out, output, command=context.obj)
