"""One worker process as its parent sees it: start, talk, measure, end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelworks.compute.lines import LineBuffer
from modelworks.compute.memory import MB, cpu_s, descendants, private_mb
from modelworks.core.job import Job

_THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ARROW_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_LOG_TAIL = 4000


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a worker ended.

    Attributes:
        how: Signal name or ``exit N``.
        cpu_s: CPU-seconds of its whole life, ended children included.
        peak_mb: Peak resident memory of its whole life, MB.
        log: End of what its last job printed.
    """

    how: str
    cpu_s: float
    peak_mb: float
    log: str


class Child:
    """A worker process in a process group of its own.

    Args:
        threads: Threads its numerical libraries may use.
        gpus: It may see devices.
        preload: Modules it imports before it is ready.
    """

    def __init__(self, *, threads: int, gpus: bool, preload: Sequence[str]) -> None:
        self.threads = threads
        self.gpus = gpus
        self.total_cpu_s = 0.0
        self.peak_mb = 0.0
        self._cpu_at_start = 0.0
        self._ready = False
        self._pending: dict[str, Any] | None = None
        self._lines = LineBuffer()
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115
        environment = os.environ | {name: str(threads) for name in _THREAD_SETTINGS}
        # One seed of string hashes for all workers, so that equal inputs give equal bytes.
        environment["PYTHONHASHSEED"] = "0"
        if not gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "modelworks.compute.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands = self._process.stdin
        self.answers = self._process.stdout
        os.set_blocking(self.answers.fileno(), False)
        self._send({"path": sys.path, "preload": list(preload)})

    def send_job(self, job: Job) -> None:
        """Hand over a job, as soon as the worker listens; a dead worker is noticed by ``receive``."""
        self._pending = {
            "id": job.id,
            "function": job.function,
            "inputs": {name: str(path) for name, path in job.inputs.items()},
            "params": job.params,
            "folder": str(job.folder),
            "memory_mb": job.resources.memory_mb,
        }
        if self._ready:
            self._start_pending()

    def ready(self, cpu: float) -> None:
        """Take note that the worker listens, after ``cpu`` CPU-seconds of starting."""
        self._ready = True
        self.total_cpu_s = cpu
        if self._pending is not None:
            self._start_pending()

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the complete messages that have come, and whether the worker still lives."""
        lines: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.answers.fileno(), 1 << 20):
                lines += self._lines.feed(data)
            return [json.loads(line) for line in lines], False
        return [json.loads(line) for line in lines], True

    def measure(self) -> tuple[float, float]:
        """Return private memory (MB) now and CPU-seconds of the job so far, descendants included."""
        pids = [self._process.pid, *descendants(self._process.pid)]
        memory = sum(private_mb(pid) for pid in pids)
        self.peak_mb = max(self.peak_mb, memory)
        return memory, sum(cpu_s(pid) for pid in pids) - self._cpu_at_start

    def end(self) -> Ended:
        """Kill the process group and return how the worker ended."""
        pid = self._process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(BrokenPipeError):
            self._commands.close()
        self.answers.close()
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _LOG_TAIL))
        log = self._log.read().decode(errors="replace")
        self._log.close()
        unit = 1 if sys.platform == "darwin" else 1024
        return Ended(
            how=_how(self._process.returncode),
            cpu_s=used.ru_utime + used.ru_stime,
            peak_mb=used.ru_maxrss * unit / MB,
            log=log,
        )

    def _start_pending(self) -> None:
        self.peak_mb = 0.0
        self._cpu_at_start = cpu_s(self._process.pid)
        self._log.seek(0)
        self._log.truncate()
        self._send(self._pending or {})
        self._pending = None

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._commands.write(json.dumps(message).encode() + b"\n")
            self._commands.flush()


def _how(returncode: int) -> str:
    if returncode < 0:
        return signal.Signals(-returncode).name
    return f"exit {returncode}"
