"""Open Inference Protocol v2 over HTTP: health, metadata, inference and the model repository extension."""

from __future__ import annotations

import asyncio
import importlib.metadata
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from modelworks.core.signature import Tensor
from modelworks.serving.access import Principal
from modelworks.serving.dataplane import DataPlane
from modelworks.serving.errors import BadRequest, NotReady, UnsupportedMedia
from modelworks.serving.model import Answer
from modelworks.serving.repository import Repository, not_ready_text
from modelworks.serving.rest import coding
from modelworks.serving.rest.application import Application, Call, Route
from modelworks.serving.rest.codec import Asked, key_of, priority_of, timeout_of
from modelworks.serving.rest.doors import Door
from modelworks.serving.rest.message import Response
from modelworks.serving.routing import Target
from modelworks.serving.tensors import UNREADABLE

_ENCODE = msgspec.json.Encoder().encode
_OCTETS = b"application/octet-stream"
_MEDIA = frozenset({"application/json", "application/octet-stream", ""})
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_repository(unload_dependents)"]


@dataclass(slots=True)
class BodyForm:
    """What the headers say of a body; worked out once per distinct head.

    Attributes:
        encoding: Content coding; empty for none.
        json_length: Value of ``Inference-Header-Content-Length``.
        key: Value of ``X-Request-Key``.
        traceparent: Value of ``Traceparent``.
        door: Where requests with this head go, while endpoints are as in ``generation`` and ``principal`` asks.
    """

    encoding: str
    json_length: str | None
    key: str | None
    traceparent: str | None
    door: Door | None = None
    generation: int = -1
    principal: Principal | None = None

    @staticmethod
    def of(headers: dict[str, str]) -> BodyForm:
        """Read the headers.

        Raises:
            UnsupportedMedia: The body is of a type that is not taken.
        """
        if headers.get("content-type", "").partition(";")[0].strip().lower() not in _MEDIA:
            raise UnsupportedMedia(
                "An inference request has 'Content-Type: application/json' or 'application/octet-stream'."
            )
        key = headers.get("x-request-key")
        return BodyForm(
            headers.get("content-encoding", ""),
            headers.get("inference-header-content-length"),
            key[:200] if key else None,
            headers.get("traceparent"),
        )


class ProtocolRoutes:
    """The handlers of ``/v2``.

    Args:
        application: Where the routes are added and errors are answered.
        plane: Where requests are answered.
        repository: Index, load and unload.
        body_bytes: Longest body, on the wire and decompressed.
    """

    def __init__(
        self, application: Application, plane: DataPlane, repository: Repository, body_bytes: int
    ) -> None:
        self._application = application
        self._plane = plane
        self._repository = repository
        self._body_bytes = body_bytes
        self._doors: dict[Target, Door] = {}
        self._generation = -1
        infer = {"handler": self.infer, "body_bytes": body_bytes, "policy": "infer"}
        model = "/v2/models/{model}"
        version = model + "/versions/{version}"
        application.add(
            Route(method="GET", pattern="/v2/health/live", policy="open", handler=self.live, summary="Is it alive"),
            Route(method="GET", pattern="/v2/health/ready", policy="open", handler=self.ready, summary="Is it ready"),
            Route(method="GET", pattern="/v2", policy="any", handler=self.server, summary="Server metadata"),
            Route(method="GET", pattern=model, policy="infer", handler=self.metadata, summary="Model metadata"),
            Route(method="GET", pattern=version, policy="infer", handler=self.metadata, summary="Version metadata"),
            Route(method="GET", pattern=model + "/ready", policy="infer", handler=self.model_ready, summary="Ready"),
            Route(method="GET", pattern=version + "/ready", policy="infer", handler=self.model_ready, summary="Ready"),
            Route(method="POST", pattern=model + "/infer", summary="Inference", **infer),  # type: ignore[arg-type]
            Route(method="POST", pattern=version + "/infer", summary="Inference", **infer),  # type: ignore[arg-type]
            Route(
                method="POST", pattern="/v2/repository/index", policy="infer", handler=self.index, summary="Index"
            ),
            Route(
                method="POST", pattern="/v2/repository/models/{model}/load", policy="admin", handler=self.load,
                summary="Load a model",
            ),
            Route(
                method="POST", pattern="/v2/repository/models/{model}/unload", policy="admin", handler=self.unload,
                summary="Unload a model",
            ),
        )  # fmt: skip

    # -- health and metadata -----------------------------------------------------------------------------------

    def live(self, call: Call) -> Response:
        """The loop turns, so the server is alive."""
        return Response(200, b'{"live":true}')

    def ready(self, call: Call) -> Response:
        """Say whether new requests are taken."""
        if self._plane.draining:
            raise NotReady("The server is shutting down.")
        return Response(200, b'{"ready":true}')

    def server(self, call: Call) -> Response:
        """Name, version and extensions."""
        return Response(200, _ENCODE(server_metadata()))

    def metadata(self, call: Call) -> Response:
        """Inputs and outputs of a model; an input made of a table's columns names them in their order."""
        target = self._target(call)
        found = model_metadata(self._plane, target)
        for shown, tensor in zip(found["inputs"], target.signature.inputs, strict=True):
            if tensor.columns:
                shown["parameters"] = {"columns": list(tensor.columns)}
        return Response(200, _ENCODE(found))

    def model_ready(self, call: Call) -> Response:
        """Say whether a request for the model would be taken."""
        target = self._target(call)
        if not self._plane.ready(target.endpoint, target.number):
            text = not_ready_text(target.endpoint, target.resident, draining=self._plane.draining)
            raise NotReady(text, retry_after_s=5.0)
        return Response(200, _ENCODE({"name": target.endpoint, "ready": True}))

    def _target(self, call: Call, key: str | None = None) -> Target:
        name = call.arguments["model"]
        call.principal.require(name, self._plane.routes)
        return self._plane.resolve(name, call.arguments.get("version", ""), key)

    # -- inference ---------------------------------------------------------------------------------------------

    def _door(self, call: Call, form: BodyForm) -> Door:
        """Return where a request goes; the same head goes the same way until an endpoint changes."""
        generation = self._plane.generation
        door = form.door
        if door is not None and form.generation == generation and form.principal is call.principal:
            return door
        target = self._target(call, form.key)
        door = self._door_of(target)
        # A share of the traffic is drawn anew for every request.
        if call.arguments.get("version") or self._plane.routes[target.endpoint].canary is None:
            form.door, form.generation, form.principal = door, generation, call.principal
        return door

    def _door_of(self, target: Target) -> Door:
        if self._generation != self._plane.generation:
            self._doors.clear()
            self._generation = self._plane.generation
        door = self._doors.get(target)
        if door is None:
            door = self._doors[target] = Door(target)
        return door

    def infer(self, call: Call) -> None:
        """Decode, submit, and answer when the plane does."""
        head = call.exchange.head
        form = head.memo
        if form is None:
            form = head.memo = BodyForm.of(head.headers)
        body = call.exchange.body
        if form.encoding:
            if len(body) > coding.THREAD_FROM:
                self._aside(call, body, form)
                return
            body = coding.decompress(body, form.encoding, self._body_bytes)
        self._decoded(call, body, form)

    def _aside(self, call: Call, body: bytes, form: BodyForm) -> None:
        """Decompress a large body in a thread first."""
        loop = self._plane.loop
        future = loop.run_in_executor(None, coding.decompress, body, form.encoding, self._body_bytes)

        def go_on(done: asyncio.Future[bytes]) -> None:
            if call.exchange.gone or done.cancelled():
                return
            try:
                self._decoded(call, done.result(), form)
            except Exception as error:
                self._application.fail(call, error)

        asyncio.ensure_future(future).add_done_callback(go_on)

    def _decoded(self, call: Call, body: bytes, form: BodyForm) -> None:
        door = self._door(call, form)
        plane = self._plane
        plane.residency.check(door.target.resident)
        asked = door.read(body, form.json_length)
        key = form.key
        parameters = asked.parameters
        timeout_s = priority = None
        if parameters:
            timeout_s, priority = timeout_of(parameters), priority_of(parameters)
            sent_key = key_of(parameters)
            if sent_key is not None and sent_key != key:
                key = sent_key
                door = self._same_signature(call, door, key)
            if parameters.get("sequence_id"):
                raise BadRequest("Sequences are not served.", code="MW1415")
        exchange = call.exchange

        def done(answer: Answer | None, error: Exception | None) -> None:
            if exchange.gone:
                return
            if answer is None:
                self._application.fail(call, error or RuntimeError("no answer"))
                return
            try:
                self._answer(call, door, asked, answer)
            except Exception as failure:
                self._application.fail(call, failure)

        work = plane.submit(
            door.target,
            asked.feeds,
            done,
            outputs=asked.outputs,
            key=key,
            timeout_s=timeout_s,
            priority=priority,
            traceparent=form.traceparent,
            finite=asked.finite,
        )
        exchange.on_gone = partial(plane.forget, work)

    def _same_signature(self, call: Call, door: Door, key: str) -> Door:
        """Choose again with the key of the body; a version with another signature cannot take this body."""
        chosen = self._target(call, key)
        return self._door_of(chosen) if chosen.signature == door.target.signature else door

    def _answer(self, call: Call, door: Door, asked: Asked, answer: Answer) -> None:
        body, json_length = door.write(asked, answer)
        response = Response(200, body)
        if json_length is not None:
            response.media = _OCTETS
            response.headers = ((b"inference-header-content-length", b"%d" % json_length),)
        if len(body) >= coding.COMPRESS_FROM:
            self._application.send(call, response)
        else:
            self._application.reply(call, response)

    # -- repository --------------------------------------------------------------------------------------------

    def index(self, call: Call) -> Response:
        """Every version of every model the caller may see."""
        wanted = _object(call.body)
        entries = self._repository.index(ready_only=wanted.get("ready") is True)
        return Response(200, _ENCODE([entry for entry in entries if call.principal.sees(entry["name"])]))

    async def load(self, call: Call) -> Response:
        """Load the model now (it would load with its first request otherwise); lifts a quarantine or an unload."""
        parameters = _object(call.body).get("parameters")
        call.principal.require(call.arguments["model"], self._plane.routes)
        await self._repository.load(
            call.arguments["model"], parameters if isinstance(parameters, dict) else ()
        )
        return Response(200, b"{}")

    async def unload(self, call: Call) -> Response:
        """Drop the model from memory; it takes no requests until it is loaded again."""
        _object(call.body)
        call.principal.require(call.arguments["model"], self._plane.routes)
        self._repository.unload(call.arguments["model"])
        return Response(200, b"{}")


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE:
        raise BadRequest("The body is not a JSON object.", code="MW1402") from None


def server_metadata() -> dict[str, Any]:
    """Return the server's metadata."""
    try:
        version = importlib.metadata.version("modelworks")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    return {"name": "modelworks", "version": version, "extensions": EXTENSIONS}


def model_metadata(plane: DataPlane, target: Target) -> dict[str, Any]:
    """Return a model's metadata."""
    route = plane.routes.get(target.endpoint)
    return {
        "name": target.endpoint,
        "versions": list(route.targets) if route else [target.number],
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor(tensor) for tensor in target.signature.inputs],
        "outputs": [_tensor(tensor) for tensor in target.signature.outputs],
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
