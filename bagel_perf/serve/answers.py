"""Answers with a picture, in the places in which vLLM-Omni's clients look for it and for its stages."""

from __future__ import annotations

import base64
import time
import uuid
from typing import Any

from bagel_perf.records.bagel import Request
from bagel_perf.serve.making import Made


def measurements(made: Made, queue_wait_ms: float) -> dict[str, Any]:
    """Stages in ms (0 is AR, 1 is DiT), peak memory in MiB, and how the KV cache was handed over; null is unknown."""
    durations = {"queue_wait_ms": queue_wait_ms, "stage_0_gen_ms": made.ar_ms, "stage_1_gen_ms": made.dit_ms}
    hand_over = made.hand_over
    if hand_over is not None:
        durations["kv_wait_ms"] = hand_over.latency_ms
    if made.dit_wait_ms is not None:
        durations["stage_1_queue_wait_ms"] = made.dit_wait_ms
    return {
        "stage_durations": durations,
        "peak_memory_mb": made.peak_memory_mb,
        "kv_transfer": None
        if hand_over is None
        else {
            "latency_ms": hand_over.latency_ms,
            "num_bytes": hand_over.num_bytes,
            "gb_per_s": hand_over.gb_per_s,
            "transport": hand_over.transport,
        },
    }


def chat_answer(model: str, made: Made, measured: dict[str, Any], *, wants_metrics: bool) -> dict[str, Any]:
    """A chat completion whose message is a picture as data URL."""
    url = f"data:image/png;base64,{_encoded(made)}"
    content = [{"type": "image_url", "image_url": {"url": url}, **measured}]
    message = {"role": "assistant", "content": content}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        **({"metrics": measured} if wants_metrics else {}),
    }


def images_answer(request: Request, made: Made, measured: dict[str, Any]) -> dict[str, Any]:
    """A list of one picture in base64."""
    return {
        "created": int(time.time()),
        "data": [{"b64_json": _encoded(made)}],
        "output_format": "png",
        "size": f"{request.width}x{request.height}",
        "metrics": measured,
    }


def models_answer(model: str, variant: str, created: int) -> dict[str, Any]:
    """The list of the one model."""
    return {
        "object": "list",
        "data": [{"id": model, "object": "model", "created": created, "owned_by": "bagel-perf", "variant": variant}],
    }


def _encoded(made: Made) -> str:
    return base64.b64encode(made.png).decode()
