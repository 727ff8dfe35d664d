"""Plain FastAPI under uvicorn with uvloop and httptools: a typed JSON route, and a route for raw bytes."""

from __future__ import annotations

import os
from typing import Any

import graph as shared
import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

GRAPH = shared.Graph()
app = FastAPI()


class SentTensor(BaseModel):
    """One tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float] | list[int]


class Body(BaseModel):
    """A request."""

    inputs: list[SentTensor]


@app.post("/v2/models/{model}/infer")
async def infer(model: str, body: Body) -> dict[str, Any]:
    """Answer JSON; the graph runs on the event loop, which is faster here than a thread."""
    return GRAPH.answer([tensor.model_dump() for tensor in body.inputs])


@app.post("/raw/{shape}")
async def raw(shape: str, request: Request) -> Response:
    """Answer bytes with bytes: the tensors one after the other, all of one shape."""
    body = await request.body()
    axes = [int(axis) for axis in shape.split("x")]
    size = len(body) // len(GRAPH.inputs)
    feeds = {
        name: np.frombuffer(body[index * size : (index + 1) * size], shared.DTYPES[datatype]).reshape(axes)
        for index, (name, datatype) in enumerate(GRAPH.inputs.items())
    }
    return Response(GRAPH.run(feeds)[0].tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False
    )
