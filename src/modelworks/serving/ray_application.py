"""The data plane as a Ray Serve application (extra ``[ray]``); the only place that imports Ray.

Ray spreads requests over replicas and starts dead ones again. It holds no truth of ours: every replica reads the same
verified packages and the same deployment journal, so the installation's folder must be shared when the cluster has
more than one node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import MissingExtra, ModelworksError, UsageError
from modelworks.serving.access import Access
from modelworks.serving.errors import NotReady, RequestTooLarge
from modelworks.serving.foreground import welcome
from modelworks.serving.journal import Journal
from modelworks.serving.rest.message import Head, Response, request_id
from modelworks.serving.rest.statuses import error_response
from modelworks.serving.running import forget, record
from modelworks.serving.server import Server
from modelworks.serving.settings import ServeSettings
from modelworks.serving.supervisor import from_json, to_json

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response as Answer

NAME = "modelworks"
TOKEN = "ray-token"  # noqa: S105 - a file name
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
TRIES = 3
_log = logging.getLogger("modelworks.serving")
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
Reply = tuple[int, list[tuple[str, str]], bytes]


@dataclass(eq=False)
class Handed:
    """A request that came through Ray, as the routes want it (see ``message.Exchange``)."""

    head: Head
    body: bytes
    done: asyncio.Future[Response]
    started: float
    peer: str = "ray"
    gone: bool = False
    on_gone: Callable[[], object] | None = None

    def reply(self, response: Response) -> None:
        """Keep the answer; only the first call counts."""
        if not self.done.done():
            self.done.set_result(response)


class Plane:
    """One replica: a whole server without listening sockets.

    Args:
        settings: ``ServeSettings`` as JSON.
    """

    async def __init__(self, settings: str) -> None:  # type: ignore[misc]  # Ray awaits it
        _stay_on_loopback()
        self._server = Server(from_json(settings.encode()), asyncio.get_running_loop())
        # Replicas of one node speak for each other in /metrics and mw top, and take in acts together.
        await self._server.join_others()
        await self._server.prepare()

    async def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        """Answer one request; returns status, headers and body."""
        loop = asyncio.get_running_loop()
        exchange = Handed(Head(method, target, headers), body, loop.create_future(), time.monotonic())
        application = self._server.application
        refused = application.refuse(exchange.head)
        if refused is None:
            application.handle(exchange)
        try:
            response = refused if refused is not None else await exchange.done
        except asyncio.CancelledError:
            exchange.gone = True
            if exchange.on_gone is not None:
                exchange.on_gone()
            raise
        return _plain(response)

    async def check_health(self) -> None:
        """Raise if the replica shall be replaced."""
        if self._server.plane.draining:
            raise NotReady("The replica is shutting down.")

    async def stop(self) -> None:
        """Write what waits and end."""
        await self._server.stop()


class Door:
    """Takes requests from Ray's HTTP proxy, refuses strangers before their body is read, and asks a replica; a replica
    that dies is replaced by another try, which is safe because answering changes nothing.

    Args:
        settings: ``ServeSettings`` as JSON.
        plane: Handle of the replicas.
    """

    def __init__(self, settings: str, plane: Any) -> None:
        _stay_on_loopback()
        self._settings = from_json(settings.encode())
        self._plane = plane
        self._access = Access(
            self._settings.keys, hosts=self._settings.host_names, origins=self._settings.origins
        )

    async def __call__(self, request: Request) -> Answer:
        """Answer one HTTP request."""
        from starlette.responses import Response as StarletteResponse

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw}
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        head = Head(request.method, target, headers)
        try:
            self._access.reload()
            self._access.check_host(headers.get("host", ""), headers.get("origin"))
            if head.path not in OPEN_PATHS:
                self._access.authenticate(headers.get("authorization"))
            status, fields, body = await self._ask(head, target, await self._body(request))
        except Exception as error:
            if not isinstance(error, ModelworksError):
                _log.error("a request failed", exc_info=error)
            status, fields, body = _plain(error_response(error, request_id(head)))
        return StarletteResponse(body, status_code=status, headers=dict(fields))

    async def _body(self, request: Request) -> bytes:
        most = int(self._settings.body_mb * 2**20)
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise RequestTooLarge(f"A body has at most {self._settings.body_mb:g} MB.")
            parts.append(part)
        return b"".join(parts)

    async def _ask(self, head: Head, target: str, body: bytes) -> Reply:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        for _ in range(TRIES):
            try:
                found: Reply = await self._plane.answer.remote(head.method, target, head.headers, body)
                return found
            except RayActorError:
                continue
            except (BackPressureError, DeploymentUnavailableError):
                break
        raise NotReady("No replica answers.", retry_after_s=2.0)


def _plain(response: Response) -> Reply:
    fields = [("content-type", response.media.decode("latin-1"))]
    fields += [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
    if response.id:
        fields.append(("x-request-id", bytes(response.id).decode("ascii")))
    return response.status, fields, response.body


@contextmanager
def on_ray(settings: ServeSettings, *, replicas: int = 2, address: str = "") -> Iterator[str]:
    """Serve as a Ray application until the block ends; gives the address.

    Without ``address`` a cluster of this machine alone is started, on loopback, with a token of its own and no
    dashboard, metrics port or usage report.

    Args:
        settings: Everything a server can be told; gRPC is not served through Ray.
        replicas: Processes that answer.
        address: A running cluster.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: The settings cannot work, or the port is taken.
    """
    settings.check()
    settings = replace(settings, grpc_port=None, port=settings.port or _free_port(settings.host))
    # Replicas of one node share its cores: none has several to itself.
    settings = replace(settings, run_threads=settings.run_threads or 1)
    _guard(settings, alone=not address)
    try:
        import ray
        from ray import serve
        from ray.serve.config import HTTPOptions
    except ImportError as error:
        raise MissingExtra.named("Serving on Ray", "ray") from error
    for part in (Plane, Door):
        # Ray would look for the source by value otherwise; by name the replicas import what is installed.
        assert part.__module__ == __name__
    started = not ray.is_initialized()
    if started:
        options: dict[str, Any] = {"address": address} if address else {
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "num_cpus": max(os.cpu_count() or 1, replicas + 2),
            "object_store_memory": 100 * 2**20,
        }  # fmt: skip
        ray.init(namespace=NAME, log_to_driver=False, configure_logging=False, **options)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options=HTTPOptions(
                host=settings.host,
                port=settings.port,
                ssl_certfile=str(settings.tls_certificate) if settings.tls_certificate else None,
                ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
            ),
        )
        text = to_json(settings).decode()
        light = {"num_cpus": 0}
        plane = serve.deployment(
            Plane, num_replicas=replicas, max_ongoing_requests=256, ray_actor_options=light,
            health_check_period_s=2.0,
        ).bind(text)  # fmt: skip
        door = serve.deployment(Door, max_ongoing_requests=1024, ray_actor_options=light).bind(text, plane)
        serve.run(door, name=NAME, route_prefix="/", logging_config={"enable_access_log": False})
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield f"{'https' if settings.tls else 'http'}://{host}:{settings.port}"
    finally:
        serve.shutdown()
        if started:
            ray.shutdown()


def main(
    settings: ServeSettings,
    told: Callable[[dict[str, Any]], None] | None = None,
    *,
    replicas: int = 2,
    address: str = "",
) -> int:
    """Serve on Ray in the foreground until SIGTERM or SIGINT; returns the exit status."""
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    stopping = threading.Event()
    with on_ray(settings, replicas=replicas, address=address) as url:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        names = sorted(Journal(settings.state / "deployments.jsonl").endpoints)
        port = int(url.rpartition(":")[2])
        report = {"url": url, "port": port, "grpc_port": None, "endpoints": names[:20], "count": len(names)}
        record(settings.state, report, settings.tls_certificate)
        if not settings.quiet:
            welcome(settings, report)
        try:
            if told is not None:
                told(report)
            while not stopping.wait(1.0):
                pass
        finally:
            forget(settings.state)
    return 0


def _guard(settings: ServeSettings, *, alone: bool) -> None:
    """Close what Ray leaves open: a token for every call between its processes, and no report to anybody."""
    settings.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = settings.keys / TOKEN
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32))
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(path))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if alone:
        # Despite its name this switch is what lets a node on Linux keep a loopback address; without it Ray takes
        # the machine's own and its processes listen on every interface.
        os.environ[_LOOPBACK] = "0"
    if os.environ["RAY_AUTH_MODE"] != "token":
        raise UsageError("Ray is used with RAY_AUTH_MODE=token only.", code="MW1337")


def _stay_on_loopback() -> None:
    """In a cluster of one machine, keep the port that Ray Serve opens in every replica off the other interfaces.

    Ray 2.60 has no setting for it. The port asks for the cluster's token all the same.
    """
    if os.environ.get(_LOOPBACK) != "0":
        return
    from ray.serve._private import replica

    plain = replica.add_port_to_grpc_server

    def on_loopback(server: Any, address: str) -> int:
        return int(plain(server, address.replace("[::]:", "127.0.0.1:")))

    replica.add_port_to_grpc_server = on_loopback


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
