"""One worker process: ``python -m modelworks.serving.worker REPORT_FD LISTEN_FD`` with settings on standard input.

A second line there names the folder and the key of the weights that the workers share."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

from modelworks.core.errors import ModelworksError
from modelworks.serving.foreground import new_loop, run
from modelworks.serving.server import Address, Server
from modelworks.serving.supervisor import from_json
from modelworks.serving.weights import SharedWeights

_MOST_FILES = 16_384


def main(arguments: list[str]) -> int:
    """Serve until told to stop; reports its address, or why it cannot start, on the descriptor it was given."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    reports, listener = int(arguments[0]), int(arguments[1])
    told, _, shared = sys.stdin.buffer.read().partition(b"\n")
    settings = from_json(told)
    weights = shared_weights(shared, settings.memory_mb * 2**20)
    inherited = socket.socket(fileno=listener) if settings.workers == 1 else None

    def tell(report: dict[str, Any]) -> None:
        os.write(reports, json.dumps(report).encode())

    def started(server: Server, address: Address) -> None:
        tell(
            {
                "url": address.url,
                "port": address.port,
                "grpc_port": address.grpc_port,
                "endpoints": sorted(server.plane.routes)[:20],
                "count": len(server.plane.routes),
            }
        )

    more_files()
    # What is imported stays: it need not be looked at by every collection, and requests leave little garbage.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            answered = runner.run(run(settings, started, inherited, weights))
    except ModelworksError as error:
        tell({"error": error.to_json()})
        return 2
    return 0 if answered else 1


def more_files() -> None:
    """Open as many files as the system lets this process, up to what a server can use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def shared_weights(line: bytes, cap_bytes: int) -> SharedWeights | None:
    """Read the parent's second line; an empty one shares nothing."""
    if not line:
        return None
    folder, secret = json.loads(line)
    return SharedWeights(Path(folder), bytes.fromhex(secret), cap_bytes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
