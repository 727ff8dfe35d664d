"""Changing and watching a server over HTTP: endpoints, status, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from modelworks.serving.deployments import Deployments
from modelworks.serving.errors import BadRequest
from modelworks.serving.metrics import exposition
from modelworks.serving.model import ModelSource
from modelworks.serving.rest.application import Application, Call, Route
from modelworks.serving.rest.message import Response
from modelworks.serving.tensors import UNREADABLE

_ENCODE = msgspec.json.Encoder().encode
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_Body = TypeVar("_Body")


class DeployBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``deploy``: a staged package by digest."""

    digest: str
    canary: float | None = None
    shadow: bool = False
    sticky: bool = True
    change_signature: bool = False


class PrepareBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``prepare``: a package by digest."""

    digest: str


class VersionBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``promote`` and ``shadow``."""

    version: str | None = None


class CanaryBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``canary``."""

    version: str
    share: float
    sticky: bool = True


class AdministrationRoutes:
    """The handlers of ``/v1/endpoints``, ``/v1/status`` and ``/metrics``.

    Args:
        application: Where the routes are added.
        deployments: The acts.
        find: Staged package by digest.
        state: The state of this process as plain data.
        whole: The state of all workers, given that of this process.
    """

    def __init__(
        self,
        application: Application,
        deployments: Deployments,
        find: Callable[[str], ModelSource],
        state: Callable[[], dict[str, Any]],
        whole: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
    ) -> None:
        self._deployments = deployments
        self._find = find
        self._state = state
        self._whole = whole
        endpoint = "/v1/endpoints/{model}"
        application.add(
            *(
                Route(
                    method="GET", pattern=pattern, policy=policy, handler=handler, summary=summary, media=media
                )
                for pattern, policy, handler, summary, media in (
                    ("/v1/status", "monitor", self.status, "The whole state", "application/json"),
                    ("/metrics", "monitor", self.metrics, "Prometheus metrics", _TEXT),
                    (endpoint, "admin", self.show, "An endpoint and its acts", "application/json"),
                )
            ),
            *(
                Route(
                    method="POST", pattern=f"{endpoint}/{verb}", policy="admin", handler=handler, summary=summary
                )
                for verb, handler, summary in (
                    ("deploy", self.deploy, "Deploy a staged package"),
                    ("promote", self.promote, "Let a version answer everything"),
                    ("canary", self.canary, "Give a version a share of the traffic"),
                    ("shadow", self.shadow, "Mirror traffic to a version"),
                    ("rollback", self.rollback, "Go back"),
                    ("configure", self.configure, "Change settings"),
                    ("remove", self.remove, "Stop serving a name"),
                )
            ),
            Route(
                method="POST", pattern="/v1/workers/prepare", policy="admin", handler=self.prepare,
                summary="Load a deployed or staged package in this worker",
            ),
            Route(
                method="POST", pattern="/v1/workers/refresh", policy="admin", handler=self.refresh,
                summary="Take in recorded acts in this worker",
            ),
        )  # fmt: skip

    async def status(self, call: Call) -> Response:
        """Everything, for ``mw top``; with ``?own`` of this process alone."""
        state = self._state()
        if call.head.query != "own":
            state = await self._whole(state)
        return Response(200, _ENCODE(state))

    async def metrics(self, call: Call) -> Response:
        """Prometheus text, for all workers together."""
        return Response(200, exposition(await self._whole(self._state())), media=_TEXT.encode())

    async def show(self, call: Call) -> Response:
        """The recorded state of an endpoint and the acts that led to it."""
        name = call.arguments["model"]
        endpoint = self._deployments.find(name)
        acts = [
            {
                "sequence": act.sequence,
                "wall": act.wall,
                "actor": act.actor,
                "verb": act.verb,
                "detail": act.detail,
            }
            for act in await asyncio.to_thread(self._deployments.journal.history, name)
        ]
        return Response(200, _ENCODE({"endpoint": endpoint.to_json(), "acts": acts}))

    async def deploy(self, call: Call) -> Response:
        """Deploy a staged package."""
        body = _body(call, DeployBody)
        source = await asyncio.to_thread(self._find, body.digest)
        endpoint = await self._deployments.deploy(
            source,
            endpoint=call.arguments["model"],
            actor=call.principal.name,
            canary=body.canary,
            shadow=body.shadow,
            sticky=body.sticky,
            change_signature=body.change_signature,
        )
        return Response(200, _ENCODE(endpoint.to_json()))

    async def prepare(self, call: Call) -> Response:
        """Load a package, so that an act that gives it traffic finds it ready; asked by the other workers."""
        digest = _body(call, PrepareBody).digest
        source = self._deployments.sources.get(digest)
        if source is None:
            source = await asyncio.to_thread(self._find, digest)
        residency = self._deployments.plane.residency
        await residency.ready(residency.add(source))
        return Response(200, b"{}")

    def refresh(self, call: Call) -> Response:
        """Take in what other workers recorded."""
        self._deployments.refresh()
        return Response(200, b"{}")

    async def promote(self, call: Call) -> Response:
        """Let a version answer everything."""
        body = _body(call, VersionBody)
        if body.version is None:
            raise BadRequest("The version is missing.", code="MW1402")
        endpoint = await self._deployments.promote(
            call.arguments["model"], body.version, actor=call.principal.name
        )
        return Response(200, _ENCODE(endpoint.to_json()))

    async def canary(self, call: Call) -> Response:
        """Give a version a share of the traffic."""
        body = _body(call, CanaryBody)
        endpoint = await self._deployments.canary(
            call.arguments["model"], body.version, body.share, actor=call.principal.name, sticky=body.sticky
        )
        return Response(200, _ENCODE(endpoint.to_json()))

    async def shadow(self, call: Call) -> Response:
        """Mirror traffic to a version; ``null`` ends it."""
        body = _body(call, VersionBody)
        endpoint = await self._deployments.shadow(
            call.arguments["model"], body.version, actor=call.principal.name
        )
        return Response(200, _ENCODE(endpoint.to_json()))

    async def rollback(self, call: Call) -> Response:
        """End the canary or return to the champion before."""
        endpoint = await self._deployments.rollback(call.arguments["model"], actor=call.principal.name)
        return Response(200, _ENCODE(endpoint.to_json()))

    async def configure(self, call: Call) -> Response:
        """Change settings."""
        settings = _body(call, dict[str, Any])
        endpoint = await self._deployments.configure(
            call.arguments["model"], settings, actor=call.principal.name
        )
        return Response(200, _ENCODE(endpoint.to_json()))

    async def remove(self, call: Call) -> Response:
        """Stop serving a name."""
        await self._deployments.remove(call.arguments["model"], actor=call.principal.name)
        return Response(200, b"{}")


def _body(call: Call, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(call.body or b"{}", type=kind)
    except UNREADABLE as error:
        raise BadRequest(f"The body does not fit: {str(error)[:150]}.", code="MW1402") from None
