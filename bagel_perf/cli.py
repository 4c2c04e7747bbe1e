"""The command line: each command is a list of stages; an error becomes one line and an exit code."""

from __future__ import annotations

import random
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.commands.common import existing
from bagel_perf.schema.errors import BagelPerfError, RunFailed, UsageError
from bagel_perf.schema.plans import ATTENTIONS, DEVICES, PRESETS, Plan, one_of
from bagel_perf.schema.requests import TASKS, Request, parse_resolution
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
                image=None if image is None else str(existing(image, "picture", folder=False)),
            )
            for width, height in map(parse_resolution, res)
        ),
        variants=_names(variants),
        preset=one_of("preset", preset, PRESETS),
        weights=None if weights is None else str(existing(weights, "weights folder", folder=True)),
        device=one_of("device", device, DEVICES),
        attention=one_of("attention", attention, ATTENTIONS),
        pairs=pairs,
        warmup=warmup,
        order_seed=random.SystemRandom().randrange(2**31),
    )
    # Imported here: rich takes 0.1 s, which --help does not have to wait for.
    from bagel_perf.commands.compare import run_compare

    run_compare(plan, out, json_path, quiet=quiet)


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
        golden=str(existing(directory, "golden folder", folder=True)),
        variants=_names(variants),
        device=one_of("device", device, DEVICES),
        attention=one_of("attention", attention, ATTENTIONS),
    )
    from bagel_perf.commands.verify import run_verify

    run_verify(plan, json_path, quiet=quiet)


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
