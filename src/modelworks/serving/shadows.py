"""Copies of requests that a shadow version answers beside the champion, to be compared; no client sees them."""

from __future__ import annotations

from time import monotonic

from modelworks.core.errors import ModelworksError
from modelworks.serving.model import Answer
from modelworks.serving.residency import Residency
from modelworks.serving.routing import Target
from modelworks.serving.tensors import same_values
from modelworks.serving.work import Work

_UNDER_WAY = 64


class Shadows:
    """Mirrors answered requests, a bounded number at a time.

    Args:
        residency: The models in memory.
        deadline_s: Seconds a copy may take.
    """

    def __init__(self, residency: Residency, deadline_s: float) -> None:
        self._residency = residency
        self._deadline_s = deadline_s
        self._under_way = 0

    def mirror(self, shadow: Target, work: Work, answer: Answer) -> None:
        """Run a copy on the shadow in the background and compare; nothing here reaches the client."""
        if self._under_way >= _UNDER_WAY:
            shadow.counts.shadow_dropped += 1
            return

        def compare(copy: Work, other: Answer | None, error: Exception | None) -> None:
            self._under_way -= 1
            if other is None:
                shadow.counts.shadow_errors += 1
                return
            shadow.counts.shadow_runs += 1
            if not same_answer(answer, other):
                shadow.counts.shadow_different += 1

        copy = Work(
            work.feeds,
            work.rows,
            work.outputs,
            compare,
            enqueued=monotonic(),
            deadline=monotonic() + self._deadline_s,
            priority=1,
            shape=work.shape,
        )
        self._under_way += 1
        try:
            self._residency.submit(shadow.resident, copy)
        except ModelworksError:
            self._under_way -= 1
            shadow.counts.shadow_errors += 1


def same_answer(one: Answer, other: Answer) -> bool:
    """Say whether two answers have the same outputs with the same values."""
    return one.keys() == other.keys() and all(same_values(array, other[name]) for name, array in one.items())
