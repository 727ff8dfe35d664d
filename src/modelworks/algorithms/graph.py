"""A small writer of ONNX graphs: constants stored once, nodes named by order, standard domains only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.signature import Signature, Tensor

OPSET = 20
ML_OPSET = 5
IR_VERSION = 10
ML = "ai.onnx.ml"

FLOAT, INT64, STRING, BOOL, DOUBLE, UINT8 = 1, 7, 8, 9, 11, 2
_DATATYPES = {"FP32": FLOAT, "INT64": INT64, "BYTES": STRING, "BOOL": BOOL, "UINT8": UINT8, "FP64": DOUBLE}


class Graph:
    """Nodes and constants of one graph in the making. Every method returns the name of a tensor."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def constant(self, value: npt.ArrayLike, dtype: Any = None) -> str:
        """Store an array (float32, int64, bool, ...); equal arrays are stored once."""
        from onnx import numpy_helper

        array = np.array(value, dtype=dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = f"c{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(array, name))
        return name

    def strings(self, values: Sequence[str], shape: Sequence[int]) -> str:
        """Store a string tensor."""
        from onnx import helper

        name = f"c{len(self._constants)}"
        encoded: Any = [value.encode() for value in values]
        self._constants.append(helper.make_tensor(name, STRING, list(shape), encoded))
        return name

    def op(self, kind: str, *inputs: str, out: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.ops(kind, *inputs, outs=(out,), domain=domain, **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, outs: Sequence[str | None], domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs; ``None`` picks a name."""
        from onnx import helper

        names = tuple(out or self._name() for out in outs)
        self._nodes.append(helper.make_node(kind, list(inputs), list(names), domain=domain, **attributes))
        return names

    def rename(self, tensor: str, name: str) -> str:
        """Give a tensor a public name."""
        return self.op("Identity", tensor, out=name)

    def cast(self, tensor: str, to: int) -> str:
        """Cast a tensor to an ONNX element type."""
        return self.op("Cast", tensor, to=to)

    def columns(self, tensor: str, indices: Sequence[int] | npt.NDArray[Any]) -> str:
        """Pick columns of ``[rows, k]``."""
        return self.op("Gather", tensor, self.constant(indices, np.int64), axis=1)

    def concat(self, tensors: Sequence[str]) -> str:
        """Put tensors ``[rows, *]`` side by side."""
        return tensors[0] if len(tensors) == 1 else self.op("Concat", *tensors, axis=1)

    def total(self, tensors: Sequence[str]) -> str:
        """Add tensors of one shape."""
        return tensors[0] if len(tensors) == 1 else self.op("Sum", *tensors)

    def scaled(self, tensor: str, factor: float) -> str:
        """Multiply by a number."""
        return tensor if factor == 1.0 else self.op("Mul", tensor, self.constant(factor, np.float32))

    def adopt(self, model: Any, feeds: Mapping[str, str]) -> tuple[str, ...]:
        """Take over the nodes and constants of another graph (an ``onnx.ModelProto``) under names of our own.

        Args:
            model: Its inputs are fed from the tensors of this graph that ``feeds`` names.
            feeds: Input name -> tensor of this graph.

        Returns:
            The tensors of its outputs.
        """
        from onnx import helper, numpy_helper

        known = {"": "", **feeds}
        for constant in model.graph.initializer:
            known[constant.name] = self.constant(numpy_helper.to_array(constant))
        for node in model.graph.node:
            attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            outs = [self._name() if name else "" for name in node.output]
            inputs = [known[name] for name in node.input]
            self._nodes.append(helper.make_node(node.op_type, inputs, outs, domain=node.domain, **attributes))
            known.update(zip(node.output, outs, strict=True))
        return tuple(known[item.name] for item in model.graph.output)

    def _name(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def to_bytes(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bytes:
        """Serialise the graph with its typed inputs and outputs (axis 0 is free)."""
        from onnx import helper

        graph = helper.make_graph(
            self._nodes,
            "modelworks",
            [_value(tensor) for tensor in inputs],
            [_value(tensor) for tensor in outputs],
            self._constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)],
            ir_version=IR_VERSION,
            producer_name="modelworks",
        )
        return bytes(model.SerializeToString(deterministic=True))

    def finish(self, signature: Signature) -> bytes:
        """Serialise the graph of a finished model."""
        return self.to_bytes(signature.inputs, signature.outputs)


def _value(tensor: Tensor) -> Any:
    from onnx import helper

    shape = [
        (f"free{index}" if index else "rows") if axis < 0 else axis for index, axis in enumerate(tensor.shape)
    ]
    return helper.make_tensor_value_info(tensor.name, _DATATYPES[tensor.datatype], shape)
