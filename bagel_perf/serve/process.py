"""The process that serves: takes its options from the environment, loads the model, listens, and drains at SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
from PIL import Image

from bagel_perf.records import codec
from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, RunFailed, one_line
from bagel_perf.records.serving import ServeOptions
from bagel_perf.serve.app import Service
from bagel_perf.serve.asking import Limits
from bagel_perf.serve.connections import MAX_CONNECTIONS, TimelyProtocol
from bagel_perf.serve.line import Line
from bagel_perf.serve.making import MIB, Maker, OneProcess, Preparing
from bagel_perf.subjects.bagel.loading import load

OPTIONS_VARIABLE = "BAGEL_PERF_SERVE"
BACKLOG = 512


class DrainingServer(uvicorn.Server):
    """Answers 503 from the first signal on until the line is empty, then ends; a second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, line: Line[object, object], drain_s: float) -> None:
        super().__init__(config)
        self._line = line
        self._drain_s = drain_s
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None
        self._is_signalled = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain; unlike uvicorn's, it does not raise the signal anew in the end, so the exit code is 0."""
        if self._is_signalled:
            os._exit(RunFailed.exit_code)
        self._is_signalled = True
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        log(f"{self._line.num_running} running, {self._line.num_waiting} waiting: draining, new requests get 503")
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        await self._line.drain(self._drain_s)
        self.should_exit = True


def serve(options: ServeOptions) -> None:
    """Loads, listens and serves until SIGTERM or SIGINT; raises ``BagelPerfError``."""
    listening = listen(options.host, options.port)  # before the weights: an address that is taken is known at once
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are judged before anything is decoded
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a broken form has its line already
    maker = maker_of(options)
    gc.collect()
    gc.freeze()  # what stays is not looked through before each request
    if options.is_exposed:
        log(f"anybody who reaches {options.host} may use this server; --api-key asks for a key")
    try:
        asyncio.run(_serve(options, maker, listening))
    finally:
        maker.close()


def maker_of(options: ServeOptions) -> Maker:
    """Loads what makes the pictures."""
    if options.split:
        from bagel_perf.serve.split import split_stages  # Ray, which one process does without

        return split_stages(options)
    return OneProcess(loaded=load(options.plan, lambda text, done, total: None, log), variant=options.variant)


def listen(host: str, port: int) -> socket.socket:
    """A socket on the address; raises ``EnvironmentUnfit`` where it is taken or not ours."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        remedy = "--port 0 takes a free port"
        raise EnvironmentUnfit("cannot listen there", value=f"{host}:{port}", allowed=reason, remedy=remedy) from None
    return listening


async def _serve(options: ServeOptions, maker: Maker, listening: socket.socket) -> None:
    facts = maker.facts
    model = f"bagel-{facts.preset}"
    line = Line(maker.make, maker.num_at_once, options.max_queue)
    service = Service(
        line=line,
        preparing=Preparing(
            config=facts.config,
            weights=Path(options.plan.weights) if options.plan.weights else None,
            max_pixels=options.max_pixels,
        ),
        limits=Limits(
            model=model, side=1024 if facts.is_cuda else 256, max_pixels=options.max_pixels, max_steps=options.max_steps
        ),
        variant=options.variant,
        max_bytes=options.max_body_mb * MIB,
        api_key=options.api_key,
        log=(lambda text: None) if options.quiet else log,
    )
    config = uvicorn.Config(
        service.app(),
        http=TimelyProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
    )
    server = DrainingServer(config, line, options.drain_s)  # type: ignore[arg-type]
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not task.done():
        await asyncio.sleep(0.01)
    _tell(options, model, facts.device_name, listening)
    await task


def _tell(options: ServeOptions, model: str, device: str, listening: socket.socket) -> None:
    """One line on stdout, or JSON, once requests are answered."""
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    facts = {"url": url, "model": model, "variant": options.variant, "device": device, "pid": os.getpid()}
    if options.json_path == "-":
        print(msgspec.json.encode(facts).decode(), flush=True)
        return
    if options.json_path is not None:
        Path(options.json_path).write_bytes(msgspec.json.encode(facts) + b"\n")
    print(f"serving {model} under {options.variant} on {one_line(device)} at {url}", flush=True)


def log(text: str) -> None:
    """A line on stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {one_line(text)}", file=sys.stderr, flush=True)


def main() -> int:
    """Serves; gives the exit code, 0 after a drain."""
    options = codec.from_json(ServeOptions, msgspec.json.decode(os.environ.pop(OPTIONS_VARIABLE)))
    try:
        serve(options)
    except BagelPerfError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return RunFailed.exit_code
    return 0


def start() -> None:
    """Ends the process with the code of ``main``; SIGTERM before it serves ends it as always."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(main())
