"""Runs step calls on an executor: each content key once, in parallel, resumable after any crash."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from modelworks.core.clock import Clock, SystemClock
from modelworks.core.errors import Cancelled, DiskFull, ExecutionError, JobCrashed, ModelworksError
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
from modelworks.workflow.call import Artifact, Handle, Input, Output
from modelworks.workflow.fingerprint import Fingerprint, Fingerprints, changed
from modelworks.workflow.journal import Journal
from modelworks.workflow.step import Step

RETRIES = 2
"""How often a step whose process died is tried again."""

_POLL_S = 0.5


class _Node:
    """One content key of this run and every call that wants it."""

    def __init__(self, handle: Handle, digests: dict[str, str], order: int) -> None:
        self.key = handle.key
        self.step = handle.step
        self.params = handle.params
        self.inputs = handle.inputs
        self.digests = digests
        self.handles = [handle]
        self.priority = handle.priority
        self.order = order
        self.resources = handle.resources
        self.fingerprints: list[Fingerprint] = []
        self.status = "ready"
        self.usage = Usage()
        self.result: StepResult | None = None
        self.error: ModelworksError | None = None
        self.tries = 0

    def __lt__(self, other: _Node) -> bool:
        return (-self.priority, self.order) < (-other.priority, other.order)


class Scheduler:
    """A run: takes calls at any time, also while others run, and ends each of them.

    Use it as a context manager from one thread. What is finished is published (files, then rows, then the handle), so
    a run that was killed at any moment goes on where it was when the same calls are made again. Identical calls run
    once. A failed call skips those that read its outputs and nothing else.

    Args:
        executor: Where steps run; stays the caller's to close.
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
        self._nodes: dict[str, _Node] = {}
        self._ready: list[_Node] = []
        self._running: dict[str, _Node] = {}
        self._waiting: dict[Handle, None] = {}
        self._dependants: dict[Handle, list[Handle]] = {}
        self._ended: list[Handle] = []
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

        Raises:
            DataError: An input path is not there.
            UsageError: The parameters are not plain JSON data.
        """
        self._journal.check()
        handle = Handle(
            step, inputs, dict(params or {}), label, self.store, priority=priority, resources=resources
        )
        self._admit_or_wait(handle)
        return handle

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
        """Wait until ``handles`` (all calls, if none are given) have ended."""
        kept: list[Handle] = []
        while not all(handle.ended for handle in handles) if handles else self.pending:
            kept += self.wait_any()
        self._ended = [handle for handle in kept if not handles or handle not in handles] + self._ended
        if not handles:
            self._ended = []

    @property
    def pending(self) -> int:
        """How many calls have not ended, or ended and were not yet returned by ``wait_any``."""
        open_nodes = sum(
            len(node.handles) for node in self._nodes.values() if node.status in ("ready", "running")
        )
        return open_nodes + len(self._waiting) + len(self._ended)

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
                self._skip(handle, source)
                return
        if all(source.ended for source in upstream):
            self._admit(handle)
        elif handle not in self._waiting:
            self._waiting[handle] = None
            for source in upstream:
                self._dependants.setdefault(source, []).append(handle)

    def _admit(self, handle: Handle) -> None:
        """Find the call's content key, then join, recall or queue it."""
        digests: dict[str, str] = {}
        fingerprints: list[Fingerprint] = []
        for name, source in handle.inputs.items():
            if isinstance(source, Artifact):
                digests[name] = source.digest
            elif isinstance(source, Output):
                digests[name] = source.handle.tree if source.name is None else _output_digest(source)
            else:
                fingerprint = self._fingerprints.of(Path(source))
                fingerprints.append(fingerprint)
                digests[name] = fingerprint.digest
        handle.key = handle.step.key(digests, handle.params)
        handle.status = "ready"
        self._waiting.pop(handle, None)
        node = self._nodes.get(handle.key)
        if node is not None:
            self._join(node, handle)
            return
        found = self._journal.recall(handle.key)
        node = _Node(handle, digests, next(self._order))
        node.fingerprints = fingerprints
        self._nodes[handle.key] = node
        if found is not None:
            node.status, node.result = "done", found
            self._end_done(handle, found, memoised=True)
        else:
            heapq.heappush(self._ready, node)

    def _join(self, node: _Node, handle: Handle) -> None:
        if node.status == "done" and node.result is not None:
            self._end_done(handle, node.result, memoised=True)
        elif node.error is not None:
            self._end(handle, "failed", error=node.error)
        elif node.status == "dropped":
            node.status, node.handles, node.tries = "ready", [handle], 0
            heapq.heappush(self._ready, node)
        else:
            handle.status = node.status
            node.handles.append(handle)
            if handle.priority > node.priority and node.status == "ready":
                node.priority = handle.priority
                heapq.heapify(self._ready)

    def _dispatch(self) -> None:
        """Hand ready work to the executor: one job more than it has slots, so that no slot waits for us."""
        chosen: list[_Node] = []
        while self._ready and len(self._running) + len(chosen) <= self._executor.slots:
            node = heapq.heappop(self._ready)
            if node.status == "ready":
                chosen.append(node)
        if not chosen:
            return
        started = self._journal.begin([(node.step, node.key, node.handles[0].label) for node in chosen])
        for node, attempt in zip(chosen, started, strict=True):
            node.status = "running"
            node.tries += 1
            for handle in node.handles:
                handle.status = "running"
            self._running[attempt.id] = node
            job = Job(
                id=attempt.id,
                function=node.step.path,
                inputs={name: self._input_path(source) for name, source in node.inputs.items()},
                params=node.params,
                folder=self._journal.folder(attempt.id),
                resources=node.resources,
            )
            self._executor.submit(job)
            self._emit(
                StepStarted,
                step=node.step.name,
                label=node.handles[0].label if node.handles else "",
                key=node.key,
                attempt=node.tries,
            )

    def _input_path(self, source: Input) -> Path:
        if isinstance(source, Artifact):
            return self.store.tree_folder(source.digest) if source.tree else self.store.path(source.digest)
        if isinstance(source, Output):
            return source.handle.folder() if source.name is None else source.handle.path(source.name)
        return Path(source).absolute()

    def _settle(self, results: Sequence[JobResult]) -> None:
        """Publish what ended in one transaction, then tell the callers."""
        full: DiskFull | None = None
        settled = [(self._running.pop(result.id), result) for result in results if result.id in self._running]
        for node, result in settled:
            node.usage = _sum(node.usage, result.usage)
            error = ModelworksError.from_json(result.error) if result.error is not None else None
            if error is None:
                try:
                    for fingerprint in node.fingerprints:
                        if not fingerprint.unchanged():
                            raise changed(fingerprint.path)
                    node.result = self._journal.publish(
                        result, node.step, node.key, inputs=node.digests, params=node.params
                    )
                except ModelworksError as problem:
                    error = problem
            if isinstance(error, DiskFull):
                full = error
            self._journal.ended(result, error)
            node.error = error
        uses = [(node.key, handle.label) for node, _ in settled for handle in node.handles]
        self._journal.commit(uses)
        for node, result in settled:
            self._announce(node, result)
        if full is not None:
            # Every other step would fail the same way; the run is resumed when there is space.
            raise full

    def _announce(self, node: _Node, result: JobResult) -> None:
        error = node.error
        if error is None and node.result is not None:
            node.status = "done"
            for index, handle in enumerate(node.handles):
                handle.usage = node.usage if index == 0 else Usage()
                self._end_done(handle, node.result, memoised=index > 0)
            return
        if isinstance(error, JobCrashed) and node.handles and node.tries <= self._retries:
            node.status, node.error = "ready", None
            self._emit(
                StepRetried,
                step=node.step.name,
                label=node.handles[0].label,
                key=node.key,
                attempt=node.tries,
                error=result.error or {},
            )
            heapq.heappush(self._ready, node)
            return
        if not node.handles:
            node.status, node.error = "dropped", None
            return
        node.status = "failed"
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

    def _skip(self, handle: Handle, cause: Handle) -> None:
        root = cause.error
        text = root.message if root else "it did not end well"
        error = ExecutionError(
            f"Step '{handle.step.name}' was skipped because step '{cause.step.name}' ended '{cause.status}': {text}",
            code="MW5401",
            hint=root.hint if root else None,
        )
        self._end(handle, "skipped", error=error)

    def _drop(self, node: _Node) -> None:
        if node.status == "running":
            for job, running in self._running.items():
                if running is node:
                    self._executor.cancel(job)
        else:
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


def _output_digest(source: Output) -> str:
    with contextlib.suppress(KeyError):
        return source.handle.outputs[source.name or ""][0]
    source.handle.path(source.name or "")
    raise AssertionError("path() raises for a file that is not there")


def _sum(first: Usage, second: Usage) -> Usage:
    return Usage(
        cpu_s=first.cpu_s + second.cpu_s,
        wall_s=first.wall_s + second.wall_s,
        peak_mb=max(first.peak_mb, second.peak_mb),
        gpu_s=first.gpu_s + second.gpu_s,
        energy_j=first.energy_j + second.energy_j,
        energy_source=second.energy_source if second.energy_source != "none" else first.energy_source,
    )
