"""Trees as flat arrays: read from LightGBM's text, scaled, merged, and written as one TreeEnsemble node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import ML, Graph

LESS_OR_EQUAL, MEMBER = 0, 6
_NODE_TREES = 500
_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT, _MISSING_NAN = 1, 2, 2, 2


@dataclass(frozen=True, kw_only=True)
class Trees:
    """An additive ensemble of trees.

    Children ``>= 0`` are node numbers, children ``< 0`` are leaves ``~number``.

    Attributes:
        roots: int64 [trees], the first node of each tree.
        feature, true, false: int64 [nodes].
        split: float32 [nodes]; ``x <= split`` goes to ``true``.
        mode: uint8 [nodes], ``LESS_OR_EQUAL`` or ``MEMBER``.
        missing_true: bool [nodes]; where a missing value goes.
        members: For each ``MEMBER`` node, in node order, the float32 values that go to ``true``.
        leaf: float64 [leaves], the value added to output ``leaf_output``.
        leaf_output: int64 [leaves].
        base: float64 [outputs], added to every row.
    """

    roots: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    split: npt.NDArray[np.float32]
    mode: npt.NDArray[np.uint8]
    true: npt.NDArray[np.int64]
    false: npt.NDArray[np.int64]
    missing_true: npt.NDArray[np.bool_]
    leaf: npt.NDArray[np.float64]
    leaf_output: npt.NDArray[np.int64]
    base: npt.NDArray[np.float64]
    members: tuple[npt.NDArray[np.float32], ...] = field(default=())

    @property
    def nodes(self) -> int:
        """Number of inner nodes."""
        return len(self.feature)

    def scaled(self, factor: float) -> Trees:
        """Multiply every leaf and the base."""
        return replace(self, leaf=self.leaf * factor, base=self.base * factor)

    def shifted(self, output: int, outputs: int) -> Trees:
        """Move an ensemble to the columns from ``output`` on, of ``outputs`` in all."""
        if len(self.base) == outputs:
            return self
        base = np.zeros(outputs)
        base[output : output + len(self.base)] = self.base
        return replace(self, leaf_output=self.leaf_output + output, base=base)


def floor_to_float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round down, so that ``x <= floor(t)`` equals ``x <= t`` for every float32 ``x``."""
    rounded = values.astype(np.float32)
    above = rounded.astype(np.float64) > values
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


def merge(parts: Sequence[Trees]) -> Trees:
    """Add ensembles over the same features and outputs."""
    if len(parts) == 1:
        return parts[0]
    node_starts = np.cumsum([0, *(part.nodes for part in parts)])
    leaf_starts = np.cumsum([0, *(len(part.leaf) for part in parts)])

    def moved(children: npt.NDArray[np.int64], nodes: int, leaves: int) -> npt.NDArray[np.int64]:
        return np.where(children >= 0, children + nodes, children - leaves)

    spots = list(zip(parts, node_starts[:-1].tolist(), leaf_starts[:-1].tolist(), strict=True))
    return Trees(
        roots=np.concatenate([part.roots + nodes for part, nodes, _ in spots]),
        feature=np.concatenate([part.feature for part in parts]),
        split=np.concatenate([part.split for part in parts]),
        mode=np.concatenate([part.mode for part in parts]),
        true=np.concatenate([moved(part.true, nodes, leaves) for part, nodes, leaves in spots]),
        false=np.concatenate([moved(part.false, nodes, leaves) for part, nodes, leaves in spots]),
        missing_true=np.concatenate([part.missing_true for part in parts]),
        leaf=np.concatenate([part.leaf for part in parts]),
        leaf_output=np.concatenate([part.leaf_output for part in parts]),
        base=np.sum([part.base for part in parts], axis=0),
        members=tuple(values for part in parts for values in part.members),
    )


def _every(body: str, key: str) -> list[str]:
    """Return the values of ``key`` in every tree that has it, in order."""
    return re.findall(rf"^{key}=(.*)$", body, re.MULTILINE)


def _numbers(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.fromstring(" ".join(texts), dtype=np.float64, sep=" ") if texts else np.zeros(0)


def _whole(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.fromstring(" ".join(texts), dtype=np.int64, sep=" ") if texts else np.zeros(0, dtype=np.int64)


def from_lightgbm(text: str, outputs: int) -> Trees:
    """Read LightGBM's text model: numerical and categorical splits, missing values as LightGBM sends them.

    Args:
        text: What ``Booster.model_text`` returned.
        outputs: Trees per round; tree ``i`` adds to output ``i % outputs``.
    """
    body = text[text.index("Tree=0") : text.index("end of trees")] if "Tree=0" in text else ""
    sizes = _whole(_every(body, "num_leaves"))
    output = np.arange(len(sizes)) % outputs
    grown = sizes > 1
    values = _numbers(_every(body, "leaf_value"))
    of_grown = np.repeat(grown, sizes)
    base = np.zeros(outputs)
    np.add.at(base, output[~grown], values[~of_grown])
    leaves = sizes[grown]
    inner = leaves - 1
    node_start = np.repeat(np.cumsum(inner) - inner, inner)
    leaf_start = np.repeat(np.cumsum(leaves) - leaves, inner)

    def child(key: str) -> npt.NDArray[np.int64]:
        found = _whole(_every(body, key))
        return np.where(found >= 0, found + node_start, found - leaf_start)

    decision = _whole(_every(body, "decision_type"))
    threshold = _numbers(_every(body, "threshold"))
    categorical = (decision & _CATEGORICAL) > 0
    sees_missing = ((decision >> _MISSING_SHIFT) & 3) == _MISSING_NAN
    default_left = (decision & _DEFAULT_LEFT) > 0
    split = floor_to_float32(threshold)
    split[categorical] = 0.0
    return Trees(
        roots=np.cumsum(inner) - inner,
        feature=_whole(_every(body, "split_feature")),
        split=split,
        mode=np.where(categorical, MEMBER, LESS_OR_EQUAL).astype(np.uint8),
        true=child("left_child"),
        false=child("right_child"),
        missing_true=np.where(sees_missing, default_left, threshold >= 0) & ~categorical,
        leaf=values[of_grown],
        leaf_output=np.repeat(output[grown], leaves),
        base=base,
        members=_members(body) if categorical.any() else (),
    )


def _members(body: str) -> tuple[npt.NDArray[np.float32], ...]:
    """Return the category codes that go left, per categorical node in node order."""
    found = []
    for block in body.split("Tree=")[1:]:
        fields = dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE))
        if int(fields.get("num_cat", "0")) == 0:
            continue
        bounds = _whole([fields["cat_boundaries"]])
        words = np.array(fields["cat_threshold"].split(), dtype=np.uint32)
        index = _numbers([fields["threshold"]])
        for position in index[(_whole([fields["decision_type"]]) & _CATEGORICAL) > 0].astype(np.int64):
            bits = np.unpackbits(
                words[bounds[position] : bounds[position + 1]].view(np.uint8), bitorder="little"
            )
            found.append(np.flatnonzero(bits).astype(np.float32))
    return tuple(found)


def write_trees(graph: Graph, trees: Trees, features: str) -> str:
    """Write an ensemble as ``ai.onnx.ml`` TreeEnsemble nodes; returns ``[rows, outputs]``.

    ONNX Runtime's loading time grows with the square of the trees in one node, so that a large ensemble is
    written as several nodes whose outputs are added.
    """
    outputs = len(trees.base)
    base = graph.constant(trees.base[None, :], np.float32)
    if not len(trees.roots):
        rows = graph.op("Shape", features, end=1)
        shape = graph.op("Concat", rows, graph.constant([outputs], np.int64), axis=0)
        return graph.op("Expand", base, shape)
    terms = [_write_node(graph, part, features) for part in _chunks(trees)]
    return graph.total([*terms, base])


def _chunks(trees: Trees) -> Iterator[Trees]:
    """Cut an ensemble, whose trees lie one after the other, into parts of at most ``_NODE_TREES`` trees."""
    count = len(trees.roots)
    leaf_before = np.searchsorted(_leaf_owner(trees), np.arange(count + 1))
    node_before = np.append(trees.roots, trees.nodes)
    member_before = np.concatenate([[0], np.cumsum(trees.mode == MEMBER)])
    for start in range(0, count, _NODE_TREES):
        end = min(start + _NODE_TREES, count)
        first, last = int(node_before[start]), int(node_before[end])
        leaf, leaf_end = int(leaf_before[start]), int(leaf_before[end])
        true, false = trees.true[first:last], trees.false[first:last]
        yield replace(
            trees,
            roots=trees.roots[start:end] - first,
            feature=trees.feature[first:last],
            split=trees.split[first:last],
            mode=trees.mode[first:last],
            true=np.where(true >= 0, true - first, true + leaf),
            false=np.where(false >= 0, false - first, false + leaf),
            missing_true=trees.missing_true[first:last],
            leaf=trees.leaf[leaf:leaf_end],
            leaf_output=trees.leaf_output[leaf:leaf_end],
            members=trees.members[int(member_before[first]) : int(member_before[last])],
        )


def _leaf_owner(trees: Trees) -> npt.NDArray[np.int64]:
    """Return the tree of each leaf: a tree with ``k`` inner nodes has ``k + 1`` leaves, stored in tree order."""
    inner = np.diff(np.append(trees.roots, trees.nodes))
    return np.repeat(np.arange(len(trees.roots)), inner + 1)


def _write_node(graph: Graph, trees: Trees, features: str) -> str:
    from onnx import numpy_helper

    attributes = {
        "nodes_splits": numpy_helper.from_array(trees.split, "splits"),
        "nodes_featureids": trees.feature.tolist(),
        "nodes_modes": numpy_helper.from_array(trees.mode, "modes"),
        "nodes_truenodeids": np.where(trees.true >= 0, trees.true, ~trees.true).tolist(),
        "nodes_falsenodeids": np.where(trees.false >= 0, trees.false, ~trees.false).tolist(),
        "nodes_trueleafs": (trees.true < 0).astype(np.int64).tolist(),
        "nodes_falseleafs": (trees.false < 0).astype(np.int64).tolist(),
        "nodes_missing_value_tracks_true": trees.missing_true.astype(np.int64).tolist(),
        "tree_roots": trees.roots.tolist(),
        "leaf_targetids": trees.leaf_output.tolist(),
        "leaf_weights": numpy_helper.from_array(trees.leaf.astype(np.float32), "leaves"),
    }
    if trees.members:
        ended = [np.append(values, np.float32(np.nan)) for values in trees.members]
        attributes["membership_values"] = numpy_helper.from_array(np.concatenate(ended), "members")
    return graph.op(
        "TreeEnsemble",
        features,
        domain=ML,
        n_targets=len(trees.base),
        aggregate_function=1,
        post_transform=0,
        **attributes,
    )
