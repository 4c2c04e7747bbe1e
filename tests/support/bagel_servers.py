"""Servers of BAGEL's tiny preset in processes of their own, and what is asked of them."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

SMALL = {"width": 64, "height": 64, "num_inference_steps": 3}
READY_S = 60.0
END_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that runs."""

    url: str
    process: subprocess.Popen[str]
    log_path: Path

    def log(self) -> list[str]:
        """What it wrote to stderr, without the times."""
        return [line.partition(" ")[2] for line in self.log_path.read_text().splitlines()]

    def post(self, route: str, **arguments: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}/v1/{route}", timeout=60, **arguments)

    def generate(self, **fields: Any) -> httpx2.Response:
        return self.post("images/generations", json={"prompt": "a red house", **SMALL, **fields})

    def metric(self, name: str) -> float:
        """A figure of /metrics; 0 for one that was never counted."""
        lines = httpx2.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"bagel_perf:{name}"))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def served(*options: str, watched: Path | None = None) -> Iterator[Served]:
    """A server on a free port of the loopback interface; it has to end by itself at SIGTERM, with 0.

    With ``watched`` it runs on the simulated device under ``syncs``, which writes its report there.
    """
    own = [sys.executable, "-m", "bagel_perf"]
    watch = [] if watched is None else [*own, *f"syncs --no-profile --device cpu --quiet --json {watched} --".split()]
    device = "cpu" if watched is None else "cuda"
    command = [*watch, *own, "serve", "--device", device, "--port", "0", "--json", "-", *options]
    with (
        tempfile.NamedTemporaryFile(suffix=".log") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ) as process,
    ):
        late = threading.Timer(READY_S, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            late.cancel()
            assert line, Path(log.name).read_text()
            yield Served(url=json.loads(line)["url"], process=process, log_path=Path(log.name))
            if process.poll() is None:
                process.terminate()
            assert process.wait(END_S) == 0, Path(log.name).read_text()
        finally:
            late.cancel()
            process.kill()


def picture(width: int = 48, height: int = 40, kind: str = "PNG") -> bytes:
    """The file of a picture of noise."""
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def chat(prompt: str, content: bytes | None = None) -> list[dict[str, Any]]:
    """Messages of a chat that asks for a picture."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
    if content is not None:
        parts.append({"type": "image_url", "image_url": {"url": data_url(content)}})
    return [{"role": "user", "content": parts}]
