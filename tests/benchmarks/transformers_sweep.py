"""Runs every causal language model of transformers on the simulated device: ``transformers_sweep.py [CLASS ...]``.

Each class is built with a tiny random configuration in a process of its own, on the CPU first. Then it is built on
"meta" and given memory on the device, moved to the device, and run there: loss, backward pass and four greedy tokens.
They are held to the CPU's to the bit. Without names all classes run, and the table goes to reports/transformers-sweep.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # noqa: E402

from bagel_perf.simulated import SimulatedCuda  # noqa: E402
from sweeps import counted, isolated, markdown, one_line, rows_of, verdict, versions  # noqa: E402
from transformers_tiny import MAX_PARAMETERS, tiny_configurations  # noqa: E402

NUM_TOKENS, NUM_NEW_TOKENS = 12, 4
HEADERS = ("class", "on meta", "runs", "loss", "gradients", "tokens", "syncs in forward", "unjudged", "error")


@dataclass
class Row:
    """What became of one class; ``error`` is the first one on the device, or the reason why the CPU has no model."""

    name: str
    on_cpu: bool = False
    on_meta: bool = False
    runs: bool = False
    loss: str = ""
    gradients: str = ""
    tokens: str = ""
    syncs: dict[str, int] = field(default_factory=dict)
    unjudged: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass
class Results:
    """What a model gives for one batch."""

    loss: Any = None
    gradients: list[Any] = field(default_factory=list)
    tokens: Any = None
    errors: dict[str, str] = field(default_factory=dict)


def build(model_type: str, class_name: str) -> tuple[Any, Any]:
    """A model of the smallest configuration that it can be built and run with on the CPU, and the configuration."""
    kind, failures = getattr(transformers, class_name), []
    for config in tiny_configurations(kind.config_class or CONFIG_MAPPING[model_type], model_type):
        try:
            with torch.device("meta"):
                if sum(weight.numel() for weight in kind(copy.deepcopy(config)).parameters()) > MAX_PARAMETERS:
                    failures.append("too large")
                    continue
            torch.manual_seed(0)
            model = kind(copy.deepcopy(config)).eval()
            with torch.no_grad():
                if model(**batch("cpu")).loss is None:
                    failures.append("gives no loss")
                    continue
            return model, config
        except Exception as error:
            failures.append(one_line(error))
    raise RuntimeError(failures[0] if failures else "no configuration")


def batch(device: str) -> dict[str, Any]:
    ids = torch.arange(4, 4 + 2 * NUM_TOKENS).view(2, NUM_TOKENS)
    return {"input_ids": ids.to(device), "labels": ids.to(device)}


def run(model: Any, device: str) -> Results:
    """Loss, gradients and tokens; what fails is kept as an error, and the rest goes on."""
    found, inputs = Results(), batch(device)
    try:
        torch.manual_seed(1)
        found.loss = model(**inputs).loss
        torch.manual_seed(1)
        model.train()
        model(**inputs).loss.backward()
        found.gradients = [None if weight.grad is None else weight.grad.cpu() for weight in model.parameters()]
    except Exception as error:
        found.errors["forward" if found.loss is None else "backward"] = one_line(error)
    try:
        model.eval()
        torch.manual_seed(1)
        options = {"max_new_tokens": NUM_NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
        found.tokens = model.generate(inputs["input_ids"], **options).cpu()
    except Exception as error:
        found.errors["generate"] = one_line(error)
    return found


def sweep_one(model_type: str, class_name: str) -> Row:
    row = Row(class_name)
    try:
        model, config = build(model_type, class_name)
    except BaseException as error:
        row.error = str(error)[:300]
        return row
    row.on_cpu = True
    twin = copy.deepcopy(model)
    on_cpu = run(model, "cpu")
    waits: list[str] = []
    with SimulatedCuda(waits.append) as device:
        build_on_meta(row, config, class_name)
        try:
            count_forward(row, device, waits, twin.to("cuda"))
        except Exception as error:
            row.error = row.error or f"forward: {one_line(error)}"
            return row
        row.runs = True
        compare(row, on_cpu, run(twin, "cuda"))
        row.unjudged = dict(device.unjudged)
        row.notes = dict(device.notes)
    return row


def build_on_meta(row: Row, config: Any, class_name: str) -> None:
    try:
        with torch.device("meta"):
            model = getattr(transformers, class_name)(copy.deepcopy(config))
        model.to_empty(device="cuda")
        assert all(weight.is_cuda for weight in model.parameters())
        row.on_meta = True
    except Exception as error:
        row.error = f"meta: {one_line(error)}"


def count_forward(row: Row, device: SimulatedCuda, waits: list[str], model: Any) -> None:
    inputs = batch("cuda")
    waits.clear()
    device.unjudged.clear()
    model(**inputs)
    row.syncs = dict(Counter(waits))


def compare(row: Row, on_cpu: Results, on_device: Results) -> None:
    for name, message in on_device.errors.items():
        if name not in on_cpu.errors:
            row.error = row.error or f"{name}: {message}"
    row.loss = verdict(on_cpu.loss, on_device.loss)
    row.tokens = "fails on CPU" if "generate" in on_cpu.errors else verdict(on_cpu.tokens, on_device.tokens)
    if "backward" in on_cpu.errors or "forward" in on_cpu.errors:
        row.gradients = "fails on CPU"
    elif len(on_cpu.gradients) != len(on_device.gradients):
        row.gradients = "missing"
    else:
        pairs = zip(on_cpu.gradients, on_device.gradients, strict=True)
        differing = [found for found in (verdict(*pair) for pair in pairs) if found != "equal"]
        row.gradients = differing[0] if differing else "equal"


def readme(rows: list[Row]) -> str:
    on_cpu = [row for row in rows if row.on_cpu]
    cells = [
        (
            row.name,
            *("yes" if fact else "no" for fact in (row.on_meta, row.runs)),
            *(row.loss, row.gradients, row.tokens, counted(row.syncs)),
            ", ".join(sorted(row.unjudged)),
            row.error,
        )
        for row in on_cpu
    ]
    failing = [(row.name, row.error) for row in rows if not row.on_cpu]
    equal = {what: sum(getattr(row, what) == "equal" for row in on_cpu) for what in ("loss", "gradients", "tokens")}
    summary = f"""Tiny random configurations of {len(rows)} classes, of which {len(on_cpu)} run on the CPU. Of these

* {sum(row.on_meta for row in on_cpu)} are built on "meta" and given memory on the device,
* {sum(row.runs for row in on_cpu)} run there,
* {equal["loss"]} have the CPU's loss to the bit, {equal["gradients"]} its gradients,
* {equal["tokens"]} its next {NUM_NEW_TOKENS} tokens."""
    return f"""# Causal language models of transformers on the simulated device

Written by `tests/benchmarks/transformers_sweep.py`: {versions("torch", "transformers")}.

{summary}

"Syncs in forward" are the waits of one forward pass with a loss. An operator that is unjudged in the forward pass, the
backward pass or generating is named.

{markdown(HEADERS, cells)}

## Without a model on the CPU

The script found no small configuration that these can be built and run with on the CPU.

{markdown(("class", "why"), failing)}
"""


def classes(chosen: list[str]) -> dict[str, str]:
    """Names of classes, each with the type of its models."""
    found: dict[str, str] = {}
    for model_type, names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        for name in [names] if isinstance(names, str) else names:
            if not chosen or name in chosen:
                found.setdefault(name, model_type)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("classes", nargs="*")
    parser.add_argument("--rows", type=Path, nargs="*", help="what was printed before; runs nothing")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = rows_of(Row, options.rows) if options.rows else sweep(options.classes)
    if options.out:
        options.out.write_text(readme(sorted(rows, key=lambda row: row.name.lower())))


def sweep(chosen: list[str]) -> list[Row]:
    transformers.utils.logging.set_verbosity(logging.CRITICAL)
    rows = []
    for name, model_type in classes(chosen).items():
        found = isolated(sweep_one, (model_type, name))
        rows.append(found if isinstance(found, Row) else Row(name, error=found))
        print(asdict(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    main()
