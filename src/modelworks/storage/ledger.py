"""What was done and what it used: step results by content key, attempts, and who used what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from modelworks.core.clock import Clock
from modelworks.core.job import Attempt, Usage
from modelworks.storage.database import Database
from modelworks.storage.runs import Lease, check_lease
from modelworks.storage.schema import ATTEMPTS, HUMAN_SECONDS, STEPS, USES


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The published result of a step call.

    Attributes:
        key: Content key: hash of step name, version, input digests and parameters.
        step: Step name.
        version: Step version.
        inputs: Input name -> digest.
        params: Plain JSON.
        value: What the function returned, plain JSON.
        tree: Digest of the tree of output files.
        outputs: File name -> ``[digest, size]``.
        attempt: Id of the attempt that made it.
        created: Wall-clock seconds since 1970.
    """

    key: str
    step: str
    version: int
    inputs: dict[str, str]
    params: dict[str, Any]
    value: Any
    tree: str
    outputs: dict[str, tuple[str, int]]
    attempt: str
    created: float = 0.0


@dataclass(frozen=True, kw_only=True)
class HumanTime:
    """Seconds a person spent.

    Attributes:
        id: Unique; recording it twice counts once.
        run: Run it belongs to.
        label: Task it belongs to.
        action: What was done, e.g. ``approve``.
        seconds: How long.
    """

    id: str
    run: str
    label: str
    action: str
    seconds: float


class Ledger:
    """Rows that are written once and never change their meaning; every method may be repeated."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def result(self, key: str) -> StepResult | None:
        """Return the published result of a step call, if there is one."""
        with self._database.read() as connection:
            row = connection.execute(_RESULT, {"this": key}).first()
        return _result(row) if row is not None else None

    def all_results(self) -> Iterable[StepResult]:
        """Walk all published results, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(STEPS).order_by(STEPS.c.created)).all()
        return [_result(row) for row in rows]

    def begin(self, lease: Lease, attempts: Sequence[Attempt]) -> None:
        """Record attempts that are about to run (survives a killed process; not flushed to the device).

        Raises:
            Conflict: Somebody else has taken the run over.
        """

        def work(connection: Connection) -> None:
            check_lease(connection, lease)
            self._database.insert(connection, ATTEMPTS, [_attempt_row(item, lease) for item in attempts])

        self._database.write(work, durable=False)

    def finish(
        self,
        lease: Lease,
        attempts: Sequence[Attempt],
        *,
        results: Sequence[StepResult] = (),
        uses: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Record how attempts ended, what they published and who used what, in one durable transaction.

        The files of ``results`` must be in the store already. A result that is there already stays as it is.

        Args:
            lease: The right to.
            attempts: Ended attempts.
            results: What they published.
            uses: ``(key, label)`` pairs.

        Raises:
            Conflict: Somebody else has taken the run over; nothing was recorded.
        """
        pairs = [{"run": lease.run, "key": key, "label": label} for key, label in uses]
        rows = [_attempt_row(item, lease) for item in attempts]

        def work(connection: Connection) -> None:
            check_lease(connection, lease)
            self._database.insert(connection, ATTEMPTS, rows)
            for row in rows:
                connection.execute(_END, row | {"this": row["id"]})
            made = [asdict(item) | {"created": self._clock.wall()} for item in results]
            self._database.insert(connection, STEPS, made)
            self._database.insert(connection, USES, pairs)

        self._database.write(work)

    def open_attempts(self, run: str) -> list[Attempt]:
        """Return attempts of a run that were begun and not finished."""
        return self.attempts(run=run, status="running")

    def attempts(self, *, run: str | None = None, status: str | None = None) -> list[Attempt]:
        """Return attempts, oldest first."""
        query = select(ATTEMPTS).order_by(ATTEMPTS.c.started, ATTEMPTS.c.id)
        if run is not None:
            query = query.where(ATTEMPTS.c.run == run)
        if status is not None:
            query = query.where(ATTEMPTS.c.status == status)
        with self._database.read() as connection:
            return [_attempt(row) for row in connection.execute(query)]

    def uses(self, run: str) -> list[tuple[str, str]]:
        """Return the ``(key, label)`` pairs of a run."""
        query = select(USES.c.key, USES.c.label).where(USES.c.run == run).order_by(USES.c.key, USES.c.label)
        with self._database.read() as connection:
            return [(row.key, row.label) for row in connection.execute(query)]

    def add_human(self, item: HumanTime) -> None:
        """Record seconds a person spent."""
        row = asdict(item) | {"created": self._clock.wall()}
        self._database.write(lambda connection: self._database.insert(connection, HUMAN_SECONDS, [row]))

    def human(self, *, run: str | None = None) -> list[HumanTime]:
        """Return the recorded human seconds, oldest first."""
        query = select(HUMAN_SECONDS).order_by(HUMAN_SECONDS.c.created, HUMAN_SECONDS.c.id)
        if run is not None:
            query = query.where(HUMAN_SECONDS.c.run == run)
        with self._database.read() as connection:
            return [
                HumanTime(id=row.id, run=row.run, label=row.label, action=row.action, seconds=row.seconds)
                for row in connection.execute(query)
            ]

    def forget(self, keys: Iterable[str]) -> None:
        """Remove published results so that their steps run again; attempts stay."""
        gone = list(keys)
        self._database.write(
            lambda connection: connection.execute(delete(STEPS).where(STEPS.c.key.in_(gone)))
        )

    def live_digests(self) -> set[str]:
        """Return the trees that published results name."""
        with self._database.read() as connection:
            return {row.tree for row in connection.execute(select(STEPS.c.tree).distinct())}

    def counts(self) -> dict[str, int]:
        """Return how many results and attempts there are."""
        with self._database.read() as connection:
            return {
                table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
                for table in (STEPS, ATTEMPTS)
            }


_ATTEMPT_COLUMNS = [column.name for column in ATTEMPTS.columns]
# Built once: building a statement costs more than running it.
_END = (
    update(ATTEMPTS)
    .where(ATTEMPTS.c.id == bindparam("this"), ATTEMPTS.c.status == "running")
    .values({name: bindparam(name) for name in _ATTEMPT_COLUMNS})
)
_RESULT = select(STEPS).where(STEPS.c.key == bindparam("this"))


def _attempt_row(attempt: Attempt, lease: Lease) -> dict[str, Any]:
    row: dict[str, Any] = asdict(attempt)
    usage: dict[str, Any] = row.pop("usage")
    return row | usage | {"token": lease.token}


def _attempt(row: Row[Any]) -> Attempt:
    usage = Usage(
        cpu_s=row.cpu_s,
        wall_s=row.wall_s,
        peak_mb=row.peak_mb,
        gpu_s=row.gpu_s,
        energy_j=row.energy_j,
        energy_source=row.energy_source,
    )
    return Attempt(
        id=row.id,
        run=row.run,
        step=row.step,
        key=row.key,
        label=row.label,
        number=row.number,
        status=row.status,
        usage=usage,
        error=row.error,
        started=row.started,
        ended=row.ended,
    )


def _result(row: Row[Any]) -> StepResult:
    return StepResult(
        key=row.key,
        step=row.step,
        version=row.version,
        inputs=row.inputs,
        params=row.params,
        value=row.value,
        tree=row.tree,
        outputs={name: (digest, size) for name, (digest, size) in row.outputs.items()},
        attempt=row.attempt,
        created=row.created,
    )
