"""How often each operator waits on a GPU, over the samples that torch's own tests use.

``operator_waits.py measure PART PARTS FILE`` runs one part of torch's databases of operators, modules and optimizers,
forwards and backwards, and appends what it saw to FILE, a JSON object a line; parts may run side by side.
``operator_waits.py merge OUT FILE...`` makes the tables out of them: the waits of each operator, from which the rules
take what never waits, and those of each sample and expression, to which tests hold the simulated device.

Waits are told by CUDA's callbacks, operator by operator; CUPTI is asked once for each entry of the databases, since a
library that waits inside an operator calls nobody back. Needs ``expecttest``, and a GPU to measure.
"""

from __future__ import annotations

import bisect
import gzip
import json
import os
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import sync_catalogue
import sync_expressions
from sync_table_cases import operands

MAX_SAMPLES = 24
MAX_SECONDS = 10.0
"""For all samples of an entry in one dtype: a few of them would take minutes."""
OTHER_DTYPES = (torch.int64, torch.bool, torch.complex64, torch.bfloat16)
WITH_CUPTI = ("float32", "complex64", "expressions", "models")
EXPRESSIONS_AT_ONCE = 12
NUM_CATALOGUE_PARTS = 12
MODELS = ("Llama", "Qwen2", "Qwen3", "Qwen3Moe", "Mixtral", "Gemma2", "Phi3", "GPT2", "OPT", "Bloom", "Falcon", "Mamba")
TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SYNC_CALLS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cuStreamSynchronize",
    "cuCtxSynchronize",
    "cuEventSynchronize",
)


class Heard:
    """Counts the waits that CUDA's callbacks tell of."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, kind: object) -> None:
        self.count += 1


class Tap(TorchDispatchMode):
    """Notes how often the host waits in each operator; ``seen`` are calls by operator and number of waits."""

    def __init__(self, heard: Heard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.examples: dict[tuple[str, int], str] = {}
        self._heard = heard

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._heard.count
        result = func(*args, **(kwargs or {}))
        if on_device((args, kwargs or {}, result)) and all(map(is_strided, _tensors((args, kwargs or {})))):
            key = str(func), self._heard.count - before
            self.seen[key] += 1
            if key[1] and key not in self.examples:
                self.examples[key] = signature(args, kwargs or {})
        return result


def on_device(value: Any) -> bool:
    """Whether a CUDA tensor is in a nest of values."""
    if isinstance(value, Tensor):
        return value.device.type == "cuda"
    if isinstance(value, dict):
        return any(map(on_device, value.values()))
    return isinstance(value, list | tuple) and any(map(on_device, value))


def is_strided(tensor: Tensor) -> bool:
    """Whether a tensor is of the ordinary layout, the only one that the rules speak of."""
    return tensor.layout is torch.strided and not tensor.is_nested


def signature(args: Any, kwargs: dict[str, Any]) -> str:
    """Arguments of a sample as a short text, the same on every device and version of torch."""
    named = (f"{name}={_short(value)}" for name, value in sorted(kwargs.items()))
    return ", ".join([*map(_short, args), *named])


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_short, value))})"
    if isinstance(value, torch.dtype | str | int | float | complex | None):
        return str(value).removeprefix("torch.")
    return type(value).__name__


Call = Callable[[], object]
Sample = tuple[str, Callable[[], tuple[Call, Call | None]]]
"""Signature of a sample, and what makes its forward pass and, where it has one, its backward pass."""


def moved(value: Any, move: Callable[[Tensor], Any]) -> Any:
    """A nest of values whose tensors are moved."""
    if isinstance(value, Tensor):
        return move(value)
    if isinstance(value, list | tuple):
        items = [moved(item, move) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {name: moved(item, move) for name, item in value.items()} if isinstance(value, dict) else value


def _forward_and_backward(function: Callable[..., Any], args: Any, kwargs: Any, grad: bool) -> tuple[Call, Call | None]:
    held: list[Any] = []

    def forward() -> object:
        held[:] = [function(*args, **kwargs)]
        return held[0]

    def backward() -> object:
        outputs = [each for each in _tensors(held[0]) if each.requires_grad]
        inputs = [each for each in _tensors((args, kwargs)) if each.requires_grad]
        if not outputs or not inputs:
            return None
        seeds = [torch.ones_like(each) for each in outputs]
        return torch.autograd.grad(outputs, inputs, seeds, allow_unused=True)

    return forward, backward if grad else None


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list | tuple) else []


def spread(items: list[Any], most: int) -> list[Any]:
    """At most so many of some items, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


Make = Callable[[str], list[Sample]]
"""What makes the samples of an entry on a device."""


def entries() -> list[tuple[str, Make]]:
    """Everything that is measured, by name: every operator in each of its dtypes, modules, and optimizers."""
    from torch.testing._internal import common_methods_invocations as operators
    from torch.testing._internal.common_modules import module_db
    from torch.testing._internal.common_optimizers import optim_db

    found: list[tuple[str, Make]] = []
    for info in operators.op_db:
        name = f"{info.name}{info.variant_test_name and '.'}{info.variant_test_name}"
        for dtype in (torch.float32, *OTHER_DTYPES):
            if dtype in info.supported_dtypes("cuda") and dtype in info.supported_dtypes("cpu"):
                found.append((f"{name}|{str(dtype).removeprefix('torch.')}", _of_operator(info, dtype)))
    names = [name for name in sorted(vars(operators)) if name.startswith("foreach_") and name.endswith("_op_db")]
    for info in (each for name in names for each in getattr(operators, name)):
        found.append((f"{info.name}|float32", _of_lists(info)))
    found += [(f"nn.{info.name}|float32", _of_module(info)) for info in module_db]
    found += [(f"optim.{info.optim_cls.__name__}|float32", _of_optimizer(info)) for info in optim_db]  # type: ignore[attr-defined]
    for first in range(0, len(sync_expressions.EXPRESSIONS), EXPRESSIONS_AT_ONCE):
        found.append((f"{first}|expressions", _of_expressions(first)))
    found += [(f"{number}|catalogue", _of_catalogue(number)) for number in range(NUM_CATALOGUE_PARTS)]
    return [*found, *((f"{name}|models", _of_model(name)) for name in MODELS)]


def _of_expressions(first: int) -> Make:
    """Each expression under autograd as the forward pass, and under inference mode as the backward one."""

    def make(device: str) -> list[Sample]:
        some = sync_expressions.EXPRESSIONS[first : first + EXPRESSIONS_AT_ONCE]
        return [(text, _both_modes(text, device)) for text, _ in some]

    return make


def _both_modes(text: str, device: str) -> Callable[[], tuple[Call, Call | None]]:
    def bind() -> tuple[Call, Call | None]:
        made = iter([sync_expressions.names(device) for _ in range(12)])  # making operands waits

        def forward() -> None:
            sync_expressions.evaluate(text, next(made))

        def in_inference_mode() -> None:
            with torch.inference_mode():
                sync_expressions.evaluate(text, next(made))

        return forward, None if "backward" in text else in_inference_mode

    return bind


def _of_catalogue(number: int) -> Make:
    """A part of the catalogue's expressions and steps."""

    def make(device: str) -> list[Sample]:
        found: list[Sample] = []
        for text, _ in sync_catalogue.EXPRESSIONS[number::NUM_CATALOGUE_PARTS]:
            found.append((text, _evaluation(text, device)))
        for name, (step, _) in list(sync_catalogue.STEPS.items())[number::NUM_CATALOGUE_PARTS]:
            found.append((name, _step_of_catalogue(step, device)))
        return found

    return make


def _evaluation(text: str, device: str) -> Callable[[], tuple[Call, None]]:
    def bind() -> tuple[Call, None]:
        made = iter([operands(torch.device(device)) for _ in range(8)])
        return lambda: sync_catalogue.evaluate(text, next(made)), None

    return bind


def _step_of_catalogue(step: Any, device: str) -> Callable[[], tuple[Call, None]]:
    return lambda: (step(operands(torch.device(device))), None)


def _of_model(name: str) -> Make:
    """A causal language model of transformers, tiny: its loss, the loss's gradients, and some tokens of an answer."""

    def make(device: str) -> list[Sample]:
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**TINY)
        model = getattr(transformers, f"{name}ForCausalLM")(config).to(device)
        ids = torch.arange(12, device=device)[None] + 3

        def train() -> None:
            model(input_ids=ids, labels=ids).loss.backward()

        def answer() -> None:
            with torch.inference_mode():
                model.generate(ids, max_new_tokens=3, do_sample=False)

        return [("loss", lambda: (train, None)), ("answer", lambda: (answer, None))]

    return make


def _of_operator(info: Any, dtype: torch.dtype) -> Make:
    def make(device: str) -> list[Sample]:
        grad = dtype is torch.float32 and info.supports_autograd
        torch.manual_seed(0)
        given = spread(list(info.sample_inputs(device, dtype, requires_grad=grad)), MAX_SAMPLES)
        found: list[Sample] = []
        for each in given:
            args = (each.input, *each.args)
            found.append((signature(args, each.kwargs), _bound(info.op, args, each.kwargs, grad)))
            if info.inplace_variant is not None and not each.broadcasts_input:
                function = _on_clone(info.inplace_variant)
                found.append((f"in place: {signature(args, each.kwargs)}", _bound(function, args, each.kwargs, False)))
        return found

    return make


def _bound(function: Any, args: Any, kwargs: Any, grad: bool) -> Callable[[], tuple[Call, Call | None]]:
    return lambda: _forward_and_backward(function, args, kwargs, grad)


def _on_clone(inplace: Any) -> Callable[..., Any]:
    def run(first: Any, *args: Any, **kwargs: Any) -> Any:
        return inplace(moved(first, lambda tensor: tensor.detach().clone()), *args, **kwargs)

    return run


def _of_lists(info: Any) -> Make:
    def make(device: str) -> list[Sample]:
        torch.manual_seed(0)
        given = spread(list(info.sample_inputs(device, torch.float32, num_input_tensors=[3])), MAX_SAMPLES)
        found: list[Sample] = []
        for each in given:
            args = (each.input, *each.args)
            functions = {
                "": info.method_variant,
                "in place: ": info.inplace_variant and _on_clone(info.inplace_variant),
            }
            for prefix, function in functions.items():
                if function is not None:
                    text = f"{prefix}{signature(args, each.kwargs)}"
                    found.append((text, _bound(function, args, each.kwargs, False)))
        return found

    return make


def _of_module(info: Any) -> Make:
    def make(device: str) -> list[Sample]:
        found: list[Sample] = []
        for training in (True, False):
            torch.manual_seed(0)
            given = info.module_inputs_func(
                info, device=device, dtype=torch.float32, requires_grad=True, training=training
            )
            for each in spread(list(given), MAX_SAMPLES // 2):
                made = each.constructor_input
                module = info.module_cls(*made.args, **made.kwargs).to(device).train(training)
                args, kwargs = each.forward_input.args, each.forward_input.kwargs
                text = (
                    f"{'train' if training else 'eval'} {signature(made.args, made.kwargs)}: {signature(args, kwargs)}"
                )
                found.append((text, _bound(module, args, kwargs, True)))
        return found

    return make


def _of_optimizer(info: Any) -> Make:
    def make(device: str) -> list[Sample]:
        found: list[Sample] = []
        for given in info.optim_inputs_func(device=device):
            for flags in ({}, {"foreach": True}, {"foreach": False}, {"fused": True}):
                if all(name in info.supported_impls for name in flags):
                    kwargs = {**given.kwargs, **flags}
                    found.append((signature((), kwargs), _step(info.optim_cls, kwargs, device)))
        return found

    return make


def _step(optimizer: Any, kwargs: dict[str, Any], device: str) -> Callable[[], tuple[Call, None]]:
    def make() -> tuple[Call, None]:
        torch.manual_seed(0)
        parameters = [torch.randn(4, 4, device=device, requires_grad=True) for _ in range(3)]
        steps = optimizer(parameters, **kwargs)

        def loss() -> Tensor:
            steps.zero_grad()
            total: Tensor = sum((each * each).sum() for each in parameters)  # type: ignore[assignment]
            total.backward()
            return total

        loss()
        return lambda: steps.step(loss if type(steps).__name__ == "LBFGS" else None), None

    return make


def measure(part: int, parts: int, out: Path) -> None:
    """Measures every ``parts``-th entry, from number ``part`` on."""
    from bagel_perf.syncs.cuda import listening_to_cuda

    heard = Heard()
    torch.autograd.set_multithreading_enabled(False)
    with out.open("a", encoding="utf-8") as file, listening_to_cuda(heard):
        for name, make in entries()[part::parts]:
            file.write(json.dumps(_measured(name, make, heard)) + "\n")
            file.flush()


def _measured(name: str, make: Make, heard: Heard) -> dict[str, Any]:
    tap, rows, failed = Tap(heard), [], ""
    ready: list[tuple[Call, Call | None]] = []
    begun_s = time.monotonic()
    try:
        for text, bind in make("cuda"):
            if time.monotonic() - begun_s > MAX_SECONDS:
                break
            try:
                forward, backward = bind()
                _run(forward, backward)  # the first call may load and compile
                counts = _counted(forward, backward, heard)
                with tap:
                    _run(forward, backward)
                rows.append([text, *counts])
                ready.append((forward, backward))
            except Exception as problem:
                failed = f"{text[:60]}: {type(problem).__name__}: {problem}"[:200]
                if "CUDA error" in failed:
                    raise
        if name.endswith(WITH_CUPTI):
            for row, beyond in zip(rows, _seen_by_cupti(ready, heard), strict=True):
                row.append(beyond)
    except Exception as problem:
        failed = f"{type(problem).__name__}: {problem}"[:200]
    seen = [[name, waits, calls, tap.examples.get((name, waits), "")] for (name, waits), calls in tap.seen.items()]
    return {"name": name, "rows": rows, "operators": seen, "failed": failed}


def _run(forward: Call, backward: Call | None) -> None:
    forward()
    if backward is not None:
        backward()


def _counted(forward: Call, backward: Call | None, heard: Heard) -> tuple[int, int]:
    """Waits of either pass; nobody else looks, since some formulas of autograd differ where somebody does."""
    counts = []
    for call in (forward, backward):
        before = heard.count
        if call is not None:
            call()
        counts.append(heard.count - before)
    return counts[0], counts[1]


def _seen_by_cupti(ready: list[tuple[Call, Call | None]], heard: Heard) -> list[dict[str, int]]:
    """Of each sample the waits that only a profile shows, by the operator around them; empty where there are none."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    told = []
    with torch.profiler.profile(activities=activities) as profiler:
        for number, each in enumerate(ready):
            before = heard.count
            with torch.profiler.record_function(f"sample {number}"):
                _run(*each)
            told.append(heard.count - before)
        torch.cuda.synchronize()
    results: Any = profiler.profiler
    events = sorted(results.kineto_results.events(), key=lambda event: int(event.start_ns()))
    windows = {event.name(): event for event in events if event.name().startswith("sample ")}
    return [_beyond(told[number], windows[f"sample {number}"], events) for number in range(len(ready))]


def _beyond(told: int, window: Any, events: list[Any]) -> dict[str, int]:
    starts = [event.start_ns() for event in events]
    first = bisect.bisect_left(starts, window.start_ns())
    last = bisect.bisect_right(starts, window.start_ns() + window.duration_ns())
    inside = events[first:last]
    waits = [event for event in inside if event.name() in SYNC_CALLS]
    return dict(Counter(_innermost(inside, event) for event in waits)) if len(waits) > told else {}


def _innermost(events: list[Any], wait: Any) -> str:
    found = [
        event
        for event in events
        if event.name().startswith("aten::")
        and event.start_ns() <= wait.start_ns() <= event.start_ns() + event.duration_ns()
    ]
    return str(max(found, key=lambda event: int(event.start_ns())).name()) if found else ""


_SEEN_BY_BOTH = ("aten::copy_", "aten::_local_scalar_dense", "aten::item", "aten::nonzero", "")
"""Operators whose waits the callbacks tell of; a profile may lose or shift a row of theirs."""


def merge(out: Path, files: Iterable[str]) -> None:
    """Writes into a folder what the rules and the tests read, and a table for people.

    ``quiet_operators.json`` (operators that never waited), ``sync_expressions.json``, ``operator_samples.json.gz``
    (the waits of each sample), ``operators.json`` (calls of each operator by number of waits, and what failed).
    """
    lines = sorted(_lines(files), key=lambda line: str(line["name"]))
    about = {"measured_on": _device_name(), "torch": torch.__version__}
    operators = _operators(lines)
    failed = {line["name"]: line["failed"] for line in lines if line["failed"]}
    _write(out / "operators.json", {**about, "operators": operators, "failed": failed})
    _write(out / "quiet_operators.json", {**about, "operators": _quiet(operators)})
    _write(out / "sync_expressions.json", {**about, "expressions": list(_expressions(lines))})
    samples = {line["name"]: [row[:3] for row in line["rows"]] for line in lines if _is_of_databases(line)}
    with gzip.open(out / "operator_samples.json.gz", "wt", encoding="utf-8") as file:
        json.dump({**about, "samples": samples}, file)
    num_waiting = sum(set(each["waits"]) > {0} for each in operators.values())
    print(f"{len(lines)} entries, {sum(map(len, samples.values()))} samples, {len(failed)} with failures")
    print(f"{len(operators)} operators, of which {num_waiting} wait, {len(_quiet(operators))} names never")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=0), encoding="utf-8")


def _is_of_databases(line: dict[str, Any]) -> bool:
    return bool(line["rows"]) and not line["name"].endswith(("expressions", "catalogue", "models"))


def _operators(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: defaultdict[str, dict[str, Any]] = defaultdict(lambda: {"waits": Counter()})
    for line in lines:
        for operator, waits, calls, example in line["operators"]:
            found[operator]["waits"][waits] += calls
            if example:
                found[operator].setdefault("examples", {}).setdefault(waits, f"{line['name']}: {example}")
        for row in line["rows"]:
            for name in _library_waits(row):
                found[name.replace("::", ".")].setdefault("library", f"{line['name']}: {row[0]}")
    return dict(sorted(found.items()))


def _library_waits(row: list[Any]) -> list[str]:
    """Operators inside which a profile saw more waits than the callbacks told of."""
    return [name for name in (row[3] if len(row) > 3 else ()) if name not in _SEEN_BY_BOTH]


def _quiet(operators: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    library = {name for name, each in operators.items() if "library" in each}
    found: dict[str, list[str]] = {}
    for name, each in operators.items():
        base, _, overload = name.rpartition(".")
        if set(each["waits"]) == {0} and base.startswith("aten.") and base not in library:
            found.setdefault(base.removeprefix("aten."), []).append(overload)
    return found


def _expressions(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """In the order of the texts; under inference mode they waited as often, or could not run there."""
    rows = {row[0]: row for line in lines if line["name"].endswith("expressions") for row in line["rows"]}
    for text, _ in sync_expressions.EXPRESSIONS:
        if text in rows:
            _, waits, inference, *_ = rows[text]
            assert "backward" in text or waits == inference, text
            library = _library_waits(rows[text])
            yield {"expression": text, "waits": waits, **({"library": library} if library else {})}


def _lines(files: Iterable[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTORCH_JIT", "0")
    if sys.argv[1] == "measure":
        measure(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    else:
        merge(Path(sys.argv[2]), sys.argv[3:])
