"""The child process of ``ProcessExecutor``: reads jobs as JSON lines, runs them, answers in JSON lines.

Protocol, one JSON object a line. Parent to worker: first ``{"path": [...], "preload": [...]}``, then jobs
``{"id", "function", "inputs", "params", "folder", "memory_mb", "gpus"}``. Worker to parent: ``{"ready": true,
"cpu_s"}``, then per job ``{"id", "value", "error", "cpu_s", "wall_s", "peak_mb", "total_cpu_s"}``. End of input means
that the parent is gone: the worker ends its whole process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import queue
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from modelworks.compute.invoke import invoke
from modelworks.compute.lines import LineBuffer
from modelworks.compute.memory import (
    data_limit,
    descendants,
    kept_children,
    own_cpu_s,
    peak_mb,
    private_mb,
    reset_peak,
)
from modelworks.core.job import Usage, note_usage

_PR_SET_PDEATHSIG = 1
_NOTE_EVERY_S = 1.0


def main() -> None:
    """Serve the parent until its end of the pipe closes."""
    parent = int(sys.argv[1])
    _die_with(parent)
    commands, answers = _private_pipes()
    hello = json.loads(_first_line(commands))
    sys.path[:] = hello["path"]
    for module in hello["preload"]:
        importlib.import_module(module)
    _answer(answers, {"ready": True, "cpu_s": own_cpu_s()})
    current = _Current()
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands, jobs, current), daemon=True).start()
    while True:
        job = jobs.get()
        _answer(answers, _run(job, current))
        _return_memory()


class _Current:
    """The job that runs now, for the thread that notes its usage."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.folder: Path | None = None
        self.cpu = 0.0
        self.start = 0.0

    def begin(self, folder: Path) -> None:
        with self.lock:
            self.folder, self.cpu, self.start = folder, own_cpu_s(), time.monotonic()

    def end(self) -> None:
        with self.lock:
            self.folder = None

    def note(self) -> None:
        with self.lock:
            if self.folder is not None:
                spent, wall = own_cpu_s() - self.cpu, time.monotonic() - self.start
                note_usage(self.folder, Usage(cpu_s=spent, wall_s=wall, peak_mb=peak_mb()))


def _run(job: dict[str, Any], current: _Current) -> dict[str, Any]:
    folder = Path(job["folder"])
    inputs = {name: Path(path) for name, path in job["inputs"].items()}
    reset_peak()
    cpu, start = own_cpu_s(), time.monotonic()
    current.begin(folder)
    try:
        with data_limit(job["memory_mb"]):
            value, error = invoke(job["function"], inputs, job["params"], folder)
    finally:
        current.end()
    _end_strays()
    total = own_cpu_s()
    return {
        "id": job["id"],
        "value": value,
        "error": error,
        "cpu_s": total - cpu,
        "wall_s": time.monotonic() - start,
        "peak_mb": peak_mb(),
        "total_cpu_s": total,
    }


def _listen(commands: int, jobs: queue.SimpleQueue[dict[str, Any]], current: _Current) -> None:
    buffer = LineBuffer()
    while True:
        ready, _, _ = select.select([commands], [], [], _NOTE_EVERY_S)
        if not ready:
            current.note()
            continue
        data = os.read(commands, 1 << 16)
        if not data:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        for line in buffer.feed(data):
            jobs.put(json.loads(line))


def _first_line(commands: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(commands, 1)
        if not byte:
            sys.exit(0)
        line += byte
    return line


def _answer(answers: int, message: dict[str, Any]) -> None:
    data = memoryview(json.dumps(message).encode() + b"\n")
    while data:
        data = data[os.write(answers, data) :]


def _private_pipes() -> tuple[int, int]:
    """Keep the protocol's pipes to ourselves: a job's prints go to the log, its children inherit neither."""
    commands, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return commands, answers


def _die_with(parent: int) -> None:
    """End when the parent's thread that started us ends, even inside native code that never lets go of the lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def _end_strays() -> None:
    """End processes a job left behind, so that they do not run on the next job's bill; kept children stay."""
    kept = kept_children()
    strays = [pid for pid in descendants(os.getpid()) if pid not in kept and private_mb(pid) > 0]
    for pid in strays:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in strays:
        # What is no child of ours was one of theirs; its parent or the system waits for it.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _return_memory() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


if __name__ == "__main__":
    main()
