"""The scheduler: once per content, in parallel, resumable, isolating failures."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import flow_steps as steps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.compute.inline import InlineExecutor
from modelworks.compute.process import ProcessExecutor
from modelworks.core.clock import ManualClock
from modelworks.core.errors import Conflict, DataError, DiskFull, UsageError
from modelworks.core.job import Executor
from modelworks.storage.catalog import Catalog
from modelworks.storage.store import Store
from modelworks.telemetry.events import Event, RunEnded, RunStarted, StepEnded, StepRetried
from modelworks.telemetry.ledger import amortise, total
from modelworks.workflow.call import Artifact
from modelworks.workflow.scheduler import Scheduler


class World:
    """A store, a catalog, an executor and a place to count runs."""

    def __init__(self, folder: Path, executor: Executor) -> None:
        self.folder = folder
        self.counter = folder / "counter"
        self.counter.mkdir()
        self.text = folder / "text.txt"
        self.text.write_text("hello")
        self.store = Store(folder / "store")
        self.catalog = Catalog(folder / "catalog.db")
        self.executor = executor
        self.events: list[Event] = []

    def run(self, run_id: str = "run", **options: object) -> Scheduler:
        return Scheduler(
            self.executor,
            self.store,
            self.catalog,
            run_id=run_id,
            events=self.events.append,
            **options,  # type: ignore[arg-type]
        )

    def ran(self, name: str) -> int:
        return steps.runs(self.counter, name)

    def statuses(self, run: str = "run") -> list[tuple[str, str]]:
        rows = self.catalog.ledger.attempts(run=run)
        return sorted((row.step, row.status) for row in rows if row.step != "engine")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, InlineExecutor())
    yield made
    made.catalog.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


@pytest.fixture
def parallel(tmp_path: Path, processes: ProcessExecutor) -> Iterator[World]:
    made = World(tmp_path, processes)
    yield made
    made.catalog.close()


def test_outputs_of_one_call_are_inputs_of_the_next(world: World) -> None:
    with world.run() as run:
        first = run.call(steps.upper, {"text": world.text}, {"tail": "!"})
        second = run.call(steps.upper, {"text": first.output("text.txt")})
        joined = run.call(steps.join, {"a": second.all_outputs(), "b": first.output("text.txt")})
        run.wait()
        assert first.value == {"length": 5}
        assert joined.value == ["HELLO!", "HELLO!"]
        assert joined.path("deep/joined.txt").read_text() == "HELLO!+HELLO!"
        assert (joined.folder() / "deep" / "joined.txt").read_text() == "HELLO!+HELLO!"
        artifact = run.call(
            steps.join, {"t": Artifact(joined.tree, tree=True), "f": Artifact(first.outputs["text.txt"][0])}
        )
        run.wait(artifact)
        assert artifact.value == ["HELLO!", "HELLO!+HELLO!"]
        with pytest.raises(UsageError, match=r"Did you mean 'deep/joined\.txt'"):
            joined.path("deep/joind.txt")
        with pytest.raises(UsageError, match=r"text\.txt"):
            first.output("txt.txt")
    assert not list(world.store.unfinished.iterdir())
    assert world.catalog.runs.get("run").status == "done"


def test_equal_calls_run_once_and_every_user_is_recorded(world: World) -> None:
    params = {"counter": str(world.counter)}
    with world.run() as run:
        handles = [run.call(steps.upper, {"text": world.text}, params, label=label) for label in "abc"]
        run.wait()
        late = run.call(steps.upper, {"text": world.text}, params, label="d")
        run.wait()
        handles.append(late)
    assert world.ran("upper") == 1
    assert [handle.memoised for handle in handles] == [False, True, True, True]
    key = handles[0].key
    assert {label for used, label in world.catalog.ledger.uses("run") if used == key} == set("abcd")


def test_a_second_run_repeats_nothing(world: World) -> None:
    params = {"counter": str(world.counter)}
    for run_id in ("one", "two", "one"):
        with world.run(run_id) as run:
            before = world.ran("upper")
            assert run.known(steps.upper, {"text": world.text}, params) == bool(before)
            first = run.call(steps.upper, {"text": world.text}, params, label="a")
            second = run.call(steps.join, {"x": first.all_outputs()}, params, label="a")
            run.wait()
            assert run.known(steps.join, {"x": first.all_outputs()}, params)
            assert second.path("deep/joined.txt").read_text() == "HELLO"
    assert (world.ran("upper"), world.ran("join")) == (1, 1)
    assert world.statuses("two") == []
    assert second.memoised


def test_the_content_decides_and_not_the_name(world: World) -> None:
    params = {"counter": str(world.counter)}
    same = world.folder / "same.txt"
    same.write_text("hello")
    with world.run() as run:
        for path in (world.text, same):
            run.call(steps.upper, {"text": path}, params)
        run.wait()
        assert world.ran("upper") == 1
        same.write_text("other")
        changed = run.call(steps.upper, {"text": same}, params)
        run.wait()
        assert changed.value == {"length": 5}
        assert changed.path("text.txt").read_text() == "OTHER"
    assert world.ran("upper") == 2


@pytest.mark.parametrize("victim", ["file", "tree"])
def test_a_result_whose_files_are_gone_is_made_again(world: World, victim: str) -> None:
    params = {"counter": str(world.counter)}
    for _ in range(2):
        with world.run() as run:
            handle = run.call(steps.upper, {"text": world.text}, params)
            run.wait()
            assert handle.path("text.txt").read_text() == "HELLO"
        world.store.discard(handle.tree if victim == "tree" else handle.outputs["text.txt"][0])
    assert world.ran("upper") == 2


def test_a_failure_skips_its_dependants_and_nothing_else(world: World) -> None:
    with world.run() as run:
        bad = run.call(steps.fail, {}, label="bad")
        after = run.call(steps.upper, {"text": bad.output("x")}, label="bad")
        last = run.call(steps.join, {"x": after.all_outputs(), "y": bad.all_outputs()}, label="bad")
        good = run.call(steps.upper, {"text": world.text}, label="good")
        run.wait()
        late = run.call(steps.join, {"x": after.all_outputs()}, label="bad")
        run.wait()
    assert [handle.status for handle in (bad, after, last, good, late)] == [
        "failed",
        "skipped",
        "skipped",
        "done",
        "skipped",
    ]
    assert last.error is not None
    assert "The column is empty" in last.error.message
    assert last.error.hint == "exclude: [age]"
    with pytest.raises(DataError):
        bad.result()
    assert world.catalog.runs.get("run").status == "done"


def test_failures_are_tried_again_by_the_next_run(world: World) -> None:
    params = {"counter": str(world.counter)}
    for _ in range(2):
        with world.run() as run:
            run.call(steps.fail, {}, params)
            run.call(steps.fail, {}, params)
            run.wait()
    assert world.ran("fail") == 2
    assert world.statuses() == [("fail", "failed")] * 2


def test_an_input_that_is_not_there_fails_that_call(world: World) -> None:
    with world.run() as run:
        missing = run.call(steps.upper, {"text": world.folder / "absent"})
        gone = run.call(steps.upper, {"text": Artifact("0" * 64)})
        first = run.call(steps.join, {"x": world.text})
        wrong = run.call(steps.upper, {"text": first.output("no such file")})
        good = run.call(steps.upper, {"text": world.text})
        run.wait()
    assert [handle.status for handle in (missing, gone, wrong, good)] == [
        "failed",
        "failed",
        "failed",
        "done",
    ]
    assert "absent" in str(missing.error)
    assert "0000" in str(gone.error)


def test_parameters_must_be_plain(world: World) -> None:
    with world.run() as run, pytest.raises(UsageError, match="plain JSON"):
        run.call(steps.upper, {"text": world.text}, {"x": float("nan")})


def test_a_source_that_changes_while_it_is_read_is_not_published(world: World) -> None:
    with world.run() as run:
        handle = run.call(steps.edit, {"text": world.text})
        run.wait()
    assert handle.status == "failed"
    assert "changed while it was being read" in str(handle.error)


def test_a_promised_output_must_be_there(world: World) -> None:
    with world.run() as run:
        handle = run.call(steps.forgetful, {})
        run.wait()
    assert "promised.txt" in str(handle.error)


def test_calls_can_be_added_while_others_run(parallel: World) -> None:
    found = []
    with parallel.run() as run:
        for index in range(4):
            run.call(steps.upper, {"text": parallel.text}, {"tail": str(index)}, label=str(index))
        while run.pending:
            for handle in run.wait_any():
                found.append(handle)
                if handle.step is steps.upper:
                    run.call(steps.join, {"x": handle.all_outputs()}, label=handle.label)
        assert run.wait_any() == []
    assert sorted(handle.value[0] for handle in found if handle.step is steps.join) == [
        "HELLO0",
        "HELLO1",
        "HELLO2",
        "HELLO3",
    ]


def test_waiting_for_one_call_keeps_the_others_for_later(world: World) -> None:
    with world.run() as run:
        handles = [run.call(steps.upper, {"text": world.text}, {"tail": str(index)}) for index in range(3)]
        run.wait(handles[2])
        assert handles[2].ok
        assert run.wait_any() == handles[:2]
        assert run.wait_any(0.01) == []
        assert run.pending == 0


def test_important_work_runs_first(world: World) -> None:
    with world.run() as run:
        handles = [
            run.call(steps.remember_order, {}, {"index": index}, priority=priority)
            for index, priority in enumerate((0, 5, 1, 5))
        ]
        run.wait()
    order = sorted(range(4), key=lambda index: handles[index].value)
    assert order == [1, 3, 2, 0]


def test_a_shared_call_takes_the_highest_priority(world: World) -> None:
    with world.run() as run:
        first = run.call(steps.remember_order, {}, {"index": 0}, priority=1)
        run.call(steps.remember_order, {}, {"index": 1}, priority=0, label="a")
        shared = run.call(steps.remember_order, {}, {"index": 1}, priority=9, label="b")
        run.wait()
    assert shared.value < first.value


def test_cancelling_a_label_keeps_work_that_others_want(parallel: World) -> None:
    with parallel.run() as run:
        mine = run.call(steps.slow, {}, {"wall_s": 600}, label="a")
        waiting = run.call(steps.join, {"x": mine.all_outputs()}, label="a")
        shared = [run.call(steps.slow, {}, {"wall_s": 0.5}, label=label) for label in "ab"]
        assert run.wait_any(0.3) == []
        run.cancel("a")
        run.wait()
    assert [handle.status for handle in (mine, waiting, *shared)] == [
        "cancelled",
        "cancelled",
        "cancelled",
        "done",
    ]
    assert parallel.statuses() == [("slow", "cancelled"), ("slow", "done")]


def test_what_was_cancelled_and_is_wanted_again_runs(parallel: World) -> None:
    with parallel.run() as run:
        run.call(steps.slow, {}, {"wall_s": 0.4}, label="a")
        run.wait_any(0.2)
        run.cancel("a")
        again = run.call(steps.slow, {}, {"wall_s": 0.4}, label="b")
        run.wait()
    assert again.status == "done"


def test_leaving_early_ends_what_runs_and_bills_it(parallel: World) -> None:
    with pytest.raises(KeyboardInterrupt), parallel.run() as run:
        run.call(steps.slow, {}, {"wall_s": 600})
        run.wait_any(0.5)
        raise KeyboardInterrupt
    ended = parallel.catalog.runs.get("run")
    assert ended.status == "cancelled"
    (attempt,) = [row for row in parallel.catalog.ledger.attempts() if row.step == "slow"]
    assert attempt.status == "cancelled"
    assert attempt.usage.wall_s > 0
    assert not list(parallel.store.unfinished.iterdir())


def test_a_crash_is_retried_up_to_the_cap(parallel: World) -> None:
    with parallel.run() as run:
        lucky = run.call(steps.crash, {}, {"counter": str(parallel.counter), "times": 2})
        run.wait()
        assert lucky.value == "well"
        hopeless = run.call(steps.crash, {}, {"counter": str(parallel.counter), "times": 100})
        run.wait()
    assert hopeless.status == "failed"
    assert "exit 7" in str(hopeless.error)
    assert parallel.statuses() == [("crash", "done")] + [("crash", "failed")] * 5
    assert sum(isinstance(event, StepRetried) for event in parallel.events) == 4
    assert [row.number for row in parallel.catalog.ledger.attempts() if row.key == hopeless.key] == [1, 2, 3]


def test_out_of_memory_fails_alone_and_is_not_retried(parallel: World) -> None:
    with parallel.run() as run:
        greedy = run.call(steps.greedy, {}, {"counter": str(parallel.counter)})
        good = run.call(steps.upper, {"text": parallel.text})
        run.wait()
    assert good.ok
    assert greedy.error is not None
    assert type(greedy.error).__name__ == "OutOfMemory"
    assert "memory_mb" in (greedy.error.hint or "")
    assert parallel.ran("greedy") == 1
    (row,) = [row for row in parallel.catalog.ledger.attempts() if row.step == "greedy"]
    assert row.usage.peak_mb > 100


def test_limits_of_a_call_replace_those_of_the_step(parallel: World) -> None:
    from modelworks.core.job import Resources

    with parallel.run() as run:
        handle = run.call(steps.slow, {}, {"wall_s": 60}, resources=Resources(wall_s=0.3))
        run.wait()
    assert type(handle.error).__name__ == "JobTimeout"


def test_a_full_disk_stops_the_run_and_it_can_go_on(world: World) -> None:
    with pytest.raises(DiskFull), world.run() as run:
        good = run.call(steps.upper, {"text": world.text}, {"counter": str(world.counter)})
        run.call(steps.full, {})
        run.wait()
    assert good.ok
    assert world.catalog.runs.get("run").status == "failed"
    with world.run() as run:
        run.call(steps.upper, {"text": world.text}, {"counter": str(world.counter)})
        run.wait()
    assert world.ran("upper") == 1


def test_a_run_has_one_scheduler(world: World) -> None:
    other = Catalog(world.folder / "catalog.db")
    with world.run() as run:
        second = Scheduler(InlineExecutor(), world.store, other, run_id="run")
        with pytest.raises(Conflict, match="another process"):
            second.__enter__()
        run.call(steps.upper, {"text": world.text})
        run.wait()
    with Scheduler(InlineExecutor(), world.store, other, run_id="run"):
        pass
    other.close()


def test_a_scheduler_that_lost_its_lease_records_nothing_more(tmp_path: Path) -> None:
    clock = ManualClock()
    world = World(tmp_path, InlineExecutor())
    world.catalog.close()
    world.catalog = Catalog(tmp_path / "catalog.db", clock=clock)
    with pytest.raises(Conflict), world.run(clock=clock, lease_s=3600) as run:
        run.call(steps.upper, {"text": world.text})
        clock.advance(2 * 3600)
        thief = Catalog(tmp_path / "catalog.db", clock=clock)
        thief.runs.start("run")
        thief.close()
        run.wait()
    assert world.statuses() == []
    assert world.catalog.runs.get("run").status == "running"
    world.catalog.close()


def test_the_heartbeat_keeps_the_lease_of_a_busy_scheduler(parallel: World) -> None:
    other = Catalog(parallel.folder / "catalog.db")
    with parallel.run(lease_s=0.4) as run:
        run.call(steps.slow, {}, {"wall_s": 1.2})
        conflicts = 0
        while run.pending:
            run.wait_any(0.1)
            if run.pending:
                with pytest.raises(Conflict):
                    other.runs.start("run")
                conflicts += 1
    assert conflicts > 3
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("heartbeat")] == []
    other.close()


def test_the_bill_is_the_sum_of_the_attempts(parallel: World) -> None:
    with parallel.run() as run:
        for label in "ab":
            shared = run.call(steps.upper, {"text": parallel.text}, label=label)
            run.call(steps.join, {"x": shared.all_outputs()}, {"who": label}, label=label)
        run.call(steps.fail, {}, label="b")
        run.wait()
    attempts = parallel.catalog.ledger.attempts(run="run")
    bills = amortise(attempts, parallel.catalog.ledger.uses("run"))
    assert sum(bill.cpu_us for bill in bills.values()) == total(attempts).cpu_us
    assert set(bills) == {"a", "b"}
    assert bills["b"].failed == 1
    engine = [row for row in attempts if row.step == "engine"]
    assert [row.status for row in engine] == ["done"]
    assert engine[0].usage.cpu_s > 0


def test_events_tell_the_whole_story(world: World) -> None:
    with world.run(kind="order") as run:
        for label in "ab":
            run.call(steps.upper, {"text": world.text}, label=label)
        run.wait()
    assert isinstance(world.events[0], RunStarted)
    assert isinstance(world.events[-1], RunEnded)
    ended = [event for event in world.events if isinstance(event, StepEnded)]
    assert [(event.label, event.memoised) for event in ended] == [("a", False), ("b", True)]
    assert ended[1].usage.cpu_s == 0


def test_the_end_of_a_run_is_what_the_caller_says(world: World) -> None:
    with world.run() as run:
        run.finish("failed", reason="no line was released", result={"released": 0})
    ended = world.catalog.runs.get("run")
    assert (ended.status, ended.reason, ended.result) == ("failed", "no line was released", {"released": 0})


GRAPHS = st.lists(
    st.tuples(
        st.integers(0, 3), st.lists(st.integers(0, 20), max_size=3), st.sampled_from("abc"), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(GRAPHS)
def test_any_graph_comes_to_the_same_end_twice(tmp_path_factory: pytest.TempPathFactory, graph: list) -> None:  # type: ignore[type-arg]
    world = World(tmp_path_factory.mktemp("graph"), InlineExecutor())
    seen = []
    for _ in range(2):
        with world.run() as run:
            handles = []
            for tail, sources, label, bad in graph:
                inputs = {
                    f"i{number}": handles[source % len(handles)].all_outputs() if handles else world.text
                    for number, source in enumerate(sources)
                }
                step = steps.fail if bad and not inputs else steps.join
                params = {"tail": tail, "counter": str(world.counter)}
                handles.append(run.call(step, inputs, params, label=label))
            run.wait()
            assert run.pending == 0
        seen.append([(handle.status, handle.key, handle.value) for handle in handles])
    assert seen[0] == seen[1]
    distinct = {handle.key for handle in handles if handle.ok}
    assert world.ran("join") == len(distinct)
    for handle in handles:
        broken = any(not source.handle.ok for source in handle.inputs.values() if hasattr(source, "handle"))
        assert (handle.status == "skipped") == broken
        if handle.key:
            assert (handle.key, handle.label) in world.catalog.ledger.uses("run")
    world.catalog.close()
    shutil.rmtree(world.folder)
