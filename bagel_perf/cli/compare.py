"""``compare`` on the command line."""

from __future__ import annotations

import random
from typing import Annotated

import typer

from bagel_perf.cli.options import (
    DEFAULT_PROMPT,
    DEFAULT_RESOLVE_PCT,
    Ablate,
    AfterEnv,
    Attention,
    BeforeEnv,
    BuiltIns,
    Cases,
    Debug,
    Device,
    Image,
    Json,
    Out,
    PairsOrAuto,
    Preset,
    Processes,
    Quiet,
    Resolutions,
    Resolve,
    Steps,
    Successive,
    Targets,
    Task,
    Warmup,
    Weights,
    default_variants,
    model_of,
    names,
    requests,
)
from bagel_perf.commands.common import given_options, listed, parse_pairs
from bagel_perf.records.plans import DEVICES, Plan, one_of


def compare(
    context: typer.Context,
    targets: Targets = None,
    *,
    case: Cases = None,
    before_env: BeforeEnv = None,
    after_env: AfterEnv = None,
    res: Resolutions = None,
    variants: BuiltIns = None,
    successive: Successive = False,
    ablate: Ablate = False,
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
    """Runs variants, or files of yours, on the same cases: latency, host syncs, and identity of what they give."""
    # Imported here: rich takes 0.1 s, which --help does not have to wait for.
    from bagel_perf.commands.compare import named_files, run_compare

    files = named_files(targets or [], before_env, after_env, given_options(context))
    num_pairs, resolve_pct = parse_pairs(pairs, resolve, DEFAULT_RESOLVE_PCT)
    default = default_variants(successive=successive, ablate=ablate)
    given_names = variants if variants is not None else ",".join(targets or []) or default
    chosen = [target.label for target in files] or names(given_names)
    plan = Plan(
        kind="compare",
        requests=() if files else requests(res, device, task, image, prompt, steps, seed),
        variants=tuple(chosen),
        targets=files,
        cases=tuple(listed(case or [])),
        seed=seed,
        successive=successive,
        ablate=ablate,
        **model_of(preset, weights, attention),
        device=one_of("device", device, DEVICES),
        pairs=num_pairs,
        resolve_pct=resolve_pct,
        processes=processes,
        warmup=warmup,
        order_seed=random.SystemRandom().randrange(2**31),
    )

    run_compare(plan, out, json_path, command=context.obj, quiet=quiet, html=html)
