"""Expected counters as TOML, in an order that makes a change of one number a change of one line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bagel_perf.schema.expected import SCHEMA, VERSION, Counters, Expected, ExpectedPicture, ExpectedRun

HEAD = """\
# Exact numbers of each variant under small requests, counted on the simulated device: `bagel-perf gate` holds the tree
# to them, in both directions. Written by `bagel-perf gate --update "REASON"`; hashes count where torch, device and
# threads are those of made_with, fingerprints everywhere. Tables "again" have what a second request does otherwise."""


def expected_toml(expected: Expected) -> str:
    """The file; ``load_expected`` reads it back."""
    return "\n".join(_lines(expected)) + "\n"


def _lines(expected: Expected) -> Iterator[str]:
    yield HEAD
    yield from (
        f'schema = "{SCHEMA}"',
        f"version = {VERSION}",
        f"reason = {_quoted(expected.reason)}",
        "",
        "[made_with]",
    )
    yield from (f"{name} = {_quoted(value)}" for name, value in expected.made_with.items())
    for picture in expected.pictures:
        yield from _picture_lines(picture)
    for run in expected.runs:
        yield from _run_lines(run)


def _picture_lines(picture: ExpectedPicture) -> Iterator[str]:
    yield from ("", "[[pictures]]", f"request = {_quoted(picture.request)}")
    yield from (f"pixels = {_quoted(picture.pixels)}", f"latents = {_quoted(picture.latents)}")
    yield f"contexts_print = {list(picture.contexts_print)}"
    yield f"latents_print = {list(picture.latents_print)}"
    yield f"pixels_print = {list(picture.pixels_print)}"


def _run_lines(run: ExpectedRun) -> Iterator[str]:
    yield from ("", "[[runs]]", f"request = {_quoted(run.request)}", f"variant = {_quoted(run.variant)}")
    tables = {"ar": run.ar, "dit": run.dit, "again_ar": run.again_ar, "again_dit": run.again_dit}
    for name, counters in tables.items():
        yield f"[runs.{name}]"
        yield from _counter_lines(counters)


def _counter_lines(counters: Counters) -> Iterator[str]:
    for name, count in counters.items():
        yield f"{_quoted(name)} = {count}"


def _quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
