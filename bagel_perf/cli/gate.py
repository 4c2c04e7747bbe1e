"""``gate`` on the command line: of the tree, of a result, against a revision."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.cli.bagel import model_of, names, requests
from bagel_perf.cli.options import (
    DEFAULT_PROMPT,
    FIRST_AND_BEST,
    GATES,
    Attention,
    Cases,
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
    Quiet,
    Resolutions,
    Steps,
    Summary,
    Task,
    Variants,
    Warmup,
    Weights,
)
from bagel_perf.commands.common import given_options, listed
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.gates import EXPECTED_FILE
from bagel_perf.schema.plans import DEVICES, Plan, one_of


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
    from bagel_perf.commands.gate_output import GateOutput

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
    from bagel_perf.commands.gate_modes import checked_reference, policy_of
    from bagel_perf.commands.gate_output import GateOutput
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
    prompt: str = DEFAULT_PROMPT,
    steps: Steps = 15,
    seed: int = 42,
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
    from bagel_perf.commands.gate_file import FileGate, gate_file
    from bagel_perf.commands.gate_modes import policy_of
    from bagel_perf.commands.gate_output import GateOutput
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
