"""``serve`` on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from bagel_perf.cli.options import Attention, Debug, Device, Json, Preset, Quiet, Weights, model_of
from bagel_perf.records.bagel import best_bitwise
from bagel_perf.records.plans import DEVICES, Plan, one_of
from bagel_perf.records.serving import KV_TRANSPORTS, ServeOptions


def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Variant that makes the pictures.")
    ] = best_bitwise().name,
    preset: Preset = "auto",
    weights: Weights = None,
    device: Device = "auto",
    attention: Attention = "auto",
    api_key: Annotated[
        str | None, typer.Option(envvar="BAGEL_PERF_API_KEY", help="Ask for this key.", show_default="none")
    ] = None,
    max_queue: Annotated[int, typer.Option(help="Requests that may wait; beyond it 429.")] = 16,
    max_pixels: Annotated[int, typer.Option(help="Pixels of a picture, sent or asked for.")] = 4096 * 4096,
    max_steps: Annotated[int, typer.Option(help="Points of a request's schedule.")] = 100,
    max_body_mb: Annotated[int, typer.Option(help="MiB of a request.")] = 32,
    drain: Annotated[float, typer.Option(metavar="SECONDS", help="How long SIGTERM waits for those in line.")] = 60.0,
    split: Annotated[bool, typer.Option("--split", help="AR and DiT in processes of their own, by Ray.")] = False,
    ar_replicas: Annotated[int, typer.Option(help="With --split: processes of AR.")] = 1,
    dit_replicas: Annotated[int, typer.Option(help="With --split: processes of DiT.")] = 1,
    kv_transport: Annotated[
        str, typer.Option(metavar="|".join(KV_TRANSPORTS), help="With --split; auto: nccl on GPUs, else object_store.")
    ] = "auto",
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Serves BAGEL in the form of API that vLLM-Omni's clients use."""
    options = ServeOptions(
        plan=Plan(
            kind="serve",
            variants=(variant,),
            device=one_of("device", device, DEVICES),
            **model_of(preset, weights, attention),
        ),
        host=host,
        port=port,
        api_key=api_key,
        max_queue=max_queue,
        max_pixels=max_pixels,
        max_steps=max_steps,
        max_body_mb=max_body_mb,
        drain_s=drain,
        split=split,
        ar_replicas=ar_replicas,
        dit_replicas=dit_replicas,
        kv_transport=one_of("kv transport", kv_transport, KV_TRANSPORTS),
        json_path=json_path,
        quiet=quiet,
    )
    from bagel_perf.commands.serve import run_serve

    run_serve(options)
