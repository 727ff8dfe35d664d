"""A model's measured latency by batch size, and what it says about batching."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter, thread_time

_UP = 0.02
_DOWN = 0.25
_WORTH, _WORTH_TOGETHER = 0.95, 0.98
_SLOW = 0.05
_DECIDED_AGAIN, _TRIED_AGAIN, _STRETCH = 128, 32, 1.3
"""Runs between two decisions, full batches until one is doubled, and how much longer than allowed that may take."""
_RETURN_S = 30e-6
"""What a run costs beside the model: its thread waits for the interpreter when it is back, and hands answers over."""
_TOGETHER_S = 0.002
"""Runs that end within so long of each other are answered together in any case: one run for all of them is no later."""


class LatencyCurve:
    """Seconds per run at row counts 1, 2, 4, ...; starts with a measurement and follows what is observed.

    It is a lower envelope: waiting for the interpreter or for a core is no property of the model, and a curve that
    took it in would move a quick model off the event loop and never back.

    What was measured at load decides how many rows a run takes, and what is observed decides again: a machine that was
    busy then must not decide for good. So that there is something to observe, a full batch is now and then doubled.

    Args:
        most_rows: Largest row count of interest.

    Attributes:
        best_rows: Rows up to which a batch is gathered.
        clock: What runs are timed by: a thread's own time, or elapsed time where the thread waits for others.
    """

    def __init__(self, most_rows: int = 64) -> None:
        self.sizes: list[int] = [1]
        while self.sizes[-1] * 2 <= most_rows:
            self.sizes.append(self.sizes[-1] * 2)
        self.seconds: list[float | None] = [None] * len(self.sizes)
        self.best_rows = 1
        self.clock: Callable[[], float] = thread_time
        self._longest_s = 0.0
        self._observed = self._full = 0

    def observe(self, rows: int, seconds: float) -> None:
        """Take in one run; a run between two sizes moves the size below it by how far the forecast was off."""
        self._observed += 1
        if self._longest_s and not self._observed % _DECIDED_AGAIN:
            self.decide(self._longest_s)
        index = min(bisect_right(self.sizes, rows), len(self.sizes)) - 1
        known = self.seconds[index]
        if known is None:
            if self.sizes[index] == rows:
                self.seconds[index] = seconds
            return
        forecast = known if self.sizes[index] == rows else self.estimate(rows)
        # A busy machine must not look like a slow model: the curve follows quick runs at once and slow ones slowly.
        ratio = min(seconds / forecast, 4.0) if forecast > 0 else 1.0
        self.seconds[index] = known * (1.0 + (_UP if ratio > 1.0 else _DOWN) * (ratio - 1.0))

    def estimate(self, rows: int) -> float:
        """Return forecast seconds of a run of ``rows`` (0.0 if nothing was measured)."""
        index = bisect_right(self.sizes, rows) - 1
        below = self.seconds[index] if index >= 0 else None
        if below is not None:
            if self.sizes[index] == rows:
                return below
            above = self.seconds[index + 1] if index + 1 < len(self.sizes) else None
            if above is not None:
                share = (rows - self.sizes[index]) / self.sizes[index]
                return below + max(0.0, above - below) * share
        return self._beyond(rows)

    def _beyond(self, rows: int) -> float:
        """Return the forecast for a run that is not between two measured sizes."""
        points = [
            (size, spent) for size, spent in zip(self.sizes, self.seconds, strict=True) if spent is not None
        ]
        if not points:
            return 0.0
        if len(points) == 1 or rows <= points[0][0]:
            return points[0][1] * (rows / points[0][0] if len(points) == 1 else 1.0)
        below, above = next(
            ((left, right) for left, right in pairwise(points) if left[0] <= rows <= right[0]),
            (points[-2], points[-1]),
        )
        slope = max(0.0, above[1] - below[1]) / (above[0] - below[0])
        return below[1] + slope * (rows - below[0])

    def decide(self, longest_s: float) -> None:
        """Set ``best_rows``: the largest size that still lowers seconds per row and stays under ``longest_s``."""
        best, per_row = 1, math.inf
        for size, spent in zip(self.sizes, self.seconds, strict=True):
            if spent is None or (spent > longest_s and size > 1):
                break
            cost = (spent + _RETURN_S) / size
            if cost < (_WORTH_TOGETHER if spent < _TOGETHER_S else _WORTH) * per_row:
                best, per_row = size, cost
        self.best_rows = best

    def try_rows(self) -> int:
        """Return how many rows the next run is to take of more than ``best_rows`` that wait."""
        rows = self.best_rows
        self._full += 1
        if self._full % _TRIED_AGAIN or 2 * rows > self.sizes[-1]:
            return rows
        return 2 * rows if self.estimate(2 * rows) <= _STRETCH * self._longest_s else rows

    def measure(
        self,
        run: Callable[[int], object],
        *,
        limit_s: float,
        longest_s: float,
        clock: Callable[[], float] = thread_time,
    ) -> None:
        """Time ``run(rows)`` at every size, at most ``limit_s`` in all, and decide.

        A slow model is run less often at each size, so that larger sizes have their turn: there batching pays.
        ``clock`` is this thread's, which busy neighbours do not move; a device that the thread only waits for needs
        elapsed time.
        """
        deadline = perf_counter() + limit_s
        self.clock, self._longest_s = clock, longest_s
        for index, size in enumerate(self.sizes):
            run(size)
            best: float | None = None
            for _ in range(5):
                start = clock()
                run(size)
                spent = clock() - start
                best = spent if best is None else min(best, spent)
                if perf_counter() > deadline or spent > limit_s * _SLOW:
                    break
            self.seconds[index] = best
            if perf_counter() > deadline or (best or 0.0) > longest_s:
                break
        self.decide(longest_s)

    def copy(self) -> LatencyCurve:
        """Return a curve of its own with the same points and decision."""
        made = LatencyCurve(self.sizes[-1])
        made.sizes, made.seconds, made.best_rows = list(self.sizes), list(self.seconds), self.best_rows
        made.clock, made._longest_s = self.clock, self._longest_s
        return made

    def gain_of_waiting(self, rows: int) -> float:
        """Return seconds of compute saved if one more row joins a batch of ``rows`` instead of running alone."""
        if rows >= self.best_rows:
            return 0.0
        return self.estimate(rows) + self.estimate(1) - self.estimate(rows + 1)

    def to_json(self) -> dict[str, float]:
        """Return rows -> milliseconds of the measured sizes."""
        return {
            str(size): round(spent * 1e3, 4)
            for size, spent in zip(self.sizes, self.seconds, strict=True)
            if spent is not None
        }
