"""Graphs the tests of this room are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tensor(name: str, values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def table_graph() -> onnx.ModelProto:
    """A logistic model on two numbers with NaN, one category and one date, with class names as output."""
    nodes = [
        helper.make_node("IsNaN", ["numbers"], ["nan"]),
        helper.make_node("Where", ["nan", "means", "numbers"], ["filled"]),
        helper.make_node("Div", ["filled", "scales"], ["scaled"]),
        helper.make_node(
            "LabelEncoder", ["strings"], ["codes"], domain="ai.onnx.ml", keys_strings=["Bern", "Basel"],
            values_floats=[1.0, -1.0], default_float=0.0,
        ),
        helper.make_node("Equal", ["datetimes", "missing"], ["no_date"]),
        helper.make_node("Cast", ["datetimes"], ["moments"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["moments", "century"], ["years"]),
        helper.make_node("Where", ["no_date", "zero", "years"], ["when"]),
        helper.make_node("Concat", ["scaled", "codes", "when"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["winner"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder", ["winner"], ["label"], domain="ai.onnx.ml", keys_int64s=[0, 1],
            values_strings=["no", "yes"], default_string="no",
        ),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "churn",
        [
            helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, 2]),
            helper.make_tensor_value_info("strings", TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info("datetimes", TensorProto.INT64, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
            helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
        ],
        [
            tensor("means", np.array([[40, 30_000]], np.float32)),
            tensor("scales", np.array([[10, 10_000]], np.float32)),
            tensor("missing", np.array(-(2**63), np.int64)),
            tensor("century", np.array(3.15e15, np.float32)),
            tensor("zero", np.array(0, np.float32)),
            tensor("weights", np.array([[0.4, -0.4], [-0.3, 0.3], [0.8, -0.8], [0.1, -0.2]], np.float32)),
            tensor("bias", np.array([0.1, -0.1], np.float32)),
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def model(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 21,
    ir: int = 10,
) -> onnx.ModelProto:
    """Return an unchecked model from ``x`` FP32 [rows, 3] to ``y``."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def tree_attributes() -> dict[str, Any]:
    """Return a tree of one branch and two leaves."""
    return {
        "n_targets": 1,
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
    }
