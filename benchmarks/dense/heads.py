"""One backbone with one head or with a thousand, asked over HTTP and in the process; a thousand sessions beside it.

    python -m benchmarks.dense.heads COUNT

serves COUNT heads of one convolutional encoder of series from memory and prints one JSON object a measurement.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from modelworks.core.digest import digest_bytes
from modelworks.core.signature import Signature, Tensor
from modelworks.serving.model import LoadedModel

LENGTH, SIZE, CLASSES = 512, 256, 3
SIGNATURE = Signature(
    inputs=(
        Tensor(
            name="numbers", datatype="FP32", shape=(-1, LENGTH), columns=tuple(f"t{i}" for i in range(LENGTH))
        ),
    ),
    outputs=(
        Tensor(name="probabilities", datatype="FP32", shape=(-1, CLASSES)),
        Tensor(name="label", datatype="BYTES", shape=(-1,)),
    ),
    classes=("low", "middle", "high"),
)


def fused() -> tuple[bytes, npt.NDArray[np.float32]]:
    """Return the encoder with a linear head, and that head's weights as they stand in the graph."""
    from modelworks.algorithms.graph import Graph

    random = np.random.default_rng(0)
    graph = Graph()
    state = graph.op("Unsqueeze", "numbers", graph.constant([1], np.int64))
    width = 1
    for wider in (64, 128, SIZE):
        weights = random.standard_normal((wider, width, 9)) * (2 / (9 * width)) ** 0.5
        state = graph.op(
            "Conv", state, graph.constant(weights, np.float32), graph.constant(np.zeros(wider), np.float32),
            pads=[4, 4], strides=[2],
        )  # fmt: skip
        state = graph.op("Relu", state)
        width = wider
    graph.op("ReduceMean", state, graph.constant([2], np.int64), keepdims=0, out="embedding")
    weights = random.standard_normal((SIZE, CLASSES)).astype(np.float32)
    logits = graph.op("MatMul", "embedding", graph.constant(weights, np.float32))
    logits = graph.op("Add", logits, graph.constant(np.zeros(CLASSES), np.float32))
    graph.op("Softmax", logits, axis=1, out="probabilities")
    best = graph.op("ArgMax", "probabilities", axis=1, keepdims=0)
    graph.op("Gather", graph.strings(list(SIGNATURE.classes), [CLASSES]), best, out="label")
    return graph.to_bytes(list(SIGNATURE.inputs), list(SIGNATURE.outputs)), weights


@dataclass(frozen=True, kw_only=True)
class HeadSource:
    """The encoder with a head of its own; the bytes are made when they are read, as a package's are."""

    name: str
    number: int
    template: bytes
    weights: bytes
    signature: Signature = SIGNATURE
    place: str = ""

    @property
    def digest(self) -> str:
        return digest_bytes(self.name.encode())

    @property
    def graph_bytes(self) -> int:
        return len(self.template)

    def read(self) -> LoadedModel:
        own = np.random.default_rng(self.number).standard_normal((SIZE, CLASSES)).astype(np.float32)
        return LoadedModel(onnx=self.template.replace(self.weights, own.tobytes()))


def sources(count: int) -> list[HeadSource]:
    """Return ``count`` heads of one encoder."""
    template, weights = fused()
    assert template.count(weights.tobytes()) == 1
    return [
        HeadSource(name=f"h{number:04}", number=number, template=template, weights=weights.tobytes())
        for number in range(count)
    ]


def series(count: int) -> npt.NDArray[np.float32]:
    """Return rows no two of which are equal: the cache of embeddings must not answer."""
    return np.random.default_rng(time.time_ns() % 2**32).standard_normal((count, LENGTH)).astype(np.float32)


def per_second(work: Callable[[int], object], seconds: float, most: int = 100_000) -> dict[str, float]:
    """Call ``work(number)`` again and again; returns the rate, the process's CPU and the quantiles in ms."""
    times: list[float] = []
    cpu, end = time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end and len(times) < most:
        begin = time.perf_counter()
        work(len(times))
        times.append(time.perf_counter() - begin)
    return _summary(times, time.process_time() - cpu)


def _summary(times: list[float], cpu_s: float) -> dict[str, float]:
    p50, p99 = (float(np.percentile(times, share)) * 1e3 for share in (50, 99))
    rate, cpu_ms = len(times) / sum(times), cpu_s / len(times) * 1e3
    return {"per_s": rate, "cpu_ms": cpu_ms, "p50_ms": p50, "p99_ms": p99, "answers": len(times)}


async def serve(count: int, seconds: float) -> None:
    """Serve and ask; every answer of the first round is compared with that of the whole graph."""
    from modelworks.serving.server import Server
    from modelworks.serving.settings import ServeSettings

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        settings = ServeSettings(
            home=Path(home), port=0, grpc_port=None, threads=1, memory_mb=4096, quiet=True
        )
        server = Server(settings, asyncio.get_running_loop())
        made = sources(count)
        server.deployments.serve(made)
        address = await server.start()
        names = [source.name for source in made]
        targets = [server.plane.resolve(name) for name in names]
        begin = time.perf_counter()
        row = series(1)
        answers = await server.plane.infer_many(targets, {"numbers": row})
        loaded_s = time.perf_counter() - begin
        _compare(made, row, answers)
        inside = await _inside(server.plane, targets, seconds)
        token = server.access.local_token
        over_http = await asyncio.to_thread(_over_http, address.port, token, names, seconds)
        memory = psutil.Process().memory_full_info().uss / 2**20
        print(
            json.dumps(
                {
                    "heads": count, "load_s": loaded_s, "inside": inside, "http": over_http, "memory_mb": memory,
                    "used_mb": server.residency.room.used_bytes / 2**20,
                }
            ),
            flush=True,
        )  # fmt: skip
        await server.stop()


def _compare(made: list[HeadSource], row: npt.NDArray[np.float32], answers: list[Any]) -> None:
    from modelworks.compute.runtime import GraphSession

    for index in range(0, len(made), max(1, len(made) // 25)):
        expected = GraphSession(made[index].read().onnx).run({"numbers": row})
        found = answers[index]["probabilities"]
        assert np.allclose(found, expected["probabilities"], atol=1e-5), made[index].name


async def _inside(plane: Any, targets: list[Any], seconds: float) -> dict[str, float]:
    rows = series(4000)
    times: list[float] = []
    cpu, end = time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end and len(times) < len(rows):
        begin = time.perf_counter()
        number = len(times)
        # A row of its own, as a request has: what keeps it keeps no other.
        await plane.infer_many(targets, {"numbers": rows[number : number + 1].copy()})
        times.append(time.perf_counter() - begin)
    return _summary(times, time.process_time() - cpu)


def _over_http(port: int, token: str, names: list[str], seconds: float) -> dict[str, float]:
    columns = SIGNATURE.columns
    requests = []
    for row in series(200):
        body = json.dumps({"models": names, "rows": [dict(zip(columns, row.tolist(), strict=True))]}).encode()
        head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)

    # Bytes only: what the client does counts into the CPU time of this process.
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:

        def ask(number: int) -> None:
            connection.sendall(requests[number % len(requests)])
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(2**20)
            head, _, rest = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), data[:300]
            missing = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]) - len(rest)
            while missing > 0:
                missing -= len(connection.recv(2**20))

        ask(0)
        return per_second(ask, seconds, len(requests))


def engine(count: int, sessions: int = 100) -> Iterator[dict[str, Any]]:
    """Measure CPU of one head, of ``count`` heads and of a session of a whole graph, without doors, in turns.

    ``sessions`` sessions are really loaded and asked one after the other; ``count`` of them would cost as much each.
    """
    from dataclasses import replace

    from modelworks.compute.runtime import GraphSession
    from modelworks.serving.heads.runner import BackboneRunner
    from modelworks.serving.heads.split import split_head
    from modelworks.serving.heads.stack import Selection
    from modelworks.serving.work import Work

    made = sources(max(count, sessions))
    split = split_head(made[0].read().onnx, SIGNATURE)
    assert split is not None
    runner = BackboneRunner(GraphSession(split.backbone, arena=False), 0)
    random = np.random.default_rng(0)
    shape = split.head.weights.shape
    heads = [
        replace(split.head, weights=random.standard_normal(shape).astype(np.float32)) for _ in range(count)
    ]
    places = tuple(runner.stack.add(head) for head in heads)
    alone = [GraphSession(source.read().onnx, arena=False) for source in made[:sessions]]
    rows = series(64)

    def shared(asked: SimpleNamespace, times: int) -> float:
        start = time.thread_time()
        for number in range(times):
            work = Work({"numbers": rows[number % 64][None]}, 1, None, lambda *outcome: None, enqueued=0.0)
            work.places, work.several = asked.selection.places, asked
            (_, error), *_ = runner.run([work])
            assert error is None
        return (time.thread_time() - start) / times * 1e3

    def separate() -> float:
        start = time.thread_time()
        for session in alone:
            session.run({"numbers": rows[0][None]})
        return (time.thread_time() - start) / len(alone) * 1e3

    first, every = (SimpleNamespace(selection=Selection(some)) for some in (places[:1], places))
    rounds = [(shared(first, 20), shared(every, 6), separate()) for _ in range(9)][1:]
    one, all_heads, session = (float(np.median(column)) for column in zip(*rounds, strict=True))
    yield {
        "engine": count, "one_ms": one, "all_ms": all_heads, "session_ms": session, "sessions": sessions,
        "times_separate": session * count / all_heads,
    }  # fmt: skip


if __name__ == "__main__":
    from modelworks.serving.foreground import new_loop

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(int(sys.argv[1]), 5.0))
