"""Which process owns a run or a staging folder, and whether it still lives."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process, named so that a reused process number is not mistaken for it.

    Attributes:
        machine: Boot and process-number space the number is valid in.
        pid: Process number.
        born: Start time of the process in that space's own ticks.
    """

    machine: str
    pid: int
    born: int

    def __str__(self) -> str:
        return f"{self.machine}-{self.pid}-{self.born}"

    @staticmethod
    def parse(text: str) -> Owner | None:
        """Return the owner named by ``str(owner)``, or ``None`` if ``text`` names none."""
        parts = text.split("-")
        if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
            return None
        return Owner(parts[0], int(parts[1]), int(parts[2]))

    @staticmethod
    def current() -> Owner:
        """Return this process."""
        pid = os.getpid()
        return Owner(_machine(), pid, _born(pid) or 0)

    def alive(self) -> bool | None:
        """Say whether the process lives; ``None`` if it is on another machine and cannot be seen."""
        if self.machine != _machine():
            return None
        return _born(self.pid) == self.born


@cache
def _machine() -> str:
    # The boot changes the meaning of every process number; a container has numbers of its own.
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, space = platform.node(), str(round(time.time() - time.monotonic(), -2))
    kept = "".join(letter for letter in boot + space if letter.isalnum())
    return kept.replace("pid", "p")


def _born(pid: int) -> int | None:
    stat = Path(f"/proc/{pid}/stat")
    try:
        text = stat.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        return _born_elsewhere(pid)
    except ProcessLookupError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _born_elsewhere(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
