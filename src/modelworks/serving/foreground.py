"""``mw serve`` as a process: its loop, its signals, what it tells a person, and the parent that keeps the port."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from modelworks.serving.access import LOCAL_TOKEN
from modelworks.serving.running import forget, record
from modelworks.serving.server import Address, Server
from modelworks.serving.settings import ServeSettings
from modelworks.serving.weights import SharedWeights

_COLLECT_EVERY = 10_000
_SWITCH_S = 0.0005


async def run(
    settings: ServeSettings,
    started: Callable[[Server, Address], None],
    listener: socket.socket | None = None,
    weights: SharedWeights | None = None,
) -> bool:
    """Serve until SIGTERM or SIGINT; returns whether everything under way was answered."""
    loop = asyncio.get_running_loop()
    server = Server(settings, loop, weights)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        started(server, await server.start(listener))
        spare_the_requests()
        await stopping.wait()
    finally:
        answered = await server.stop()
    return answered


def spare_the_requests() -> None:
    """Keep the interpreter's own work away from the requests of a started server.

    What the server consists of is taken out of the cyclic collector's rounds, and these become rarer: a request leaves
    no rings behind; a full round over every module and model would only hold up those under way.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, *gc.get_threshold()[1:])
    # The writer of the observation log and the model threads give the interpreter back sooner to the event loop.
    sys.setswitchinterval(_SWITCH_S)


def new_loop() -> AbstractEventLoop:
    """Return the fastest event loop that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: AbstractEventLoop = uvloop.new_event_loop()
    return loop


def main(settings: ServeSettings, told: Callable[[dict[str, Any]], None] | None = None) -> int:
    """Serve in the foreground until told to stop; returns the exit status.

    A thin parent keeps the port and starts the worker processes again if one dies.

    Args:
        settings: Everything it can be told.
        told: Called once every worker takes requests, with ``url, port, grpc_port, endpoints, count``.

    Raises:
        ModelworksError: The server cannot start; the error says why and what to do.
    """
    from modelworks.serving.supervisor import Supervisor

    settings.check()
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)

    def ready(report: dict[str, Any]) -> None:
        record(settings.state, report, settings.tls_certificate)
        if told is not None:
            told(report)
        if not settings.quiet:
            welcome(settings, report)

    try:
        return Supervisor(settings, ready).run()
    finally:
        forget(settings.state)


def address_for_people(settings: ServeSettings, report: dict[str, Any]) -> str:
    """Return where a browser finds the server: an address that stands for all of this machine is none to go to."""
    if settings.host not in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return str(report["url"])
    scheme = "https" if settings.tls else "http"
    return f"{scheme}://{settings.host_names[0] if settings.host_names else 'localhost'}:{report['port']}"


def welcome(settings: ServeSettings, report: dict[str, Any]) -> None:
    """Tell a person on standard error what is served where, and where the token is."""
    names = ", ".join(report["endpoints"][:8]) + (", ..." if report["count"] > 8 else "")
    grpc = f", gRPC at port {report['grpc_port']}" if report["grpc_port"] else ""
    plural = "s" if report["count"] != 1 else ""
    print(
        f"Serving {report['count']} model{plural} at {report['url']}{grpc}: {names}\n"
        f"Token: {settings.keys / LOCAL_TOKEN}   Try it: {address_for_people(settings, report)}/docs",
        file=sys.stderr,
        flush=True,
    )
