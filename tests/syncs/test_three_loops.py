"""A program that knows nothing of host syncs: every wait of it, by line, derived by hand."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

import pytest
import torch

from bagel_perf.records.sites import Kind
from bagel_perf.records.syncs import SyncReport
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import watch_host_syncs

SCRIPT = Path(__file__).parents[1] / "scripts" / "three_loops.py"

EXPECTED: list[tuple[str, Kind, int]] = [
    # 6 steps of 16 tokens: each reads the time 16 times and uploads the list
    ("t_per_token = torch.tensor(", "list_of_scalars", 6 * 16),
    ("t_per_token = torch.tensor(", "pageable_upload", 6),
    # the first comparison every step; the second where t > 0.3: at 1, 5/6, 4/6, 3/6, 2/6
    ("if t > interval[0] and", "scalar_read", 6 + 5),
    ("x[is_picture] = ", "mask_gather", 6 * 2),
    ("x[is_picture] = ", "mask_scatter", 6),
    (".to(torch.uint8).cpu()", "d2h_copy", 1),
    ("tokens = torch.tensor([prompt]", "pageable_upload", 1),
    # 7 tokens, and an eighth that ends the text
    ("if tokens[0, 0] == end_token", "scalar_read", 8),
    ("text.append(", "scalar_read", 7),
    ("lengths = torch.tensor(", "pageable_upload", 1),
    # Python's max of two elements compares once, and the larger becomes a size
    ("padded = torch.zeros(", "scalar_read", 1),
    ("padded = torch.zeros(", "tensor_as_size", 1),
    # 5 steps; AdamW and clip_grad_norm_ do not wait
    ("x = torch.randn(16, 32).to(device)", "pageable_upload", 5),
    ("losses.append(", "scalar_read", 5),
    ("if not torch.isfinite(norm)", "scalar_read", 5),
    # weights and biases of three linears; an embedding and two linears
    ("model, reader = ", "pageable_upload", 6 + 5),
    ("torch.cuda.synchronize()", "explicit_sync", 1),
]


def run_watched(capsys: pytest.CaptureFixture[str], *, profile: bool = False) -> SyncReport:
    with watch_host_syncs("cuda", profile=profile) as watch:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out == "picture (16, 32), 7 tokens, padded (7, 2), 5 losses\n"
    return watch.report("three loops")


def by_line(report: SyncReport) -> Counter[tuple[int, Kind]]:
    counts: Counter[tuple[int, Kind]] = Counter()
    for site in report.sites:
        assert site.file.endswith("three_loops.py")
        counts[site.line, site.kind] += site.count
    return counts


def expected_by_line() -> Counter[tuple[int, Kind]]:
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    counts: Counter[tuple[int, Kind]] = Counter()
    for text, kind, count in EXPECTED:
        (number,) = (number for number, line in enumerate(lines, start=1) if text in line)
        counts[number, kind] += count
    return counts


def test_every_wait_is_counted_at_its_line_on_the_simulated_device(capsys: pytest.CaptureFixture[str]) -> None:
    with SimulatedCuda():
        report = run_watched(capsys)
    assert by_line(report) == expected_by_line()
    assert (report.host_syncs, report.unexplained, report.unjudged) == (178, 0, {})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("profile", [False, True], ids=["two witnesses", "three witnesses"])
def test_every_wait_is_counted_at_its_line_on_a_gpu(capsys: pytest.CaptureFixture[str], profile: bool) -> None:
    report = run_watched(capsys, profile=profile)
    assert by_line(report) == expected_by_line()
    assert (report.host_syncs, report.unexplained) == (178, 0)
