"""A comparison of servers under way: what it asks each of them, and the runs that it records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import RunFailed, UsageError, reworded
from bagel_perf.records.events import Event, ProgressEvent, RunEvent
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import Output, RunT
from bagel_perf.records.servers import Served
from bagel_perf.records.store import slug, writing
from bagel_perf.subjects.pictures import Picture, draw_default_picture, png_of, read_picture
from bagel_perf.subjects.server_client import Answer, ServerClient

DEFAULT_ROUNDS = 12

Emit = Callable[[Event], None]


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
