"""Runs step calls on an executor: each content key once, in parallel, resumable after any crash."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from modelworks.core.clock import Clock, SystemClock
from modelworks.core.errors import (
    Cancelled,
    DiskFull,
    InputError,
    JobCrashed,
    ModelworksError,
    NotFound,
    TrustError,
)
from modelworks.core.job import Executor, Job, JobResult, Resources, Usage
from modelworks.storage.catalog import Catalog
from modelworks.storage.ledger import StepResult
from modelworks.storage.store import Store
from modelworks.telemetry.events import (
    Event,
    EventSink,
    RunEnded,
    RunStarted,
    StepEnded,
    StepRetried,
    StepStarted,
)
from modelworks.workflow.call import Handle, Input, Output, identify, locate, skipped
from modelworks.workflow.fingerprint import Fingerprints, changed
from modelworks.workflow.journal import Journal
from modelworks.workflow.node import Node
from modelworks.workflow.step import KEPT, Step

RETRIES = 2
"""How often a step whose process died is tried again."""

_POLL_S = 0.5


class Scheduler:
    """A run: takes calls at any time, also while others run, and ends each of them.

    Use it as a context manager from one thread. What is finished is published (files, then rows, then the handle), so
    a run that was killed at any moment goes on where it was when the same calls are made again. Identical calls run
    once. A failed call skips those that read its outputs and nothing else.

    Args:
        executor: Where steps run; of one scheduler at a time, and the caller's to close.
        store: Where their files go.
        catalog: Where it is recorded.
        run_id: Name of the run; starting it again resumes it.
        kind: What sort of run it is.
        spec: What was asked for, plain JSON; kept with the run.
        events: Receives every event, in the scheduler's thread.
        clock: Source of time.
        lease_s: Seconds without a sign of life after which another process may take the run over.
        retries: How often a step whose process died is tried again.

    Raises:
        Conflict: Another live process works on this run (on entry), or took it over (from every method).
        DiskFull, StorageError: The store or the catalog failed; the run can be resumed.
    """

    def __init__(
        self,
        executor: Executor,
        store: Store,
        catalog: Catalog,
        *,
        run_id: str,
        kind: str = "flow",
        spec: Any = None,
        events: EventSink | None = None,
        clock: Clock | None = None,
        lease_s: float = 15.0,
        retries: int = RETRIES,
    ) -> None:
        self.run_id = run_id
        self.store = store
        self._executor = executor
        self._clock = clock or SystemClock()
        self._events = events
        self._retries = retries
        self._journal = Journal(
            store, catalog, self._clock, run=run_id, kind=kind, spec=spec, lease_s=lease_s
        )
        self._fingerprints = Fingerprints()
        self._nodes: dict[str, Node] = {}
        self._ready: list[Node] = []
        self._running: dict[str, Node] = {}
        self._waiting: dict[Handle, None] = {}
        self._dependants: dict[Handle, list[Handle]] = {}
        self._ended: list[Handle] = []
        self._open = 0
        self._order = itertools.count()
        self._outcome: tuple[str, str, Any] = ("done", "", None)

    def __enter__(self) -> Scheduler:
        token = self._journal.open(self._executor)
        self._emit(RunStarted, kind=self._journal.kind, token=token)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        status, reason, result = self._outcome
        if error is not None:
            status = "cancelled" if isinstance(error, (KeyboardInterrupt, Cancelled)) else "failed"
            reason = str(error) or type(error).__name__
        failing = error is not None
        try:
            self._stop_running()
            self._journal.close(status, reason, result, self._executor)
            self._emit(RunEnded, status=status, reason=reason)
        except ModelworksError:
            # The first error says why the run ended; the run is found and resumed by its lease.
            if not failing:
                raise
        finally:
            self._journal.abandon()

    def call(
        self,
        step: Step,
        inputs: Mapping[str, Input],
        params: dict[str, Any] | None = None,
        *,
        label: str = "",
        priority: float = 0.0,
        resources: Resources | None = None,
    ) -> Handle:
        """Ask for a step; returns at once.

        Args:
            step: What to run.
            inputs: Name -> path outside the store (hashed now), ``Artifact``, or another call's output.
            params: Plain JSON data.
            label: Task that asks; the cost of shared work is divided over the labels that used it.
            priority: Larger runs earlier.
            resources: Limits instead of the step's own; not part of the content key.

        An input that is not there fails the call, as any other failure does.

        Raises:
            UsageError: The parameters are not plain JSON data.
        """
        self._journal.check()
        step.key({}, params or {})
        handle = Handle(
            step, inputs, dict(params or {}), label, self.store, priority=priority, resources=resources
        )
        self._open += 1
        self._admit_or_wait(handle)
        return handle

    def known(self, step: Step, inputs: Mapping[str, Input], params: dict[str, Any]) -> bool:
        """Say whether the result of a call is at hand; its inputs must be."""
        digests, _ = identify(inputs, self._fingerprints)
        return self._journal.recall(step.key(digests, params)) is not None

    def wait_any(self, timeout_s: float | None = None) -> list[Handle]:
        """Return the calls that ended since the last call of this method; waits for at least one.

        Returns an empty list when nothing is left to end, or when ``timeout_s`` is over.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended:
            self._journal.check()
            self._dispatch()
            if not self._running:
                break
            left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            if left < 0:
                break
            self._settle(self._executor.wait(left))
        ended, self._ended = self._ended, []
        return ended

    def wait(self, *handles: Handle) -> None:
        """Wait until ``handles`` (all calls, if none are given) have ended; ``wait_any`` does not return them again."""
        others: list[Handle] = []
        while not all(handle.ended for handle in handles) if handles else self.pending:
            ended = self.wait_any()
            assert ended, "calls are pending and nothing runs"
            others += ended
        if handles:
            self._ended = [handle for handle in others + self._ended if handle not in handles]

    @property
    def pending(self) -> int:
        """How many calls have not ended, or ended and were not yet returned by ``wait_any``."""
        return self._open + len(self._ended)

    def cancel(self, label: str | None = None) -> None:
        """End the calls of one label, or all; work that other labels want goes on."""
        error = Cancelled(
            "The call was cancelled.", code="MW2201", hint="run the same command again to resume"
        )
        for handle in [item for item in self._waiting if label is None or item.label == label]:
            self._end(handle, "cancelled", error=error)
        for node in list(self._nodes.values()):
            if node.status not in ("ready", "running"):
                continue
            for handle in [item for item in node.handles if label is None or item.label == label]:
                node.handles.remove(handle)
                self._end(handle, "cancelled", error=error)
            if not node.handles:
                self._drop(node)

    def finish(self, status: str, *, reason: str = "", result: Any = None) -> None:
        """Say how the run ends when the block is left: ``done``, ``failed`` or ``cancelled``, and its result."""
        self._outcome = (status, reason, result)

    def _admit_or_wait(self, handle: Handle) -> None:
        upstream = [item.handle for item in handle.inputs.values() if isinstance(item, Output)]
        for source in upstream:
            if source.ended and not source.ok:
                self._end(handle, "skipped", error=skipped(handle, source))
                return
        if all(source.ended for source in upstream):
            self._admit(handle)
        elif handle not in self._waiting:
            self._waiting[handle] = None
            for source in dict.fromkeys(upstream):
                self._dependants.setdefault(source, []).append(handle)

    def _admit(self, handle: Handle) -> None:
        """Find the call's content key, then join, recall or queue it."""
        self._waiting.pop(handle, None)
        try:
            digests, fingerprints = identify(handle.inputs, self._fingerprints)
        except InputError as error:
            self._end(handle, "failed", error=error)
            return
        handle.key = handle.step.key(digests, handle.params)
        handle.status = "ready"
        node = self._nodes.get(handle.key)
        if node is not None:
            self._join(node, handle)
            return
        node = Node(handle, digests, fingerprints, next(self._order))
        self._nodes[handle.key] = node
        node.result = self._journal.recall(handle.key)
        if node.result is not None:
            node.status = "done"
            self._end_done(handle, node.result, memoised=True)
        else:
            heapq.heappush(self._ready, node)

    def _join(self, node: Node, handle: Handle) -> None:
        if node.status == "done" and node.result is not None:
            self._end_done(handle, node.result, memoised=True)
        elif node.status == "failed":
            self._journal.use(handle.key, handle.label)
            self._end(handle, "failed", error=node.error)
        elif node.status == "dropped":
            node.handles = [handle]
            self._queue(node)
        else:
            handle.status = node.status
            node.handles.append(handle)
            if handle.priority > node.priority and node.status == "ready":
                node.priority = handle.priority
                heapq.heapify(self._ready)

    def _queue(self, node: Node) -> None:
        node.status, node.error = "ready", None
        heapq.heappush(self._ready, node)

    def _dispatch(self) -> None:
        """Hand ready work to the executor: one job more than it has slots, so that no slot waits for us."""
        chosen: list[tuple[Node, dict[str, Path]]] = []
        while self._ready and len(self._running) + len(chosen) <= self._executor.slots:
            node = heapq.heappop(self._ready)
            if node.status == "ready":
                try:
                    inputs = {name: locate(item, self.store) for name, item in node.inputs.items()}
                    if node.step.keeps:
                        inputs[KEPT] = self._journal.progress(node.key)
                    chosen.append((node, inputs))
                except (NotFound, TrustError) as error:
                    self._fail(node, error)
        if not chosen:
            return
        started = self._journal.begin([(node.step, node.key, node.label) for node, _ in chosen])
        for (node, inputs), attempt in zip(chosen, started, strict=True):
            node.status = "running"
            node.tries += 1
            for handle in node.handles:
                handle.status = "running"
            self._running[attempt.id] = node
            self._executor.submit(
                Job(
                    id=attempt.id,
                    function=node.step.path,
                    inputs=inputs,
                    params=node.params,
                    folder=self._journal.folder(attempt.id),
                    resources=node.resources,
                )
            )
            self._emit(StepStarted, step=node.step.name, label=node.label, key=node.key, attempt=node.tries)

    def _settle(self, results: Sequence[JobResult]) -> None:
        """Publish what ended in one transaction, then tell the callers."""
        settled = [(self._running.pop(result.id), result) for result in results if result.id in self._running]
        for node, result in settled:
            node.add_usage(result.usage)
            node.error = self._publish(node, result)
            self._journal.ended(result, node.error)
        self._journal.commit([(node.key, handle.label) for node, _ in settled for handle in node.handles])
        for node, result in settled:
            if node.step.keeps and not isinstance(node.error, (JobCrashed, Cancelled, DiskFull)):
                self._journal.forget_progress(node.key)
            self._announce(node, result)
        for node, _ in settled:
            if isinstance(node.error, DiskFull):
                # Every other step would fail the same way; the run is resumed when there is space.
                raise node.error

    def _publish(self, node: Node, result: JobResult) -> ModelworksError | None:
        if result.error is not None:
            return ModelworksError.from_json(result.error)
        try:
            for fingerprint in node.fingerprints:
                if not fingerprint.unchanged():
                    raise changed(fingerprint.path)
            node.result = self._journal.publish(
                result, node.step, node.key, inputs=node.digests, params=node.params
            )
        except ModelworksError as error:
            return error
        return None

    def _announce(self, node: Node, result: JobResult) -> None:
        if node.error is None and node.result is not None:
            node.status = "done"
            for index, handle in enumerate(node.handles):
                handle.usage = node.usage if index == 0 else Usage()
                self._end_done(handle, node.result, memoised=index > 0)
        elif not node.handles:
            node.status = "dropped"
        elif isinstance(node.error, Cancelled):
            # Nobody wanted it when it was cancelled, and now somebody does.
            self._queue(node)
        elif isinstance(node.error, JobCrashed) and node.tries <= self._retries:
            self._emit(
                StepRetried,
                step=node.step.name,
                label=node.label,
                key=node.key,
                attempt=node.tries,
                error=result.error or {},
            )
            self._queue(node)
        elif node.error is not None:
            self._fail(node, node.error)

    def _fail(self, node: Node, error: ModelworksError) -> None:
        node.status, node.error = "failed", error
        for index, handle in enumerate(node.handles):
            handle.usage = node.usage if index == 0 else Usage()
            self._end(handle, "failed", error=error)

    def _end_done(self, handle: Handle, result: StepResult, *, memoised: bool) -> None:
        handle.value, handle.outputs, handle.tree = result.value, result.outputs, result.tree
        handle.memoised = memoised
        if memoised:
            self._journal.use(handle.key, handle.label)
        self._end(handle, "done")

    def _end(self, handle: Handle, status: str, *, error: ModelworksError | None = None) -> None:
        handle.status = status
        handle.error = error
        self._waiting.pop(handle, None)
        self._open -= 1
        self._ended.append(handle)
        self._emit(
            StepEnded,
            step=handle.step.name,
            label=handle.label,
            key=handle.key,
            status=status,
            memoised=handle.memoised,
            usage=handle.usage,
            error=error.to_json() if error else None,
        )
        for waiting in self._dependants.pop(handle, ()):
            if not waiting.ended:
                self._admit_or_wait(waiting)

    def _drop(self, node: Node) -> None:
        # A node that ended and could not be recorded runs no more, though nobody was told.
        attempts = [attempt for attempt, running in self._running.items() if running is node]
        for attempt in attempts:
            self._executor.cancel(attempt)
        if not attempts:
            node.status = "dropped"

    def _stop_running(self) -> None:
        """End what still runs and put it on the bill."""
        self.cancel()
        deadline = time.monotonic() + 10
        while self._running and time.monotonic() < deadline:
            self._settle(self._executor.wait(_POLL_S))

    def _emit(self, event: type[Event], /, **fields: Any) -> None:
        if self._events is not None:
            self._events(event(at=self._clock.wall(), run=self.run_id, **fields))
