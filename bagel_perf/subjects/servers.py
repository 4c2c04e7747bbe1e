"""Servers as the subject of a comparison: the same requests in random order, stages as the servers tell them.

It runs in the process of the command: a server needs none of ours, and no torch. What a client cannot know of a server
(host syncs, launches, the machine) stays unknown.
"""

from __future__ import annotations

import gc
import platform
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import OutputsDiffer, RunFailed, UsageError, reworded
from bagel_perf.records.events import EnvironmentEvent, Event, InputEvent, ProgressEvent, RunEvent, WarningEvent
from bagel_perf.records.outlines import TOGETHER, WHOLE, Outline, Scalar, SubjectInfo, VariantInfo
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import CaseInput
from bagel_perf.records.runs import (
    Environment,
    OtherSeedRun,
    Output,
    RepeatedRun,
    RunT,
    StageMemory,
    TimedRun,
    TimedStage,
    WarmupRun,
)
from bagel_perf.records.servers import NO_STAGES, Served, duration_ms
from bagel_perf.records.store import slug, writing
from bagel_perf.subjects.pictures import Picture, draw_default_picture, png_of, read_picture
from bagel_perf.subjects.server_client import Answer, ServerClient

DEFAULT_ROUNDS = 12
NUM_PROOF_SEEDS = 2
SEEDLESS = "another seed gives the same picture, so one that is kept from an earlier request would pass as computed"
UNSEEDED = "vLLM-Omni's single-stage edit draws noise before its seed is set: compare --task t2i there"

Emit = Callable[[Event], None]
Connect = Callable[..., ServerClient]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An answer with its picture decoded."""

    answer: Answer
    picture: Picture
    output: Output


@dataclass(slots=True, kw_only=True)
class ServerSession:
    """One comparison of servers under way.

    ``paths`` maps the md5 of each picture already written to its file, ``pictures`` each request to the file that it
    sends along.
    """

    plan: Plan
    served: Served
    emit: Emit
    clients: Mapping[str, ServerClient]
    requests: Mapping[str, Request]
    pictures: Mapping[str, bytes | None]
    stages: tuple[str, ...] = ()
    paths: dict[str, str] = field(default_factory=dict)
    num_done: int = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the servers, the reference first."""
        return tuple(self.clients)

    @property
    def num_rounds(self) -> int:
        return DEFAULT_ROUNDS if self.plan.pairs is None else self.plan.pairs

    @property
    def num_warmups(self) -> int:
        return 1 if self.plan.warmup is None else self.plan.warmup

    @property
    def num_requests(self) -> int:
        """How many requests are sent one at a time."""
        each = len(self.clients) * (3 + self.num_warmups + self.num_rounds) + self.num_rounds
        return len(self.requests) * each

    def ask(self, case: str, label: str, seed: int, what: str) -> Shown:
        """Sends one request and decodes its picture. Raises ``RunFailed`` that names the server where it gives none."""
        self.emit(ProgressEvent(text=f"{case} {label}: {what}", done=self.num_done, total=self.num_requests))
        self.num_done += 1
        client = self.clients[label]
        return shown(client, self.requests[case], client.ask(self.requests[case], seed, self.pictures[case]))

    def record(self, kind: type[RunT], case: str, label: str, seed: int, found: Shown, **fields: object) -> None:
        """Sends off one run; the first picture of each md5 at the seed of the requests is kept."""
        output = found.output
        if seed == self.plan.seed:
            output = replace(output, path=self.kept(found.picture, output.md5, f"{slug(case)}_{slug(label)}"))
        self.emit(RunEvent(run=kind(variant=label, case=case, seed=seed, output=output, **fields)))  # type: ignore[arg-type]

    def kept(self, picture: Picture, md5: str, stem: str) -> str:
        """Writes a picture into the plan's folder unless one of its md5 is there; gives the file's name."""
        if md5 not in self.paths:
            path = Path(self.plan.image_dir) / f"{stem}_{md5[:8]}{picture.suffix}"
            with writing(path):
                path.write_bytes(picture.content)
            self.paths[md5] = path.name
        return self.paths[md5]


def shown(client: ServerClient, request: Request, answer: Answer) -> Shown:
    """Decodes an answer. Raises ``RunFailed`` with the server's name where it is not the picture that was asked for."""
    try:
        picture = read_picture(answer.picture)
    except RunFailed as problem:
        raise reworded(problem, what=f"{client.server.label}: {problem.what}") from problem
    # Of a picture of the user's own a server may keep the size; equal they have to be all the same.
    if request.image is None and picture.size != (request.width, request.height):
        width, height = picture.size
        raise client.failed(f"a picture is {width}x{height}", allowed=f"{request.case} was asked for")
    return Shown(answer=answer, picture=picture, output=picture.output)


def run_servers(plan: Plan, emit: Emit, connect: Connect = ServerClient) -> None:
    """Compares the servers of a plan; ``connect`` makes the client of each.

    Raises OutputsDiffer where a server disproves itself, RunFailed where one gives no picture.
    """
    served = plan.served
    assert served is not None
    with ExitStack() as stack:
        clients = {}
        for server in served.servers:
            client = connect(server=server, api=served.api, timeout_s=served.timeout_s)
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
        with _few_collections():
            _compare(session, facts)


def input_picture(request: Request) -> bytes | None:
    """The file that a request sends along: the user's own as it is, else the one drawn here; None without any."""
    if request.task == "t2i":
        return None
    if request.image is None:
        return png_of(draw_default_picture(request.width, request.height))
    try:
        content = Path(request.image).read_bytes()
        read_picture(content)
    except (OSError, RunFailed) as problem:
        raise UsageError("picture cannot be read", value=request.image, allowed=str(problem)) from problem
    return content


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
        [name for name, ms in answer.stages_ms.items() if ms > 0 and name not in NO_STAGES and name != WHOLE]
        for answer in answers.values()
    ]
    return tuple(name for name in found[0] if all(name in names for names in found)) or TOGETHER


def _notes_of_stages(stages: tuple[str, ...], probes: Mapping[str, Shown]) -> Iterator[str]:
    """What the servers tell and cannot be compared."""
    if stages == TOGETHER:
        yield "the servers tell no stage in common: e2e at the client alone is compared"
    for label, probe in probes.items():
        told = [name for name in probe.answer.told if name not in stages and name not in NO_STAGES]
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


@contextmanager
def _few_collections() -> Iterator[None]:
    """No garbage collection but between rounds: it would fall on whichever answer is read then."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
