"""Modelworks as one process of ``mw serve``: tokens, signed packages, observation log, metrics; one model thread."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

from modelworks.compute.feeds import pack_rows
from modelworks.compute.runtime import GraphSession
from modelworks.core.signature import Signature
from modelworks.serving.foreground import new_loop, spare_the_requests
from modelworks.serving.model import MemorySource
from modelworks.serving.server import Server
from modelworks.serving.settings import ServeSettings

TEXTS = (
    "the pump on the second floor leaks since this morning and the technician asks for a new seal before the night",
    "nobody answered the phone when the delivery came, so the driver left the parcel with the neighbours across",
)


def text_source(folder: Path, name: str) -> MemorySource:
    """Return the encoder with the golden rows a package has; from memory, for no task answers with embeddings."""
    signature = Signature.from_json(json.loads((folder / f"{name}.json").read_text()))
    assert signature.tokenizer is not None
    tokenizer = replace(signature.tokenizer, data=(folder / f"{name}.tokenizer.json").read_bytes())
    signature = replace(signature, tokenizer=tokenizer)
    onnx = (folder / f"{name}.onnx").read_bytes()
    session = GraphSession(onnx)
    rows = [{"text": text} for text in TEXTS]
    expected = [session.run(pack_rows(signature, [row]))["embedding"][0].tolist() for row in rows]
    examples = {
        "rows": rows,
        "expected": {"embedding": expected},
        "tolerance": {"absolute": 1e-4, "relative": 1e-3},
    }
    return MemorySource(name=name, digest="0" * 64, signature=signature, onnx=onnx, examples=examples)


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
        server.deployments.serve([text_source(folder, name)])
    await server.start()
    spare_the_requests()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
