"""AR and DiT as Ray actors: each with the model on a device of its own, the KV cache handed over between them.

A request takes a free AR actor, then a free DiT actor, and gives the first back once the second has the cache. So AR
of one request runs beside DiT of another, and as many caches are held as there are actors.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from bagel_perf.measure.stages import Stage, Subject, WallClock, time_stages
from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.records.plans import Plan
from bagel_perf.records.serving import ServeOptions
from bagel_perf.serve.making import HandOver, Made, ModelFacts, PeakMemory, facts_of, released_after_failure
from bagel_perf.serve.refusals import ApiError
from bagel_perf.simulated import active_device
from bagel_perf.subjects.bagel.edit import RequestInputs, edit_subject
from bagel_perf.subjects.bagel.loading import bind, load
from bagel_perf.subjects.bagel.model.prefill import ContextCache

Transport = str
"""``object_store``, or one of Ray's tensor transports: ``nccl``, ``gloo``."""
START_S = 600.0
MAX_REASON = 200
RETRY_S = 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """One stage of a request: what it gave, its latency, and peak memory in MiB (None where unknown)."""

    output: Any
    latency_ms: float
    peak_memory_mb: float | None


class StageActor:
    """A model on a device, and the KV cache of the request that it works on. An actor runs one call at a time."""

    def __init__(self, plan: Plan, transport: Transport) -> None:
        self._loaded = load(plan, lambda text, done, total: None)
        self._variant = plan.variants[0]
        self._is_by_store = transport == "object_store"
        self._cache: ContextCache | None = None
        gc.collect()
        gc.freeze()  # what stays is not looked through before each request

    def facts(self) -> ModelFacts:
        """What the server has to know of the model."""
        return facts_of(self._loaded)

    def forget(self) -> None:
        """Drops the KV cache of a request that failed."""
        self._cache = None

    def _run(self, inputs: RequestInputs, number: int, value: object) -> StageRun:
        model = self._loaded.model
        peak = PeakMemory(model.device)
        with released_after_failure(model.device):
            stage = edit_subject(model, inputs, bind(self._variant)).stages[number]
            alone = Subject(stages=(Stage(name=stage.name, run=lambda _: stage.run(value)),))
            outcome = time_stages(alone, WallClock(device=model.device))
        return StageRun(output=outcome.output, latency_ms=outcome.latency_ms[stage.name], peak_memory_mb=peak.read_mb())


class ArActor(StageActor):
    """From host inputs to the KV cache."""

    def run(self, inputs: RequestInputs) -> tuple[float, float | None]:
        """Makes the KV cache and keeps it; gives the latency in ms and peak memory in MiB."""
        run = self._run(inputs, 0, None)
        self._cache = run.output
        return run.latency_ms, run.peak_memory_mb

    def give(self) -> ContextCache:
        """Gives the KV cache away."""
        cache, self._cache = self._cache, None
        assert cache is not None
        return _mapped(cache, torch.device("cpu")) if self._is_by_store else cache


class DitActor(StageActor):
    """From the KV cache to the picture."""

    def take(self, cache: ContextCache) -> int:
        """Keeps a KV cache on this device; gives its bytes."""
        device = self._loaded.model.device
        self._cache = _mapped(cache, device)
        WallClock(device=device).synchronize()
        return sum(_num_bytes(layer.key_PKE) + _num_bytes(layer.value_PKE) for layer in cache.layers)

    def run(self, inputs: RequestInputs) -> StageRun:
        """Makes the picture of the KV cache that was taken."""
        cache, self._cache = self._cache, None
        return self._run(inputs, 1, cache)


@dataclasses.dataclass(slots=True, kw_only=True)
class SplitStages:
    """Makes pictures with the actors that are free."""

    ars: Sequence[Any]
    dits: Sequence[Any]
    transport: Transport
    facts: ModelFacts
    _free_ars: queue.SimpleQueue[Any] = dataclasses.field(default_factory=queue.SimpleQueue)
    _free_dits: queue.SimpleQueue[Any] = dataclasses.field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        for actors, free in ((self.ars, self._free_ars), (self.dits, self._free_dits)):
            for actor in actors:
                free.put(actor)

    @property
    def num_at_once(self) -> int:
        return len(self.ars) + len(self.dits)

    def make(self, inputs: RequestInputs) -> Made:
        """Runs AR, hands the KV cache over, runs DiT; raises what an actor raised, ``ApiError`` where one has died."""
        try:
            with ExitStack() as held:
                with _taken(self._free_ars) as ar:
                    ar_ms, ar_peak_mb = ray.get(ar.run.remote(inputs))
                    waits_since_s = time.perf_counter()
                    dit = held.enter_context(_taken(self._free_dits))
                    wait_ms = (time.perf_counter() - waits_since_s) * 1e3
                    hand_over = self._hand_over(ar, dit)
                run = ray.get(dit.run.remote(dataclasses.replace(inputs, picture=None)))
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            raise _unavailable() from error
        peaks = [peak for peak in (ar_peak_mb, run.peak_memory_mb) if peak is not None]
        return Made(
            png=run.output,
            ar_ms=ar_ms,
            dit_ms=run.latency_ms,
            peak_memory_mb=max(peaks, default=None),
            hand_over=hand_over,
            dit_wait_ms=wait_ms,
        )

    def _hand_over(self, ar: Any, dit: Any) -> HandOver:
        """Timed by one clock, from the request to give to the answer that the cache is there: all that it costs."""
        start_s = time.perf_counter()
        give = ar.give if self.transport == "object_store" else ar.give.options(tensor_transport=self.transport)
        num_bytes = ray.get(dit.take.remote(give.remote()))
        latency_ms = (time.perf_counter() - start_s) * 1e3
        return HandOver(num_bytes=num_bytes, latency_ms=latency_ms, transport=self.transport)

    def close(self) -> None:
        """Ends the actors, and Ray where it was started here."""
        ray.shutdown()


@contextmanager
def _taken(free: queue.SimpleQueue[Any]) -> Iterator[Any]:
    """An actor of its own for a request; where that fails, the actor forgets it."""
    actor = free.get()
    try:
        yield actor
    except Exception:
        actor.forget.remote()
        raise
    finally:
        free.put(actor)


def _unavailable() -> ApiError:
    message = "a process of a stage has died; it starts anew where it can"
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code="stage_unavailable", retry_after_s=RETRY_S)


def split_stages(options: ServeOptions) -> SplitStages:
    """Starts Ray, unless RAY_ADDRESS names a cluster, and the actors; raises ``EnvironmentUnfit`` for too few GPUs.

    Of the simulated device each process has one of its own, of which Ray knows nothing.
    """
    on_gpu = options.plan.device != "cpu" and torch.cuda.is_available() and active_device() is None
    transport = options.kv_transport
    if transport == "auto":
        transport = "nccl" if on_gpu else "object_store"
    if transport == "nccl" and not on_gpu:
        raise EnvironmentUnfit("NCCL needs GPUs", value="--kv-transport nccl", remedy="take object_store or gloo")
    num_actors = options.ar_replicas + options.dit_replicas
    _start_ray(num_actors, on_gpu=on_gpu)
    classes = [ArActor] * options.ar_replicas + [DitActor] * options.dit_replicas
    actors = [_remote(each, transport, on_gpu=on_gpu).remote(options.plan, transport) for each in classes]
    facts = ray.get([actor.facts.remote() for actor in actors], timeout=START_S)
    if transport != "object_store":
        _join(actors, transport)
    ars, dits = actors[: options.ar_replicas], actors[options.ar_replicas :]
    return SplitStages(ars=ars, dits=dits, transport=transport, facts=facts[0])


def _start_ray(num_actors: int, *, on_gpu: bool) -> None:
    """Each process finds this package, and computes with as many threads as this one would."""
    root = str(Path(__file__).parents[2])
    variables = {
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "NCCL_NVLS_ENABLE": os.environ.get("NCCL_NVLS_ENABLE", "0"),
    }
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if "RAY_ADDRESS" in os.environ:
        ray.init(runtime_env={"env_vars": variables}, **quiet)
    else:
        os.environ.update(variables, RAY_USAGE_STATS_ENABLED="0")  # Ray's processes inherit them
        ray.init(address="local", num_cpus=num_actors, include_dashboard=False, **quiet)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_gpus = int(resources.get("GPU", 0))
    if on_gpu and num_gpus < num_actors:
        ray.shutdown()
        allowed = f"{num_actors} for AR and DiT, one each"
        raise EnvironmentUnfit("too few GPUs to split", value=num_gpus, allowed=allowed, remedy="leave --split out")


def _remote(actor_class: type[StageActor], transport: Transport, *, on_gpu: bool) -> Any:
    """Ray starts anew what died, unless a group would have to be told, and loads the model again."""
    by_store = transport == "object_store"
    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1 if on_gpu else 0, "max_restarts": -1 if by_store else 0}
    if not by_store:
        options["enable_tensor_transport"] = True
    return ray.remote(**options)(actor_class)


def _join(actors: Sequence[Any], transport: Transport) -> None:
    """Makes one group of all actors, so that tensors go from one to the other; raises ``EnvironmentUnfit``."""
    from ray.experimental.collective import create_collective_group  # alpha, and only these transports need it

    try:
        create_collective_group(list(actors), backend=transport)
    except Exception as error:  # a missing library, a network that is closed
        ray.shutdown()
        remedy = "--kv-transport object_store does without"
        raise EnvironmentUnfit(
            "the processes cannot be joined", value=transport, allowed=str(error)[:MAX_REASON], remedy=remedy
        ) from error


def _mapped(cache: ContextCache, device: torch.device) -> ContextCache:
    layers = tuple(
        dataclasses.replace(layer, key_PKE=layer.key_PKE.to(device), value_PKE=layer.value_PKE.to(device))
        for layer in cache.layers
    )
    return dataclasses.replace(cache, layers=layers)


def _num_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
