"""Runs pipelines of diffusers on the simulated device, in each way of keeping their weights: ``diffusers_sweep.py``.

Each pipeline has tiny random components and runs three steps and the decoder. Its output is held to the CPU's to the
bit: after ``.to("cuda")``, and offloaded by model, by parameter and by groups. diffusers and accelerate are to be
installed beside the package. Names of pipelines choose some; ``--out`` writes the table.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import torch  # noqa: E402

from bagel_perf.records.sites import Kind  # noqa: E402
from bagel_perf.simulated import SimulatedCuda  # noqa: E402
from sweeps import counted, isolated, markdown, one_line, rows_of, verdict, versions  # noqa: E402

HEADERS = ("pipeline", "mode", "output", "syncs of the call", "unjudged", "error")
SIZE, NUM_STEPS = 32, 3
PIPELINES = ("Flux", "Stable Diffusion 3", "Qwen-Image", "Wan", "Z-Image", "CogVideoX")


def _group_offload(pipe: Any, **options: Any) -> None:
    pipe.enable_group_offload(onload_device=torch.device("cuda"), offload_device=torch.device("cpu"), **options)


def _group_offload_by_block(pipe: Any) -> None:
    """Keeps an autoencoder on the device whose blocks diffusers does not name: it fails so on CUDA as well."""
    kept = [] if getattr(pipe.vae, "_group_offload_block_modules", None) else ["vae"]
    _group_offload(pipe, offload_type="block_level", num_blocks_per_group=1, exclude_modules=kept)


MODES: dict[str, Callable[[Any], Any]] = {
    "to cuda": lambda pipe: pipe.to("cuda"),
    "model offload": lambda pipe: pipe.enable_model_cpu_offload(),
    "sequential offload": lambda pipe: pipe.enable_sequential_cpu_offload(),
    "group offload by leaf": lambda pipe: _group_offload(pipe, offload_type="leaf_level"),
    "group offload by leaf, streams": lambda pipe: _group_offload(pipe, offload_type="leaf_level", use_stream=True),
    "group offload by block": _group_offload_by_block,
}


@dataclass
class Row:
    """What became of one pipeline in one mode."""

    name: str
    mode: str = ""
    output: str = ""
    syncs: dict[str, int] = field(default_factory=dict)
    unjudged: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    error: str = ""


def run(pipe: Any, inputs: dict[str, Any], device: str) -> Any:
    """The frames of one request, decoded; shape and type are the pipeline's."""
    pipe.set_progress_bar_config(disable=True)
    placed = {name: _placed(value, device) for name, value in inputs.items()}
    generator = torch.Generator(device).manual_seed(0)
    options = {"height": SIZE, "width": SIZE, "num_inference_steps": NUM_STEPS, "output_type": "pt"}
    result = pipe(**placed, **options, generator=generator)
    return result.frames if hasattr(result, "frames") else result.outputs


def _placed(value: Any, device: str) -> Any:
    if isinstance(value, list):
        return [_placed(item, device) for item in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def made(name: str) -> tuple[Any, dict[str, Any]]:
    """A pipeline and its inputs; imports diffusers here, as it asks at once, and for good, whether there is a GPU."""
    from diffusers_tiny import PIPELINES as makers

    torch.manual_seed(0)
    return makers[name]()


def on_cpu(name: str) -> Any:
    """The output without the device, as an array that another process can have; a sentence where it fails."""
    try:
        return run(*made(name), "cpu").numpy()
    except Exception as error:
        return f"on the CPU: {one_line(error)}"


def sweep_one(name: str, expected: Any) -> list[Row]:
    """One pipeline in each mode."""
    waits: list[Kind] = []
    with SimulatedCuda(waits.append) as device:
        return [one_mode(device, waits, Row(name, mode), torch.from_numpy(expected)) for mode in MODES]


def one_mode(device: SimulatedCuda, waits: list[Kind], row: Row, expected: torch.Tensor) -> Row:
    device.unjudged.clear()
    device.notes.clear()
    try:
        pipe, inputs = made(row.name)
        MODES[row.mode](pipe)
        waits.clear()
        output = run(pipe, inputs, "cuda")
        row.syncs = dict(Counter(waits))
        row.output = verdict(expected, output)
    except Exception as error:
        row.error = one_line(error)
    row.unjudged, row.notes = dict(device.unjudged), dict(device.notes)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pipelines", nargs="*")
    parser.add_argument("--rows", type=Path, nargs="*", help="what was printed before; runs nothing")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = rows_of(Row, options.rows) if options.rows else sweep(options.pipelines or PIPELINES)
    if options.out:
        options.out.write_text(readme(rows))


def sweep(pipelines: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for name in pipelines:
        expected = isolated(on_cpu, (name,))
        found = expected if isinstance(expected, str) else isolated(sweep_one, (name, expected))
        rows += [Row(name, error=found)] if isinstance(found, str) else found
        print(*map(asdict, rows[-len(MODES) :]), sep="\n", flush=True)
    return rows


def readme(rows: list[Row]) -> str:
    num_equal = sum(row.output == "equal" for row in rows)
    cells = [
        (row.name, row.mode, row.output, counted(row.syncs), ", ".join(sorted(row.unjudged)), row.error) for row in rows
    ]
    return f"""# Pipelines of diffusers on the simulated device

Written by `tests/benchmarks/diffusers_sweep.py`: {versions("torch", "transformers", "diffusers", "accelerate")}.

Tiny random components, {NUM_STEPS} steps and the decoder, prompts as embeddings. {num_equal} of {len(rows)} outputs
are the CPU's to the bit. "Syncs of the call" are the waits of one call of the pipeline, which moves weights if they are
offloaded. By block, the autoencoders of Qwen-Image and CogVideoX stay on the device: diffusers names no blocks of them
(`_group_offload_block_modules`), so a convolution outside of the blocks meets host weights, on CUDA as well.

{markdown(HEADERS, cells)}
"""


if __name__ == "__main__":
    main()
