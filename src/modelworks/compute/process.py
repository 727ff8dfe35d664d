"""Runs jobs in warm worker processes: limits per job, and a crash ends that job alone."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from modelworks.compute.child import Child, Ended
from modelworks.compute.device import usable_cores
from modelworks.compute.energy import EnergyMeter, Reading
from modelworks.compute.inline import out_of_memory
from modelworks.core.errors import (
    Cancelled,
    ExecutionError,
    JobCrashed,
    JobTimeout,
    ModelworksError,
    OutOfMemory,
    UsageError,
)
from modelworks.core.job import Job, JobResult, Usage

POLL_S = 0.2
"""How often limits are looked at; memory taken faster than that is refused by the system inside the job."""


@dataclass
class _Running:
    """A job on a child."""

    job: Job
    energy: Reading
    start: float


class ProcessExecutor:
    """An ``Executor`` of warm worker processes, each with its own process group.

    Workers start when the first job needs them and stay warm. A worker whose job crashed, went over a limit or was
    cancelled is replaced. Workers use one thread unless a job is planned on more cores. If this process dies, however
    it dies, its workers end.

    Args:
        slots: Cores to fill; by default those this process may use.
        preload: Modules each worker imports before its first job, so that no job is charged for it.
        energy: Meter of joules.
    """

    def __init__(
        self, slots: int | None = None, *, preload: Sequence[str] = (), energy: EnergyMeter | None = None
    ) -> None:
        self._slots = slots or usable_cores()
        self._preload = tuple(preload)
        self._energy = energy or EnergyMeter()
        self._lock = threading.Condition()
        self._queue: deque[Job] = deque()
        self._cancelled: set[str] = set()
        self._ended: list[JobResult] = []
        self._children: list[Child] = []
        self._running: dict[Child, _Running] = {}
        self._overhead = 0.0
        self._closing = False
        self._broken: BaseException | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        # Workers die with the thread that started them, so one thread starts them all and lives to the end.
        self._thread = threading.Thread(target=self._serve, name="process-executor", daemon=True)
        self._thread.start()

    @property
    def slots(self) -> int:
        """How many one-core jobs run side by side."""
        return self._slots

    @property
    def isolates(self) -> bool:
        """Yes: every job has a process of its own."""
        return True

    @property
    def overhead_cpu_s(self) -> float:
        """CPU-seconds of starting workers, preloading modules and ending broken ones."""
        return self._overhead

    def submit(self, job: Job) -> None:
        """Queue a job; returns at once.

        Raises:
            UsageError: The executor is closed.
        """
        with self._lock:
            if self._closing:
                raise UsageError("The executor is closed.", code="MW1372")
            self._queue.append(job)
        self._wake()

    def wait(self, timeout_s: float | None = None) -> Sequence[JobResult]:
        """Return the jobs that ended since the last call; waits for at least one up to ``timeout_s``.

        Returns at once when nothing is queued and nothing runs.

        Raises:
            ExecutionError: No worker can be started.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            while not self._ended and (self._queue or self._running) and self._broken is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._lock.wait(left)
            if self._broken is not None:
                raise ExecutionError(
                    f"The executor cannot run jobs: {self._broken}", code="MW5304"
                ) from self._broken
            ended, self._ended = self._ended, []
            return ended

    def cancel(self, job_id: str) -> None:
        """End a job, queued or running; it is reported as ``Cancelled``."""
        with self._lock:
            self._cancelled.add(job_id)
        self._wake()

    def close(self) -> None:
        """End everything that runs and all workers; returns when they are gone."""
        with self._lock:
            self._closing = True
        self._wake()
        self._thread.join()

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"w")

    def _serve(self) -> None:
        try:
            while not self._closing:
                timeout = POLL_S if self._running else None
                for key, _ in self._selector.select(timeout):
                    if key.data is None:
                        self._drain()
                    else:
                        self._hear(key.data)
                self._obey_cancels()
                self._enforce()
                self._assign()
        except Exception as error:
            # A thread has nobody to raise to: whoever waits is told.
            with self._lock:
                self._broken = error
                self._lock.notify_all()
        finally:
            for child in list(self._children):
                self._remove(child)
            self._selector.close()
            with self._lock:
                self._closing = True
                os.close(self._wake_read)
                os.close(self._wake_write)
                self._lock.notify_all()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass

    def _hear(self, child: Child) -> None:
        """Take in what a child said, or that it died."""
        messages, alive = child.receive()
        for message in messages:
            if message.get("ready"):
                with self._lock:
                    self._overhead += message["cpu_s"]
                child.ready(message["cpu_s"])
                if child in self._running:
                    self._running[child].start = time.monotonic()
                continue
            running = self._running[child]
            child.total_cpu_s = message["total_cpu_s"]
            usage = self._usage(running, message["cpu_s"], max(message["peak_mb"], child.peak_mb))
            error = message["error"]
            if error is not None and error["kind"] == OutOfMemory.__name__:
                error |= out_of_memory(running.job, usage.peak_mb).to_json()
            self._report(
                child, JobResult(id=running.job.id, value=message["value"], error=error, usage=usage)
            )
        if not alive:
            self._bury(child, None)

    def _enforce(self) -> None:
        for child, running in list(self._running.items()):
            limits = running.job.resources
            memory, cpu = child.measure()
            name = running.job.function
            if memory > limits.memory_mb:
                self._bury(child, out_of_memory(running.job, child.peak_mb))
            elif cpu > limits.cpu_s:
                text = f"{name} used more than its limit of {limits.cpu_s:g} CPU-seconds and was ended alone."
                hint = f"cpu_s: {limits.cpu_s * 2:g}"
                self._bury(child, JobTimeout(text, code="MW5202", hint=hint))
            elif time.monotonic() - running.start > limits.wall_s:
                text = f"{name} took longer than its limit of {limits.wall_s:g} seconds and was ended alone."
                hint = f"wall_s: {limits.wall_s * 2:g}"
                self._bury(child, JobTimeout(text, code="MW5201", hint=hint))

    def _obey_cancels(self) -> None:
        error = Cancelled(
            "The job was cancelled.", code="MW2202", hint="run the same command again to resume"
        )
        with self._lock:
            wanted, self._cancelled = self._cancelled, set()
            if not wanted:
                return
            queued = [job for job in self._queue if job.id in wanted]
            self._queue = deque(job for job in self._queue if job.id not in wanted)
            self._ended += [JobResult(id=job.id, error=error.to_json()) for job in queued]
            self._lock.notify_all()
        for child, running in list(self._running.items()):
            if running.job.id in wanted:
                self._bury(child, error)

    def _assign(self) -> None:
        """Give queued jobs to free cores, in order."""
        while True:
            with self._lock:
                used = sum(_cores(running.job, self._slots) for running in self._running.values())
                if not self._queue or used + _cores(self._queue[0], self._slots) > self._slots:
                    return
                job = self._queue.popleft()
                # Counted as running before the lock is free, or a waiter would see nothing queued and nothing running.
                child = self._free_child(_cores(job, self._slots), gpus=job.resources.gpus > 0)
                self._running[child] = _Running(job, self._energy.read(), time.monotonic())
            child.send_job(job)

    def _free_child(self, threads: int, *, gpus: bool) -> Child:
        idle = [child for child in self._children if child not in self._running]
        for child in idle:
            if (child.threads, child.gpus) == (threads, gpus):
                return child
        if len(self._children) >= self._slots and idle:
            self._remove(idle[0])
        child = Child(threads=threads, gpus=gpus, preload=self._preload)
        self._children.append(child)
        self._selector.register(child.answers, selectors.EVENT_READ, child)
        return child

    def _bury(self, child: Child, error: ModelworksError | None) -> None:
        """End a child and report its job with ``error``, or with how the child died."""
        running = self._running.get(child)
        peak, before = child.peak_mb, child.total_cpu_s
        ended = self._remove(child)
        if running is None:
            with self._lock:
                self._overhead += max(0.0, ended.cpu_s - before)
            return
        usage = self._usage(running, max(0.0, ended.cpu_s - before), max(peak, ended.peak_mb))
        told = error or _crash(running.job, ended, usage.peak_mb)
        self._report(
            child, JobResult(id=running.job.id, error=told.to_json() | {"trace": ended.log}, usage=usage)
        )

    def _remove(self, child: Child) -> Ended:
        self._selector.unregister(child.answers)
        self._children.remove(child)
        return child.end()

    def _usage(self, running: _Running, cpu_s: float, peak: float) -> Usage:
        joules, source = self._energy.used(running.energy, cpu_s)
        wall = time.monotonic() - running.start
        return Usage(
            cpu_s=cpu_s,
            wall_s=wall,
            peak_mb=peak,
            gpu_s=wall * running.job.resources.gpus,
            energy_j=joules,
            energy_source=source,
        )

    def _report(self, child: Child, result: JobResult) -> None:
        with self._lock:
            del self._running[child]
            self._ended.append(result)
            self._lock.notify_all()


def _cores(job: Job, slots: int) -> int:
    return min(slots, max(1, round(job.resources.cpus)))


def _crash(job: Job, ended: Ended, peak: float) -> JobCrashed:
    hint = "look at the trace with --debug"
    if ended.how == "SIGKILL":
        hint = (
            "often the system ran out of memory: run fewer jobs at once, or give the job a smaller memory_mb"
        )
    return JobCrashed(
        f"The process of {job.function} died ({ended.how}, peak {peak:.0f} MB); other jobs were not touched.",
        code="MW5301",
        hint=hint,
    )
