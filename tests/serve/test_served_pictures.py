"""Pictures of a server through OpenAI's own client: those of ``compare``, to the bit."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from bagel_perf.measure.stages import run_stages
from bagel_perf.records.bagel import Request
from bagel_perf.records.plans import Plan
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import Loaded, bind, load
from bagel_servers import SMALL, Served, chat, picture, served

PROMPT = "Change the color to blue"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def baseline() -> Loaded:
    plan = Plan(kind="serve", variants=("baseline",), device="cpu", preset="tiny")
    return load(plan, lambda text, done, total: None)


def compared(loaded: Loaded, **fields: Any) -> bytes:
    """The PNG that ``compare`` makes of a request under ``baseline``."""
    request = Request(prompt=PROMPT, **fields)
    inputs = request_inputs(request, loaded.model.config, None, request.seed)
    png: bytes = run_stages(edit_subject(loaded.model, inputs, bind("baseline")))
    return png


def md5(png: bytes) -> str:
    return hashlib.md5(png).hexdigest()


def of_chat(answer: Any) -> tuple[bytes, dict[str, Any]]:
    """The PNG of a chat's answer, and what stands beside it."""
    (part,) = answer.choices[0].message.content
    head, _, encoded = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(encoded), part


@pytest.mark.parametrize(("width", "height", "steps", "seed"), [(64, 64, 3, 42), (32, 96, 2, 7)])
def test_an_edit_is_the_picture_of_compare_on_both_routes(
    client: openai.OpenAI, baseline: Loaded, tmp_path: Path, width: int, height: int, steps: int, seed: int
) -> None:
    path = tmp_path / "input.png"
    path.write_bytes(picture())
    expected = compared(baseline, task="i2i", width=width, height=height, steps=steps, seed=seed, image=str(path))
    asked = {"width": width, "height": height, "num_inference_steps": steps, "seed": seed}
    answer = client.chat.completions.create(
        model="bagel-tiny",
        messages=chat(f"<|im_start|>{PROMPT}<|im_end|>", picture()),  # type: ignore[arg-type]
        extra_body={"modalities": ["image"], **asked},
    )
    assert md5(of_chat(answer)[0]) == md5(expected)
    edited = client.images.edit(image=("input.png", picture()), prompt=PROMPT, extra_body=asked)
    assert edited.data is not None and edited.data[0].b64_json is not None
    assert base64.b64decode(edited.data[0].b64_json) == expected


def test_text_to_image_is_the_picture_of_compare_on_both_routes(client: openai.OpenAI, baseline: Loaded) -> None:
    expected = compared(baseline, task="t2i", width=64, height=32, steps=3, seed=3)
    asked = {"num_inference_steps": 3, "seed": 3}
    made = client.images.generate(prompt=PROMPT, size="64x32", extra_body=asked)
    assert made.data is not None and made.data[0].b64_json is not None
    assert base64.b64decode(made.data[0].b64_json) == expected
    answer = client.chat.completions.create(
        model="bagel-tiny",
        messages=chat(PROMPT),  # type: ignore[arg-type]
        extra_body={"width": 64, "height": 32, **asked},
    )
    assert of_chat(answer)[0] == expected


def test_another_seed_another_prompt_and_another_picture_are_other_pictures(server: Served) -> None:
    def edit(**fields: Any) -> bytes:
        content = fields.pop("content", picture())
        return server.post("images/edits", data={"prompt": PROMPT, **SMALL, **fields}, files={"image": content}).content

    parts = [edit(), edit(seed=43), edit(prompt="A green one"), edit(content=picture(64, 64))]
    assert len({part.partition(b'"b64_json":"')[2].partition(b'"')[0] for part in parts}) == 4


def test_stages_and_peak_memory_stand_where_clients_look_for_them(client: openai.OpenAI, server: Served) -> None:
    answer = client.chat.completions.create(
        model="bagel-tiny",
        messages=chat(PROMPT),  # type: ignore[arg-type]
        extra_body={**SMALL, "return_stage_metrics": True},
    )
    part = of_chat(answer)[1]
    durations = part["stage_durations"]
    assert durations["stage_0_gen_ms"] > 0 and durations["stage_1_gen_ms"] > 0 and durations["queue_wait_ms"] >= 0
    assert part["peak_memory_mb"] is None  # unknown on a CPU, and no zero
    assert answer.model_extra is not None and answer.model_extra["metrics"]["stage_durations"] == durations
    metrics = server.generate().json()["metrics"]
    assert metrics["stage_durations"].keys() == durations.keys() and metrics["peak_memory_mb"] is None


def test_the_model_is_listed_and_figures_are_counted(client: openai.OpenAI, server: Served) -> None:
    assert [model.id for model in client.models.list()] == ["bagel-tiny"]
    assert httpx2.get(f"{server.url}/health").json() == {"status": "ok"}
    name = 'stage_gen_time_s_count{stage="1"}'
    before = server.metric(name)
    server.generate()
    assert server.metric(name) == before + 1
    assert server.metric("peak_memory_mb") != server.metric("peak_memory_mb")  # NaN: unknown


def test_openai_s_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="size is not understood") as caught:
        client.images.generate(prompt=PROMPT, size="huge")
    assert caught.value.param == "size" and caught.value.code == "invalid_value"
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.chat.completions.create(model="gpt-4", messages=chat(PROMPT))  # type: ignore[arg-type]
