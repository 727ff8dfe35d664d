"""One server: puts its parts together and takes them down again (``foreground`` is the process around it)."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from asyncio import AbstractEventLoop
from dataclasses import asdict, dataclass, replace
from typing import Any

from modelworks.compute.device import usable_cores
from modelworks.core.errors import ModelworksError, UsageError
from modelworks.packaging.package import TrustPolicy
from modelworks.serving.access import Access
from modelworks.serving.dataplane import DataPlane, PlaneLimits
from modelworks.serving.deployments import Deployments
from modelworks.serving.devices import Devices
from modelworks.serving.flight import FlightRecorder, flight_path
from modelworks.serving.guard import Guard
from modelworks.serving.journal import Journal
from modelworks.serving.lane import LaneLimits
from modelworks.serving.loading import Loader, LoadLimits
from modelworks.serving.memory import few_heaps, keep_pages
from modelworks.serving.observations import ObservationLog
from modelworks.serving.outcomes import Outcomes
from modelworks.serving.packages import PackageSource, find_packages, package_source
from modelworks.serving.pool import WorkerPool
from modelworks.serving.ports import bound
from modelworks.serving.proofs import Proofs
from modelworks.serving.repository import Repository
from modelworks.serving.residency import Residency
from modelworks.serving.rest.access_log import AccessLogger
from modelworks.serving.rest.administration import AdministrationRoutes
from modelworks.serving.rest.application import Application
from modelworks.serving.rest.carrier import CarrierLimits, HttpServer
from modelworks.serving.rest.friendly import FriendlyRoutes
from modelworks.serving.rest.page import add_page
from modelworks.serving.rest.protocol import ProtocolRoutes
from modelworks.serving.rpc.carrier import RpcCarrier
from modelworks.serving.rpc.limits import RpcLimits
from modelworks.serving.rpc.service import RpcService
from modelworks.serving.seats import RESERVED
from modelworks.serving.settings import ServeSettings
from modelworks.serving.siblings import Siblings
from modelworks.serving.staging import staged
from modelworks.serving.status import status
from modelworks.serving.thread_choice import ThreadChoice
from modelworks.serving.tls import TlsListener, tls_context
from modelworks.serving.tracing import Tracer
from modelworks.serving.weights import SharedWeights

_LOOK_S = 1.0
_THREADS_OF_A_HEAP = 4
_MOST_CONNECTIONS, _OTHER_FILES = 1024, 256
_log = logging.getLogger("modelworks.serving")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a running server listens."""

    host: str
    port: int
    grpc_port: int | None
    tls: bool

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class Server:
    """One process of a server. Made on a running event loop.

    Args:
        settings: Everything it can be told.
        loop: The running loop.
        weights: Weights shared with the other workers of the same parent.
    """

    def __init__(
        self, settings: ServeSettings, loop: AbstractEventLoop, weights: SharedWeights | None = None
    ) -> None:
        settings.check()
        self.settings = settings
        self.loop = loop
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.trust = TrustPolicy.of_folder(settings.keys, require_signed=settings.require_signed)
        threads = settings.threads or os.cpu_count() or 1
        few_heaps(1 + threads // _THREADS_OF_A_HEAP)
        keep_pages()
        lane_limits = LaneLimits(
            queue_rows=settings.queue_rows,
            batch_rows=settings.batch_rows,
            wait_s=settings.wait_ms / 1e3,
        )
        self.recorder = FlightRecorder(flight_path(settings.state, os.getpid()), threads + 1)
        self.pool = WorkerPool(loop, threads, self.recorder)
        cap_bytes = settings.memory_mb * 2**20
        load_limits = LoadLimits(
            batch_rows=settings.batch_rows, cap_bytes=cap_bytes, device_bytes=settings.device_bytes
        )
        choice = ThreadChoice(settings.run_threads, cores=settings.cores_of_a_worker(usable_cores()))
        devices = Devices(settings.device, threads=choice)
        self.loader = Loader(Proofs(settings.state / "proofs"), load_limits, devices, weights)
        self.residency = Residency(loop, self.loader, self.pool, cap_bytes=cap_bytes, lane_limits=lane_limits)
        self.plane = DataPlane(loop, self.residency, PlaneLimits(deadline_s=settings.deadline_s))
        self.deployments = Deployments(self.plane, Journal(settings.state / "deployments.jsonl"), self.trust)
        self.repository = Repository(self.plane)
        self.guard = Guard()
        self._guarding: set[asyncio.Task[None]] = set()
        self.access = Access(settings.keys, hosts=settings.host_names, origins=settings.origins)
        self.access_log: AccessLogger | None = None
        if settings.access_log != "off":
            self.access_log = AccessLogger(errors_only=settings.access_log == "errors")
        self.application = Application(self.access, self.access_log)
        self.observations = ObservationLog(
            settings.home / "observations",
            observe_share=settings.observe_share,
            audit_share=settings.audit_share,
        )
        self.plane.observe = self.observations.offer
        self.plane.observe_many = self.observations.offer_many
        self.tracer: Tracer | None = None
        if settings.otlp is not None:
            self.tracer = Tracer(settings.otlp, share=settings.trace_share)
            self.plane.trace = self.tracer.offer
        body_bytes = int(settings.body_mb * 2**20)
        ProtocolRoutes(self.application, self.plane, self.repository, body_bytes)
        self.friendly = FriendlyRoutes(
            self.application, self.plane, Outcomes(settings.home / "observations"), body_bytes
        )
        self.siblings = Siblings(settings.state, self.access.local_token)
        AdministrationRoutes(
            self.application,
            self.deployments,
            lambda digest: staged(digest, settings.state, self.trust),
            self.status,
            self.siblings.status,
        )
        add_page(self.application)
        connections = connections_allowed()
        per_address = settings.connections_per_address
        self.http = HttpServer(
            loop,
            self.application,
            CarrierLimits(
                body_bytes=body_bytes, connections=connections, connections_per_address=per_address
            ),
        )
        self._listener: asyncio.Server | TlsListener | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._rpc: RpcCarrier | None = None
        if settings.grpc_port is not None:
            service = RpcService(self.access, self.plane, self.repository)
            limits = RpcLimits(
                message_bytes=body_bytes, connections=connections, connections_per_address=per_address
            )
            self._rpc = RpcCarrier(service, loop, limits, shared_port=settings.workers > 1)

    async def start(self, listener: socket.socket | None = None) -> Address:
        """Bring back the recorded endpoints, add the packages of the settings, and listen.

        Args:
            listener: An open listening socket to take over instead of binding one.

        Raises:
            ModelworksError: A package cannot be trusted, or the port is taken.
        """
        settings = self.settings
        if settings.workers > 1:
            # Before the state is read: what the others decide from now on is heard.
            await self.join_others()
        await self.prepare()
        if listener is None:
            listener = bound(settings.host, settings.port, shared=settings.workers > 1, option="--port")
        port = listener.getsockname()[1]
        if settings.tls_certificate is None:
            self._listener = await self.loop.create_server(self.http.connection, sock=listener, backlog=1024)
        else:
            self._listener = TlsListener(
                self.loop,
                listener,
                tls_context(settings.tls_certificate, settings.tls_key, "http/1.1"),
                seats=self.http.seats,
                seat=self.http.seat,
                connection=self.http.connection,
            )
        grpc_port = None
        if self._rpc is not None and settings.grpc_port is not None:
            grpc_port = self._rpc.listen(
                settings.host, settings.grpc_port, settings.tls_certificate, settings.tls_key
            )
            await self._rpc.start()
        return Address(host=settings.host, port=port, grpc_port=grpc_port, tls=settings.tls)

    async def join_others(self) -> None:
        """Speak for and to the other workers of this state folder from now on."""
        await self.siblings.listen(lambda: self.http.connection(RESERVED))
        self.deployments.prepare_others = self.siblings.prepare
        self.deployments.refresh_others = self.siblings.refresh

    async def prepare(self) -> None:
        """Bring back the recorded endpoints and add the packages of the settings; all but listening.

        Raises:
            ModelworksError: A package cannot be trusted.
        """
        sources = await asyncio.to_thread(self._sources)
        self.deployments.restore()
        self.deployments.serve(sources)
        if self.settings.keep_ready:
            await self.warm_up()
        self._look_around()

    def _sources(self) -> list[PackageSource]:
        found = [package_source(path, self.trust) for path in find_packages(list(self.settings.packages))]
        if not self.settings.name:
            return found
        if len(found) != 1:
            raise UsageError(
                f"One package can be served as '{self.settings.name}', not {len(found)}.", code="MW1336"
            )
        return [replace(found[0], name=self.settings.name)]

    def status(self) -> dict[str, Any]:
        """Return the state of this process as plain data."""
        found = status(self.plane, doors=self._doors())
        found["error_answers"] = {"http": dict(self.application.errors)}
        if self._rpc is not None:
            found["error_answers"]["grpc"] = dict(self._rpc.service.errors)
        found["observations"] = asdict(self.observations.counts)
        return found

    def _doors(self) -> dict[str, dict[str, int]]:
        seats = {"http": self.http.seats}
        if self._rpc is not None:
            seats["grpc"] = self._rpc.seats
        return {door: {"open": item.taken, **item.refused} for door, item in seats.items()}

    def _look_around(self) -> None:
        """Once a second: take in tokens that were added or revoked and acts of other processes; watch the canaries."""
        self._looking = self.loop.call_later(_LOOK_S, self._look_around)
        try:
            self.access.reload()
            self.deployments.refresh()
            self.observations.retention_days = {
                name: route.state.settings["retention_days"]
                for name, route in self.plane.routes.items()
                if "retention_days" in route.state.settings
            }
        except (ModelworksError, OSError, ValueError, KeyError) as error:
            _log.warning("changed state could not be read: %s", error)
        self.plane.fold()
        for name, number, evidence in self.guard.look(self.plane.routes):
            task = self.loop.create_task(self._end_canary(name, number, evidence))
            self._guarding.add(task)
            task.add_done_callback(self._guarding.discard)

    async def _end_canary(self, name: str, number: str, evidence: dict[str, Any]) -> None:
        try:
            await self.deployments.end_canary(name, number, evidence, actor="guard")
        except ModelworksError as error:
            _log.warning("the canary of %s was not ended: %s", name, error.message)
        else:
            _log.warning("the canary of %s was ended: %s", name, evidence["cause"])

    async def warm_up(self) -> None:
        """Load every champion and keep it; one that fails is reported and served as not ready."""
        for route in list(self.plane.routes.values()):
            resident = route.champion.resident
            self.residency.pin(resident, "kept ready")
            try:
                await self.residency.ready(resident)
            except ModelworksError as error:
                _log.warning("%s is not ready: %s", route.state.name, error.message)

    async def stop(self) -> bool:
        """Take no new requests, answer those under way, and end; returns whether all were answered in time."""
        self.plane.draining = True
        if self._looking is not None:
            self._looking.cancel()
        if self._listener is not None:
            self._listener.close()
        self.siblings.close()
        self.http.drain()
        if self._rpc is not None:
            await self._rpc.stop(self.settings.drain_s)
        answered = await self.plane.drain(self.settings.drain_s)
        await asyncio.sleep(0.05)
        self.http.close()
        await self.application.close()
        await asyncio.to_thread(self.friendly.close)
        self.residency.close()
        self.pool.close()
        self.recorder.close()
        await asyncio.to_thread(self.observations.close)
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)
        if self.access_log is not None:
            await asyncio.to_thread(self.access_log.close)
        return answered


def connections_allowed() -> int:
    """Return how many connections each door may hold: those of strangers leave open files for models."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(16, min(_MOST_CONNECTIONS, (files - _OTHER_FILES) // 2))
