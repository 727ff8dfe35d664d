"""Graphs from outside: what is refused before any native parser, and what the child survives on our behalf."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from package_graphs import model, table_graph, tensor, tree_attributes

from modelworks.core.errors import TrustError
from modelworks.packaging import GraphLimits, ReplayLimits, inspect_graph
from modelworks.packaging.inspection import inspect_bytes


def identity(**changes: object) -> onnx.ModelProto:
    return model([helper.make_node("Identity", ["x"], ["y"])], **changes)


def external(location: str) -> onnx.ModelProto:
    built = model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor("w", np.ones(3, np.float32))])
    weights = built.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    return built


def external_without_mark() -> onnx.ModelProto:
    built = external("weights.bin")
    built.graph.initializer[0].data_location = TensorProto.DEFAULT
    return built


def external_in_attribute() -> onnx.ModelProto:
    value = external("/etc/passwd").graph.initializer[0]
    return model(
        [helper.make_node("Constant", [], ["w"], value=value), helper.make_node("Add", ["x", "w"], ["y"])]
    )


def subgraph(depth: int) -> onnx.ModelProto:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "leaf", [], [])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "level", [], [])
    return model(list(inner.node))


def subgraph_on_allowed_operator() -> onnx.ModelProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    node.attribute.append(helper.make_attribute("body", helper.make_graph([], "hidden", [], [])))
    return model([node])


def nested_functions(depth: int) -> onnx.ModelProto:
    built = model([helper.make_node("f0", ["x"], ["y"], domain="local")])
    for level in range(depth):
        node = helper.make_node(f"f{level + 1}" if level + 1 < depth else "Identity", ["a"], ["b"])
        node.domain = "local" if level + 1 < depth else ""
        built.functions.append(
            helper.make_function("local", f"f{level}", ["a"], ["b"], [node], built.opset_import)
        )
    return built


def claimed_dims(dims: list[int]) -> onnx.ModelProto:
    built = model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor("w", np.ones(3, np.float32))])
    built.graph.initializer[0].ClearField("dims")
    built.graph.initializer[0].dims.extend(dims)
    return built


def declared_shape(dims: list[int]) -> onnx.ModelProto:
    built = identity()
    built.graph.value_info.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, dims))
    return built


def operator(name: str, domain: str = "") -> onnx.ModelProto:
    return model([helper.make_node(name, ["x"], ["y"], domain=domain)])


def tree(**changes: object) -> onnx.ModelProto:
    attributes = {**tree_attributes(), **changes}
    return model([helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **attributes)])


def flat_tree(**changes: object) -> onnx.ModelProto:
    attributes = {
        "n_targets": 1, "tree_roots": [0], "nodes_featureids": [0, 1],
        "nodes_splits": tensor("s", np.ones(2, np.float32)),
        "nodes_modes": tensor("m", np.zeros(2, np.uint8)), "nodes_truenodeids": [1, 0], "nodes_trueleafs": [0, 1],
        "nodes_falsenodeids": [1, 2], "nodes_falseleafs": [1, 1], "leaf_targetids": [0, 0, 0],
        "leaf_weights": tensor("w", np.ones(3, np.float32)), **changes,
    }  # fmt: skip
    return model([helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", **attributes)])


def sparse() -> onnx.ModelProto:
    built = identity()
    values, indices = tensor("s", np.ones(1, np.float32)), tensor("i", np.zeros(1, np.int64))
    built.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**6]))
    return built


def training() -> onnx.ModelProto:
    built = identity()
    built.training_info.add()
    return built


def reference_attribute() -> onnx.ModelProto:
    built = identity()
    attribute = built.graph.node[0].attribute.add()
    attribute.name, attribute.ref_attr_name = "alpha", "alpha"
    return built


def segmented() -> onnx.ModelProto:
    built = claimed_dims([3])
    built.graph.initializer[0].segment.begin = 0
    return built


def many_nodes() -> onnx.ModelProto:
    return model([helper.make_node("Identity", ["x"], ["y"])] * 20_001)


HOSTILE: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "external /etc/passwd": (lambda: external("/etc/passwd"), "external data"),
    "external ../": (lambda: external("../../../etc/shadow"), "external data"),
    "external empty": (lambda: external(""), "external data"),
    "external in memory": (lambda: external("*/_ORT_MEM_ADDR_/*"), "external data"),
    "external without the mark": (external_without_mark, "external data"),
    "external in an attribute": (external_in_attribute, "external data"),
    "one subgraph": (lambda: subgraph(1), "'If' is not on the list"),
    "nested subgraphs": (lambda: subgraph(12), "'If' is not on the list"),
    "subgraph on Identity": (subgraph_on_allowed_operator, "subgraph"),
    "one function": (lambda: nested_functions(1), "functions"),
    "nested functions": (lambda: nested_functions(200), "functions"),
    "huge dims": (lambda: claimed_dims([2**31, 2**31]), "claims 4,611,686,018,427,387,904 values and holds 3"),
    "one too large a dim": (lambda: claimed_dims([2**62]), "shape"),
    "negative dims": (lambda: claimed_dims([-3]), "shape"),
    "overflowing dims": (lambda: claimed_dims([2**31] * 8 + [2]), "shape"),
    "too few values": (lambda: claimed_dims([4]), "claims 4 values and holds 3"),
    "declared shape": (lambda: declared_shape([2**40]), "declared with the shape"),
    "declared rank": (lambda: declared_shape([1] * 60), "declared with the shape"),
    "domain com.microsoft": (lambda: operator("FusedGemm", "com.microsoft"), "domain 'com.microsoft'"),
    "domain of its own": (lambda: operator("Identity", "evil"), "domain 'evil'"),
    "unknown operator": (lambda: operator("Identiti"), "Did you mean 'Identity'"),
    "loop": (lambda: operator("Loop"), "'Loop'"),
    "image decoder": (lambda: operator("ImageDecoder"), "'ImageDecoder'"),
    "random numbers": (lambda: operator("RandomNormalLike"), "'RandomNormalLike'"),
    "map output": (lambda: operator("ZipMap", "ai.onnx.ml"), "'ZipMap'"),
    "opset of the future": (lambda: identity(opset=999), "version 999"),
    "format of the future": (lambda: identity(ir=99), "format version"),
    "sparse constant": (sparse, "sparse"),
    "training information": (training, "training"),
    "attribute reference": (reference_attribute, "reference"),
    "segments": (segmented, "segments"),
    "too many nodes": (many_nodes, "20,001 nodes"),
    "tree: child outside": (lambda: tree(nodes_truenodeids=[9, 0, 0]), "does not exist"),
    "tree: negative child": (lambda: tree(nodes_falsenodeids=[-1, 0, 0]), "negative or too large"),
    "tree: huge child": (lambda: tree(nodes_falsenodeids=[2**40, 0, 0]), "negative or too large"),
    "tree: own ancestor": (lambda: tree(nodes_truenodeids=[0, 0, 0]), "own ancestor"),
    "tree: two parents": (lambda: tree(nodes_truenodeids=[2, 0, 0]), "two parents"),
    "tree: same id twice": (lambda: tree(nodes_nodeids=[0, 1, 1]), "occurs twice"),
    "tree: short table": (lambda: tree(nodes_featureids=[0]), "differ in length"),
    "tree: negative feature": (lambda: tree(nodes_featureids=[-5, 0, 0]), "feature"),
    "tree: huge feature": (lambda: tree(nodes_featureids=[2**33, 0, 0]), "feature"),
    "tree: leaf outside": (lambda: tree(target_nodeids=[1, 77]), "does not exist"),
    "tree: output outside": (lambda: tree(target_ids=[0, 5]), "output that does not exist"),
    "flat tree: child outside": (lambda: flat_tree(nodes_truenodeids=[5, 0]), "does not exist"),
    "flat tree: leaf outside": (lambda: flat_tree(nodes_falsenodeids=[1, 9]), "does not exist"),
    "flat tree: root outside": (lambda: flat_tree(tree_roots=[4]), "root"),
    "flat tree: loop": (lambda: flat_tree(nodes_truenodeids=[0, 0]), "own ancestor"),
    "flat tree: output outside": (lambda: flat_tree(leaf_targetids=[0, 3, 0]), "output that does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused_and_the_message_says_why(name: str) -> None:
    make, why = HOSTILE[name]
    with pytest.raises(TrustError, match=why.replace("(", r"\(")) as refused:
        inspect_bytes(make().SerializeToString(), GraphLimits())
    assert refused.value.hint


def test_the_child_refuses_too() -> None:
    with pytest.raises(TrustError, match="external data"):
        inspect_graph(external("/etc/passwd").SerializeToString())


def test_plain_graphs_are_allowed() -> None:
    assert inspect_graph(table_graph().SerializeToString())["nodes"] == 13
    assert inspect_bytes(tree().SerializeToString(), GraphLimits())["operators"] == {
        "ai.onnx.ml.TreeEnsembleRegressor": 1
    }
    assert inspect_bytes(flat_tree().SerializeToString(), GraphLimits())["nodes"] == 1


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (GraphLimits(bytes=10), "bytes"),
        (GraphLimits(constants=1), "constants"),
        (GraphLimits(attribute_values=3), "values"),
    ],
)
def test_limits_are_kept(limits: GraphLimits, why: str) -> None:
    with pytest.raises(TrustError, match=why):
        inspect_bytes(table_graph().SerializeToString(), limits)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_read_but_never_crash(data: st.DataObject) -> None:
    good = bytearray(tree().SerializeToString())
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for candidate in (bytes(good), bytes(good[:cut])):
        try:
            inspect_bytes(candidate, GraphLimits())
        except TrustError as refused:
            assert refused.error_code in ("MW3201", "MW3202")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_never_crash(data: bytes) -> None:
    try:
        inspect_bytes(data, GraphLimits())
    except TrustError as refused:
        assert refused.error_code in ("MW3201", "MW3202")


def test_a_graph_that_reads_outside_its_row_ends_only_the_child() -> None:
    """Feature 999,999 of a row with three: ONNX Runtime reads megabytes past the row and dies of it."""
    from modelworks.core.signature import Signature, Tensor
    from modelworks.packaging.replay import replay

    signature = Signature(
        inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 3), columns=("a", "b", "c")),),
        outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
    )
    examples = {"rows": [{"a": 1.0}], "expected": {"y": [[0.0]]}, "tolerance": {"absolute": 0, "relative": 0}}
    far = tree(nodes_featureids=[999_999, 0, 0]).SerializeToString()
    before = os.getpid()
    with pytest.raises(TrustError):
        replay(far, signature, examples, ReplayLimits())
    assert os.getpid() == before
    assert inspect_graph(identity().SerializeToString())["nodes"] == 1
