"""Where the server of an installation listens, so that commands of the same machine find it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

_FILES = "running-*.json"
"""One record for each server of the installation, named by its process."""


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A server that was started on this machine and has not ended.

    Attributes:
        url: Address of the HTTP door.
        grpc_port: Port of the gRPC door; ``None`` without one.
        pid: Process that keeps the port.
        born: Start of that process, seconds since 1970: another process with the same number is not it.
        certificate: PEM file a client trusts; empty without TLS.
        since: When it took its first request, seconds since 1970.
    """

    url: str
    grpc_port: int | None
    pid: int
    born: float
    certificate: str = ""
    since: float = 0.0


def record(state: Path, report: dict[str, Any], certificate: Path | None) -> None:
    """Write down that this process serves; ``state`` is ``<home>/serving``."""
    found = RunningServer(
        url=_reachable(report["url"]),
        grpc_port=report["grpc_port"],
        pid=os.getpid(),
        born=psutil.Process().create_time(),
        certificate=str(certificate.resolve()) if certificate is not None else "",
        since=time.time(),
    )
    for path in state.glob(_FILES):
        if not _lives(_read(path)):
            path.unlink(missing_ok=True)
    temporary = state / f".{_file(os.getpid())}"
    temporary.write_text(json.dumps(asdict(found)), encoding="utf-8")
    temporary.replace(state / _file(os.getpid()))


def forget(state: Path) -> None:
    """Take this process's own record away."""
    (state / _file(os.getpid())).unlink(missing_ok=True)


def find_running(state: Path, pid: int = 0) -> RunningServer | None:
    """Return the server that runs from this state folder, or ``None``; of several the one started last.

    Args:
        state: ``<home>/serving``.
        pid: Only the server of this process.
    """
    records = [_read(path) for path in state.glob(_FILES)]
    living = [item for item in records if item is not None and pid in {0, item.pid} and _lives(item)]
    return max(living, key=lambda item: item.since, default=None)


def _file(pid: int) -> str:
    return _FILES.replace("*", str(pid))


def _lives(found: RunningServer | None) -> bool:
    if found is not None:
        with contextlib.suppress(psutil.Error):
            return abs(psutil.Process(found.pid).create_time() - found.born) < 1.0
    return False


def _read(path: Path) -> RunningServer | None:
    try:
        return RunningServer(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _reachable(url: str) -> str:
    """Return the address by which this machine reaches a server bound to every address."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
