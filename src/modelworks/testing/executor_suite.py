"""The conformance suite of executors: every implementation, ours and plugged-in ones, sits this exam.

    @pytest.mark.parametrize("check", executor_suite.CHECKS, ids=lambda check: check.__name__)
    def test_my_executor(check, tmp_path):
        executor_suite.run(check, lambda: MyExecutor(slots=2), tmp_path)

The factory must give an executor with at least two slots if it isolates jobs.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modelworks.core.errors import UsageError
from modelworks.core.job import Executor, Job, JobResult, Resources

JOBS = "modelworks.testing.executor_jobs"
PATIENCE_S = 120.0

_NUMBERS = itertools.count(1)


class Bench:
    """An executor under test and a folder to work in."""

    def __init__(self, executor: Executor, folder: Path) -> None:
        self.executor = executor
        self.folder = folder

    def job(
        self,
        function: str,
        params: dict[str, Any] | None = None,
        *,
        inputs: dict[str, Path] | None = None,
        **limits: Any,
    ) -> Job:
        """Return a job of one of the suite's functions with an output folder of its own."""
        name = f"job-{next(_NUMBERS)}"
        out = self.folder / name / "out"
        out.mkdir(parents=True)
        return Job(
            id=name,
            function=f"{JOBS}:{function}",
            inputs=inputs or {},
            params=params or {},
            folder=out,
            resources=Resources(**limits),
        )

    def end(self, *jobs: Job, submit: bool = True) -> dict[str, JobResult]:
        """Run jobs to their end; returns results by job id and fails if one is missing or comes twice."""
        if submit:
            for job in jobs:
                self.executor.submit(job)
        wanted = {job.id for job in jobs}
        found: dict[str, JobResult] = {}
        deadline = time.monotonic() + PATIENCE_S
        while wanted - set(found):
            assert time.monotonic() < deadline, f"jobs did not end: {sorted(wanted - set(found))}"
            for result in self.executor.wait(1.0):
                assert result.id not in found, f"{result.id} was reported twice"
                found[result.id] = result
        return found

    def one(self, function: str, params: dict[str, Any] | None = None, **limits: Any) -> JobResult:
        """Run one job to its end."""
        job = self.job(function, params, **limits)
        return self.end(job)[job.id]

    def failed(self, function: str, params: dict[str, Any] | None = None, **limits: Any) -> dict[str, Any]:
        """Run one job that must fail; returns its error."""
        result = self.one(function, params, **limits)
        assert result.error is not None, f"{function} ended well: {result.value!r}"
        assert result.value is None
        return result.error

    def works(self) -> None:
        """Fail if a plain job does not end well."""
        assert self.one("number", {"number": 7}).value == 7


Check = Callable[[Bench], None]


def run(check: Check, make: Callable[[], Executor], folder: Path) -> bool:
    """Run one check on a fresh executor; returns ``False`` if it does not apply to this executor."""
    executor = make()
    try:
        if check in NEEDS_ISOLATION and not executor.isolates:
            return False
        check(Bench(executor, folder))
        return True
    finally:
        executor.close()


def gives_inputs_params_and_folder(bench: Bench) -> None:
    """A job sees its inputs and parameters, writes into its folder, and its value comes back as JSON reads it."""
    text = bench.folder / "text"
    text.write_text("hällo", encoding="utf-8")
    job = bench.job("copy_and_report", {"a": [1, None, "ü"]}, inputs={"text": text})
    result = bench.end(job)[job.id]
    assert result.ok, result.error
    assert result.value == {"params": {"a": [1, None, "ü"]}, "length": 6, "pair": [1, 2]}
    assert (job.folder / "copy.txt").read_text(encoding="utf-8") == "hällo"


def refuses_values_that_are_no_json(bench: Bench) -> None:
    """NaN and objects are errors, not values."""
    for function in ("not_a_number", "an_object"):
        error = bench.failed(function)
        assert error["code"] == "MW5002", error


def keeps_our_errors(bench: Bench) -> None:
    """An error of the tree arrives with code, hint and place."""
    error = bench.failed("data_error")
    assert (error["kind"], error["code"], error["hint"], error["where"]) == (
        "DataError",
        "MW1106",
        "exclude: [age]",
        "line 3",
    )


def explains_strange_errors(bench: Bench) -> None:
    """Any other exception becomes an error that says what and where, with the trace kept apart."""
    error = bench.failed("strange_error")
    assert error["kind"] == "ExecutionError"
    assert "KeyError" in error["message"]
    assert "executor_jobs.py" in error["where"]
    assert "Traceback" in error["trace"]
    bench.works()


def names_a_function_that_is_not_there(bench: Bench) -> None:
    """A wrong import path is the caller's error."""
    error = bench.failed("no_such_function")
    assert error["kind"] == "UsageError"
    assert "no_such_function" in error["message"]


def ends_every_job_once(bench: Bench) -> None:
    """Many jobs, good and bad, each end exactly once, with their own value."""
    jobs = [bench.job("number", {"number": index}) for index in range(40)]
    bad = [bench.job("strange_error") for _ in range(5)]
    results = bench.end(*jobs, *bad)
    assert [results[job.id].value for job in jobs] == list(range(40))
    assert all(not results[job.id].ok for job in bad)
    assert list(bench.executor.wait(0.01)) == []


def measures_usage(bench: Bench) -> None:
    """CPU-seconds, elapsed seconds, peak memory and energy are those of the job."""
    small = bench.one("number", {"number": 1}).usage
    busy = bench.one("spin", {"cpu_s": 0.3})
    assert busy.usage.cpu_s >= 0.3
    assert busy.usage.cpu_s < 0.3 + max(0.3, busy.usage.wall_s)
    assert busy.usage.wall_s > 0
    assert busy.usage.energy_source in ("rapl", "declared", "none")
    assert (busy.usage.energy_j > 0) == (busy.usage.energy_source != "none")
    large = bench.one("take", {"mb": 200, "step": 50}).usage
    assert large.peak_mb >= small.peak_mb + 150
    after = bench.one("number", {"number": 1}).usage
    assert after.peak_mb < large.peak_mb - 100, "the peak of an earlier job is charged to a later one"


def cancels_queued_jobs(bench: Bench) -> None:
    """A job that has not begun is reported as cancelled and never runs."""
    first = [bench.job("number", {"number": index}) for index in range(bench.executor.slots)]
    jobs = [bench.job("sleep", {"wall_s": 0.2}) for _ in range(bench.executor.slots + 3)]
    for job in (*first, *jobs):
        bench.executor.submit(job)
    bench.executor.cancel(jobs[-1].id)
    bench.executor.cancel("no such job")
    results = bench.end(*first, *jobs, submit=False)
    error = results[jobs[-1].id].error
    assert error is not None
    assert error["kind"] == "Cancelled"
    assert not (jobs[-1].folder / "pid").exists()
    assert all(results[job.id].ok for job in jobs[:-1])


def returns_when_there_is_nothing(bench: Bench) -> None:
    """Waiting without jobs does not hang."""
    assert list(bench.executor.wait(None)) == []


def refuses_jobs_when_closed(bench: Bench) -> None:
    """A closed executor takes no jobs, and closing twice is fine."""
    bench.works()
    bench.executor.close()
    bench.executor.close()
    try:
        bench.executor.submit(bench.job("number", {"number": 1}))
    except UsageError:
        return
    raise AssertionError("a closed executor took a job")


def refuses_sudden_memory(bench: Bench) -> None:
    """A single grab far over the limit fails that job with its peak and a hint."""
    error = bench.failed("take", {"mb": 4000, "step": 4000}, memory_mb=300)
    assert (error["kind"], error["code"]) == ("OutOfMemory", "MW5101")
    assert "300 MB" in error["message"]
    assert "memory_mb" in error["hint"]
    bench.works()


def survives_crashes(bench: Bench) -> None:
    """A job whose process dies fails alone, with the reason; the neighbour and the next job are not touched."""
    for function, reason in (("leave", "exit 3"), ("segfault", "SIGSEGV"), ("kill_itself", "SIGKILL")):
        neighbour, bad = bench.job("spin", {"cpu_s": 0.2}), bench.job(function)
        results = bench.end(neighbour, bad)
        error = results[bad.id].error
        assert error is not None
        assert (error["kind"], error["code"]) == ("JobCrashed", "MW5301")
        assert reason in error["message"], error["message"]
        assert results[bad.id].usage.peak_mb > 0
        assert results[neighbour.id].ok
    bench.works()


def ends_jobs_over_memory(bench: Bench) -> None:
    """A job that grows over its limit is ended alone and tells its peak."""
    neighbour = bench.job("spin", {"cpu_s": 0.2})
    growing = bench.job("take", {"mb": 2000, "step": 20, "pause_s": 0.01}, memory_mb=200)
    results = bench.end(neighbour, growing)
    error, usage = results[growing.id].error, results[growing.id].usage
    assert error is not None
    assert error["kind"] == "OutOfMemory"
    assert "memory_mb" in error["hint"]
    assert 150 < usage.peak_mb < 1500
    assert usage.cpu_s > 0
    assert results[neighbour.id].ok
    bench.works()


def ends_jobs_over_time(bench: Bench) -> None:
    """CPU-seconds and elapsed seconds are limits of a job."""
    error = bench.failed("spin", {"cpu_s": 60}, cpu_s=0.3)
    assert (error["kind"], error["code"]) == ("JobTimeout", "MW5202")
    error = bench.failed("sleep", {"wall_s": 60}, wall_s=0.3)
    assert (error["kind"], error["code"]) == ("JobTimeout", "MW5201")
    bench.works()


def cancels_running_jobs(bench: Bench) -> None:
    """A running job is ended with its process; its neighbour goes on."""
    job, neighbour = bench.job("sleep", {"wall_s": 300}), bench.job("spin", {"cpu_s": 0.3})
    bench.executor.submit(job)
    bench.executor.submit(neighbour)
    pid = _await_pid(job.folder / "pid")
    bench.executor.cancel(job.id)
    results = bench.end(job, neighbour, submit=False)
    error = results[job.id].error
    assert error is not None
    assert error["kind"] == "Cancelled"
    assert results[neighbour.id].ok
    assert not _alive(pid)


def runs_jobs_side_by_side(bench: Bench) -> None:
    """Two jobs run at the same time."""
    place = str(bench.folder)
    pair = [
        bench.job("meet", {"place": place, "me": "a", "other": "b"}),
        bench.job("meet", {"place": place, "me": "b", "other": "a"}),
    ]
    assert all(result.ok for result in bench.end(*pair).values())


def gives_threads_for_cores(bench: Bench) -> None:
    """One core means one thread; a job planned on more cores may use as many, up to the slots."""
    slots = bench.executor.slots
    for cpus, expected in ((0.5, 1), (1.0, 1), (2.0, 2), (1.0, 1), (slots + 5.0, slots)):
        assert bench.one("threads", cpus=cpus).value == expected


def keeps_prints_apart(bench: Bench) -> None:
    """What a job prints is no message, and a process it leaves behind is ended."""
    result = bench.one("shout")
    assert result.ok, result.error
    assert not _alive(result.value)
    bench.works()


def hashes_the_same_everywhere(bench: Bench) -> None:
    """All processes hash texts alike, so that equal inputs give equal bytes."""
    jobs = [bench.job("text_hash") for _ in range(6)]
    assert len({result.value[0] for result in bench.end(*jobs).values()}) == 1


def keeps_workers_warm(bench: Bench) -> None:
    """Jobs one after the other do not each start a process."""
    pids = {bench.one("text_hash").value[1] for _ in range(6)}
    assert len(pids) <= bench.executor.slots
    assert math.isfinite(bench.executor.overhead_cpu_s)


ALWAYS: Sequence[Check] = (
    gives_inputs_params_and_folder,
    refuses_values_that_are_no_json,
    keeps_our_errors,
    explains_strange_errors,
    names_a_function_that_is_not_there,
    ends_every_job_once,
    measures_usage,
    cancels_queued_jobs,
    returns_when_there_is_nothing,
    refuses_jobs_when_closed,
    refuses_sudden_memory,
)
NEEDS_ISOLATION: Sequence[Check] = (
    survives_crashes,
    ends_jobs_over_memory,
    ends_jobs_over_time,
    cancels_running_jobs,
    runs_jobs_side_by_side,
    gives_threads_for_cores,
    keeps_prints_apart,
    hashes_the_same_everywhere,
    keeps_workers_warm,
)
CHECKS: Sequence[Check] = (*ALWAYS, *NEEDS_ISOLATION)


def _await_pid(path: Path) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while not (path.exists() and path.read_text(encoding="ascii")):
        assert time.monotonic() < deadline, "the job did not begin"
        time.sleep(0.01)
    return int(path.read_text(encoding="ascii"))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
