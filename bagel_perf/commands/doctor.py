"""``doctor``: looks at this machine and says what it can and cannot measure, and how to mend it; needs no torch."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bagel_perf.commands import doctor_gpu, doctor_host, doctor_software
from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.pythons import module_command
from bagel_perf.report.doctor_text import print_diagnosis
from bagel_perf.schema import codec
from bagel_perf.schema.diagnosis import Diagnosis, Row, TorchFacts

FACTS_MODULE = "bagel_perf.workload.torch_facts"
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
    gpus = doctor_gpu.look()
    facts = torch_facts(with_gpu=gpus.may_be_there)
    rows = rows_of(
        ("Python", lambda: [doctor_software.python_row()]),
        ("torch", lambda: [doctor_software.torch_row(facts, has_gpu=gpus.may_be_there)]),
        ("GPU", lambda: gpus.rows),
        ("profiler", lambda: [doctor_gpu.profiler_row(facts, has_gpu=gpus.may_be_there)]),
        ("Triton", lambda: [doctor_software.triton_row(has_gpu=gpus.may_be_there)]),
        ("CPU cores", lambda: [doctor_host.cores_row()]),
        ("CPU load", lambda: [doctor_host.load_row()]),
        ("CPU clock", lambda: [doctor_host.clock_row()]),
        ("memory", lambda: [doctor_host.memory_row()]),
        ("disk", lambda: doctor_host.disk_rows(Path.cwd())),
        ("packages", doctor_software.package_rows),
        ("programs", doctor_software.program_rows),
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
