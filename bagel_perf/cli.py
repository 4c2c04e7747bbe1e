"""The command line: each command is a list of stages; an error becomes one line and an exit code."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from bagel_perf import launch
from bagel_perf.schema.errors import BagelPerfError, OutputsDiffer, RunFailed, UsageError
from bagel_perf.schema.plans import ATTENTIONS, DEVICES, PRESETS, Plan, one_of
from bagel_perf.schema.requests import TASKS, Request, parse_resolution
from bagel_perf.schema.results import Result
from bagel_perf.schema.store import write_json_atomic, writing
from bagel_perf.schema.variants import LADDER, parse_variants

app = typer.Typer(
    name="bagel-perf",
    help="Measures BAGEL picture editing with and without host syncs, and proves the pictures identical.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ALL_RUNGS = ",".join(rung.name for rung in LADDER)
INTERRUPTED = 130

Variants = Annotated[str, typer.Option(help="Comma-separated: RUNG, RUNG+slot or RUNG-slot.")]
Device = Annotated[str, typer.Option(metavar="|".join(DEVICES))]
Attention = Annotated[str, typer.Option(metavar="|".join(ATTENTIONS), help="Attention backend, the same for all.")]
Json = Annotated[str | None, typer.Option("--json", metavar="PATH", help="Also write JSON here; - is stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def compare(
    *,
    res: Annotated[list[str], typer.Option(metavar="SIDE|WxH", help="Resolution; may be repeated.")] = ["1024"],  # noqa: B006
    variants: Variants = ALL_RUNGS,
    task: Annotated[str, typer.Option(metavar="|".join(TASKS))] = "i2i",
    image: Annotated[Path | None, typer.Option(help="Picture to edit.", show_default="one drawn here")] = None,
    prompt: Annotated[str, typer.Option()] = "Change the color to blue",
    steps: Annotated[int, typer.Option(help="Points of the schedule, one more than iterations.")] = 15,
    seed: Annotated[int, typer.Option()] = 42,
    preset: Annotated[str, typer.Option(metavar="|".join(PRESETS), help="auto: 7b on CUDA, tiny on a CPU.")] = "auto",
    weights: Annotated[Path | None, typer.Option(help="Checkpoint folder.", show_default="random weights")] = None,
    device: Device = "auto",
    attention: Attention = "auto",
    pairs: Annotated[int | None, typer.Option(help="Timed rounds; 6 or more give an interval.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Rounds before the timed ones.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the result.", show_default="a new one in reports")] = None,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Runs variants on one request: latency, host syncs, and identity of the pictures."""
    plan = Plan(
        kind="compare",
        requests=tuple(
            Request(
                task=one_of("task", task, TASKS),
                width=width,
                height=height,
                prompt=prompt,
                steps=steps,
                seed=seed,
                image=None if image is None else str(_existing(image, "picture", folder=False)),
            )
            for width, height in map(parse_resolution, res)
        ),
        variants=_names(variants),
        preset=one_of("preset", preset, PRESETS),
        weights=None if weights is None else str(_existing(weights, "weights folder", folder=True)),
        device=one_of("device", device, DEVICES),
        attention=one_of("attention", attention, ATTENTIONS),
        pairs=pairs,
        warmup=warmup,
        order_seed=random.SystemRandom().randrange(2**31),
    )
    _compare(plan, out, json_path, quiet=quiet)


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Golden folder: a checkpoint and its tensors.")],
    *,
    variants: Variants = ALL_RUNGS,
    device: Device = "auto",
    attention: Attention = "auto",
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Runs a golden folder's checkpoint under each variant against its tensors."""
    plan = Plan(
        kind="verify",
        golden=str(_existing(directory, "golden folder", folder=True)),
        variants=_names(variants),
        device=one_of("device", device, DEVICES),
        attention=one_of("attention", attention, ATTENTIONS),
    )
    _verify(plan, json_path, quiet=quiet)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code; errors go to stderr as one line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # A job that is stopped from outside keeps what it measured, as with Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        code = app(arguments, prog_name="bagel-perf", standalone_mode=False)
        if code == INTERRUPTED:
            raise RunFailed("interrupted")
        return code if isinstance(code, int) else 0
    except (Exception, KeyboardInterrupt) as problem:
        error = _as_error(problem)
        if "--debug" in arguments:
            traceback.print_exception(problem)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _compare(plan: Plan, out: Path | None, json_path: str | None, *, quiet: bool) -> None:
    # These take 0.1 s to import, which --help does not have to wait for.
    from bagel_perf.recorder import Recorder, make_image_dir
    from bagel_perf.report.markdown import write_summary
    from bagel_perf.report.progress import ProgressView
    from bagel_perf.report.text import print_result

    _check_json_path(json_path)
    plan = dataclasses.replace(plan, image_dir=make_image_dir(out))
    recorder = Recorder(plan=plan, command=shlex.join(["bagel-perf", *_without_outputs(sys.argv[1:])]), out=out)
    error: BagelPerfError | None = None
    try:
        with ProgressView(sys.stderr, quiet=quiet) as view:
            launch.run_plan(plan, (recorder.on_event, view.on_event))
    except BagelPerfError as problem:
        error = problem
    finally:
        recorder.finish(error)
    result, path = recorder.result, recorder.result_path
    if result is None or path is None:
        raise error or RunFailed("the worker measured nothing")
    write_summary(result, path.parent)
    if not quiet:
        print_result(result, path, _stream_for_people(json_path))
    _write_json(json_path, result.to_json())
    if result.exit_code:
        raise _failure(result, path, error) from error


def _verify(plan: Plan, json_path: str | None, *, quiet: bool) -> None:
    from bagel_perf.report.progress import ProgressView
    from bagel_perf.report.text import print_verification
    from bagel_perf.schema.events import Event, TensorEvent
    from bagel_perf.schema.verification import Verification

    _check_json_path(json_path)
    events: list[Event] = []
    with ProgressView(sys.stderr, quiet=quiet) as view:
        launch.run_plan(plan, (events.append, view.on_event))
    checks = tuple(event.check for event in events if isinstance(event, TensorEvent))
    verification = Verification(variants=plan.variants, checks=checks)
    if not quiet:
        print_verification(verification, _stream_for_people(json_path))
    _write_json(json_path, verification.to_json())
    if not verification.ok:
        failed = [f"{check.variant} {check.tensor}" for check in checks if not check.ok]
        raise OutputsDiffer(
            "golden tensors differ", value=f"{len(failed)} of {len(checks)}", allowed=", ".join(failed[:3])
        )


def _failure(result: Result, path: Path, error: BagelPerfError | None) -> BagelPerfError:
    """The error that a result without a pass ends in; it says where the result is."""
    place = f"what was measured is in {path}"
    if error is not None and error.exit_code == result.exit_code:
        remedy = "; ".join(part for part in (error.remedy, place) if part)
        return type(error)(error.what, value=error.value, allowed=error.allowed, remedy=remedy)
    kind = OutputsDiffer if result.verdict == "outputs differ" else RunFailed
    return kind(result.verdict, value=", ".join(result.findings[:3]), remedy=place)


def _without_outputs(arguments: Sequence[str]) -> list[str]:
    """The arguments that a repetition needs: where results go is nobody else's path."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name = argument.split("=", 1)[0]
        if not skip and name not in ("--out", "--json"):
            kept.append(argument)
        skip = not skip and argument in ("--out", "--json")
    return kept


def _names(variants: str) -> tuple[str, ...]:
    return tuple(variant.name for variant in parse_variants(variants))


def _existing(path: Path, what: str, *, folder: bool) -> Path:
    if not (path.is_dir() if folder else path.is_file()):
        raise UsageError(f"{what} does not exist", value=path)
    return path


def _stream_for_people(json_path: str | None) -> TextIO:
    return sys.stderr if json_path == "-" else sys.stdout


def _write_json(json_path: str | None, data: dict[str, Any]) -> None:
    if json_path == "-":
        print(json.dumps(data, indent=1))
    elif json_path is not None:
        path = Path(json_path)
        if path.is_symlink() or (path.exists() and not path.is_file()):  # a device or pipe is written, never replaced
            with writing(path):
                path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        else:
            write_json_atomic(path, data)


def _check_json_path(json_path: str | None) -> None:
    """Raises ``UsageError`` before anything runs if the JSON could not be written in the end."""
    if json_path is None or json_path == "-":
        return
    path = Path(json_path)
    if not json_path or path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        allowed = "a file in an existing folder that may be written, or - for stdout"
        raise UsageError(
            "JSON cannot be written there", value=json_path, allowed=allowed, remedy="choose another --json"
        )


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
