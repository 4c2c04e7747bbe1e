"""The command line: each command is a list of stages; an error becomes one line and an exit code."""

from __future__ import annotations

import random
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.cli_options import (
    BITWISE_RUNGS,
    DEFAULT_PROMPT,
    DEFAULT_RESOLVE_PCT,
    EVERY_RUNG,
    FIRST_AND_BEST,
    GATE_HELP,
    LIMIT_HELP,
    NAMES_HELP,
    VARIANTS_HELP,
    Attention,
    Budgets,
    Debug,
    Device,
    Github,
    Image,
    Json,
    Out,
    PairsOrAuto,
    Preset,
    Processes,
    Quiet,
    QuietOps,
    Resolutions,
    Resolve,
    Steps,
    Task,
    Variants,
    Warmup,
    Weights,
)
from bagel_perf.commands.common import existing, given_options, only_one, parse_pairs, writable
from bagel_perf.commands.streams import lenient_streams, print_error
from bagel_perf.schema.errors import INTERRUPTED, BagelPerfError, RunFailed, UsageError
from bagel_perf.schema.gates import DEFAULT_LIMIT_PCT, EXPECTED_FILE
from bagel_perf.schema.plans import ATTENTIONS, DEVICES, PRESETS, Plan, one_of
from bagel_perf.schema.requests import TASKS, Request, parse_resolution
from bagel_perf.schema.variants import GRAMMAR, LADDER, parse_variants

app = typer.Typer(
    name="bagel-perf",
    help="Measures BAGEL picture editing with and without host syncs, and proves the pictures identical.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog=NAMES_HELP)
def compare(
    context: typer.Context,
    *,
    res: Resolutions = ["1024"],  # noqa: B006
    variants: Annotated[
        str | None,
        typer.Option(
            help=VARIANTS_HELP,
            show_default=f"{BITWISE_RUNGS}; with --ladder {LADDER[-1].name}, too; with --ablate {FIRST_AND_BEST}",
        ),
    ] = None,
    ladder: Annotated[bool, typer.Option("--ladder", help="Show the change from each variant to the next.")] = False,
    ablate: Annotated[
        bool,
        typer.Option("--ablate", help="Take the last bitwise variant apart: each slot left in alone, and left out."),
    ] = False,
    task: Task = "i2i",
    image: Image = None,
    prompt: str = DEFAULT_PROMPT,
    steps: Steps = 15,
    seed: int = 42,
    preset: Preset = "auto",
    weights: Weights = None,
    device: Device = "auto",
    attention: Attention = "auto",
    pairs: PairsOrAuto = None,
    resolve: Resolve = None,
    processes: Processes = None,
    warmup: Warmup = None,
    out: Out = None,
    html: Annotated[bool, typer.Option("--html", help="Also write report.html, and it as report.md.")] = False,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Runs variants on one request: latency, host syncs, and identity of the pictures."""
    num_pairs, resolve_pct = parse_pairs(pairs, resolve, DEFAULT_RESOLVE_PCT)
    plan = Plan(
        kind="compare",
        requests=tuple(_request(each, task, image, prompt, steps, seed) for each in res),
        variants=_names(_default_variants(ladder=ladder, ablate=ablate) if variants is None else variants),
        ladder=ladder,
        ablate=ablate,
        preset=one_of("preset", preset, PRESETS),
        weights=_folder(weights),
        device=one_of("device", device, DEVICES),
        attention=one_of("attention", attention, ATTENTIONS),
        pairs=num_pairs,
        resolve_pct=resolve_pct,
        processes=processes,
        warmup=warmup,
        order_seed=random.SystemRandom().randrange(2**31),
    )
    # Imported here: rich takes 0.1 s, which --help does not have to wait for.
    from bagel_perf.commands.compare import run_compare

    run_compare(plan, out, json_path, command=context.obj, quiet=quiet, html=html)


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Golden folder: a checkpoint and its tensors.")],
    *,
    variants: Variants = EVERY_RUNG,
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
        variants=_names(variants),
        device=one_of("device", device, DEVICES),
        attention=one_of("attention", attention, ATTENTIONS),
    )
    from bagel_perf.commands.verify import run_verify

    run_verify(plan, json_path, quiet=quiet)


@app.command()
def syncs(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- python SCRIPT ARGS...]", help="A program to watch.")
    ] = None,
    *,
    variant: Annotated[str, typer.Option(help=f"Without a program: {GRAMMAR} to watch.")] = "baseline",
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
    """Counts and names every host sync of a variant, or of any Python program; on a GPU prices them."""
    from bagel_perf.commands import syncs as work

    output = work.Output(top=top, json_path=json_path, quiet=quiet)
    work.refuse_idle_options(given_options(context), is_program=bool(command), profile=profile)
    budgets, chosen = work.parse_budgets(budget or []), one_of("device", device, DEVICES)
    trace_path = None if keep_trace is None else str(writable(keep_trace, "--keep-trace").absolute())
    if command:
        reasons = work.parse_quiet_ops(quiet_op or [])
        code = work.watch_program(
            command, chosen, budgets, output, quiet_ops=reasons, profile=profile, trace_path=trace_path
        )
        raise ProgramEnded(code)
    plan = Plan(
        kind="syncs",
        requests=(_request(only_one(res or ["256"]), task, image, prompt, steps, seed),),
        variants=_names(variant),
        preset=one_of("preset", preset, PRESETS),
        weights=_folder(weights),
        device=chosen,
        attention=one_of("attention", attention, ATTENTIONS),
        pairs=pairs,
        budgets=budgets,
        profile=profile,
        check_price=check_price,
        trace_path=trace_path,
        order_seed=random.SystemRandom().randrange(2**31),
    )
    work.watch_variant(plan, output)


@app.command()
def trace(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Kineto JSON or Nsight Systems sqlite, packed or not; - is stdin. Several, or a folder: a rank each.",
        ),
    ],
    *,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A trace from before, or a folder of ranks: show what changed."),
    ] = None,
    top: Annotated[int, typer.Option(help="Rows of each table.")] = 10,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page of it.")] = None,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Finds in a recorded trace where the CPU waited for the GPU and why the GPU was idle."""
    from bagel_perf.commands.trace import run_trace

    run_trace(files, against or [], top=top, html=html, json_path=json_path, quiet=quiet)


@app.command(epilog=GATE_HELP)
def gate(
    context: typer.Context,
    result: Annotated[Path | None, typer.Argument(metavar="[RESULT]", help="File or folder to judge again.")] = None,
    *,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="LIMIT", help=LIMIT_HELP, show_default=f"{DEFAULT_LIMIT_PCT:g}% of each")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="FILE|REVISION", help="Hold each variant to itself there.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Judge this one alone.", show_default="all bitwise ones")] = None,
    res: Resolutions = ["1024"],  # noqa: B006
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
    expected: Annotated[Path, typer.Option(help="Expected counters; TOML.")] = EXPECTED_FILE,
    update: Annotated[
        str | None, typer.Option(metavar="REASON", help="Write the expected counters anew, and why.")
    ] = None,
    self_test: Annotated[bool, typer.Option("--self-test", help="Show that the gate can fail.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JUnit XML.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write Markdown.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page of it.")] = None,
    github: Github = False,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Counts every variant without a GPU, and fails on another number or picture; or holds latencies to limits."""
    from bagel_perf.commands.gate import gate_tree
    from bagel_perf.commands.gate_modes import gate_mode, plan_of, policy_of, refuse_idle_options
    from bagel_perf.commands.gate_output import GateOutput
    from bagel_perf.commands.gate_result import gate_result
    from bagel_perf.commands.gate_revision import gate_revision
    from bagel_perf.commands.self_test import run_self_test

    output = GateOutput(json_path=json_path, junit=junit, summary=summary, html=html, github=github, quiet=quiet)
    mode, policy = gate_mode(result, reference, self_test=self_test), policy_of(limit, variant)
    refuse_idle_options(given_options(context), mode)
    if self_test:
        run_self_test(output)
    elif result is not None:
        gate_result(result, None if reference is None else Path(reference), policy, output)
    elif reference is not None:
        requests = tuple(_request(each, task, image, prompt, steps, seed) for each in res)
        plan = plan_of(requests, _names(variants), preset, _folder(weights), device, attention, pairs, warmup)
        gate_revision(plan, reference, policy, out, output, command=context.obj)
    else:
        gate_tree(expected, update, output)


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="Files or folders; the newest is shown.")],
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of report.html and summary.md.")],
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Renders results as one self-contained page; several are a history, of which the newest is shown in full."""
    from bagel_perf.commands.report import run_report

    run_report(results, out, json_path, quiet=quiet)


@app.command()
def show(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="File or folder, also of a run that was killed.")],
    *,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Prints a result's tables again."""
    from bagel_perf.commands.show import show_result

    show_result(result, json_path, quiet=quiet)


class ProgramEnded(Exception):
    """A program that was watched has ended, in whatever way; its exit code is ours."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code; errors go to stderr as one line."""
    with lenient_streams():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    # A job that is stopped from outside keeps what it measured, as with Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup: then a program ignores it, too
            signal.signal(number, signal.default_int_handler)
    try:
        if arguments[:1] == ["syncs"] and "--" not in arguments[:-1] and arguments[-1] == "--":
            raise UsageError("no program after --", allowed="python script.py ..., python -m module ...")
        command = shlex.join(["bagel-perf", *arguments])
        code = app(arguments, prog_name="bagel-perf", standalone_mode=False, obj=command)
        if code == INTERRUPTED:
            raise RunFailed("interrupted")
        return code if isinstance(code, int) else 0
    except ProgramEnded as end:
        return end.exit_code
    except (Exception, KeyboardInterrupt) as problem:
        error = _as_error(problem)
        if "--debug" in arguments:
            traceback.print_exception(problem)
        print_error(error)
        return error.exit_code


def _request(res: str, task: str, image: Path | None, prompt: str, steps: int, seed: int) -> Request:
    width, height = parse_resolution(res)
    return Request(
        task=one_of("task", task, TASKS),
        width=width,
        height=height,
        prompt=prompt,
        steps=steps,
        seed=seed,
        image=None if image is None else str(existing(image, "picture", folder=False)),
    )


def _folder(weights: Path | None) -> str | None:
    return None if weights is None else str(existing(weights, "weights folder", folder=True))


def _default_variants(*, ladder: bool, ablate: bool) -> str:
    return EVERY_RUNG if ladder else FIRST_AND_BEST if ablate else BITWISE_RUNGS


def _names(variants: str) -> tuple[str, ...]:
    return tuple(variant.name for variant in parse_variants(variants))


def _as_error(problem: BaseException) -> BagelPerfError:
    if isinstance(problem, BagelPerfError):
        return problem
    if isinstance(problem, (KeyboardInterrupt, typer.Abort)):
        return RunFailed("interrupted")
    # Recognized by shape, because typer has its usage errors from click or, in later versions, from a copy of it.
    format_message = getattr(problem, "format_message", None)
    if format_message is not None:
        return UsageError(str(format_message()).rstrip("."), remedy="see bagel-perf --help")
    return RunFailed("internal error", value=f"{type(problem).__name__}: {problem}", remedy="--debug shows where")
