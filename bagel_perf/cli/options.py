"""Options that mean the same in every command, the texts of their help, and what those of BAGEL come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bagel_perf.commands.common import existing, listed, requests_of
from bagel_perf.records.bagel import BUILT_IN, COMPONENTS, GRAMMAR, TASKS, Request, best_bitwise, parse_variants
from bagel_perf.records.gates import DEFAULT_LIMIT_PCT
from bagel_perf.records.gates import GRAMMAR as LIMIT_GRAMMAR
from bagel_perf.records.plans import ATTENTIONS, DEVICES, PRESETS, one_of
from bagel_perf.records.servers import APIS
from bagel_perf.records.servers import GRAMMAR as SERVER_GRAMMAR
from bagel_perf.records.targets import GRAMMAR as TARGET_GRAMMAR

DEFAULT_RESOLVE_PCT = 2.0
DEFAULT_PROMPT = "Change the color to blue"
BITWISE_VARIANTS = ",".join(built_in.name for built_in in BUILT_IN if built_in.is_bitwise)
EVERY_VARIANT = ",".join(built_in.name for built_in in BUILT_IN)
FIRST_AND_BEST = f"{BUILT_IN[0].name},{best_bitwise().name}"
VARIANTS_HELP = f"Variants of BAGEL, comma-separated: {GRAMMAR}."
LIMIT_HELP = f"How much slower a stage may be: {LIMIT_GRAMMAR}; may be repeated. Others are not judged then."
DEFAULT_LIMIT = f"{DEFAULT_LIMIT_PCT:g}% of each stage"
GATES = (
    "gate counts [TARGET... | -- COMMAND], gate result RESULT and gate revision REV [TARGET] are commands of their own"
)
GATE_HELP = f"{GATES}. Exit codes: see README."
TARGETS_HELP = f"File or function: {TARGET_GRAMMAR}; server: {SERVER_GRAMMAR}; variant of BAGEL: {GRAMMAR}. A list."
WORDS = "[TARGET... | -- python SCRIPT ARGS...]"
NAMES_HELP = f"Variants: {', '.join(built_in.name for built_in in BUILT_IN)}.\n\nComponents: {', '.join(COMPONENTS)}."

EXAMPLES = """Examples:

bagel-perf compare loop.py:plain loop.py:fast

bagel-perf compare edit.py --before-env old/ --after-env new/

bagel-perf syncs -- python serve.py

bagel-perf trace trace.json.gz

bagel-perf compare   (BAGEL, its own variants)"""

Task = Annotated[str, typer.Option(metavar="|".join(TASKS), help="i2i: edit a picture; t2i: make one from text.")]
Image = Annotated[Path | None, typer.Option(help="Picture to edit.", show_default="one drawn here")]
Prompt = Annotated[str, typer.Option(help="What the picture is to become, or to show.")]
Seed = Annotated[int, typer.Option(help="Of all random numbers of a case.")]
Steps = Annotated[int, typer.Option(help="Points of the schedule, one more than iterations.")]
Preset = Annotated[str, typer.Option(metavar="|".join(PRESETS), help="auto: 7b on CUDA, tiny on a CPU.")]
Weights = Annotated[Path | None, typer.Option(help="Checkpoint folder.", show_default="random weights")]
Resolutions = Annotated[
    list[str] | None,
    typer.Option(
        "--res", metavar="SIDE|WxH", help="Resolution of BAGEL; a list.", show_default="1024, without a GPU 256"
    ),
]
Targets = Annotated[
    list[str] | None, typer.Argument(metavar="[TARGET...]", help=TARGETS_HELP, show_default="BAGEL's own variants")
]
Cases = Annotated[
    list[str] | None, typer.Option("--case", metavar="NAME", help="Case of the files; a list.", show_default="all")
]
BeforeEnv = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Virtual environment whose Python runs the first target.")
]
AfterEnv = Annotated[Path | None, typer.Option(metavar="DIR", help="The same for the other targets.")]
Warmup = Annotated[int | None, typer.Option(help="Rounds before the timed ones, in each process.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the result.", show_default="a new one in reports")]
Variants = Annotated[str, typer.Option(help=VARIANTS_HELP)]
BuiltIns = Annotated[
    str | None,
    typer.Option(
        "--variants",
        help=VARIANTS_HELP,
        show_default=f"{BITWISE_VARIANTS}; with --successive {BUILT_IN[-1].name}, too; with --ablate {FIRST_AND_BEST}",
    ),
]
Successive = Annotated[bool, typer.Option("--successive", help="Show the change from each variant to the next.")]
Ablate = Annotated[
    bool,
    typer.Option("--ablate", help="Take the last bitwise variant apart: each component left in alone, and left out."),
]
Case = Annotated[str | None, typer.Option(metavar="NAME", help="Case of a file.", show_default="its first one")]
Against = Annotated[
    str | None, typer.Option(metavar="TARGET|FILE.json", help="Compare with a target, or with JSON of syncs.")
]
CheckSaving = Annotated[bool, typer.Option("--check-saving", help="Put the top site's predicted saving to the test.")]
KeptTrace = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Keep the profile's trace, for `trace`; Kineto JSON, gzipped.")
]
Device = Annotated[str, typer.Option(metavar="|".join(DEVICES), help="Where it runs; auto: a GPU, if there is one.")]
CountingDevice = Annotated[str, typer.Option(metavar="|".join(DEVICES), help="cpu: the simulated device.")]
Attention = Annotated[str, typer.Option(metavar="|".join(ATTENTIONS), help="Attention backend, the same for all.")]
PairsOrAuto = Annotated[
    str | None,
    typer.Option(metavar="N|auto", help="Timed rounds, shared by the processes; auto: as many as --resolve needs."),
]
Resolve = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT", help="Where --pairs auto stops: every interval is within so much.", show_default="2"
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        help="Worker processes that share the rounds; a verdict takes 6.",
        show_default="6, 18 at most with --pairs auto",
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(metavar="N|REGION=N", help="Host syncs per entry of a region, or in all; may be repeated."),
]
After = Annotated[
    str,
    typer.Option(
        metavar="REGION",
        help="Take what comes before the first end of this region for warm-up, which spends no budget.",
    ),
]
SkipFirst = Annotated[
    list[str] | None,
    typer.Option(
        metavar="N|REGION=N", help="Take the first N entries of each region, or of one, for warm-up; may be repeated."
    ),
]
Raise = Annotated[bool, typer.Option("--raise", help="Raise at the first wait over budget, with its stack.")]
Capture = Annotated[str, typer.Option(metavar="REGION", help="Also list what prevents a CUDA graph of a region.")]
Paused = Annotated[bool, typer.Option("--paused", help="Count nothing until --attach PID start.")]
Apart = Annotated[bool, typer.Option("--apart", help="Show alike processes one by one, not summed.")]
Attach = Annotated[
    int | None, typer.Option(metavar="PID", help="Instead: start, stop or report what a watched process counts.")
]
QuietOps = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=REASON", help="Say that an operator which cannot be judged here does not wait; may be repeated."
    ),
]
Api = Annotated[str, typer.Option(metavar="|".join(APIS), help="Endpoint of servers.")]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="How long an answer of a server may take.")]
Concurrency = Annotated[
    list[str] | None,
    typer.Option(metavar="N", help="Also load servers with N requests at once; a list.", show_default="none"),
]
Rates = Annotated[
    list[str] | None,
    typer.Option(
        "--rate", metavar="R", help="Also load servers with R random arrivals a second; a list.", show_default="none"
    ),
]
Requests = Annotated[
    int | None,
    typer.Option("--requests", metavar="N", help="Requests of each level of load.", show_default="goes with the level"),
]
Json = Annotated[str | None, typer.Option("--json", metavar="PATH", help="Also write JSON here; - is stdout.")]
Github = Annotated[bool, typer.Option("--github", help="Also print annotations, and append to $GITHUB_STEP_SUMMARY.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Limits = Annotated[
    list[str] | None, typer.Option("--limit", metavar="LIMIT", help=LIMIT_HELP, show_default=DEFAULT_LIMIT)
]
Judged = Annotated[str | None, typer.Option("--variant", help="Judge this one alone.", show_default="all bitwise ones")]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML.")]
Summary = Annotated[Path | None, typer.Option("--summary", metavar="FILE", help="Also write Markdown.")]
Page = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page of it.")]


def requests(
    res: list[str] | None, device: str, task: str, image: Path | None, prompt: str, steps: int, seed: int
) -> tuple[Request, ...]:
    """One of each size; without any, of the size that the device is for."""
    picture = None if image is None else str(existing(image, "picture", folder=False))
    fields = {"task": one_of("task", task, TASKS), "image": picture, "prompt": prompt, "steps": steps, "seed": seed}
    return requests_of(listed(res or []), device, **fields)


def model_of(preset: str, weights: Path | None, attention: str) -> dict[str, Any]:
    """Those fields of a plan that say which model runs, and how."""
    return {
        "preset": one_of("preset", preset, PRESETS),
        "weights": None if weights is None else str(existing(weights, "weights folder", folder=True)),
        "attention": one_of("attention", attention, ATTENTIONS),
    }


def default_variants(*, successive: bool, ablate: bool) -> str:
    return EVERY_VARIANT if successive else FIRST_AND_BEST if ablate else BITWISE_VARIANTS


def names(variants: str) -> tuple[str, ...]:
    return tuple(variant.name for variant in parse_variants(variants))
