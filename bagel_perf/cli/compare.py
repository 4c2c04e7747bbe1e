"""``compare`` on the command line."""

from __future__ import annotations

import random
from typing import Annotated, Any

import typer

from bagel_perf.cli.options import (
    DEFAULT_PROMPT,
    DEFAULT_RESOLVE_PCT,
    Ablate,
    AfterEnv,
    Api,
    Attention,
    BeforeEnv,
    BuiltIns,
    Cases,
    Concurrency,
    Debug,
    Device,
    Image,
    Json,
    Out,
    PairsOrAuto,
    Preset,
    Processes,
    Prompt,
    Quiet,
    Rates,
    Requests,
    Resolutions,
    Resolve,
    Seed,
    Steps,
    Successive,
    Targets,
    Task,
    Timeout,
    Warmup,
    Weights,
    default_variants,
    model_of,
    names,
    requests,
)
from bagel_perf.commands.common import given_options, listed, parse_pairs
from bagel_perf.records.plans import DEVICES, Plan, one_of
from bagel_perf.records.servers import DEFAULT_TIMEOUT_S


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
    prompt: Prompt = DEFAULT_PROMPT,
    steps: Steps = 15,
    seed: Seed = 42,
    preset: Preset = "auto",
    weights: Weights = None,
    device: Device = "auto",
    attention: Attention = "auto",
    pairs: PairsOrAuto = None,
    resolve: Resolve = None,
    processes: Processes = None,
    warmup: Warmup = None,
    api: Api = "chat",
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    concurrency: Concurrency = None,
    rate: Rates = None,
    num_requests: Requests = None,
    out: Out = None,
    html: Annotated[bool, typer.Option("--html", help="Also write report.html, and it as report.md.")] = False,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Runs variants, or files of yours, on the same cases: latency, host syncs, and identity of what they give."""
    # Imported here: rich takes 0.1 s, which --help does not have to wait for.
    from bagel_perf.commands.compare import named_files, run_compare
    from bagel_perf.commands.serving import named_servers

    given = given_options(context)
    served = named_servers(targets or [], given, api, timeout, concurrency, rate, num_requests)
    files = named_files(targets or [], before_env, after_env, given) if served is None else ()
    labels = [each.label for each in (files if served is None else served.servers)]
    plan = Plan(
        kind="compare",
        requests=() if files else requests(res, device if served is None else "cuda", task, image, prompt, steps, seed),
        variants=tuple(labels) or _variants(variants, targets, successive=successive, ablate=ablate),
        targets=files,
        served=served,
        cases=tuple(listed(case or [])),
        seed=seed,
        successive=successive,
        ablate=ablate,
        **model_of(preset, weights, attention),
        device=one_of("device", device, DEVICES),
        **_rounds(pairs, resolve, processes, warmup),
    )
    run_compare(plan, out, json_path, command=context.obj, quiet=quiet, html=html)


def _variants(given: str | None, targets: list[str] | None, *, successive: bool, ablate: bool) -> tuple[str, ...]:
    default = default_variants(successive=successive, ablate=ablate)
    return names(given if given is not None else ",".join(targets or []) or default)


def _rounds(pairs: str | None, resolve: float | None, processes: int | None, warmup: int | None) -> dict[str, Any]:
    """Those fields of a plan that say how often what runs, and in which order."""
    number, resolve_pct = parse_pairs(pairs, resolve, DEFAULT_RESOLVE_PCT)
    order_seed = random.SystemRandom().randrange(2**31)
    return {
        "pairs": number,
        "resolve_pct": resolve_pct,
        "processes": processes,
        "warmup": warmup,
        "order_seed": order_seed,
    }
