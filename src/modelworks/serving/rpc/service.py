"""The methods of the gRPC door, independent of what carries the calls."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from modelworks.core.errors import ModelworksError
from modelworks.serving.access import ANYBODY, Access, Principal
from modelworks.serving.dataplane import DataPlane
from modelworks.serving.errors import BadRequest, Forbidden
from modelworks.serving.model import Answer
from modelworks.serving.repository import Repository
from modelworks.serving.rest.codec import key_of, priority_of, timeout_of
from modelworks.serving.rest.protocol import model_metadata, server_metadata
from modelworks.serving.routing import Target
from modelworks.serving.rpc.codec import decode, encode, parameters_of
from modelworks.serving.rpc.health import Health, health_messages
from modelworks.serving.rpc.messages import METHODS, SERVICE, messages
from modelworks.serving.rpc.reflection import METHOD, Reflection, reflection_messages
from modelworks.serving.rpc.statuses import Status, status_of
from modelworks.serving.rpc.streams import InferStream, MessageStream, reflection_stream

if TYPE_CHECKING:
    from modelworks.serving.rpc.calls import Http2Call

_log = logging.getLogger("modelworks.serving")
_REFLECTIONS = ("v1", "v1alpha")


class RpcCall(Protocol):
    """One unary call and the way to answer it.

    Attributes:
        method: ``/package.Service/Method``.
        message: Bytes of the request message.
        metadata: Lower-case name -> text.
        timeout_s: Seconds the client waits; ``None`` if it does not say.
        gone: Whether the client cancelled.
        on_gone: Called when the client cancels before the answer.
    """

    method: str
    message: bytes
    metadata: Mapping[str, str]
    timeout_s: float | None
    gone: bool
    on_gone: Callable[[], object] | None

    def reply(self, message: bytes) -> None:
        """Send the answer."""
        ...

    def send(self, message: bytes) -> None:
        """Send one of several answers; ``fail`` ends them."""
        ...

    def fail(self, status: Status, text: str) -> None:
        """Send an error."""
        ...


class RpcService:
    """Answers calls.

    Attributes:
        health: The health service.
        streams: Path of a method that takes several messages -> its policy, and who takes them of a call.

    Args:
        access: Tokens and roles.
        plane: Where requests are answered.
        repository: Index, load and unload.
    """

    def __init__(self, access: Access, plane: DataPlane, repository: Repository) -> None:
        self._access = access
        self._plane = plane
        self._repository = repository
        self._messages = messages()
        self.errors: Counter[str] = Counter()
        """Error code -> calls that ended in it, those that no model was asked for included."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, tuple[str, Callable[[RpcCall, Principal], None]]] = {
            f"/{SERVICE}/{name}": (policy, handler)
            for name, policy, handler in (
                ("ServerLive", "open", self._server_live),
                ("ServerReady", "open", self._server_ready),
                ("ModelReady", "infer", self._model_ready),
                ("ServerMetadata", "any", self._server_metadata),
                ("ModelMetadata", "infer", self._model_metadata),
                ("ModelInfer", "infer", self._infer),
                ("RepositoryIndex", "infer", self._index),
                ("RepositoryModelLoad", "admin", self._load),
                ("RepositoryModelUnload", "admin", self._unload),
            )
        }
        assert len(self._handlers) == len(METHODS)
        described = [self._messages, health_messages(), *map(reflection_messages, _REFLECTIONS)]
        services = [name for item in described for name in item.services]
        self.health = Health(self.parse, services, lambda: plane.draining)
        for path, answer in self.health.methods.items():
            self._handlers[path] = ("open", answer)
        reflection = Reflection(described)
        self.streams: dict[str, tuple[str, Callable[[Http2Call], MessageStream]]] = {
            f"/{SERVICE}/ModelStreamInfer": ("infer", lambda call: InferStream(self, call).intake)
        }
        for item in described[2:]:
            self.streams[f"/{item.services[0]}/{METHOD}"] = (
                "any",
                lambda call: reflection_stream(reflection, self, call),
            )
        self.methods = {
            name: policy for name, (policy, _) in (*self._handlers.items(), *self.streams.items())
        }
        """Every method with its policy."""

    def handle(self, call: RpcCall) -> None:
        """Answer a call, now or later."""
        try:
            found = self._handlers.get(call.method)
            if found is None:
                self._access.authenticate(call.metadata.get("authorization"))
                call.fail(Status.UNIMPLEMENTED, "There is no such method.")
                return
            policy, handler = found
            principal = ANYBODY
            if policy != "open":
                principal = self.admit(call.metadata, policy)
            handler(call, principal)
        except Exception as error:
            self.fail(call, error)

    def check(self, metadata: Mapping[str, str], policy: str) -> Principal:
        """Return the holder of the call's token if the method is open to it.

        Raises:
            Unauthenticated: There is no known token.
            Forbidden: The role is not enough.
        """
        principal = self._access.authenticate(metadata.get("authorization"))
        if not principal.may(policy):
            raise Forbidden(f"A token of the role '{principal.role}' may not do this.")
        return principal

    def admit(self, metadata: Mapping[str, str], policy: str) -> Principal:
        """Do as ``check``, and count a request for the token's rate.

        Raises:
            Busy: The token asks too often.
        """
        principal = self.check(metadata, policy)
        if principal.bucket is not None:
            principal.bucket.take()
        return principal

    def fail(self, call: RpcCall, error: Exception) -> None:
        """End a call with its error, and count it; the unexpected is logged with its trace and told without it."""
        if isinstance(error, ModelworksError):
            self.errors[error.error_code] += 1
            call.fail(status_of(error), f"{error.error_code}: {error.message}")
        else:
            self.errors["MW5000"] += 1
            _log.error("call of %s failed", call.method, exc_info=error)
            call.fail(Status.INTERNAL, "MW5000: The server failed on this request.")

    def parse(self, message: bytes, kind: Any) -> Any:
        """Read a message.

        Raises:
            BadRequest: It is not one of this kind.
        """
        request = kind()
        try:
            request.ParseFromString(message)
        except Exception:
            raise BadRequest(f"The message is not a {kind.DESCRIPTOR.name}.", code="MW1402") from None
        return request

    def _target(self, principal: Principal, name: str, version: str, key: str | None = None) -> Target:
        principal.require(name, self._plane.routes)
        return self._plane.resolve(name, version, key)

    # -- methods -----------------------------------------------------------------------------------------------

    def _server_live(self, call: RpcCall, principal: Principal) -> None:
        call.reply(self._messages.ServerLiveResponse(live=True).SerializeToString())

    def _server_ready(self, call: RpcCall, principal: Principal) -> None:
        call.reply(self._messages.ServerReadyResponse(ready=not self._plane.draining).SerializeToString())

    def _model_ready(self, call: RpcCall, principal: Principal) -> None:
        request = self.parse(call.message, self._messages.ModelReadyRequest)
        target = self._target(principal, request.name, request.version)
        ready = self._plane.ready(target.endpoint, target.number)
        call.reply(self._messages.ModelReadyResponse(ready=ready).SerializeToString())

    def _server_metadata(self, call: RpcCall, principal: Principal) -> None:
        call.reply(self._messages.ServerMetadataResponse(**server_metadata()).SerializeToString())

    def _model_metadata(self, call: RpcCall, principal: Principal) -> None:
        request = self.parse(call.message, self._messages.ModelMetadataRequest)
        data = model_metadata(self._plane, self._target(principal, request.name, request.version))
        call.reply(self._messages.ModelMetadataResponse(**data).SerializeToString())

    def _infer(self, call: RpcCall, principal: Principal) -> None:
        request = self.parse(call.message, self._messages.ModelInferRequest)

        def done(response: Any, error: Exception | None) -> None:
            if error is not None:
                self.fail(call, error)
            else:
                call.reply(response.SerializeToString())

        call.on_gone = self.infer(request, principal, call.timeout_s, done, call.metadata.get("traceparent"))

    def infer(
        self,
        request: Any,
        principal: Principal,
        timeout_s: float | None,
        done: Callable[[Any, Exception | None], None],
        traceparent: str | None = None,
    ) -> Callable[[], object]:
        """Submit a ``ModelInferRequest``; ``done`` gets the response or the error. Returns how to forget it.

        Raises:
            ModelworksError: The request cannot be admitted.
        """
        parameters = parameters_of(request.parameters)
        key = key_of(parameters)
        target = self._target(principal, request.model_name, request.model_version, key)
        if parameters.get("sequence_id"):
            raise BadRequest("Sequences are not served.", code="MW1415")
        self._plane.residency.check(target.resident)
        asked = timeout_of(parameters)
        if timeout_s is not None:
            asked = timeout_s if asked is None else min(asked, timeout_s)
        feeds, outputs = decode(request, target.signature)
        response_class = self._messages.ModelInferResponse

        def finish(answer: Answer | None, error: Exception | None) -> None:
            if answer is None:
                done(None, error or RuntimeError("no answer"))
                return
            try:
                response = encode(response_class, target, request.id, outputs, answer)
            except Exception as failure:
                done(None, failure)
            else:
                done(response, None)

        work = self._plane.submit(
            target,
            feeds,
            finish,
            outputs=outputs,
            key=key,
            timeout_s=asked,
            priority=priority_of(parameters),
            traceparent=traceparent,
        )
        return lambda: self._plane.forget(work)

    def _index(self, call: RpcCall, principal: Principal) -> None:
        request = self.parse(call.message, self._messages.RepositoryIndexRequest)
        entries = [
            entry
            for entry in self._repository.index(ready_only=request.ready)
            if principal.sees(entry["name"])
        ]
        call.reply(self._messages.RepositoryIndexResponse(models=entries).SerializeToString())

    def _load(self, call: RpcCall, principal: Principal) -> None:
        request = self.parse(call.message, self._messages.RepositoryModelLoadRequest)
        principal.require(request.model_name, self._plane.routes)

        async def load() -> None:
            try:
                await self._repository.load(request.model_name, list(request.parameters))
            except Exception as error:
                self.fail(call, error)
            else:
                call.reply(self._messages.RepositoryModelLoadResponse().SerializeToString())

        task = asyncio.ensure_future(load())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unload(self, call: RpcCall, principal: Principal) -> None:
        request = self.parse(call.message, self._messages.RepositoryModelUnloadRequest)
        principal.require(request.model_name, self._plane.routes)
        self._repository.unload(request.model_name)
        call.reply(self._messages.RepositoryModelUnloadResponse().SerializeToString())
