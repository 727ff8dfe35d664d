"""A child that serves several jobs outlives the job that started it; any other child ends with its job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelworks.compute.memory import keep_child, own_cpu_s, release_child
from modelworks.compute.process import ProcessExecutor
from modelworks.core.job import Job

SLEEP = [sys.executable, "-c", "import time; time.sleep(120)"]


def start(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> int:
    child = subprocess.Popen(SLEEP)
    if params["keep"]:
        keep_child(child.pid)
    return child.pid


def alive(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> bool:
    return Path(f"/proc/{params['pid']}/stat").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("keep", [True, False])
def test_only_a_kept_child_sees_the_next_job(tmp_path: Path, keep: bool) -> None:
    def run(executor: ProcessExecutor, name: str, **params: Any) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        executor.submit(Job(id=name, function=f"{__name__}:{name}", inputs={}, params=params, folder=folder))
        (result,) = executor.wait(60)
        assert result.error is None
        return result.value

    with ProcessExecutor(1) as executor:
        pid = run(executor, "start", keep=keep)
        assert run(executor, "alive", pid=pid) is keep
    if keep:
        os.kill(pid, 9)


def test_what_a_kept_child_uses_counts_as_our_own() -> None:
    lines = (
        "import time", "end = time.process_time() + 0.3", "while time.process_time() < end: pass",
        "print('done', flush=True)", "input()",
    )  # fmt: skip
    before = own_cpu_s()
    child = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    keep_child(child.pid)
    assert child.stdout is not None
    child.stdout.readline()
    assert own_cpu_s() - before >= 0.25
    child.communicate(b"\n")
    release_child(child.pid)
    assert own_cpu_s() - before >= 0.25
