"""What every Python peer shares: the session, and the protocol's JSON to arrays and back. Needs no Modelworks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

DTYPES = {"FP32": np.float32, "INT64": np.int64, "UINT8": np.uint8}


def folder() -> Path:
    """Return the folder of the models."""
    return Path(os.environ["BENCH_MODELS"])


def name() -> str:
    """Return the model this process serves."""
    return os.environ["BENCH_MODEL"]


def signature() -> dict[str, Any]:
    """Return the names and types of the model's tensors."""
    return json.loads((folder() / f"{name()}.json").read_text())


class Graph:
    """A one-thread session, as Modelworks uses, and how its tensors are called."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(folder() / f"{name()}.onnx"), options)
        self.inputs = {item["name"]: item["datatype"] for item in signature()["inputs"]}
        self.outputs = [item.name for item in self.session.get_outputs()]

    def run(self, feeds: dict[str, Any]) -> list[Any]:
        """Run the graph."""
        return self.session.run(self.outputs, feeds)

    def answer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Answer the ``inputs`` of a JSON request."""
        feeds = {
            item["name"]: np.array(item["data"], DTYPES[item["datatype"]]).reshape(item["shape"])
            for item in inputs
        }
        outputs = [
            {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in zip(self.outputs, self.run(feeds), strict=True)
        ]
        return {"model_name": name(), "outputs": outputs}
