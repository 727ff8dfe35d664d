"""Starts MLServer with one model, no extra worker processes (its fastest setting for small models)."""

from __future__ import annotations

import asyncio
import os

import graph as shared
from mlserver import MLServer, ModelSettings, Settings
from mlserver_model import Runtime


async def main() -> None:
    port = int(os.environ["BENCH_PORT"])
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=int(os.environ["BENCH_GRPC_PORT"]),
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
        grpc_max_message_length=64 * 2**20,
    )
    server = MLServer(settings)
    model = ModelSettings(name=shared.name(), implementation=Runtime)
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(main())
