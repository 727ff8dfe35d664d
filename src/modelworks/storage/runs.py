"""Runs with a lease: one scheduler at a time, a dead one is replaced at once, a late one is refused."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from modelworks.core.clock import Clock
from modelworks.core.errors import Conflict, NotFound, UsageError
from modelworks.storage.database import Database
from modelworks.storage.owner import Owner
from modelworks.storage.schema import ATTEMPTS, RUNS

TERMINAL = frozenset({"done", "failed", "cancelled", "interrupted"})


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to write for a run until somebody else has taken it.

    Attributes:
        run: Run id.
        token: Fencing token; grows with every holder.
        lease_s: Seconds without a heartbeat after which the run may be taken over.
    """

    run: str
    token: int
    lease_s: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """A row of the runs table.

    Attributes:
        id: Name.
        kind: E.g. ``order``.
        status: ``running``, ``done``, ``failed``, ``cancelled`` or ``interrupted``.
        reason: Why it ended so.
        spec: What was asked for, plain JSON.
        result: What it came to, plain JSON.
        token: Holders so far.
        created, updated: Wall-clock seconds since 1970.
    """

    id: str
    kind: str
    status: str
    reason: str
    spec: Any
    result: Any
    token: int
    created: float
    updated: float


class Runs:
    """Start, keep, end and find runs.

    A lease is judged without the wall clock: on the same machine by the owner's process and ``CLOCK_MONOTONIC``,
    from another machine by a heartbeat number that must change.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._seen: dict[str, tuple[int, int, float]] = {}

    def start(self, run: str, *, kind: str = "", spec: Any = None, lease_s: float = 15.0) -> Lease:
        """Begin a run, or take over one that ended or whose holder is gone.

        Args:
            run: Name; the same name is the same run.
            kind: What sort of run it is.
            spec: Plain JSON; kept from the first start, unless given again.
            lease_s: Seconds without a heartbeat after which others may take over.

        Raises:
            Conflict: Another live process holds it (MW4301).
        """
        if not 0 < len(run) <= 200:
            raise UsageError("A run's name has 1 to 200 characters.", code="MW1384")
        # A commit whose reply was lost is tried again and must know its own claim.
        claim = f"{Owner.current()}.{uuid.uuid4().hex}"

        def work(connection: Connection) -> Lease:
            row = connection.execute(select(RUNS).where(RUNS.c.id == run).with_for_update()).first()
            now = {
                "status": "running",
                "reason": "",
                "owner": claim,
                "beat_monotonic": self._clock.monotonic(),
                "lease_s": lease_s,
                "updated": self._clock.wall(),
            }
            if row is None:
                first = {
                    "id": run,
                    "kind": kind,
                    "spec": spec,
                    "token": 1,
                    "beat": 0,
                    "created": now["updated"],
                }
                connection.execute(RUNS.insert().values(**first, **now))
                return Lease(run=run, token=1, lease_s=lease_s)
            if row.owner == claim:
                return Lease(run=run, token=row.token, lease_s=lease_s)
            if row.status == "running" and self._held(row):
                holder = _owner(row)
                raise Conflict(
                    f"The run '{run}' is being worked on by another process"
                    f" ({'number ' + str(holder.pid) if holder else row.owner}).",
                    code="MW4301",
                    hint=f"wait for it, or end that process; it is free {row.lease_s:g} s after its last sign of life",
                )
            if spec is not None:
                now["spec"] = spec
            connection.execute(
                update(RUNS).where(RUNS.c.id == run).values(token=row.token + 1, beat=row.beat + 1, **now)
            )
            return Lease(run=run, token=row.token + 1, lease_s=lease_s)

        return self._database.write(work)

    def beat(self, lease: Lease) -> bool:
        """Show that the holder lives; ``False`` if somebody else has taken the run over."""

        def work(connection: Connection) -> bool:
            statement = (
                update(RUNS)
                .where(RUNS.c.id == lease.run, RUNS.c.token == lease.token)
                .values(beat=RUNS.c.beat + 1, beat_monotonic=self._clock.monotonic())
            )
            return connection.execute(statement).rowcount == 1

        return self._database.write(work, durable=False)

    def finish(self, lease: Lease, status: str, *, reason: str = "", result: Any = None) -> None:
        """End a run.

        Args:
            lease: The right to.
            status: ``done``, ``failed`` or ``cancelled``.
            reason: Why.
            result: Plain JSON.

        Raises:
            Conflict: Somebody else has taken the run over.
        """
        if status not in TERMINAL:
            raise UsageError(f"A run cannot end as '{status}'.", code="MW1385")

        def work(connection: Connection) -> None:
            check_lease(connection, lease)
            connection.execute(
                update(RUNS)
                .where(RUNS.c.id == lease.run)
                .values(status=status, reason=reason, result=result, updated=self._clock.wall())
            )

        self._database.write(work)

    def get(self, run: str) -> Run:
        """Return one run.

        Raises:
            NotFound: There is none of that name.
        """
        with self._database.read() as connection:
            row = connection.execute(select(RUNS).where(RUNS.c.id == run)).first()
        if row is None:
            raise NotFound(f"There is no run '{run}'.", code="MW4203")
        return _run(row)

    def find(self, *, kind: str | None = None, status: str | None = None) -> list[Run]:
        """Return runs, newest first."""
        query = select(RUNS).order_by(RUNS.c.created.desc())
        if kind is not None:
            query = query.where(RUNS.c.kind == kind)
        if status is not None:
            query = query.where(RUNS.c.status == status)
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def sweep(self) -> list[str]:
        """Mark runs whose holder is gone as ``interrupted``; returns their names.

        A run of another machine is marked only when its heartbeat stood still for a lease between two sweeps of this
        object.
        """

        def work(connection: Connection) -> list[str]:
            rows = connection.execute(select(RUNS).where(RUNS.c.status == "running").with_for_update()).all()
            dead = [row for row in rows if not self._held(row)]
            for row in dead:
                connection.execute(
                    update(RUNS)
                    .where(RUNS.c.id == row.id)
                    .values(
                        status="interrupted",
                        reason="its process died; run the same command again to resume",
                        token=row.token + 1,
                        updated=self._clock.wall(),
                    )
                )
            return [row.id for row in dead]

        return self._database.write(work)

    def unsettled(self) -> list[Lease]:
        """Return the right to write for every ended run that still has open attempts."""
        open_runs = select(ATTEMPTS.c.run).where(ATTEMPTS.c.status == "running")
        query = select(RUNS).where(RUNS.c.status != "running", RUNS.c.id.in_(open_runs))
        with self._database.read() as connection:
            return [
                Lease(run=row.id, token=row.token, lease_s=row.lease_s) for row in connection.execute(query)
            ]

    def _held(self, row: Row[Any]) -> bool:
        owner = _owner(row)
        alive = owner.alive() if owner else False
        if alive is False:
            return False
        now = self._clock.monotonic()
        if alive is True:
            # One machine, one CLOCK_MONOTONIC: a stopped process loses its lease without anybody waiting.
            return now - float(row.beat_monotonic) < float(row.lease_s)
        token, beat, since = self._seen.get(row.id, (-1, -1, now))
        if (token, beat) != (row.token, row.beat):
            self._seen[row.id] = (row.token, row.beat, now)
            return True
        return now - since < float(row.lease_s)


_TOKEN = select(RUNS.c.token).where(RUNS.c.id == bindparam("this")).with_for_update()


def check_lease(connection: Connection, lease: Lease) -> None:
    """Refuse a writer whose run was taken over; call inside the write transaction.

    Raises:
        Conflict: The token is not the newest (MW4302).
    """
    # The row is locked where the database locks rows; SQLite's writer holds the whole database.
    token = connection.execute(_TOKEN, {"this": lease.run}).scalar()
    if token != lease.token:
        raise Conflict(
            f"The run '{lease.run}' was taken over by another process (token {token}, ours {lease.token}).",
            code="MW4302",
            hint="nothing to do: the other process goes on from what is finished",
        )


def _owner(row: Row[Any]) -> Owner | None:
    return Owner.parse(row.owner.split(".")[0])


def _run(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        kind=row.kind,
        status=row.status,
        reason=row.reason,
        spec=row.spec,
        result=row.result,
        token=row.token,
        created=row.created,
        updated=row.updated,
    )
