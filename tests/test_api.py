"""``import bagel_perf as bp``: comparisons, results and traces for scripts and notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch

import bagel_perf as bp
from bagel_perf.records.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "reports" / "2026-12-01_h200_fc53e68"
TRACE = ROOT / "tests" / "data" / "traces" / "torch211_h100.json.gz"
CASES = {"short": {"steps": 2}, "long": {"steps": 4}}


def setup(device: torch.device) -> torch.Tensor:
    return torch.eye(4).to(device)


def waiting(state: torch.Tensor, case: dict[str, int], seed: int) -> torch.Tensor:
    x = torch.randn(4, generator=torch.Generator().manual_seed(seed)).to(state.device)
    for _ in range(case["steps"]):
        x = state @ x * min(x.abs().max().item(), 1.0)
    return x


def free(state: torch.Tensor, case: dict[str, int], seed: int) -> torch.Tensor:
    x = torch.randn(4, generator=torch.Generator().manual_seed(seed)).to(state.device)
    for _ in range(case["steps"]):
        x = state @ x * x.abs().max().clamp(max=1.0)
    return x


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> bp.Comparison:
    """Two functions of this session, compared."""
    out = tmp_path_factory.mktemp("api") / "result"
    return bp.compare(waiting, free, setup=setup, cases=CASES, pairs=2, out=out)


def test_functions_of_a_session_are_compared_as_files_are(found: bp.Comparison) -> None:
    assert (found.verdict, found.exit_code) == ("pass", 0)
    waits = found.cells.set_index(["case", "variant"]).host_syncs
    assert [waits[case, name] for case in CASES for name in ("waiting", "free")] == [3, 1, 5, 1]
    assert found.outputs.identical.tolist() == [None, True, None, True]
    assert set(found.samples.variant) == {"waiting", "free"} and len(found.samples) == 2 * 2 * 3
    top = found.sync_sites.iloc[0]
    assert (top["count"], top.kind, top.expression) == (2, "scalar_read", "x.abs().max().item()")
    assert found.deltas.columns[:5].tolist() == ["case", "stage", "reference", "candidate", "delta_pct"]


def test_a_comparison_prints_as_tables_and_shows_as_html(found: bp.Comparison) -> None:
    assert "Host syncs" in repr(found) and "verdict: pass" in repr(found)
    html = found._repr_html_()
    assert html.count("<table>") == html.count("</table>") > 2 and "<script" not in html


def test_plots_are_axes_of_matplotlib(found: bp.Comparison) -> None:
    mpl.use("agg")
    axes = found.plot_deltas()
    assert axes.get_xlabel().startswith("change of latency from waiting")
    assert found.plot_samples(axes=axes) is axes
    assert len(found.plot_host_syncs().patches) == 4


def test_no_two_lines_of_a_plot_look_alike(found: bp.Comparison) -> None:
    mpl.use("agg")
    axes = None
    for _ in range(6):  # two variants in two cases each
        axes = found.plot_samples(axes=axes)
    assert axes is not None
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == len(axes.lines) == 24


def test_a_committed_result_loads_with_frames() -> None:
    loaded = bp.load(RESULT)
    assert len(loaded.deltas) == 12 and loaded.deltas.low_pct.notna().all()
    assert loaded.cells.host_syncs.max() == 18123


def test_a_trace_is_read() -> None:
    assert bp.read_trace(TRACE).host_syncs == 16


def test_one_line_opens_the_simulated_device() -> None:
    device = bp.open_simulated_device()
    with device, bp.watch_host_syncs("cuda") as watch, bp.region("here"):
        torch.ones(3, device="cuda").sum().item()
    assert watch.report().host_syncs == 1 and not torch.cuda.is_available()


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        ((waiting,), {}, "too few targets"),
        ((waiting, "loop.py"), {}, "functions among files"),
        ((waiting, waiting), {}, "two functions have one name"),
        (("a.py", "b.py"), {"tolerance": "psnr:40"}, "for functions of this session"),
        ((waiting, free), {"cases": {"x": 1}, "tolerance": "nothing"}, "TOLERANCE"),
        (("baseline", "turbo"), {}, "unknown variant"),
        ((waiting, free), {"device": "tpu"}, "unknown device"),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(
    targets: tuple[Any, ...], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        bp.compare(*targets, out=tmp_path / "out", **options)


def test_importing_costs_next_to_nothing_and_names_are_listed() -> None:
    script = "import sys; import bagel_perf as bp; print('torch' in sys.modules, *dir(bp))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded, *names = done.stdout.split()
    assert loaded == "False" and set(bp.__all__) <= set(names)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = bp.nothing
    assert bp.__version__.count(".") == 2
