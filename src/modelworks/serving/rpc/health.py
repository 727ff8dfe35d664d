"""The health service of gRPC (``grpc.health.v1``): what probes and load balancers ask, without a token."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from modelworks.serving.errors import Busy
from modelworks.serving.rpc.descriptors import Messages, messages_of
from modelworks.serving.rpc.statuses import Status

if TYPE_CHECKING:
    from modelworks.serving.access import Principal
    from modelworks.serving.rpc.service import RpcCall

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
MOST_WATCHERS = 256
_MESSAGES = """
HealthCheckRequest: string service
HealthCheckResponse: #HealthCheckResponse.ServingStatus status
#HealthCheckResponse.ServingStatus: UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN
HealthListRequest
HealthListResponse: %HealthCheckResponse statuses
"""
_METHODS = """
Check HealthCheckRequest HealthCheckResponse
List HealthListRequest HealthListResponse
Watch HealthCheckRequest ~HealthCheckResponse
"""


@functools.cache
def health_messages() -> Messages:
    """Build the message classes once."""
    return messages_of("grpc/health/v1/health.proto", "grpc.health.v1", _MESSAGES, {"Health": _METHODS})


class Health:
    """Answers ``Check``, ``List`` and ``Watch``; models are not named here: the service is open.

    Args:
        parse: Reads a message as one of a class.
        services: Full names of the services of the port.
        draining: Says whether the server is about to end.
    """

    def __init__(
        self,
        parse: Callable[[bytes, Any], Any],
        services: Collection[str],
        draining: Callable[[], bool],
    ) -> None:
        self._parse = parse
        self._services = ("", *services)
        self._draining = draining
        self._messages = health_messages()
        self._watchers: set[RpcCall] = set()

    @property
    def methods(self) -> dict[str, Callable[[RpcCall, Principal], None]]:
        """Path -> handler."""
        handlers = {"Check": self._check, "List": self._list, "Watch": self._watch}
        return {f"/{SERVICE}/{name}": handler for name, handler in handlers.items()}

    def _service(self, call: RpcCall) -> str:
        return str(self._parse(call.message, self._messages.HealthCheckRequest).service)

    def _status(self) -> int:
        return NOT_SERVING if self._draining() else SERVING

    def _message(self, status: int) -> bytes:
        return bytes(self._messages.HealthCheckResponse(status=status).SerializeToString())

    def _check(self, call: RpcCall, principal: Principal) -> None:
        if self._service(call) not in self._services:
            call.fail(Status.NOT_FOUND, "There is no such service.")
        else:
            call.reply(self._message(self._status()))

    def _list(self, call: RpcCall, principal: Principal) -> None:
        self._parse(call.message, self._messages.HealthListRequest)
        response = self._messages.HealthListResponse()
        for name in self._services:
            response.statuses[name].status = self._status()
        call.reply(response.SerializeToString())

    def _watch(self, call: RpcCall, principal: Principal) -> None:
        """Tell the status now and when it changes, until the client leaves."""
        known = self._service(call) in self._services
        if len(self._watchers) >= MOST_WATCHERS:
            raise Busy(f"{MOST_WATCHERS} clients watch already.")
        self._watchers.add(call)
        call.on_gone = lambda: self._watchers.discard(call)
        call.send(self._message(self._status() if known else SERVICE_UNKNOWN))

    def close(self) -> None:
        """Tell everybody who watches that the server ends."""
        for call in list(self._watchers):
            call.send(self._message(NOT_SERVING))
            call.fail(Status.UNAVAILABLE, "MW2312: The server is shutting down.")
        self._watchers.clear()
