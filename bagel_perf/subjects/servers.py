"""Servers as the subject of a comparison: the same requests in random order, stages as the servers tell them.

It runs in the process of the command: a server needs none of ours, and no torch. What a client cannot know of a server
(host syncs, launches, the machine) stays unknown.
"""

from __future__ import annotations

import gc
import itertools
import platform
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from msgspec.structs import replace

from bagel_perf.records.collector import without_collector
from bagel_perf.records.errors import OutputsDiffer, RunFailed
from bagel_perf.records.events import (
    EnvironmentEvent,
    InputEvent,
    LoadEvent,
    ProgressEvent,
    WarningEvent,
)
from bagel_perf.records.loads import Load
from bagel_perf.records.outlines import TOGETHER, WHOLE, Outline, Scalar, SubjectInfo, VariantInfo
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import CaseInput
from bagel_perf.records.runs import (
    Environment,
    OtherSeedRun,
    RepeatedRun,
    StageMemory,
    TimedRun,
    TimedStage,
    WarmupRun,
)
from bagel_perf.records.servers import duration_ms, is_stage
from bagel_perf.records.store import slug
from bagel_perf.subjects.pictures import read_picture
from bagel_perf.subjects.server_client import Answer, ServerClient
from bagel_perf.subjects.server_load import levels_of, loads_of
from bagel_perf.subjects.server_session import Emit, ServerSession, Shown, input_picture

NUM_PROOF_SEEDS = 2
SEEDLESS = "another seed gives the same picture, so one that is kept from an earlier request would pass as computed"
UNSEEDED = "vLLM-Omni's single-stage edit draws noise before its seed is set: compare --task t2i there"

Connect = Callable[..., ServerClient]


def run_servers(plan: Plan, emit: Emit, connect: Connect = ServerClient) -> None:
    """Compares the servers of a plan; ``connect`` makes the client of each.

    Raises OutputsDiffer where a server disproves itself, RunFailed where one gives no picture.
    """
    served = plan.served
    assert served is not None
    with ExitStack() as stack:
        clients = {}
        num_threads = max((level.num_threads for level in levels_of(served)), default=1)
        how = {"api": served.api, "timeout_s": served.timeout_s, "max_connections": num_threads}
        for server in served.servers:
            client = connect(server=server, **how)
            stack.callback(client.close)
            clients[server.label] = client
        facts = {label: client.facts() for label, client in clients.items()}
        requests = {request.case: request for request in plan.requests}
        session = ServerSession(
            plan=plan,
            served=served,
            emit=emit,
            clients=clients,
            requests=requests,
            pictures={case: input_picture(request) for case, request in requests.items()},
        )
        with without_collector():  # but between rounds: a collection would fall on whichever answer is read then
            _compare(session, facts)


def _compare(session: ServerSession, facts: Mapping[str, Mapping[str, Scalar]]) -> None:
    emit, seed = session.emit, session.plan.seed
    first = next(iter(session.requests))
    # Which stages there are, only an answer says; until then there is no outline that a run could be recorded under.
    probes = {label: session.ask(first, label, seed, "first answer") for label in session.labels}
    session.stages = common_stages({label: probe.answer for label, probe in probes.items()})
    emit(
        EnvironmentEvent(
            environment=environment_of_client(),
            outline=outline_of(session, facts),
            pairs=session.num_rounds,
            warmup=session.num_warmups,
        )
    )
    for text in (*_notes_of_stages(session.stages, probes), *_notes_of_facts(facts)):
        emit(WarningEvent(text=text))
    for case, content in session.pictures.items():
        if content is not None:
            _keep_input(session, case, content)
    for case in session.requests:
        for label in session.labels:
            _prove(session, case, label, probes.pop(label, None) if case == first else None)
    for number, case in enumerate(session.requests):
        _time(session, case, session.plan.order_seed + number)
    _put_under_load(session)


def _put_under_load(session: ServerSession) -> None:
    """Measures each level of load in each case; raises what went wrong there once all of it is told."""
    levels = levels_of(session.served)
    order, seed = random.Random(session.plan.order_seed), session.plan.seed + NUM_PROOF_SEEDS + session.num_rounds
    found: list[Load] = []
    for done, (case, level) in enumerate(itertools.product(session.requests, levels)):
        text = f"{case}: {level.text}"
        session.emit(ProgressEvent(text=text, done=done, total=len(session.requests) * len(levels)))
        args = session.requests[case], session.pictures[case], session.clients, seed, order
        for load in loads_of(level, session.served, *args):
            session.emit(LoadEvent(load=load))
            found.append(load)
        seed += level.num_requests(session.served)
    for load in found:
        if load.num_differing:
            where, allowed = f"{load.variant} at {load.case}, {load.level}", f"than {session.labels[0]}'s"
            what = f"{load.num_differing} of {len(load.latency_ms)} pictures under load are others"
            raise OutputsDiffer(what, value=where, allowed=allowed)
    for load in found:
        if load.failures:
            number = load.num_failed + load.num_refused + len(load.latency_ms)
            what, where = f"{load.num_failed} of {number} requests under load failed", f"{load.variant}, {load.level}"
            raise RunFailed(what, value=where, allowed=max(load.failures, key=lambda reason: load.failures[reason]))


def _keep_input(session: ServerSession, case: str, content: bytes) -> None:
    picture = read_picture(content)
    path = session.kept(picture, f"input {case}", f"{slug(case)}_input")
    session.emit(InputEvent(input=CaseInput(case=case, output=replace(picture.output, path=path))))


def _prove(session: ServerSession, case: str, label: str, probe: Shown | None) -> None:
    """Shows that a server's picture repeats and shows something; ``probe`` is its first answer where there is one."""
    seed = session.plan.seed
    first = session.ask(case, label, seed, "first answer") if probe is None else probe
    session.record(WarmupRun, case, label, seed, first)
    again = session.ask(case, label, seed, "same seed again")
    peak = again.answer.peak_bytes
    memory = () if peak is None else (StageMemory(stage=WHOLE, peak_bytes=peak),)
    session.record(RepeatedRun, case, label, seed, again, measurements=memory)
    other = session.ask(case, label, seed + 1, "another seed")
    session.record(OtherSeedRun, case, label, seed + 1, other)
    where = f"{label} at {case}"
    if fault := again.output.fault or other.output.fault:
        raise OutputsDiffer(f"a server gives {fault}", value=where, remedy="nothing was timed; look at its log")
    if first.output.identity != again.output.identity:
        what = "a server's picture differs from itself on a second request"
        raise OutputsDiffer(what, value=where, remedy=f"nothing was timed; {UNSEEDED}")
    if other.output.sha256 == again.output.sha256:
        session.emit(WarningEvent(text=f"{where}: {SEEDLESS}"))
    if first.output.file_md5 != again.output.file_md5:
        session.emit(WarningEvent(text=f"{where}: the same pixels come in other files from request to request"))


def _time(session: ServerSession, case: str, order_seed: int) -> None:
    """Warms up, then asks every server once a round and the first twice, in random order, with the round's own seed."""
    for label in session.labels:
        for _ in range(session.num_warmups):
            seed = session.plan.seed
            session.record(WarmupRun, case, label, seed, session.ask(case, label, seed, "warm-up"))
    arms = [*((label, False) for label in session.labels), (session.labels[0], True)]
    order = random.Random(order_seed)
    for number in range(session.num_rounds):
        seed = session.plan.seed + NUM_PROOF_SEEDS + number
        order.shuffle(arms)
        gc.collect()
        found = {
            (label, is_control): session.ask(case, label, seed, f"round {number + 1}") for label, is_control in arms
        }
        reference = found[session.labels[0], False].picture
        for (label, is_control), each in sorted(found.items(), key=lambda item: session.labels.index(item[0][0])):
            session.record(
                TimedRun,
                case,
                label,
                seed,
                each,
                measurements=_measurements(session, label, each.answer),
                num_differing=each.picture.num_differing(reference),
                round=number,
                is_control=is_control,
            )


def _measurements(session: ServerSession, label: str, answer: Answer) -> tuple[TimedStage, ...]:
    stages = () if session.stages == TOGETHER else session.stages
    for stage in stages:
        if not answer.stages_ms.get(stage, 0.0) > 0:
            told = f"it told {', '.join(answer.stages_ms) or 'none'} this time"
            raise session.clients[label].failed(f"a server tells no time of {stage} any more", allowed=told)
    times = {**{stage: answer.stages_ms[stage] for stage in stages}, WHOLE: answer.e2e_ms}
    return tuple(TimedStage(stage=stage, latency_ms=ms) for stage, ms in times.items())


def common_stages(answers: Mapping[str, Answer]) -> tuple[str, ...]:
    """The stages that all servers tell, in the first one's order; ``run`` alone where there are none."""
    found = [
        [name for name, ms in answer.stages_ms.items() if ms > 0 and is_stage(name) and name != WHOLE]
        for answer in answers.values()
    ]
    return tuple(name for name in found[0] if all(name in names for names in found)) or TOGETHER


def _notes_of_stages(stages: tuple[str, ...], probes: Mapping[str, Shown]) -> Iterator[str]:
    """What the servers tell and cannot be compared."""
    if stages == TOGETHER:
        yield "the servers tell no stage in common: e2e at the client alone is compared"
    for label, probe in probes.items():
        told = [name for name in probe.answer.told if name not in stages and is_stage(name)]
        unknown = [name for name in told if duration_ms(name, probe.answer.told[name]) is None]
        alone = [name for name in told if name not in unknown]
        if unknown:
            yield f"{label} tells {', '.join(unknown)}, whose unit is not known: not compared"
        if alone:
            yield f"{label} tells {', '.join(alone)}, which is 0 or not told by all: not compared"


def _notes_of_facts(facts: Mapping[str, Mapping[str, Scalar]]) -> Iterator[str]:
    first, *others = facts
    for label in others:
        for name in (name for name in facts[first] if facts[first][name] != facts[label][name]):
            yield f"{label} has {name} {facts[label][name]}, where {first} has {facts[first][name]}"


def outline_of(session: ServerSession, facts: Mapping[str, Mapping[str, Scalar]]) -> Outline:
    """What is compared: the servers, with what is known of each."""
    first = next(iter(session.requests.values()))
    models = dict.fromkeys(str(each["model"]) for each in facts.values() if each["model"] is not None)
    known = {f"{label}: {name}": value for label, each in facts.items() for name, value in each.items()}
    image = None if first.task == "t2i" else first.image or "drawn by the package"
    reference = facts[session.labels[0]]
    return Outline(
        subject=SubjectInfo(
            kind="server",
            title=", ".join(models) or "unknown model",
            summary=f"{first.task}, {first.steps} steps",
            details={"api": session.served.api, **known},
            asked={
                case: {
                    "task": each.task,
                    "width": each.width,
                    "height": each.height,
                    "prompt": each.prompt,
                    "input picture": image,
                    "steps": each.steps,
                    "seed": each.seed,
                }
                for case, each in session.requests.items()
            },
        ),
        cases=tuple(session.requests),
        stages=session.stages,
        variants=tuple(
            VariantInfo(
                name=server.label,
                target=server.url,
                made_with={k: v for k, v in facts[server.label].items() if v != reference[k]},
            )
            for server in session.served.servers
        ),
        num_named=len(session.clients),
        seed=session.plan.seed,
        successive=session.plan.successive,
    )


def environment_of_client() -> Environment:
    """Describes the machine of the client; what servers run with, they do not tell."""
    return Environment(
        device_kind="server",
        device_name="servers, seen by a client",
        torch=None,
        python=platform.python_version(),
        cuda=None,
        cudnn=None,
        driver=None,
        num_threads=None,
        platform=f"{platform.system()} {platform.machine()}",
        commit=None,
        dirty=None,
    )
