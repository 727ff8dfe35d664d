"""The friendly side of the HTTP door: rows in, words out; what is served; outcomes by key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from modelworks.core.signature import Signature
from modelworks.serving.dataplane import DataPlane
from modelworks.serving.errors import BadRequest, UnsupportedMedia
from modelworks.serving.explaining import Explainer
from modelworks.serving.images import ImageDecoder
from modelworks.serving.model import Answer
from modelworks.serving.outcomes import Outcomes
from modelworks.serving.rest import coding
from modelworks.serving.rest.application import Application, Call, Route
from modelworks.serving.rest.codec import key_of
from modelworks.serving.rest.combined import CombinedRoutes
from modelworks.serving.rest.message import Response
from modelworks.serving.routing import Target
from modelworks.serving.rows import RowReader, predictions
from modelworks.serving.status import model_card
from modelworks.serving.tensors import UNREADABLE, Array

_ENCODE = msgspec.json.Encoder().encode
_READING = 4


class PredictBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``predict``."""

    rows: msgspec.Raw
    version: str = ""
    key: str | None = None
    id: str = ""
    explain: bool = False
    timeout_ms: float | None = None


class OutcomeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``outcomes``: what really happened to the subject of an earlier request."""

    key: str
    value: Any
    row: int = 0
    kind: str = "outcome"


_PREDICT = msgspec.json.Decoder(PredictBody)


class FriendlyRoutes:
    """The handlers of ``/v1/models``.

    Args:
        application: Where the routes are added and errors are answered.
        plane: Where requests are answered.
        outcomes: Where outcomes go.
        body_bytes: Longest body.
    """

    def __init__(
        self, application: Application, plane: DataPlane, outcomes: Outcomes, body_bytes: int
    ) -> None:
        self._application = application
        self._plane = plane
        self._outcomes = outcomes
        self._body_bytes = body_bytes
        self._explainer = Explainer(plane.residency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers: dict[str, RowReader] = {}
        self._images = ImageDecoder()
        # Threads of their own: images that wait for their decoder keep no act, such as a rollback, waiting.
        self._aside = ThreadPoolExecutor(_READING, thread_name_prefix="serving-images")
        CombinedRoutes(application, plane, self.reader, self._aside, body_bytes)
        model = "/v1/models/{model}"
        application.add(
            Route(method="GET", pattern="/v1/models", policy="infer", handler=self.models, summary="What is served"),
            Route(method="GET", pattern=model, policy="infer", handler=self.model, summary="One model"),
            Route(
                method="POST", pattern=model + "/predict", policy="infer", handler=self.predict,
                body_bytes=body_bytes, summary="Predict rows",
            ),
            Route(
                method="POST", pattern=model + "/outcomes", policy="infer", handler=self.outcome,
                summary="Post what really happened",
            ),
        )  # fmt: skip

    def reader(self, digest: str, signature: Signature) -> RowReader:
        """Return the compiled reader of a package's rows."""
        found = self._readers.get(digest)
        if found is None:
            found = self._readers[digest] = RowReader(signature, self._images, rows=self._plane.limits.rows)
        return found

    def models(self, call: Call) -> Response:
        """Every model the caller may see."""
        cards = [
            model_card(route, short=True)
            for name, route in sorted(self._plane.routes.items())
            if call.principal.sees(name)
        ]
        return Response(200, _ENCODE({"models": cards}))

    def model(self, call: Call) -> Response:
        """One model: versions, columns, classes."""
        name = call.arguments["model"]
        call.principal.require(name, self._plane.routes)
        self._plane.resolve(name)
        return Response(200, _ENCODE(model_card(self._plane.routes[name], short=False)))

    def predict(self, call: Call) -> None:
        """Answer rows."""
        name = call.arguments["model"]
        call.principal.require(name, self._plane.routes)
        self._plane.resolve(name)
        headers = call.head.headers
        if headers.get("content-type", "").partition(";")[0].strip().lower() not in {"application/json", ""}:
            raise UnsupportedMedia("Rows are sent with 'Content-Type: application/json'.")
        encoding = headers.get("content-encoding", "")
        if encoding and len(call.body) > coding.THREAD_FROM:
            self._later(call, self._decompress_aside(call, encoding))
        else:
            self._predict(call, coding.decompress(call.body, encoding, self._body_bytes))

    async def _decompress_aside(self, call: Call, encoding: str) -> None:
        try:
            self._predict(
                call, await asyncio.to_thread(coding.decompress, call.body, encoding, self._body_bytes)
            )
        except Exception as error:
            self._application.fail(call, error)

    def _predict(self, call: Call, body: bytes) -> None:
        name = call.arguments["model"]
        try:
            asked = _PREDICT.decode(body)
        except UNREADABLE as error:
            raise BadRequest(
                f'The body is not {{"rows": [{{"column": value, ...}}, ...]}}: {str(error)[:150]}.',
                code="MW1402",
            ) from None
        if asked.key is not None:
            key_of({"key": asked.key})
        target = self._plane.admit(name, asked.version, asked.key)
        reader = self.reader(target.digest, target.signature)
        if reader.slow:
            self._later(call, self._read_aside(call, target, asked, reader))
        else:
            self._read(call, target, asked, reader.read(asked.rows))

    async def _read_aside(self, call: Call, target: Target, asked: PredictBody, reader: RowReader) -> None:
        # Decoding is part of what the client waits for.
        began = time.monotonic()
        most = self._plane.limits.deadline_s if not asked.timeout_ms else asked.timeout_ms / 1e3
        until = began + min(most, target.policy.deadline_s)
        try:
            feeds = await self._plane.loop.run_in_executor(self._aside, reader.read, asked.rows, until)
            self._read(call, target, asked, feeds, timeout_s=max(0.0, until - time.monotonic()))
        except Exception as error:
            self._application.fail(call, error)

    def _read(
        self,
        call: Call,
        target: Target,
        asked: PredictBody,
        feeds: dict[str, Array],
        timeout_s: float | None = None,
    ) -> None:
        """Submit rows that were read; ``timeout_s`` is what is left of the client's time."""
        if asked.explain:
            self._explainer.check(target, len(next(iter(feeds.values()))))
        exchange = call.exchange

        def done(answer: Answer | None, error: Exception | None) -> None:
            if exchange.gone:
                return
            if answer is None:
                self._application.fail(call, error or RuntimeError("no answer"))
            elif asked.explain:
                self._explain(call, target, asked, feeds, answer)
            else:
                self._reply(call, target, asked, answer)

        work = self._plane.submit(
            target,
            feeds,
            done,
            key=asked.key,
            timeout_s=asked.timeout_ms / 1e3 if asked.timeout_ms and timeout_s is None else timeout_s,
            traceparent=call.head.headers.get("traceparent"),
        )
        exchange.on_gone = lambda: self._plane.forget(work)

    def _explain(
        self, call: Call, target: Target, asked: PredictBody, feeds: dict[str, Array], answer: Answer
    ) -> None:
        async def explain() -> None:
            try:
                explanations = await self._explainer.explain(target, feeds, bytes(asked.rows))
                self._reply(call, target, asked, answer, explanations)
            except Exception as error:
                self._application.fail(call, error)

        self._later(call, explain())

    def _later(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        """Go on with a request in a task that ends when its client goes away."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that was cancelled before it began leaves its coroutine unstarted.
        task.add_done_callback(lambda _: work.close())
        call.exchange.on_gone = task.cancel

    def close(self) -> None:
        """End what still goes on."""
        for task in list(self._tasks):
            task.cancel()
        self._aside.shutdown(wait=False, cancel_futures=True)
        self._images.close()

    def _reply(
        self,
        call: Call,
        target: Target,
        asked: PredictBody,
        answer: Answer,
        explanations: list[dict[str, Any]] | None = None,
    ) -> None:
        reply: dict[str, Any] = {"model": target.endpoint, "version": target.number}
        if asked.id:
            reply["id"] = asked.id
        reply["predictions"] = predictions(target.signature, answer)
        if explanations is not None:
            reply["explanations"] = explanations
        self._application.send(call, Response(200, _ENCODE(reply)))

    async def outcome(self, call: Call) -> Response:
        """Keep an outcome or a correction for a request of this key."""
        name = call.arguments["model"]
        call.principal.require(name, self._plane.routes)
        self._plane.resolve(name)
        try:
            sent = msgspec.json.decode(call.body, type=OutcomeBody | list[OutcomeBody])
        except UNREADABLE as error:
            raise BadRequest(f"The body is not an outcome: {str(error)[:150]}.", code="MW1402") from None
        outcomes = sent if isinstance(sent, list) else [sent]
        entries = [
            {
                "key": item.key,
                "row": item.row,
                "value": item.value,
                "kind": item.kind,
                "by": call.principal.name,
            }
            for item in outcomes
        ]
        await asyncio.to_thread(self._outcomes.put, name, entries)
        return Response(202, _ENCODE({"accepted": len(entries)}))
