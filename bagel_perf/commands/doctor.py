"""``doctor``: looks at this machine and says what it can and cannot measure, and how to mend it; needs no torch."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bagel_perf.commands import doctor_machine
from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.pythons import module_command
from bagel_perf.records import codec
from bagel_perf.records.diagnosis import Diagnosis, Row, TorchFacts
from bagel_perf.records.torch_releases import TESTED, is_tested, tested_text
from bagel_perf.report.doctor_text import print_diagnosis

PYTHONS = ((3, 11), (3, 12), (3, 13))
"""Those that pyproject.toml names."""
PACKAGES = (
    ("transformers", "bagel", "a checkpoint of BAGEL (--weights, verify), and examples/transformers_decode.py"),
    ("safetensors", "bagel", "a checkpoint of BAGEL (--weights, verify)"),
    ("diffusers", "examples", "examples/diffusers_cogvideox.py, examples/diffusers_flux.py"),
)
"""(package, extra, what it is for)"""
PROGRAMS = (
    ("nsys", "Nsight Systems can record", "traces are those of torch.profiler; trace reads both", ""),
    ("git", "gate revision, and commits in results", "no gate revision; results name no commit", "install git"),
)
"""(program, what it gives, what its lack costs, remedy)"""


def python_row() -> Row:
    """The Python that runs this."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] in PYTHONS:
        return Row(what="Python", state="ok", found=found, means="one of those that are named as supported")
    names = ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    return Row(what="Python", state="limited", found=found, means="not tested", remedy=f"take one of {names}")


def torch_row(facts: TorchFacts, *, has_gpu: bool) -> Row:
    """torch: whether it is there, for what it was built, and whether counts under it were tested."""
    what = "torch"
    if facts.version is None:
        means = "nothing can be measured; show, report, trace and gate result do without"
        remedy = "pip install 'bagel-perf[torch]'"
        return Row(what=what, state="missing", found="not installed", means=means, remedy=remedy, is_needed=True)
    build = f"CUDA {facts.cuda}" if facts.cuda else "no CUDA"
    found = f"{facts.version}, {build}"
    if has_gpu and not facts.cuda:
        remedy = "install a CUDA build, as those of PyPI are for Linux: pip install --force-reinstall torch"
        means = "the GPU of this machine is not used: latencies are the CPU's"
        return Row(what=what, state="limited", found=found, means=means, remedy=remedy, is_needed=True)
    if has_gpu and not facts.sees_gpu:
        means = f"torch sees no GPU{f' ({facts.problem})' if facts.problem else ''}: latencies are the CPU's"
        remedy = "look at nvidia-smi: the driver has to know the build's CUDA; unset CUDA_VISIBLE_DEVICES"
        return Row(what=what, state="limited", found=found, means=means, remedy=remedy, is_needed=True)
    if not is_tested(facts.version):
        means = f"counts may differ from a GPU's; tested: {tested_text()}"
        remedy = f"install a tested release, as torch=={TESTED[-1]}.0"
        return Row(what=what, state="limited", found=found, means=means, remedy=remedy)
    return Row(what=what, state="ok", found=found, means="a release under which counts were tested")


def triton_row(*, has_gpu: bool) -> Row:
    """Triton, which torch's CUDA builds bring along."""
    found = _version_of("triton")
    if found is not None:
        return Row(what="Triton", state="ok", found=found, means="the kernels of fused and approx_norm")
    means = "fused and approx_norm run without their kernels"
    if not has_gpu:
        return Row(what="Triton", state="missing", found="not installed", means=f"{means}, as they do on any CPU")
    remedy = "pip install triton"
    return Row(what="Triton", state="missing", found="not installed", means=means, remedy=remedy)


def package_rows() -> Iterator[Row]:
    """The packages of the extras."""
    for name, extra, purpose in PACKAGES:
        found = _version_of(name)
        if found is not None:
            yield Row(what=name, state="ok", found=found, means=purpose)
        else:
            remedy = f"pip install 'bagel-perf[{extra}]'"
            yield Row(
                what=name, state="missing", found="not installed", means=f"not without it: {purpose}", remedy=remedy
            )


def program_rows() -> Iterator[Row]:
    """The programs that are started or whose files are read."""
    for name, gives, cost, remedy in PROGRAMS:
        path = shutil.which(name)
        if path is not None:
            yield Row(what=name, state="ok", found=path, means=gives)
        else:
            yield Row(what=name, state="missing", found="not on PATH", means=cost, remedy=remedy)


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


FACTS_MODULE = "bagel_perf.measure.torch_facts"
LIMIT_S = 60.0
"""Of importing torch and recording a kernel."""

Probe = Callable[[], Iterable[Row]]


def run_doctor(json_path: str | None, *, quiet: bool) -> None:
    """Looks, prints and writes; ends well also where much is missing."""
    check_json_path(json_path)
    found = diagnosis()
    if not quiet:
        print_diagnosis(found, stream_for_people(json_path))
    write_json(json_path, found.to_json())


def diagnosis() -> Diagnosis:
    """Looks at everything; what cannot be looked at has a row that says so."""
    gpus = doctor_machine.look()
    facts = torch_facts(with_gpu=gpus.may_be_there)
    rows = rows_of(
        ("Python", lambda: [python_row()]),
        ("torch", lambda: [torch_row(facts, has_gpu=gpus.may_be_there)]),
        ("GPU", lambda: gpus.rows),
        ("profiler", lambda: [doctor_machine.profiler_row(facts, has_gpu=gpus.may_be_there)]),
        ("Triton", lambda: [triton_row(has_gpu=gpus.may_be_there)]),
        ("CPU cores", lambda: [doctor_machine.cores_row()]),
        ("CPU load", lambda: [doctor_machine.load_row()]),
        ("CPU clock", lambda: [doctor_machine.clock_row()]),
        ("memory", lambda: [doctor_machine.memory_row()]),
        ("disk", lambda: doctor_machine.disk_rows(Path.cwd())),
        ("packages", package_rows),
        ("programs", program_rows),
    )
    can_time = bool(facts.sees_gpu) and gpus.is_there
    return Diagnosis(rows=rows, measures=measures(facts, can_time=can_time), next=next_step(rows, can_time=can_time))


def rows_of(*probes: tuple[str, Probe]) -> tuple[Row, ...]:
    """The rows of all probes, each with its name for where it fails."""
    rows: list[Row] = []
    for what, probe in probes:
        try:
            rows += probe()
        except Exception as problem:  # an odd /proc, or a driver's library: nothing of it may end a diagnosis
            found = f"could not be looked at ({type(problem).__name__}: {problem})"
            rows.append(Row(what=what, state="limited", found=found, means="unknown"))
    return tuple(rows)


def torch_facts(*, with_gpu: bool, command: Sequence[str] | None = None) -> TorchFacts:
    """What a process of its own finds out of torch; ``problem`` where it does not."""
    command = [*(command or module_command(FACTS_MODULE)), *(["gpu"] if with_gpu else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        return codec.from_json(TorchFacts, json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return TorchFacts(version="unknown", problem=f"importing it took over {LIMIT_S:.0f} s")
    except (OSError, ValueError, IndexError):
        return TorchFacts(version="unknown", problem="the process that looks at it failed")


def measures(facts: TorchFacts, *, can_time: bool) -> dict[str, str]:
    """How each thing can be measured here."""
    reading = {"results and traces": "read, judged and rendered"}
    if facts.version is None:
        return {**dict.fromkeys(("host syncs", "outputs", "latency", "GPU work"), "no: torch is missing"), **reading}
    work = "launches, kernels and busy time" if facts.records_kernels else "no: the profiler sees no kernel"
    return {
        "host syncs": "counted on the GPU"
        if can_time
        else "counted on the simulated device, which gives a GPU's counts",
        "outputs": "held to the bit, or to a declared tolerance",
        "latency": "timed on the GPU" if can_time else "of the CPU alone, which says nothing about a GPU",
        "GPU work": work if can_time else "no: there is no GPU that torch sees",
        **reading,
    }


def next_step(rows: Iterable[Row], *, can_time: bool) -> str:
    """What to do now: mend what every measurement waits for, else measure."""
    for row in rows:
        if row.is_needed and row.state != "ok":
            return f"{row.remedy}, then bagel-perf doctor again"
    if can_time:
        return "bagel-perf compare loop.py:plain loop.py:fast"
    return "bagel-perf syncs loop.py:plain counts here; for latencies run compare on a machine with a GPU"
