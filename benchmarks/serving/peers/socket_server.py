"""No server: the least that one Python process can do for a binary request, as the bound of what any can reach.

It takes the length of the body and of its JSON part from the head, looks at nothing else, runs the session on the bytes
that are left, and sends its first output behind a fixed head. No token, no check, no metrics, one version.
"""

from __future__ import annotations

import asyncio
import os
import re

import graph as shared
import numpy as np
import uvloop

GRAPH = shared.Graph()
ROWS = dict(np.load(shared.folder() / f"{shared.name()}.npz"))
SHAPES = {name: (shared.DTYPES[datatype], ROWS[name].shape[1:]) for name, datatype in GRAPH.inputs.items()}
SIZES = {name: int(ROWS[name][0].nbytes) for name in GRAPH.inputs}
_BODY = re.compile(rb"\r\nContent-Length: (\d+)")
_JSON = re.compile(rb"\r\nInference-Header-Content-Length: (\d+)")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n%b"


class Bound(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self.data = self.data + data if self.data else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = data[:end]
        if len(data) < end + 4 + int(_BODY.search(head)[1]):
            return
        self.data = b""
        start = end + 4 + int(_JSON.search(head)[1])
        rows = (len(data) - start) // sum(SIZES.values())
        feeds = {}
        for name, (dtype, shape) in SHAPES.items():
            feeds[name] = np.ndarray((rows, *shape), dtype, data, start)
            start += rows * SIZES[name]
        answer = GRAPH.run(feeds)[0].tobytes()
        self.transport.write(_HEAD % (len(answer), answer))


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Bound, "127.0.0.1", int(os.environ["BENCH_PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
