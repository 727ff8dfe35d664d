"""Threads of a run: taken where a lone row gains and the capacity stays, by the timings at hand; answers hold there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_kit import adder, make_package, running
from test_heads import fused

from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import TrustError, UsageError
from modelworks.packaging.package import TrustPolicy
from modelworks.serving.curve import LatencyCurve
from modelworks.serving.devices import Devices
from modelworks.serving.loading import Loader, LoadLimits
from modelworks.serving.model import MemorySource
from modelworks.serving.packages import package_source
from modelworks.serving.proofs import Proof, Proofs
from modelworks.serving.settings import ServeSettings
from modelworks.serving.thread_choice import ThreadChoice, Timing, candidates, decide, timed

ROW = {"numbers": np.ones((1, 3), np.float32)}
ONE = Timing(row_s=0.010, runs_per_s=200.0)
QUICKER = Timing(row_s=0.006, runs_per_s=190.0)
timings = st.builds(Timing, row_s=st.floats(1e-4, 2.0), runs_per_s=st.floats(0.1, 1e4))


def _curve(row_s: float) -> LatencyCurve:
    curve = LatencyCurve(8)
    curve.seconds = [row_s * size for size in curve.sizes]
    return curve


class _Told:
    """Makes sessions and gives each the timing and curve it is told, by threads."""

    def __init__(self, **timing: Timing) -> None:
        self.timing = {int(name[1:]): value for name, value in timing.items()}
        self.made: list[int] = []
        self.ran: list[int] = []
        self.callers: set[int] = set()

    def make(self, device: str, threads: int) -> GraphSession:
        self.made.append(threads)
        told = self

        class Noted(GraphSession):
            def run(self, feeds: Any, outputs: Any = None) -> dict[str, Any]:
                told.ran.append(self.threads)
                return super().run(feeds, outputs)

        return Noted(adder().onnx, threads=threads)

    def time_runs(self, run: Callable[[], object], callers: int) -> Timing:
        run()
        self.callers.add(callers)
        return self.timing[self.ran[-1]]

    def measure(self, session: GraphSession) -> LatencyCurve:
        return _curve(self.timing[session.threads].row_s)

    def devices(self, cores: int = 2, wanted: int = 0) -> Devices:
        return Devices("cpu", threads=ThreadChoice(wanted, cores=cores, time_runs=self.time_runs))


def _holds(session: GraphSession) -> str:
    return ""


@given(one=timings, several=st.dictionaries(st.integers(2, 64), timings, max_size=3))
def test_no_choice_costs_more_capacity_than_is_allowed_by_its_own_figures(
    one: Timing, several: dict[int, Timing]
) -> None:
    threads = decide(one, several)
    if threads > 1:
        assert several[threads].runs_per_s >= 0.85 * one.runs_per_s
        assert several[threads].row_s * 1.5 <= one.row_s
    else:
        assert not any(
            item.row_s * 1.5 <= one.row_s and item.runs_per_s >= 0.85 * one.runs_per_s
            for item in several.values()
        )


@given(one=timings, several=timings)
def test_the_whole_choice_follows_the_rule(one: Timing, several: Timing) -> None:
    told = _Told(t1=one, t2=several)
    placed = told.devices().place("d", told.make, told.measure, _holds, ROW)
    slow = one.row_s >= 0.005
    assert placed.session.threads == (decide(one, {2: several}) if slow else 1)
    assert (told.ran != []) is slow
    assert placed.curve.estimate(1) == told.timing[placed.session.threads].row_s


@pytest.mark.parametrize(
    ("several", "chosen"),
    [
        (QUICKER, 2),
        (Timing(row_s=0.0066, runs_per_s=171.0), 2),
        (Timing(row_s=0.0067, runs_per_s=200.0), 1),
        (Timing(row_s=0.0050, runs_per_s=169.0), 1),
    ],
)
def test_both_gain_and_capacity_are_needed(several: Timing, chosen: int) -> None:
    assert decide(ONE, {2: several}) == chosen


def test_half_the_cores_are_tried_from_four_on_and_the_quickest_that_fits_is_taken() -> None:
    assert [candidates(cores) for cores in (1, 2, 3, 4, 16)] == [(), (2,), (3,), (2, 4), (8, 16)]
    told = _Told(t1=ONE, t2=QUICKER, t4=Timing(row_s=0.004, runs_per_s=120.0))
    placed = told.devices(cores=4).place("d", told.make, told.measure, _holds, ROW)
    assert (placed.session.threads, told.callers) == (2, {4})
    assert "6 ms and 190 with 2" in placed.note
    assert "4 ms and 120 with 4" in placed.note


def test_the_choice_is_remembered_with_its_curve_and_a_reload_measures_nothing() -> None:
    told = _Told(t1=ONE, t2=QUICKER)
    devices = told.devices()
    assert devices.place("d", told.make, told.measure, _holds, ROW).session.threads == 2
    told.made.clear()
    told.ran.clear()
    told.timing.clear()
    again = devices.place("d", told.make, told.measure, _holds, ROW)
    assert (told.made, told.ran, again.session.threads, again.fresh) == ([2], [], 2, False)
    assert again.curve.estimate(1) == QUICKER.row_s


def test_small_models_and_lone_cores_are_not_measured() -> None:
    for cores, one in ((2, Timing(row_s=0.0049, runs_per_s=400.0)), (1, ONE)):
        told = _Told(t1=one, t2=Timing(row_s=1e-4, runs_per_s=1e6))
        placed = told.devices(cores=cores).place("d", told.make, told.measure, _holds, ROW)
        assert (told.made, told.ran, placed.session.threads) == ([1], [], 1)
    told = _Told(t1=ONE, t2=QUICKER)
    assert told.devices().place("d", told.make, told.measure, _holds, None).session.threads == 1
    assert told.ran == []


def test_a_model_that_only_seemed_slow_gets_no_second_session() -> None:
    told = _Told(t1=Timing(row_s=0.0049, runs_per_s=400.0), t2=Timing(row_s=1e-4, runs_per_s=1e6))
    placed = told.devices().place("d", told.make, lambda session: _curve(0.02), _holds, ROW)
    assert (told.made, told.ran, placed.session.threads, placed.note) == (
        [1],
        [1],
        1,
        "the CPU was asked for",
    )


def test_a_fixed_number_is_taken_unmeasured() -> None:
    told = _Told(t1=ONE, t3=Timing(row_s=0.02, runs_per_s=1.0))
    placed = told.devices(wanted=3).place("d", told.make, told.measure, _holds, ROW)
    assert (told.made, told.ran, placed.session.threads) == ([3], [], 3)
    told = _Told(t1=ONE, t2=QUICKER)
    assert told.devices(wanted=1).place("d", told.make, told.measure, _holds, ROW).session.threads == 1
    assert told.ran == []


def test_other_answers_on_several_threads_mean_one() -> None:
    def breaks(session: GraphSession) -> str:
        raise RuntimeError("no threads left\nmore")

    for wanted in (0, 2):
        for replay, cause in (
            (lambda session: "2 value(s) differ", "2 value(s) differ"),
            (breaks, "no threads left"),
        ):
            told = _Told(t1=ONE, t2=QUICKER)
            placed = told.devices(wanted=wanted).place("d", told.make, told.measure, replay, ROW)
            assert placed.session.threads == 1
            assert cause in placed.note
            assert placed.curve.estimate(1) == ONE.row_s


def test_a_second_session_that_cannot_be_had_means_one_thread() -> None:
    told = _Told(t1=ONE)

    def make(device: str, threads: int) -> GraphSession:
        if threads > 1:
            raise TrustError("no memory", code="MW3001")
        return told.make(device, threads)

    placed = told.devices().place("d", make, told.measure, _holds, ROW)
    assert (placed.session.threads, "no memory" in placed.note) == (1, True)


def test_runs_are_timed_alone_and_side_by_side() -> None:
    """Two callers at once are seen to meet; the clock is given, so the figures are exact."""
    meeting = threading.Barrier(2)
    now = 0.0
    runs = 0
    main = threading.current_thread()
    lock = threading.Lock()

    def run() -> None:
        nonlocal now, runs
        if threading.current_thread() is not main:
            meeting.wait(10)
        with lock:
            now += 0.04
            runs += 1

    found = timed(run, 2, clock=lambda: now)
    # One to warm up, two alone (0.06 s), then two of each caller.
    assert runs == 7
    assert found.row_s == pytest.approx(0.04)
    assert found.runs_per_s == pytest.approx(25.0)
    with pytest.raises(ZeroDivisionError):
        timed(lambda: 1 / 0 if threading.current_thread() is not main else None, 1)


class _Other(Loader):
    """Answers ``other`` instead wherever a session has several threads."""

    other: bytes | None = None

    def _session(self, onnx: bytes, device: str = "cpu", samples: Any = (), threads: int = 1) -> GraphSession:
        return super()._session(self.other or onnx if threads > 1 else onnx, device, samples, threads)


def test_golden_examples_hold_on_the_threads_that_answer(tmp_path: Path) -> None:
    right = package_source(make_package(tmp_path, "adder", 1.0), TrustPolicy.of_folder(tmp_path / "keys"))
    wrong = package_source(make_package(tmp_path, "adder", 2.0), TrustPolicy.of_folder(tmp_path / "keys"))
    loader = _Other(Proofs(tmp_path / "p"), LoadLimits(), Devices("cpu", threads=ThreadChoice(2)))
    assert loader.load(right).threads == 2
    loader = _Other(Proofs(tmp_path / "p"), LoadLimits(), Devices("cpu", threads=ThreadChoice(2)))
    loader.other = wrong.read().onnx
    loaded = loader.load(right)
    assert loaded.threads == 1
    assert "differ from the golden examples" in loaded.note


def test_each_head_is_replayed_on_the_threads_of_the_backbone_it_joins(tmp_path: Path) -> None:
    first, second = fused("a", seed=1), fused("b", seed=2)
    loader = Loader(Proofs(tmp_path / "p"), LoadLimits(), Devices("cpu", threads=ThreadChoice(2)))
    loaded = loader.load(first)
    assert loaded.shared is not None
    assert loaded.threads == 2
    tensor = second.signature.inputs[0]
    names = tuple(f"x{index}" for index in range(tensor.shape[1]))
    examples: dict[str, Any] = {
        "rows": [dict.fromkeys(names, 0.5)],
        "expected": {tensor.name: [["nobody"]] for tensor in second.signature.outputs},
        "tolerance": {"absolute": 1e-5, "relative": 1e-4},
    }
    proven = MemorySource(
        name="b", digest="bb" * 32, onnx=second.onnx, examples=examples,
        signature=replace(second.signature, inputs=(replace(tensor, columns=names),)),
    )  # fmt: skip
    loader.proofs.put(Proof(digest=proven.digest, outcome="proven", cause="", wall=0.0))
    joined = loader.load(proven)
    assert (joined.shared, joined.threads) == (None, 1)


def test_the_threads_are_shown_and_the_setting_reaches_the_session(tmp_path: Path) -> None:
    with running(tmp_path, [adder()], run_threads=2) as server:
        assert server.infer("adder", [[1, 2, 3]])[0] == 200
        assert server.server.status()["endpoints"][0]["versions"][0]["run_threads"] == 2
        card = server.request("GET", "/v1/models/adder")[1]
        assert card["versions"][0]["run_threads"] == 2
    with pytest.raises(UsageError, match="at least one thread"):
        ServeSettings(run_threads=-1).check()


@pytest.mark.parametrize(
    ("usable", "workers", "threads", "cores"), [(8, 2, 0, 4), (8, 3, 0, 2), (2, 4, 0, 1), (8, 1, 2, 2)]
)
def test_a_worker_has_its_share_of_the_cores(usable: int, workers: int, threads: int, cores: int) -> None:
    assert ServeSettings(workers=workers, threads=threads).cores_of_a_worker(usable) == cores
