"""Memory and CPU of a process and its descendants, read from ``/proc`` (psutil where there is none)."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc/self/stat").exists()
MB = 1_000_000
_KEPT: set[int] = set()


def descendants(pid: int) -> list[int]:
    """Return the process numbers below ``pid``, without itself."""
    if not _PROC:
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return []
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
        except FileNotFoundError:
            continue
        for task in tasks:
            children = [int(item) for item in (_read(task / "children") or b"").split()]
            found += children
            queue += children
    return found


def private_mb(pid: int) -> float:
    """Return the memory only this process can free: resident without file pages, MB; 0 if it is gone.

    Pages of memory-mapped tables are shared and given back by the kernel at will, so they do not count to a limit.
    """
    if not _PROC:
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            return float(psutil.Process(pid).memory_info().rss) / MB
        return 0.0
    text = _read(Path(f"/proc/{pid}/statm"))
    if text is None:
        return 0.0
    numbers = text.split()
    return (int(numbers[1]) - int(numbers[2])) * _PAGE / MB


def cpu_s(pid: int) -> float:
    """Return user and system CPU-seconds of a process and its ended children; 0 if it is gone."""
    if not _PROC:
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            return float(times.user + times.system + times.children_user + times.children_system)
        return 0.0
    text = _read(Path(f"/proc/{pid}/stat"))
    if text is None:
        return 0.0
    return sum(int(value) for value in text.rpartition(b")")[2].split()[11:15]) / _TICKS


def keep_child(pid: int) -> None:
    """Let a child of this process serve several jobs: it is not ended with the job that started it.

    What it uses counts as this process's own.
    """
    _KEPT.add(pid)


def release_child(pid: int) -> None:
    """Take back ``keep_child``; call it once the child was waited for."""
    _KEPT.discard(pid)


def kept_children() -> frozenset[int]:
    """Return the children that serve several jobs."""
    return frozenset(_KEPT)


def own_cpu_s() -> float:
    """Return CPU-seconds of this process, its ended children and those it keeps."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    kept = sum(cpu_s(pid) for pid in _KEPT)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + kept


def reset_peak() -> None:
    """Begin a new measurement of this process's peak memory, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mb() -> float:
    """Return this process's peak resident memory since ``reset_peak``, MB."""
    for line in (_read(Path("/proc/self/status")) or b"").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024 / MB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


@contextlib.contextmanager
def data_limit(memory_mb: int, slack_mb: int = 512) -> Iterator[None]:
    """Let this process take at most ``memory_mb`` more private memory, where the system can enforce it.

    A grab that is too fast for a poll then fails inside the job as ``MemoryError``. Reserved and unused memory counts
    here, hence the slack.
    """
    kind = getattr(resource, "RLIMIT_DATA", None)
    now = _data_mb()
    if kind is None or now is None:
        yield
        return
    soft, hard = resource.getrlimit(kind)
    allowed = int((now + memory_mb + slack_mb) * MB)
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.setrlimit(kind, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def _data_mb() -> float | None:
    text = _read(Path("/proc/self/statm"))
    return None if text is None else int(text.split()[5]) * _PAGE / MB


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
