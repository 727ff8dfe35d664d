"""A small writer of ONNX graphs: nodes and constants in order, names made on the way, equal bytes for equal calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

OPSET = 21
ML_OPSET = 3


class GraphWriter:
    """Collects nodes and constants and writes one checked model."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._count = 0

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Add a constant tensor; returns its name."""
        self._count += 1
        name = f"c{self._count}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        self._count += 1
        name = output or f"v{self._count}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def write(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> bytes:
        """Return the bytes of the checked model."""
        graph = helper.make_graph(self._nodes, self._name, list(inputs), list(outputs), self._constants)
        model: ModelProto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
            ir_version=10,
            producer_name="modelworks",
        )
        checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


def tensor(name: str, kind: str, shape: Sequence[int | str | None]) -> ValueInfoProto:
    """Describe a graph input or output; ``kind`` is ``float``, ``string``, ``uint8``, ``int64`` or ``bool``."""
    types = {
        "float": TensorProto.FLOAT,
        "string": TensorProto.STRING,
        "uint8": TensorProto.UINT8,
        "int64": TensorProto.INT64,
        "bool": TensorProto.BOOL,
    }
    return helper.make_tensor_value_info(name, types[kind], list(shape))
