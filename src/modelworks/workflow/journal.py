"""The written side of a run: lease and heartbeat, attempts, published results, and what the engine itself used."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelworks.core.clock import Clock, SystemClock
from modelworks.core.digest import digest_json
from modelworks.core.errors import Conflict, ExecutionError, ModelworksError, StorageError
from modelworks.core.job import Attempt, Executor, JobResult, Usage, forget_usage, note_usage, noted_usage
from modelworks.storage.catalog import Catalog
from modelworks.storage.ledger import StepResult
from modelworks.storage.runs import Lease
from modelworks.storage.store import Store
from modelworks.workflow.step import Step

ENGINE = "engine"
"""Step name under which the scheduler's own CPU is on the bill."""

_USES_AT_ONCE = 500


class Journal:
    """Writes what a scheduler does, always in the order: files, then rows, then the answer.

    Args:
        store: Where files go.
        catalog: Where rows go.
        clock: Source of time.
        run: Name of the run.
        kind: What sort of run it is.
        spec: What was asked for.
        lease_s: Seconds without a heartbeat after which others may take over.
    """

    def __init__(
        self, store: Store, catalog: Catalog, clock: Clock, *, run: str, kind: str, spec: Any, lease_s: float
    ) -> None:
        self.kind = kind
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._run = run
        self._spec = spec
        self._lease_s = lease_s
        self._lease: Lease | None = None
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None
        self._numbers: Counter[str] = Counter()
        self._open: dict[str, Attempt] = {}
        self._folders: dict[str, Path] = {}
        self._closed: list[Attempt] = []
        self._published: list[StepResult] = []
        self._uses: set[tuple[str, str]] = set()
        self._labels: set[str] = set()
        self._sequence = 0
        self._engine: Attempt | None = None
        self._began = (0.0, 0.0)
        self._inline_cpu = 0.0
        self._executor_cpu = 0.0

    def open(self, executor: Executor) -> int:
        """Take the run, put the attempts of a dead predecessor on the bill, start the heartbeat; returns the token.

        Raises:
            Conflict: Another live process holds the run.
        """
        lease = self._catalog.runs.start(self._run, kind=self.kind, spec=self._spec, lease_s=self._lease_s)
        self._lease = lease
        close_lost(self._store, self._catalog, lease, self._clock)
        earlier = self._catalog.ledger.attempts(run=self._run)
        self._numbers.update(attempt.key for attempt in earlier)
        self._began = (time.process_time(), time.monotonic())
        self._executor_cpu = executor.overhead_cpu_s
        key = digest_json([ENGINE, self._run, lease.token])
        (self._engine,) = self._begin([(ENGINE, key, "")])
        self._heart = threading.Thread(target=self._beat, name=f"heartbeat-{self._run}", daemon=True)
        self._heart.start()
        return lease.token

    def check(self) -> None:
        """Stop a scheduler whose run was taken over.

        Raises:
            Conflict: It was.
        """
        if self._lost.is_set():
            raise Conflict(
                f"The run '{self._run}' was taken over by another process.",
                code="MW4302",
                hint="nothing to do: the other process goes on from what is finished",
            )

    def recall(self, key: str) -> StepResult | None:
        """Return a published result whose files are all there."""
        found = self._catalog.ledger.result(key)
        if found is None:
            return None
        digests = [found.tree, *(digest for digest, _ in found.outputs.values())]
        return found if all(self._store.has(digest) for digest in digests) else None

    def begin(self, calls: Sequence[tuple[Step, str, str]]) -> list[Attempt]:
        """Record ``(step, key, label)`` attempts that are about to run."""
        return self._begin([(step.name, key, label) for step, key, label in calls])

    def folder(self, attempt: str) -> Path:
        """Return the empty output folder of an attempt."""
        return self._folders[attempt]

    def progress(self, key: str) -> Path:
        """Return the folder in which a step of this run keeps its progress."""
        return self._store.progress(self._progress_name(key))

    def forget_progress(self, key: str) -> None:
        """Remove it: the step has ended."""
        self._store.forget_progress(self._progress_name(key))

    def _progress_name(self, key: str) -> str:
        return digest_json([self._run, key])[:24]

    def publish(
        self, result: JobResult, step: Step, key: str, *, inputs: dict[str, str], params: dict[str, Any]
    ) -> StepResult:
        """Put the files of an attempt into the store, to be recorded by the next ``commit``.

        Raises:
            ExecutionError: A declared output is missing.
            DiskFull, StorageError: The files could not be kept.
        """
        folder = self._folders[result.id]
        missing = [name for name in step.outputs if not (folder / name).exists()]
        if missing:
            raise ExecutionError(
                f"Step '{step.name}' did not write its declared output '{missing[0]}'.", code="MW5402"
            )
        tree, listing = self._store.put_tree(folder, move=True)
        made = StepResult(
            key=key,
            step=step.name,
            version=step.version,
            inputs=inputs,
            params=params,
            value=result.value,
            tree=tree,
            outputs={name: (entry.digest, entry.size) for name, entry in listing.items()},
            attempt=result.id,
        )
        self._published.append(made)
        return made

    def ended(self, result: JobResult, error: ModelworksError | None) -> None:
        """Note how an attempt ended, to be recorded by the next ``commit``."""
        status = "done"
        if error is not None:
            status = "cancelled" if error.to_json()["kind"] == "Cancelled" else "failed"
        self._closed.append(
            replace(
                self._open.pop(result.id),
                status=status,
                usage=result.usage,
                error=error.to_json() if error is not None else None,
                ended=self._clock.wall(),
            )
        )
        self._inline_cpu += result.usage.cpu_s

    def use(self, key: str, label: str) -> None:
        """Note that a label used a result."""
        self._labels.add(label)
        self._uses.add((key, label))
        if len(self._uses) >= _USES_AT_ONCE:
            self.commit()

    def commit(self, uses: Iterable[tuple[str, str]] = ()) -> None:
        """Record everything noted so far in one durable transaction.

        Raises:
            Conflict: The run was taken over; nothing was recorded.
        """
        for key, label in uses:
            self._labels.add(label)
            self._uses.add((key, label))
        if not (self._closed or self._uses):
            return
        self._catalog.ledger.finish(
            self._held(), self._closed, results=self._published, uses=sorted(self._uses)
        )
        for attempt in self._closed:
            remove_unfinished(self._folders.pop(attempt.id))
        self._closed, self._published = [], []
        self._uses.clear()

    def close(self, status: str, reason: str, result: Any, executor: Executor) -> None:
        """Record what the engine used and how the run ended."""
        self._stop_heart()
        if self._engine is not None:
            usage = self._engine_usage()
            own = usage.cpu_s + executor.overhead_cpu_s - self._executor_cpu
            if not executor.isolates:
                own -= self._inline_cpu
            self.ended(JobResult(id=self._engine.id, usage=replace(usage, cpu_s=max(0.0, own))), None)
            self._uses.update((self._engine.key, label) for label in self._labels)
            self._engine = None
        self.commit()
        self._catalog.runs.finish(self._held(), status, reason=reason, result=result)

    def abandon(self) -> None:
        """Stop the heartbeat and remove the folders of this run; what is recorded stays."""
        self._stop_heart()
        for folder in self._folders.values():
            remove_unfinished(folder)
        self._folders.clear()

    def _begin(self, calls: Sequence[tuple[str, str, str]]) -> list[Attempt]:
        made = []
        for name, key, label in calls:
            self._sequence += 1
            self._numbers[key] += 1
            attempt = Attempt(
                id=f"{self._run}/{self._held().token}/{self._sequence}",
                run=self._run,
                step=name,
                key=key,
                label=label,
                number=self._numbers[key],
                started=self._clock.wall(),
            )
            self._folders[attempt.id] = self._store.staging(_staging_name(attempt.id))
            self._open[attempt.id] = attempt
            made.append(attempt)
        self._catalog.ledger.begin(self._held(), made)
        return made

    def _beat(self) -> None:
        while not self._stop.wait(self._lease_s / 4):
            try:
                if not self._catalog.runs.beat(self._held()):
                    self._lost.set()
                    return
            except StorageError:
                # The database may be back at the next beat; the scheduler meets the same error itself.
                continue
            engine = self._engine
            if engine is not None and engine.id in self._folders:
                note_usage(self._folders[engine.id], self._engine_usage())

    def _engine_usage(self) -> Usage:
        cpu, monotonic = self._began
        return Usage(cpu_s=time.process_time() - cpu, wall_s=time.monotonic() - monotonic)

    def _stop_heart(self) -> None:
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
            self._heart = None

    def _held(self) -> Lease:
        if self._lease is None:
            raise AssertionError("the journal is not open")
        return self._lease


def close_lost(store: Store, catalog: Catalog, lease: Lease, clock: Clock) -> int:
    """Record the open attempts of a run's dead holder as ``lost``, with the last usage they noted; returns how many."""
    left = catalog.ledger.open_attempts(lease.run)
    if not left:
        return 0
    closed = []
    folders = []
    for attempt in left:
        usage = Usage()
        for folder in store.staged(_staging_name(attempt.id)):
            folders.append(folder)
            usage = noted_usage(folder) or usage
        closed.append(replace(attempt, status="lost", usage=usage, ended=clock.wall()))
    catalog.ledger.finish(lease, closed)
    for folder in folders:
        remove_unfinished(folder)
    return len(closed)


def sweep_dead_runs(store: Store, catalog: Catalog, clock: Clock | None = None) -> list[str]:
    """Mark runs whose process died as ``interrupted`` and put their open attempts on the bill; returns their names.

    Anybody may call it at any time, also twice at once or again after being killed itself.
    """
    swept = catalog.runs.sweep()
    for lease in catalog.runs.unsettled():
        # Somebody who resumes the run at this moment settles it as well.
        with contextlib.suppress(Conflict):
            close_lost(store, catalog, lease, clock or SystemClock())
    return swept


def remove_unfinished(folder: Path) -> None:
    """Remove an attempt's folder and the note of its usage; what cannot be removed is left to the sweep."""
    forget_usage(folder)
    try:
        folder.rmdir()
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def _staging_name(attempt: str) -> str:
    return digest_json(attempt)[:24]
