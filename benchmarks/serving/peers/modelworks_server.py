"""Modelworks as one process of ``mw serve``: tokens, signed packages, observation log, metrics; one model thread."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from modelworks.core.signature import Signature
from modelworks.serving.model import MemorySource
from modelworks.serving.server import Server, new_loop, spare_the_requests
from modelworks.serving.settings import ServeSettings


async def main() -> None:
    folder, name = Path(os.environ["BENCH_MODELS"]), os.environ["BENCH_MODEL"]
    package = folder / "packages" / name
    loop = asyncio.get_running_loop()
    settings = ServeSettings(
        packages=(package,) if package.is_dir() else (),
        home=folder / "home",
        port=int(os.environ["BENCH_PORT"]),
        grpc_port=int(os.environ["BENCH_GRPC_PORT"]),
        threads=1,
        memory_mb=4096,
        quiet=True,
    )
    server = Server(settings, loop)
    if not package.is_dir():
        # The text model has a tokenizer before it and no table columns: it is served from memory, tensors in.
        signature = Signature.from_json(json.loads((folder / f"{name}.json").read_text()))
        onnx = (folder / f"{name}.onnx").read_bytes()
        server.deployments.serve([MemorySource(name=name, digest="0" * 64, signature=signature, onnx=onnx)])
    await server.start()
    spare_the_requests()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
