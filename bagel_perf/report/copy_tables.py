"""Copies between host and GPU for people, by line with their bytes; and for which device, and by whom, a wait is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from bagel_perf.records.copies import CopySite
from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.table import Column, Table, counted, sentences

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def copy_table(report: SyncReport, top: int) -> Table | None:
    """At most ``top`` lines that copy, the rest in a row, and a total of each direction; None where nothing does."""
    if not report.copies:
        return None
    shown, rest = report.copies[:top], report.copies[top:]
    rows = [_row(site.direction, (site,), _where(site)) for site in shown]
    if rest:
        rows.append(_row("", rest, f"{counted(len(rest), 'more line')} (--top)"))
    for direction in ("upload", "download"):
        found = [site for site in report.copies if site.direction == direction]
        if found:
            rows.append(_row(direction, found, "total"))
    headers = (("direction", False), ("count", True), ("bytes", True), ("waiting", True), ("where", False))
    return Table(
        title="Copies between host and GPU",
        columns=tuple(Column(header=header, numeric=numeric) for header, numeric in headers),
        rows=tuple(rows),
        caption=sentences(*_captions(report)),
    )


def _row(direction: str, sites: Sequence[CopySite], where: str) -> tuple[str, ...]:
    count, num_waited = sum(site.count for site in sites), sum(site.num_waited for site in sites)
    return direction, str(count), size_text([site.num_bytes for site in sites]), str(num_waited), where


def _where(site: CopySite) -> str:
    place = f"{PurePath(site.file)}:{site.line} {site.function}" if site.file else "no line of Python"
    return f"{place}\nin {site.region}" if site.region else place


def size_text(sizes: Sequence[int | None]) -> str:
    """Bytes together: ``?`` where none of them is known, at least so many where some are not."""
    known = [size for size in sizes if size is not None]
    if not known:
        return "?"
    return f">= {bytes_text(sum(known))}" if len(known) < len(sizes) else bytes_text(sum(known))


def bytes_text(num_bytes: int) -> str:
    """Bytes in the largest unit of which there is one."""
    for size, unit in _UNITS:
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"


def _captions(report: SyncReport) -> Iterator[str]:
    yield "the host waited for as many copies as stand under waiting"
    if any(site.num_bytes is None for site in report.copies or ()):
        yield "? stands for bytes that nobody knows"
    if report.device == "simulated":
        return
    num_unknown = sum(site.count for site in report.sites if site.kind == "unknown")
    if num_unknown:
        yield f"{counted(num_unknown, 'wait')} of unknown kind may be copies, too"
    yield "asynchronous copies of other threads than the watching one are not counted"


def copy_note(report: SyncReport) -> str | None:
    """What to say where nobody looked for copies."""
    is_unknown = report.copies is None
    return "- copies between host and GPU are unknown: nobody looked for them" if is_unknown else None


def device_lines(site: SyncSite, *, several: bool) -> Iterator[str]:
    """Which device a wait is for, where a program uses ``several`` or waits for another one by name; who waits."""
    if site.at_work_on is not None:
        yield f"of another device: cuda:{site.device}, at work on cuda:{site.at_work_on}"
    elif several and site.device is not None:
        yield f"on cuda:{site.device}"
    if site.library:
        yield f"waits inside {'NCCL' if site.library == 'nccl' else site.library}"


def has_several_devices(report: SyncReport) -> bool:
    """Whether waits are for more than one device."""
    return len({site.device for site in report.sites if site.device is not None}) > 1
