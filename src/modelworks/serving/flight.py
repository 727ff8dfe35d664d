"""The flight recorder: which model each thread is running, kept in a file that outlives a crash."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import time
from pathlib import Path

_SLOT = 64
_EMPTY = b"\0" * _SLOT


class FlightRecorder:
    """One 64-byte slot per running thread, holding the digest of the package it runs.

    Writing a slot is a memory copy. When the process dies by a signal, the file says which packages were running.

    Args:
        path: The file; ``None`` records nothing.
        slots: Threads that run models, the event loop included.
    """

    def __init__(self, path: Path | None, slots: int) -> None:
        self._map: mmap.mmap | None = None
        self._path = path
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("w+b") as stream:
            stream.truncate(_SLOT * slots)
            self._map = mmap.mmap(stream.fileno(), _SLOT * slots)

    def begin(self, slot: int, digest: bytes) -> None:
        """Note that a run of this package begins in a slot."""
        if self._map is not None:
            self._map[slot * _SLOT : slot * _SLOT + _SLOT] = digest

    def end(self, slot: int) -> None:
        """Note that it ended."""
        if self._map is not None:
            self._map[slot * _SLOT : slot * _SLOT + _SLOT] = _EMPTY

    def close(self) -> None:
        """Remove the file after an orderly end."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def slot_of(digest: str) -> bytes:
    """Return a digest as the bytes of a slot."""
    return digest.encode()[:_SLOT].ljust(_SLOT, b"\0")


def flight_path(state: Path, pid: int) -> Path:
    """Return the recorder's file of a process."""
    return state / "run" / f"{pid}.running"


def running_at_death(path: Path) -> list[str]:
    """Return the digests a dead process was running, and remove its file."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    path.unlink(missing_ok=True)
    found = {data[start : start + _SLOT] for start in range(0, len(data), _SLOT)} - {_EMPTY}
    return sorted(item.rstrip(b"\0").decode("ascii", "replace") for item in found)


class CrashRecord:
    """Counts crashes per package, so that one that keeps killing the server is found out.

    Args:
        path: JSON file of crash times.
        most: Crashes within ``window_s`` after which a package is to be quarantined.
        window_s: Seconds.
    """

    def __init__(self, path: Path, *, most: int = 2, window_s: float = 600.0) -> None:
        self._path = path
        self._most = most
        self._window_s = window_s

    def add(self, digests: list[str]) -> list[str]:
        """Count one crash for each; returns those that reached the limit."""
        times: dict[str, list[float]] = {}
        with contextlib.suppress(OSError, ValueError):
            times = json.loads(self._path.read_bytes())
        now = time.time()
        guilty = []
        for digest in digests:
            recent = [when for when in times.get(digest, []) if 0 <= now - when < self._window_s]
            times[digest] = [*recent, now]
            if len(times[digest]) >= self._most:
                guilty.append(digest)
                del times[digest]
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(times))
        temporary.rename(self._path)
        return guilty
