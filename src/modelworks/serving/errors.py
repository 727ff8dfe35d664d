"""Refusals of the serving plane: each carries a code and a kind; the doors map kinds to HTTP and gRPC statuses."""

from __future__ import annotations

from modelworks.core.errors import (
    ExecutionError,
    InputError,
    LimitError,
    NotFound,
    TrustError,
    UsageError,
)


class BadRequest(InputError):
    """A request that cannot be understood or does not fit the model's signature."""

    code = "MW1400"


class UnsupportedMedia(InputError):
    """A body in a format or encoding that is not accepted."""

    code = "MW1401"


class UnknownModel(NotFound):
    """No endpoint, version or route of that name (or none that the caller may see)."""

    code = "MW4210"


class RequestTooLarge(LimitError):
    """A body, head, row count or nesting depth over the stated limit."""

    code = "MW2310"


class Busy(LimitError):
    """The request was not taken because too much is waiting; retrying later is safe.

    Args:
        message: What is full, with numbers.
        retry_after_s: Forecast seconds until it is worth retrying.
    """

    code = "MW2311"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class NotReady(Busy):
    """The model or the server is starting, loading or draining."""

    code = "MW2312"


class DeadlinePassed(LimitError):
    """The request's deadline passed before there was an answer."""

    code = "MW2313"


class ModelTooLarge(LimitError):
    """A model that can never fit under the memory cap."""

    code = "MW2314"


class Unauthenticated(TrustError):
    """No token, or one that is not known."""

    code = "MW3410"


class Forbidden(TrustError):
    """A known token that may not do this, or a Host or Origin that is not allowed."""

    code = "MW3411"


class Quarantined(TrustError):
    """A package that crashed, hung or answered differently; it is not served until it is proven again."""

    code = "MW3412"


class NonFiniteAnswer(ExecutionError):
    """The graph gave NaN or an infinity for this input."""

    code = "MW5410"


class RunFailed(ExecutionError):
    """The runtime failed on this input."""

    code = "MW5411"


class UnsafeStart(UsageError):
    """A bind that would expose the server without authentication and TLS."""

    code = "MW1310"
