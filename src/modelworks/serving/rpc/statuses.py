"""gRPC status codes, and which one an error of the data plane gets."""

from __future__ import annotations

from enum import IntEnum

from modelworks.core.errors import (
    Cancelled,
    Conflict,
    InputError,
    LimitError,
    ModelworksError,
    NotFound,
    StorageError,
    TrustError,
)
from modelworks.serving.errors import (
    Busy,
    DeadlinePassed,
    Forbidden,
    ModelTooLarge,
    NonFiniteAnswer,
    NotReady,
    RequestTooLarge,
    RunFailed,
    Unauthenticated,
)


class Status(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


_STATUSES: tuple[tuple[type[ModelworksError], Status], ...] = (
    (InputError, Status.INVALID_ARGUMENT),
    (NotReady, Status.UNAVAILABLE),
    (Busy, Status.RESOURCE_EXHAUSTED),
    (RequestTooLarge, Status.RESOURCE_EXHAUSTED),
    (DeadlinePassed, Status.DEADLINE_EXCEEDED),
    (ModelTooLarge, Status.FAILED_PRECONDITION),
    (Cancelled, Status.CANCELLED),
    (LimitError, Status.RESOURCE_EXHAUSTED),
    (Unauthenticated, Status.UNAUTHENTICATED),
    (Forbidden, Status.PERMISSION_DENIED),
    (TrustError, Status.UNAVAILABLE),
    (NotFound, Status.NOT_FOUND),
    (Conflict, Status.ABORTED),
    (NonFiniteAnswer, Status.OUT_OF_RANGE),
    (RunFailed, Status.INVALID_ARGUMENT),
    (StorageError, Status.UNAVAILABLE),
)


def status_of(error: ModelworksError) -> Status:
    """Return the gRPC status of an error; the most specific kind decides."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return Status.INTERNAL
