"""The deployment journal: one line per act, appended, synced and hash-chained before the act takes effect."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelworks.core.clock import Clock, SystemClock
from modelworks.core.digest import canonical_json, digest_bytes
from modelworks.core.errors import Conflict, StorageError
from modelworks.serving.endpoints import Endpoint

_START = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Act:
    """One recorded change.

    Attributes:
        sequence: 1, 2, 3, ...: the order of events, whatever the clock says.
        wall: Seconds since 1970, for people.
        actor: Who asked for it.
        verb: ``deploy``, ``promote``, ``canary``, ``shadow``, ``rollback``, ``configure`` or ``remove``.
        endpoint: Name.
        state: The endpoint after the act; ``None`` when it was removed.
        detail: What was asked for.
    """

    sequence: int
    wall: float
    actor: str
    verb: str
    endpoint: str
    state: Endpoint | None
    detail: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "sequence": self.sequence,
            "wall": self.wall,
            "actor": self.actor,
            "verb": self.verb,
            "endpoint": self.endpoint,
            "state": self.state.to_json() if self.state else None,
            "detail": self.detail,
        }


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change that is asked for.

    Attributes:
        actor: Who asks.
        verb: See ``Act``.
        endpoint: Name.
        before: The state the change was derived from; it must still be current.
        state: The state after it; ``None`` removes the endpoint.
        detail: What was asked for.
    """

    actor: str
    verb: str
    endpoint: str
    before: Endpoint | None
    state: Endpoint | None
    detail: dict[str, Any] = field(default_factory=dict)


class Journal:
    """Append-only record of deployments, and the state that follows from it.

    Several processes may share one file: an act is appended under a lock after the acts of the others were read.
    Memory holds the states, not the acts that led to them.

    Attributes:
        endpoints: Name -> current state.
        count: How many acts were recorded.

    Args:
        path: The file; ``None`` keeps the record in memory.
        clock: Source of wall time.
    """

    def __init__(self, path: Path | None, clock: Clock | None = None) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.count = 0
        self._unwritten: list[Act] = []
        self._path = path
        self._clock = clock or SystemClock()
        self._offset = 0
        self._chain = _START
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            with self._locked():
                self._drop_torn_tail(path)
                self._read_new()

    def refresh(self) -> bool:
        """Take in acts of other processes; returns whether there were any."""
        if self._path is None or self._path.stat().st_size == self._offset:
            return False
        with self._locked():
            return self._read_new()

    def append(self, *changes: Change) -> list[Act]:
        """Record acts durably, all or none, and make their states current.

        Raises:
            Conflict: An endpoint is not as a change expects it: somebody else changed it first.
            StorageError: The record cannot be written; nothing changed.
        """
        with self._locked():
            self._read_new()
            for change in changes:
                if self.endpoints.get(change.endpoint) != change.before:
                    raise Conflict(
                        f"Endpoint '{change.endpoint}' was changed by somebody else just now.", code="MW4310"
                    )
            wall = self._clock.wall()
            acts = [
                Act(
                    sequence=self.count + 1 + index,
                    wall=wall,
                    actor=change.actor,
                    verb=change.verb,
                    endpoint=change.endpoint,
                    state=change.state,
                    detail=change.detail,
                )
                for index, change in enumerate(changes)
            ]
            self._write(acts)
            for act in acts:
                self._apply(act)
            return acts

    def _write(self, acts: list[Act]) -> None:
        chain = self._chain
        lines = []
        for act in acts:
            body = act.to_json()
            chain = digest_bytes(chain.encode() + canonical_json(body))
            lines.append(canonical_json({"act": body, "chain": chain}) + b"\n")
        data = b"".join(lines)
        if self._path is not None:
            try:
                with self._path.open("ab") as stream:
                    try:
                        stream.write(data)
                        stream.flush()
                        os.fsync(stream.fileno())
                    except OSError:
                        os.ftruncate(stream.fileno(), self._offset)
                        raise
            except OSError as error:
                raise StorageError(
                    f"The deployment journal cannot be written: {error.strerror}; nothing was changed.",
                    where=str(self._path),
                ) from error
        self._offset += len(data)
        self._chain = chain

    def history(self, endpoint: str = "") -> list[Act]:
        """Return the acts that were taken in, oldest first: of one endpoint, or of all; read from the file again."""
        if self._path is None:
            acts = list(self._unwritten)
        else:
            with self._path.open("rb") as stream:
                lines = stream.read(self._offset).splitlines()
            acts = [_act(json.loads(line)["act"]) for line in lines]
        return [act for act in acts if endpoint in ("", act.endpoint)]

    def _apply(self, act: Act) -> None:
        self.count += 1
        if self._path is None:
            self._unwritten.append(act)
        if act.state is None:
            self.endpoints.pop(act.endpoint, None)
        else:
            self.endpoints[act.endpoint] = act.state

    def _read_new(self) -> bool:
        if self._path is None:
            return False
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        found = False
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            act, chain = _parse(line, self._path, self.count + 1, self._chain)
            self._chain = chain
            self._offset += len(line)
            self._apply(act)
            found = True
        return found

    @staticmethod
    def _drop_torn_tail(path: Path) -> None:
        """Cut a last line that a crash left unfinished: its act was never acknowledged."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.truncate(path, whole)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._path is None:
            yield
            return
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _act(data: dict[str, Any]) -> Act:
    state = Endpoint.from_json(data["state"]) if data["state"] is not None else None
    return Act(**{**data, "state": state})


def _parse(line: bytes, path: Path, sequence: int, chain: str) -> tuple[Act, str]:
    try:
        data = json.loads(line)
        act = data["act"]
        if act["sequence"] != sequence or data["chain"] != digest_bytes(chain.encode() + canonical_json(act)):
            raise ValueError("the chain is broken")
        return _act(act), str(data["chain"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"The deployment journal is damaged at act {sequence}: {error}."[:200],
            code="MW4011",
            where=str(path),
            hint="restore the file from a backup, or move it away to start with no endpoints",
        ) from None
