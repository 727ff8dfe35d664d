"""One admitted request on its way through a lane, and the stacking of several into one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, Protocol

import numpy as np

from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import ModelworksError
from modelworks.serving.errors import NonFiniteAnswer, RunFailed
from modelworks.serving.model import Answer, Done
from modelworks.serving.tensors import Array

Settled = Callable[["Work", Answer | None, Exception | None], None]
Outcome = tuple[Answer | None, Exception | None]


_SMALL = 4096


class Work:
    """A decoded request that waits for or undergoes a run.

    Attributes:
        feeds: Input name -> array; axis 0 is the row.
        rows: Rows of every input.
        outputs: Output names asked for; ``None`` asks for all.
        done: Called once with the work and its outcome.
        enqueued: ``time.monotonic()`` of admission.
        deadline: ``time.monotonic()`` after which the answer is worthless (infinity: never).
        priority: 0 (interactive) or 1 (background: runs only when no interactive work waits).
        shape: Trailing shapes of the feeds; only equal shapes are stacked.
        settled: Whether ``done`` was called; a settled work is skipped.
        batch_rows: Rows of the run it was answered from.
        started: ``time.monotonic()`` at which its run began.
        target: What it was sent to (``None`` outside a data plane).
        key: The client's key of the subject, for the observation log.
        reply: The door's own callback.
        traceparent: The client's W3C trace context, if it sent one.
        places: Heads it asks for, if the model is a head on a shared backbone.
        several: All of them (a ``together.Gathering``), if the answer is to hold each under ``heads``.
    """

    __slots__ = (
        "batch_rows",
        "deadline",
        "done",
        "enqueued",
        "feeds",
        "key",
        "outputs",
        "places",
        "priority",
        "reply",
        "rows",
        "settled",
        "several",
        "shape",
        "started",
        "target",
        "traceparent",
    )

    def __init__(
        self,
        feeds: dict[str, Array],
        rows: int,
        outputs: tuple[str, ...] | None,
        done: Settled,
        *,
        enqueued: float,
        deadline: float = float("inf"),
        priority: int = 0,
        shape: tuple[Any, ...] = (),
    ) -> None:
        self.feeds = feeds
        self.rows = rows
        self.outputs = outputs
        self.done = done
        self.enqueued = enqueued
        self.deadline = deadline
        self.priority = priority
        self.shape = shape
        self.settled = False
        self.batch_rows = 0
        self.started = enqueued
        self.target: Any = None
        self.key: str | None = None
        self.reply: Done | None = None
        self.traceparent: str | None = None
        self.places: tuple[Any, ...] = ()
        self.several: Any = None

    def settle(self, answer: Answer | None, error: Exception | None) -> bool:
        """Deliver the outcome once; returns whether this call was the one that did."""
        if self.settled:
            return False
        self.settled = True
        self.done(self, answer, error)
        self.reply = None
        return True

    def cancel(self) -> None:
        """Forget the work: nobody waits for it any more."""
        self.settled = True
        self.reply = None


def trailing_shapes(feeds: dict[str, Array]) -> tuple[Any, ...]:
    """Return the feeds' shapes without the row axis."""
    return tuple(array.shape[1:] for array in feeds.values())


class Runner(Protocol):
    """Runs works in one go; may be called from any thread."""

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        """Return one outcome per work; never raises."""
        ...


class GraphRunner:
    """Runs works on a graph of their own.

    Args:
        session: The loaded graph.
    """

    def __init__(self, session: GraphSession) -> None:
        self.session = session

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        """Run works as one batch."""
        return run_stacked(self.session, works)


def run_stacked(session: GraphSession, works: Sequence[Work]) -> list[Outcome]:
    """Run several works of equal trailing shapes as one batch and part the answer again.

    A failing or non-finite batch is run again work by work, so that one poisoned row spoils only its own request.
    """
    if len(works) == 1:
        return [_run_one(session, works[0])]
    rows = sum(work.rows for work in works)
    wanted = _union(works)
    try:
        first = works[0].feeds
        feeds = {name: np.concatenate([work.feeds[name] for work in works]) for name in first}
        answer = session.run(feeds, wanted)
    except Exception:
        return [_run_one(session, work) for work in works]
    for array in answer.values():
        if array.shape[:1] != (rows,) or not finite(array):
            return [_run_one(session, work) for work in works]
    return _part(works, answer)


def _part(works: Sequence[Work], answer: Answer) -> list[Outcome]:
    parted: list[Outcome] = []
    items = list(answer.items())
    start = 0
    if len(items) == 1:
        name, array = items[0]
        for work in works:
            parted.append(({name: array[start : start + work.rows]}, None))
            start += work.rows
        return parted
    for work in works:
        end = start + work.rows
        if work.outputs is None or len(work.outputs) == len(items):
            parted.append(({name: array[start:end] for name, array in items}, None))
        else:
            parted.append(({name: answer[name][start:end] for name in work.outputs}, None))
        start = end
    return parted


def _union(works: Sequence[Work]) -> list[str] | None:
    if any(work.outputs is None for work in works):
        return None
    return list(dict.fromkeys(name for work in works for name in work.outputs or ()))


def _run_one(session: GraphSession, work: Work) -> Outcome:
    try:
        answer = session.run(work.feeds, work.outputs)
    except ModelworksError as error:
        return None, error
    except Exception as error:
        return None, RunFailed(f"The runtime refused this input ({type(error).__name__}).")
    for name, array in answer.items():
        if not finite(array):
            return None, NonFiniteAnswer(
                f"The model's output '{name}' is not finite for this input; no answer is given."
            )
    return answer, None


def finite(array: Array) -> bool:
    """Say whether a float array has neither NaN nor infinity (other types always)."""
    if array.dtype.kind != "f":
        return True
    # One product tells in most cases, several times faster than looking at each value: it is finite only if all are.
    # Values whose squares overflow go the long way.
    if array.size < _SMALL and isfinite(np.vdot(array, array)):
        return True
    return bool(np.isfinite(array).all())
