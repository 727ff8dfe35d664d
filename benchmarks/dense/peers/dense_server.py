"""Modelworks over a folder of signed packages under a memory cap: one process, one model thread."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from modelworks.serving.foreground import new_loop, spare_the_requests
from modelworks.serving.server import Server
from modelworks.serving.settings import ServeSettings


async def main() -> None:
    folder = Path(os.environ["BENCH_MODELS"])
    settings = ServeSettings(
        packages=(folder / "packages",),
        home=folder / "home",
        port=int(os.environ["BENCH_PORT"]),
        grpc_port=None,
        threads=1,
        memory_mb=int(os.environ["BENCH_CAP_BYTES"]) // 2**20,
        quiet=True,
    )
    server = Server(settings, asyncio.get_running_loop())
    await server.start()
    spare_the_requests()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
