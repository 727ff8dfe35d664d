"""The parent of the worker processes: keeps the port open, starts workers again, finds out what killed them."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from modelworks.core.errors import ExecutionError, ModelworksError
from modelworks.serving.flight import CrashRecord, flight_path, running_at_death
from modelworks.serving.ports import bound
from modelworks.serving.proofs import Proof, Proofs
from modelworks.serving.settings import ServeSettings
from modelworks.serving.weights import weights_folder

_log = logging.getLogger("modelworks.serving")
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
_START_S = 600.0


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    reports: int
    started: float
    address: dict[str, Any] | None = None


class Supervisor:
    """Runs ``settings.workers`` processes until told to stop.

    Args:
        settings: Settings of the server.
        on_ready: Called with the address once every worker takes requests.
    """

    def __init__(self, settings: ServeSettings, on_ready: Callable[[dict[str, Any]], None]) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._workers: list[_Worker] = []
        self._stopping = 0.0
        self._told = False
        self._failures: list[float] = []
        self._listener = _listen(settings)
        self._bound = replace(settings, port=self._listener.getsockname()[1])
        self._weights = weights_folder(settings.state) if settings.workers > 1 else None
        self._grpc_hold: socket.socket | None = None
        if settings.grpc_port == 0:
            # Several workers share one gRPC port; holding it bound (not listening) keeps it ours between their starts.
            held = bound(settings.host, 0, shared=True, option="--grpc-port")
            self._bound = replace(self._bound, grpc_port=held.getsockname()[1])
            if settings.workers > 1:
                self._grpc_hold = held
            else:
                held.close()

    def run(self) -> int:
        """Supervise; returns the exit status.

        Raises:
            ModelworksError: The first workers could not start; the error is theirs.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            for _ in range(self._settings.workers):
                self._workers.append(self._start())
            while self._workers:
                self._wait()
        finally:
            for worker in self._workers:
                worker.process.kill()
            self._listener.close()
            if self._grpc_hold is not None:
                self._grpc_hold.close()
            if self._weights is not None:
                self._weights.close()
        return 0

    def _start(self) -> _Worker:
        reports, theirs = os.pipe()
        command = [
            sys.executable, "-P", "-m", "modelworks.serving.worker",
            str(theirs), str(self._listener.fileno()),
        ]  # fmt: skip
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=(theirs, self._listener.fileno()),
            start_new_session=True,
        )
        os.close(theirs)
        assert process.stdin is not None
        process.stdin.write(to_json(self._bound))
        if self._weights is not None:
            # Through a pipe, not an option or a file: nobody else reads it.
            process.stdin.write(
                b"\n" + json.dumps([str(self._weights.path), self._weights.secret.hex()]).encode()
            )
        process.stdin.close()
        return _Worker(process, reports, time.monotonic())

    def _wait(self) -> None:
        """Wait for a report, an end, or the time to use force."""
        readable, _, _ = select.select([worker.reports for worker in self._workers], [], [], 0.5)
        for worker in list(self._workers):
            if worker.reports in readable:
                self._report(worker)
        now = time.monotonic()
        for worker in self._workers:
            too_late = self._stopping and now > self._stopping + self._settings.drain_s + 10.0
            never_up = worker.address is None and now > worker.started + _START_S
            if too_late or never_up:
                worker.process.kill()

    def _report(self, worker: _Worker) -> None:
        data = os.read(worker.reports, 65_536)
        if not data:
            os.close(worker.reports)
            self._workers.remove(worker)
            self._ended(worker, worker.process.wait())
            return
        report = json.loads(data)
        if "error" in report:
            self._failed_start(ModelworksError.from_json(report["error"]))
        worker.address = report
        if not self._told and all(item.address is not None for item in self._workers):
            self._told = True
            self._on_ready(report)

    def _failed_start(self, error: ModelworksError) -> None:
        if not self._told:
            raise error
        _log.error("a worker could not start again: %s", error.message)

    def _ended(self, worker: _Worker, status: int) -> None:
        path = flight_path(self._settings.state, worker.process.pid)
        if self._stopping:
            running_at_death(path)
            return
        running = running_at_death(path)
        if -status in _CRASHES:
            self._blame(running, signal.Signals(-status).name)
        _log.error("worker %d ended with status %d and is started again", worker.process.pid, status)
        now = time.monotonic()
        self._failures = [when for when in self._failures if now - when < 60.0] + [now]
        if not self._told or len(self._failures) > 10 * self._settings.workers:
            raise ExecutionError(
                f"A worker ended with status {status} {len(self._failures)} times within a minute.",
                code="MW5420",
                hint="mw doctor; the last lines of the log say more",
            )
        time.sleep(min(5.0, 0.05 * 2 ** len(self._failures)))
        self._workers.append(self._start())

    def _blame(self, digests: list[str], how: str) -> None:
        state = self._settings.state
        for digest in CrashRecord(state / "crashes.json").add(digests):
            cause = f"the process died by {how} twice while running it"
            Proofs(state / "proofs").put(
                Proof(digest=digest, outcome="quarantined", cause=cause, wall=time.time())
            )
            _log.error("package %s is quarantined: %s", digest[:12], cause)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = self._stopping or time.monotonic()
        for worker in self._workers:
            worker.process.send_signal(signal.SIGTERM)


def _listen(settings: ServeSettings) -> socket.socket:
    """Open the HTTP port. One worker inherits it, so that nobody is refused while it is started again; several
    open their own beside it with SO_REUSEPORT, so that the kernel spreads connections."""
    shared = settings.workers > 1
    listener = bound(settings.host, settings.port, shared=shared, option="--port")
    if not shared:
        listener.listen(1024)
    return listener


def to_json(settings: ServeSettings) -> bytes:
    """Return settings as they cross to another process."""
    return json.dumps(asdict(settings), default=str).encode()


def from_json(data: bytes) -> ServeSettings:
    """Rebuild settings that crossed to a worker."""
    values = json.loads(data)
    for name in ("home", "tls_certificate", "tls_key"):
        values[name] = Path(values[name]) if values[name] is not None else None
    values["packages"] = tuple(Path(item) for item in values["packages"])
    for name in ("host_names", "origins"):
        values[name] = tuple(values[name])
    return ServeSettings(**values)
