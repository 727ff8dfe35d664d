"""Runs jobs one after the other in this process: for debugging, tests and one small model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from modelworks.compute.energy import EnergyMeter
from modelworks.compute.invoke import invoke
from modelworks.compute.memory import data_limit, own_cpu_s, peak_mb, reset_peak
from modelworks.core.errors import Cancelled, OutOfMemory, UsageError
from modelworks.core.job import Job, JobResult, Usage


class InlineExecutor:
    """An ``Executor`` without processes.

    Memory is limited where the system can refuse it to a process (``RLIMIT_DATA``); time limits and crashes are not
    contained, and a job that has begun cannot be cancelled: use ``ProcessExecutor`` for that.

    Args:
        energy: Meter of joules.
    """

    def __init__(self, energy: EnergyMeter | None = None) -> None:
        self._energy = energy or EnergyMeter()
        self._queue: deque[Job] = deque()
        self._ended: list[JobResult] = []
        self._closed = False

    @property
    def slots(self) -> int:
        """One."""
        return 1

    @property
    def isolates(self) -> bool:
        """No: jobs share this process."""
        return False

    @property
    def overhead_cpu_s(self) -> float:
        """None: there are no processes of its own."""
        return 0.0

    def submit(self, job: Job) -> None:
        """Queue a job for the next ``wait``.

        Raises:
            UsageError: The executor is closed.
        """
        if self._closed:
            raise UsageError("The executor is closed.", code="MW1372")
        self._queue.append(job)

    def wait(self, timeout_s: float | None = None) -> Sequence[JobResult]:
        """Run the oldest queued job and return how it ended; ``timeout_s`` does not end a job."""
        if not self._ended and self._queue:
            self._ended.append(self._run(self._queue.popleft()))
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, job_id: str) -> None:
        """End a job that has not begun."""
        for job in list(self._queue):
            if job.id == job_id:
                self._queue.remove(job)
                error = Cancelled("The job was cancelled.", code="MW2202")
                self._ended.append(JobResult(id=job.id, error=error.to_json()))

    def close(self) -> None:
        """Forget what has not begun."""
        self._queue.clear()
        self._closed = True

    def _run(self, job: Job) -> JobResult:
        reset_peak()
        before, cpu, start = self._energy.read(), own_cpu_s(), time.monotonic()
        with data_limit(job.resources.memory_mb):
            value, error = invoke(job.function, job.inputs, job.params, job.folder)
        used = own_cpu_s() - cpu
        joules, source = self._energy.used(before, used)
        wall = time.monotonic() - start
        usage = Usage(
            cpu_s=used,
            wall_s=wall,
            peak_mb=peak_mb(),
            gpu_s=wall * job.resources.gpus,
            energy_j=joules,
            energy_source=source,
        )
        if error is not None and error["kind"] == OutOfMemory.__name__:
            error |= out_of_memory(job, usage.peak_mb).to_json()
        return JobResult(id=job.id, value=value, error=error, usage=usage)


def out_of_memory(job: Job, peak: float) -> OutOfMemory:
    """Return the error of a job that went over its memory limit."""
    return OutOfMemory(
        f"{job.function} went over its memory limit of {job.resources.memory_mb} MB "
        f"(peak {peak:.0f} MB) and was ended alone.",
        code="MW5101",
        hint=f"memory_mb: {max(job.resources.memory_mb * 2, round(peak * 1.5))}, or fewer rows or a smaller batch",
    )
