"""A plain server of many models: FastAPI, one ONNX Runtime session per model, the least recently used ones closed.

Loads happen in a thread, one at a time, so that loaded models go on answering. The cap is of the same kind as
Modelworks': bytes the allocator handed out for the sessions, measured around each load.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

FOLDER = Path(os.environ["BENCH_MODELS"])
CAP = int(os.environ["BENCH_CAP_BYTES"])


class _Info(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                     "keepcost")
    ]  # fmt: skip


_libc = ctypes.CDLL("libc.so.6")
_libc.mallinfo2.restype = _Info


def allocated() -> int:
    """Return bytes handed out by the allocator."""
    info = _libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


class Models:
    """The sessions in memory, in order of use."""

    def __init__(self) -> None:
        self.sessions: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self.used = self.loads = self.evictions = 0
        self.load_s = 0.0
        self.lock = asyncio.Lock()

    async def get(self, name: str) -> Any:
        """Return a model's session, loading it if need be."""
        found = self.sessions.get(name)
        if found is None:
            async with self.lock:
                found = self.sessions.get(name)
                if found is None:
                    found = await asyncio.to_thread(self._load, name)
                    self.sessions[name] = found
                    self.used += found[1]
                    while self.used > CAP and len(self.sessions) > 1:
                        _, (_, size) = self.sessions.popitem(last=False)
                        self.used -= size
                        self.evictions += 1
        self.sessions.move_to_end(name)
        return found[0]

    def _load(self, name: str) -> tuple[Any, int]:
        start, before = time.perf_counter(), allocated()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = FOLDER / f"{name}.onnx"
        session = onnxruntime.InferenceSession(str(path), options)
        self.loads += 1
        self.load_s += time.perf_counter() - start
        return session, max(allocated() - before, path.stat().st_size // 2)


MODELS = Models()
app = FastAPI()


class SentTensor(BaseModel):
    """One tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Body(BaseModel):
    """A request."""

    inputs: list[SentTensor]


@app.post("/v2/models/{model}/infer")
async def infer(model: str, body: Body) -> dict[str, Any]:
    """Answer; the graph runs on the event loop."""
    session = await MODELS.get(model)
    feeds = {item.name: np.array(item.data, np.float32).reshape(item.shape) for item in body.inputs}
    names = [item.name for item in session.get_outputs()]
    outputs = [
        {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in zip(names, session.run(names, feeds), strict=True)
    ]
    return {"model_name": model, "outputs": outputs}


@app.get("/counts")
async def counts() -> dict[str, Any]:
    """What happened so far."""
    return {
        "loads": MODELS.loads, "evictions": MODELS.evictions, "load_s": MODELS.load_s,
        "loaded": len(MODELS.sessions), "used_mb": MODELS.used / 2**20,
    }  # fmt: skip


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False
    )
