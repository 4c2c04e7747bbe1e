"""The command line: a file a command; an error becomes one line and an exit code."""

from __future__ import annotations

import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated

import typer

from bagel_perf.cli import compare, doctor, gate, serve, show, syncs, trace, verify
from bagel_perf.cli.options import EXAMPLES, GATE_HELP, NAMES_HELP
from bagel_perf.commands.common import lenient_streams, print_error
from bagel_perf.records.errors import INTERRUPTED, BagelPerfError, ProgramEnded, RunFailed, UsageError, reworded

TWO_WORDS = ("gate counts", "gate result", "gate revision")
"""Commands of two words, each of which has options of its own."""


def _print_version(asked: bool) -> None:
    if asked:
        print(f"bagel-perf {version('bagel-perf')}")
        raise typer.Exit


def main_options(
    asked: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Takes the options that are for no command."""


def _app() -> typer.Typer:
    app = typer.Typer(
        name="bagel-perf",
        help="Shows whether a change of a torch loop is faster and nothing else, on a GPU or without one.",
        epilog=EXAMPLES,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(main_options)
    app.command("compare", epilog=NAMES_HELP)(compare.compare)
    app.command("syncs")(syncs.syncs)
    takes_anything = {"allow_extra_args": True, "ignore_unknown_options": True}  # and refuses it in words of its own
    app.command("gate", epilog=GATE_HELP, context_settings=takes_anything)(gate.gate)
    app.command("gate counts")(gate.gate_counts)
    app.command("gate result")(gate.gate_result)
    app.command("gate revision")(gate.gate_revision)
    app.command("serve")(serve.serve)
    app.command("trace")(trace.trace)
    app.command("report")(show.report)
    app.command("show")(show.show)
    app.command("verify")(verify.verify)
    app.command("doctor")(doctor.doctor)
    return app


app = _app()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code; errors go to stderr as one line."""
    with lenient_streams(), _stopped_from_outside():
        return _main(argv)


@contextmanager
def _stopped_from_outside() -> Iterator[None]:
    """Has a job that is stopped from outside keep what it measured, as with Ctrl-C; whoever called has its own again.

    A handler that stayed would be inherited by every process that the caller forks, and hold up its end.
    """
    former = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup: then a program ignores it, too
            former[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        if arguments[:1] == ["syncs"] and "--" not in arguments[:-1] and arguments[-1] == "--":
            raise UsageError("no program after --", allowed="python script.py ..., python -m module ...")
        command = shlex.join(["bagel-perf", *arguments])
        if " ".join(arguments[:2]) in TWO_WORDS:
            arguments[:2] = [" ".join(arguments[:2])]
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
        elif any("Traceback" in note for note in getattr(error, "__notes__", [])) and "--debug" not in error.remedy:
            error = reworded(error, remedy="; ".join(filter(None, (error.remedy, "--debug shows the traceback"))))
        print_error(error)
        return error.exit_code


def _as_error(problem: BaseException) -> BagelPerfError:
    if isinstance(problem, BagelPerfError):
        return problem
    if isinstance(problem, (KeyboardInterrupt, typer.Abort)):
        return RunFailed("interrupted")
    # Recognized by shape, because typer has its usage errors from click or, in later versions, from a copy of it.
    format_message = getattr(problem, "format_message", None)
    if format_message is not None:
        context = getattr(problem, "ctx", None)
        path = context.command_path if context is not None and context.parent is not None else "bagel-perf"
        return UsageError(str(format_message()).rstrip("."), remedy=f"see {path} --help")
    return RunFailed("internal error", value=f"{type(problem).__name__}: {problem}", remedy="--debug shows where")
