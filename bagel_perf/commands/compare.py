"""``compare``: from a plan to a kept result and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.commands.common import check_json_path, listed, stream_for_people, write_json
from bagel_perf.commands.measuring import measure, measured
from bagel_perf.commands.report import write_page
from bagel_perf.commands.serving import measure_servers
from bagel_perf.launch import check_pythons
from bagel_perf.recorder import Recorder, make_image_dir
from bagel_perf.records.errors import BagelPerfError, OutputsDiffer, RunFailed, UsageError, reworded
from bagel_perf.records.plans import MIN_VARIANTS, Plan
from bagel_perf.records.results import Result
from bagel_perf.records.targets import GRAMMAR, Target, is_target, parse_targets
from bagel_perf.report.inert import print_line
from bagel_perf.report.summary import write_summary
from bagel_perf.report.text import print_result


def run_compare(plan: Plan, out: Path | None, json_path: str | None, *, command: str, quiet: bool, html: bool) -> None:
    """Runs the plan, keeps and prints what it gives; raises the error that a result without a pass ends in.

    ``command`` is the command line, which the result names.
    """
    check_json_path(json_path)
    if plan.served is None:
        check_pythons(plan)
    plan = replace(plan, image_dir=make_image_dir(out))
    recorder = Recorder(plan=plan, command=command, out=out)
    error = measured(plan, recorder, quiet=quiet, how=measure if plan.served is None else measure_servers)
    result, path = recorder.result, recorder.result_path
    if result is None or path is None:
        raise error or RunFailed("the worker measured nothing")
    write_summary(result, path.parent)
    if not quiet:
        print_result(result, path, stream_for_people(json_path))
    write_json(json_path, result.to_json())
    page = write_page(result, path.parent) if html else None
    if page is not None and not quiet:
        print_line(f"page: {page}", stream_for_people(json_path))
    if result.exit_code:
        raise _failure(result, path, error) from error


OF_BAGEL = ("--variants", "--res", "--task", "--image", "--prompt", "--steps", "--preset", "--weights", "--attention")
OF_FILES = ("--case", "--before-env", "--after-env")


def named_files(
    texts: Sequence[str], before_env: Path | None, after_env: Path | None, given: frozenset[str]
) -> tuple[Target, ...]:
    """The files that were named to be compared; none where BAGEL's variants are.

    Raises ``UsageError`` for fewer than two, for a mixture of both, and for options that mean nothing to them.
    """
    parts = [part for text in texts for part in _members(text)]
    are_files = [is_target(part) for part in parts]
    if not any(are_files):
        _refuse(given, OF_FILES, "files", "name two, as before.py after.py")
        if parts and "--variants" in given:
            raise UsageError("variants are named twice", value=", ".join(parts), remedy="leave --variants out")
        return ()
    if not all(are_files):
        value = parts[are_files.index(False)]
        raise UsageError("a variant of BAGEL among files", value=value, remedy=f"a file is named {GRAMMAR}")
    refuse_options_of_bagel(given)
    return _with_environments(parse_targets(parts), before_env, after_env)


def _members(text: str) -> list[str]:
    """The members of a list with commas; a path or a label that holds one is no list."""
    parts = listed([text])
    are_files = list(map(is_target, parts))
    return parts if all(are_files) or not any(are_files) else [text]


def _with_environments(
    targets: tuple[Target, ...], before_env: Path | None, after_env: Path | None
) -> tuple[Target, ...]:
    """The targets under the Pythons that were named; one file under two of them is two targets."""
    before, after = (None if each is None else str(each) for each in (before_env, after_env))
    if len(targets) == 1 and (before or after):
        targets = (replace(targets[0], label="before"), replace(targets[0], label="after"))
    if len(targets) < MIN_VARIANTS:
        allowed = "two or more, as before.py after.py or loop.py:plain loop.py:fast"
        remedy = "or one file under two environments: --before-env DIR --after-env DIR"
        raise UsageError(
            "one target has nothing to be compared with", value=targets[0].place, allowed=allowed, remedy=remedy
        )
    environments = [before, *[after] * (len(targets) - 1)]
    return tuple(
        target if environment is None else replace(target, environment=environment)
        for target, environment in zip(targets, environments, strict=True)
    )


def refuse_options_of_bagel(given: frozenset[str]) -> None:
    """Raises ``UsageError`` for an option that means nothing to files."""
    _refuse(given, (*OF_BAGEL, "--ablate"), "BAGEL", "leave it out")


def _refuse(given: frozenset[str], options: Sequence[str], what: str, remedy: str) -> None:
    for option in options:
        if option in given:
            raise UsageError(f"{option} is for {what}", remedy=remedy)


def _failure(result: Result, path: Path, error: BagelPerfError | None) -> BagelPerfError:
    """The error that a result without a pass ends in; it says where the result is."""
    place = f"what was measured is in {path}"
    if error is not None and error.exit_code == result.exit_code:
        remedy = "; ".join(part for part in (error.remedy, place) if part)
        return reworded(error, remedy=remedy)
    kind = OutputsDiffer if result.verdict == "outputs differ" else RunFailed
    return kind(result.verdict, value=", ".join(result.findings[:3]), remedy=place)
