"""The time of a row is the model's, whatever else the machine does: noise is measured again, slowness is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import pytest

from modelworks.compute.runtime import LATENCY_PAUSES_S, GraphSession, single_row_latency_ms

FEEDS = {"numbers": np.zeros((3, 2), dtype=np.float32)}
LIMIT_MS = 2.0


class TimedSession:
    """Stands for a graph whose runs take the milliseconds given, round after round."""

    def __init__(self, rounds: list[list[float]]) -> None:
        self._now = 0.0
        self._costs: Iterator[float] = iter([cost for costs in rounds for cost in costs])
        self.runs = 0
        self.pauses: list[float] = []

    def run(self, row: Mapping[str, Any]) -> None:
        assert len(row["numbers"]) == 1
        self.runs += 1
        self._now += next(self._costs) / 1e3

    def measure(self, limit_ms: float) -> dict[str, float]:
        return single_row_latency_ms(
            cast(GraphSession, self),
            FEEDS,
            repeats=10,
            warm_up=0,
            clock=lambda: self._now,
            limit_ms=limit_ms,
            pause=self.pauses.append,
        )


QUIET = [0.2] * 10
BURST = [0.2] * 5 + [9.0] * 5
SLOW = [3.0] * 10


def test_a_quiet_machine_is_measured_once() -> None:
    session = TimedSession([QUIET])
    assert session.measure(LIMIT_MS) == {"p50": pytest.approx(0.2), "p99": pytest.approx(0.2)}
    assert (session.runs, session.pauses) == (10, [])


def test_a_burst_is_measured_again_and_the_best_round_counts() -> None:
    session = TimedSession([BURST, BURST, QUIET])
    assert session.measure(LIMIT_MS)["p99"] == pytest.approx(0.2)
    assert session.pauses == list(LATENCY_PAUSES_S[:2])


def test_without_a_limit_nothing_is_measured_again() -> None:
    session = TimedSession([BURST])
    assert session.measure(float("inf"))["p99"] > LIMIT_MS
    assert session.runs == 10


def test_a_slow_graph_is_found_slow_at_once() -> None:
    session = TimedSession([SLOW])
    assert session.measure(LIMIT_MS)["p50"] == pytest.approx(3.0)
    assert session.runs == 10


def test_a_machine_that_never_calms_gives_the_best_of_all_rounds() -> None:
    better = [0.2] * 5 + [4.0] * 5
    session = TimedSession([BURST, better, BURST, BURST, BURST])
    assert session.measure(LIMIT_MS)["p99"] == pytest.approx(4.0)
    assert session.pauses == list(LATENCY_PAUSES_S)
