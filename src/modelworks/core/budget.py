"""A hard budget of CPU-seconds that fitting code asks before every expensive act."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from modelworks.core.errors import BudgetStopped, Cancelled


class Budget:
    """CPU-seconds of this process that may still be spent, and a way to be told to stop.

    Args:
        cpu_s: CPU-seconds allowed, user and system time of all threads of this process.
        cancelled: Set from another thread to end the work at the next check.
        cpu_time: Source of CPU time; tests pass their own.
    """

    def __init__(
        self,
        cpu_s: float,
        *,
        cancelled: threading.Event | None = None,
        cpu_time: Callable[[], float] = time.process_time,
    ) -> None:
        self.cpu_s = cpu_s
        self._cancelled = cancelled or threading.Event()
        self._cpu_time = cpu_time
        self._start = cpu_time()

    @property
    def spent_s(self) -> float:
        """CPU-seconds since the budget began."""
        return self._cpu_time() - self._start

    @property
    def left_s(self) -> float:
        """CPU-seconds left; never negative."""
        return max(0.0, self.cpu_s - self.spent_s)

    def allows(self, forecast_s: float) -> bool:
        """Say whether ``forecast_s`` more CPU-seconds still fit."""
        return self.left_s >= forecast_s

    def check(self) -> None:
        """Raise if the work must end now.

        Raises:
            Cancelled: Somebody asked to stop.
            BudgetStopped: The CPU-seconds are used up.
        """
        if self._cancelled.is_set():
            raise Cancelled("The work was cancelled.", hint="run the same command again to resume")
        if self.left_s <= 0:
            raise BudgetStopped(
                f"The budget of {self.cpu_s:g} CPU-seconds is used up.",
                hint=f"--budget {max(1, round(self.cpu_s * 2))}s",
            )

    def grace(self) -> Budget:
        """Return a budget for finishing what is already paid for: no limit, the same cancellation."""
        return Budget(math.inf, cancelled=self._cancelled, cpu_time=self._cpu_time)

    def part(self, cpu_s: float) -> Budget:
        """Return a budget of its own for a part of the work, at most what is left; the same cancellation."""
        return Budget(min(cpu_s, self.left_s), cancelled=self._cancelled, cpu_time=self._cpu_time)

    def cancel(self) -> None:
        """Ask the work to stop at its next check."""
        self._cancelled.set()
