"""What only worker processes do: die with the parent, import ahead, carry large messages."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelworks.compute.memory import descendants
from modelworks.compute.process import ProcessExecutor
from modelworks.core.job import noted_usage
from modelworks.testing.executor_suite import Bench

PARENT = """
import sys, time
from pathlib import Path
from modelworks.compute.process import ProcessExecutor
from modelworks.testing.executor_suite import Bench
bench = Bench(ProcessExecutor(2), Path(sys.argv[1]))
jobs = [bench.job(name, params) for name, params in (("sleep", {"wall_s": 600}), ("spin", {"cpu_s": 600}))]
for job in jobs:
    bench.executor.submit(job)
while not (jobs[0].folder / "pid").exists():
    time.sleep(0.01)
print(jobs[1].folder, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_parent_leaves_no_worker_and_a_note_of_what_was_used(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    folder = Path(parent.stdout.readline().strip())
    workers = descendants(parent.pid)
    assert len(workers) == 2
    _until(lambda: noted_usage(folder) is not None)
    parent.send_signal(signal.SIGKILL)
    parent.wait(30)
    parent.stdout.close()
    _until(lambda: not any(_alive(pid) for pid in workers))
    usage = noted_usage(folder)
    assert usage is not None
    assert usage.cpu_s > 0


def _until(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_large_parameters_and_values_pass(tmp_path: Path) -> None:
    with ProcessExecutor(1) as executor:
        bench = Bench(executor, tmp_path)
        text = "ä" * 2_000_000
        assert bench.one("number", {"number": text}).value == text


def test_imports_ahead_are_overhead_and_not_a_job(tmp_path: Path) -> None:
    with ProcessExecutor(1, preload=["numpy", "pyarrow"]) as executor:
        usage = Bench(executor, tmp_path).one("number", {"number": 1}).usage
        assert executor.overhead_cpu_s > usage.cpu_s
        assert executor.overhead_cpu_s > 0.05


def test_a_broken_preload_is_told(tmp_path: Path) -> None:
    with ProcessExecutor(1, preload=["no_such_module_here"]) as executor:
        error = Bench(executor, tmp_path).failed("number", {"number": 1})
    assert error["kind"] == "JobCrashed"
    assert "no_such_module_here" in error["trace"]


def test_what_a_crashed_job_printed_is_kept(tmp_path: Path) -> None:
    with ProcessExecutor(1) as executor:
        bench = Bench(executor, tmp_path)
        bench.one("shout")
        error = bench.failed("leave")
    assert "to stderr" not in error["trace"], "the log of an earlier job is shown for a later one"


def test_closing_ends_all_processes(tmp_path: Path) -> None:
    executor = ProcessExecutor(2)
    bench = Bench(executor, tmp_path)
    bench.works()
    workers = descendants(os.getpid())
    bench.executor.submit(bench.job("sleep", {"wall_s": 600}))
    executor.close()
    assert not any(_alive(pid) for pid in workers)


def test_workers_see_no_device_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "device_job.py").write_text(
        "import os\ndef seen(inputs, params, folder):\n    return os.environ.get('CUDA_VISIBLE_DEVICES')\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        with ProcessExecutor(1) as executor:
            bench = Bench(executor, tmp_path)
            job = bench.job("number")
            seen = type(job)(id=job.id, function="device_job:seen", inputs={}, params={}, folder=job.folder)
            assert bench.end(seen)[job.id].value == ""
    finally:
        sys.path.remove(str(tmp_path))
