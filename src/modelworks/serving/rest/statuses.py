"""Which HTTP status an error of the data plane gets, and its body in the protocol's shape."""

from __future__ import annotations

import math

import msgspec

from modelworks.core.errors import (
    Cancelled,
    Conflict,
    ExecutionError,
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
    Quarantined,
    RequestTooLarge,
    RunFailed,
    Unauthenticated,
    UnsupportedMedia,
)
from modelworks.serving.rest.message import Response

_STATUSES: tuple[tuple[type[ModelworksError], int], ...] = (
    (UnsupportedMedia, 415),
    (InputError, 400),
    (NotReady, 503),
    (Busy, 429),
    (RequestTooLarge, 413),
    (DeadlinePassed, 504),
    (ModelTooLarge, 507),
    (Cancelled, 503),
    (LimitError, 503),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (Quarantined, 503),
    (TrustError, 503),
    (NotFound, 404),
    (Conflict, 409),
    (NonFiniteAnswer, 422),
    (RunFailed, 422),
    (StorageError, 503),
    (ExecutionError, 500),
)


BUSY, UNREAD = "MW2311", "MW1410"


def status_of(error: ModelworksError) -> int:
    """Return the HTTP status of an error; the most specific kind decides."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return 500


def error_text(error: ModelworksError) -> str:
    """Return code and message of an error; never a place on this machine."""
    return f"{error.error_code}: {error.message}"


def error_response(error: Exception, request_id: str) -> Response:
    """Return the answer to a failed request: ``{"error": "MW1105: ..."}``, the Open Inference Protocol's shape."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, ModelworksError):
        status, text = status_of(error), error_text(error)
        if isinstance(error, Busy):
            headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
        if status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="modelworks"'))
    else:
        status, text = 500, "MW5000: The server failed on this request."
    response = Response(status, msgspec.json.encode({"error": text}), headers=tuple(headers))
    response.id = request_id.encode("ascii")
    return response


def bare_error(status: int, text: str) -> Response:
    """Return an error answer to something that is no request of ours."""
    return Response(status, msgspec.json.encode({"error": text}))


def unread(status: int, reason: str) -> Response:
    """Return the answer to bytes that are no request, or that are not read because of a limit."""
    if status in {429, 503}:
        body = msgspec.json.encode({"error": f"{BUSY}: {reason}"})
        return Response(status, body, headers=((b"retry-after", b"1"),))
    return bare_error(status, f"{UNREAD}: {reason}")
