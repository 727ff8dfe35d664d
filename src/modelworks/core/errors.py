"""The exception tree of Modelworks: every error a user can meet has a code, a cause and a next command.

ModelworksError
├── InputError          MW1xxx  what the user handed over cannot be used
│   ├── DataError       MW11xx  a file, table or column
│   ├── TaskError       MW12xx  a task, an order, a gate
│   └── UsageError      MW13xx  a command, an option, a name
├── LimitError          MW2xxx  a stated limit was reached (size, time, memory, budget)
│   ├── BudgetStopped   MW21xx  the budget ended the work; nothing is lost
│   └── Cancelled       MW22xx  the user or a deadline ended the work
├── TrustError          MW3xxx  bytes that may not be trusted (digest, signature, package, graph)
├── StorageError        MW4xxx  the store, the database, the disk
│   ├── DiskFull        MW41xx
│   ├── NotFound        MW42xx
│   └── Conflict        MW43xx  somebody else was first; retry
├── ExecutionError      MW5xxx  a job failed (crash, out of memory, timeout)
│   ├── OutOfMemory     MW51xx
│   ├── JobTimeout      MW52xx
│   └── JobCrashed      MW53xx
└── MissingExtra        MW6xxx  an optional part is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class ModelworksError(Exception):
    """Root of the tree.

    Args:
        message: What happened and where, in one or two sentences, with names and numbers.
        code: Stable code such as ``MW1203``; defaults to the class's own.
        hint: The exact next command or action.
        where: File, line, column or step the error belongs to.
    """

    code: ClassVar[str] = "MW0000"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = code or self.code
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        hint = f"\n  next: {self.hint}" if self.hint else ""
        return f"{self.error_code}: {self.message}{place}{hint}"

    def to_json(self) -> dict[str, Any]:
        """Return the error as plain data: ``code, kind, message, where, hint``."""
        return {
            "code": self.error_code,
            "kind": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelworksError:
        """Rebuild an error that crossed a process boundary as JSON."""
        kind = _KINDS.get(str(data.get("kind")), ModelworksError)
        return kind(
            str(data.get("message", "")),
            code=data.get("code"),
            hint=data.get("hint"),
            where=data.get("where"),
        )


class InputError(ModelworksError):
    """What the user handed over cannot be used."""

    code = "MW1000"


class DataError(InputError):
    """A file, table or column cannot be used."""

    code = "MW1100"


class TaskError(InputError):
    """A task, an order or a gate cannot be used."""

    code = "MW1200"


class UsageError(InputError):
    """A command, an option or a name is wrong."""

    code = "MW1300"


class LimitError(ModelworksError):
    """A stated limit was reached."""

    code = "MW2000"


class BudgetStopped(LimitError):
    """The budget ended the work; what was finished is kept."""

    code = "MW2100"


class Cancelled(LimitError):
    """The user or a deadline ended the work."""

    code = "MW2200"


class TrustError(ModelworksError):
    """Bytes that may not be trusted: digest, signature, package or graph."""

    code = "MW3000"


class StorageError(ModelworksError):
    """The store, the database or the disk failed."""

    code = "MW4000"


class DiskFull(StorageError):
    """No space left for a write; nothing half-written is visible."""

    code = "MW4100"


class NotFound(StorageError):
    """A named thing does not exist."""

    code = "MW4200"


class Conflict(StorageError):
    """Somebody else was first; retrying is safe."""

    code = "MW4300"


class ExecutionError(ModelworksError):
    """A job failed."""

    code = "MW5000"


class OutOfMemory(ExecutionError):
    """A job went over its memory limit and was ended alone."""

    code = "MW5100"


class JobTimeout(ExecutionError):
    """A job went over its time limit and was ended alone."""

    code = "MW5200"


class JobCrashed(ExecutionError):
    """A job's process died."""

    code = "MW5300"


class MissingExtra(ModelworksError):
    """An optional part is not installed."""

    code = "MW6000"

    @classmethod
    def named(cls, what: str, extra: str) -> MissingExtra:
        """Build the error for ``what`` which ``pip install 'modelworks[extra]'`` brings."""
        return cls(f"{what} needs the extra '{extra}'.", hint=f"pip install 'modelworks[{extra}]'")


def _tree(root: type[ModelworksError]) -> dict[str, type[ModelworksError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


_KINDS = _tree(ModelworksError)


def close_matches(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x' or 'y'?"`` for a misspelt name, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if not found:
        return ""
    return " Did you mean " + " or ".join(f"'{match}'" for match in found) + "?"
