"""Tree ensembles inside a graph: every child, feature and leaf they name must exist and no tree may loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import TrustError
from modelworks.packaging import wire

MAX_FEATURE = 1_000_000
_LEAF = b"LEAF"


def check_ensemble(operator: str, attributes: dict[str, dict[str, list[Any]]]) -> None:
    """Check the node tables of ``TreeEnsembleClassifier``, ``TreeEnsembleRegressor`` or ``TreeEnsemble``.

    Raises:
        TrustError: An index points outside its table, or a node is its own ancestor.
    """
    if operator == "TreeEnsemble":
        _check_flat(attributes)
    else:
        _check_classic(attributes, "class" if operator.endswith("Classifier") else "target")


def _check_classic(attributes: dict[str, dict[str, list[Any]]], leaf: str) -> None:
    tree, node = _integers(attributes, "nodes_treeids"), _integers(attributes, "nodes_nodeids")
    yes, no = _integers(attributes, "nodes_truenodeids"), _integers(attributes, "nodes_falsenodeids")
    feature = _integers(attributes, "nodes_featureids")
    branch = ~wire.texts_equal(attributes.get("nodes_modes", {}).get("strings", []), _LEAF)
    count = len(tree)
    if not all(len(part) == count for part in (node, yes, no, feature, branch)):
        raise _refuse("its node tables differ in length")
    if count == 0:
        raise _refuse("it has no nodes")
    if (tree < 0).any() or (node < 0).any() or (tree > 2**31).any() or (node > 2**31).any():
        raise _refuse("a node id is negative or too large")
    keys = (tree << 32) | node
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():
        raise _refuse("a node id occurs twice in a tree")
    left = _find(
        ordered, order, (tree[branch] << 32) | yes[branch], (yes[branch] < 0) | (yes[branch] > 2**31)
    )
    right = _find(ordered, order, (tree[branch] << 32) | no[branch], (no[branch] < 0) | (no[branch] > 2**31))
    _check_features(feature[branch])
    _check_loops(np.flatnonzero(branch), left, right, count)
    leaf_tree, leaf_node = _integers(attributes, f"{leaf}_treeids"), _integers(attributes, f"{leaf}_nodeids")
    leaf_ids = _integers(attributes, f"{leaf}_ids")
    if not len(leaf_tree) == len(leaf_node) == len(leaf_ids):
        raise _refuse("its leaf tables differ in length")
    outside = (leaf_tree < 0) | (leaf_node < 0) | (leaf_tree > 2**31) | (leaf_node > 2**31)
    _find(ordered, order, (leaf_tree << 32) | leaf_node, outside)
    if (leaf_ids < 0).any() or (leaf_ids >= _outputs(attributes, leaf)).any():
        raise _refuse("a leaf votes for an output that does not exist")


def _check_flat(attributes: dict[str, dict[str, list[Any]]]) -> None:
    yes, no = _integers(attributes, "nodes_truenodeids"), _integers(attributes, "nodes_falsenodeids")
    feature, roots = _integers(attributes, "nodes_featureids"), _integers(attributes, "tree_roots")
    yes_leaf, no_leaf = _integers(attributes, "nodes_trueleafs"), _integers(attributes, "nodes_falseleafs")
    leaf_ids = _integers(attributes, "leaf_targetids")
    nodes, leaves = len(feature), len(leaf_ids)
    if not all(len(part) == nodes for part in (yes, no, yes_leaf, no_leaf)):
        raise _refuse("its node tables differ in length")
    for child, is_leaf in ((yes, yes_leaf), (no, no_leaf)):
        size = np.where(is_leaf != 0, leaves, nodes)
        if ((child < 0) | (child >= size)).any():
            raise _refuse("a node has a child that does not exist")
    if ((roots < 0) | (roots >= max(nodes, 1))).any() or len(roots) == 0:
        raise _refuse("a tree's root does not exist")
    _check_features(feature)
    branch = np.arange(nodes)
    _check_loops(branch, np.where(yes_leaf != 0, -1, yes), np.where(no_leaf != 0, -1, no), nodes)
    targets = _single(attributes, "n_targets")
    if ((leaf_ids < 0) | (leaf_ids >= max(targets, 0))).any():
        raise _refuse("a leaf votes for an output that does not exist")


def _find(
    ordered: npt.NDArray[np.int64],
    order: npt.NDArray[Any],
    wanted: npt.NDArray[np.int64],
    outside: npt.NDArray[Any],
) -> npt.NDArray[np.int64]:
    """Return table positions of node keys; raise if one does not exist."""
    if outside.any():
        raise _refuse("a node id is negative or too large")
    place = np.searchsorted(ordered, wanted)
    if (place >= len(ordered)).any() or (ordered[np.minimum(place, len(ordered) - 1)] != wanted).any():
        raise _refuse("a node has a child that does not exist")
    return np.asarray(order[place], np.int64)


def _check_loops(
    branch: npt.NDArray[np.int64], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], count: int
) -> None:
    """Peel leaves upwards (Kahn): what cannot be peeled is its own ancestor. A node with two parents is refused too."""
    children = np.concatenate([left, right])
    children = children[children >= 0]
    if (np.bincount(children, minlength=1) > 1).any():
        raise _refuse("a node has two parents")
    # With at most one parent each, a node is on a loop exactly if no root above it is ever reached.
    parent = np.full(count, -1, np.int64)
    parent[left[left >= 0]] = branch[left >= 0]
    parent[right[right >= 0]] = branch[right >= 0]
    above = parent
    for _ in range(max(1, int(count).bit_length())):
        above = np.where(above >= 0, above[np.maximum(above, 0)], -1)
    if (above >= 0).any():
        raise _refuse("a node is its own ancestor")


def _check_features(feature: npt.NDArray[np.int64]) -> None:
    if ((feature < 0) | (feature > MAX_FEATURE)).any():
        raise _refuse("a node asks for a feature that cannot exist")


def _outputs(attributes: dict[str, dict[str, list[Any]]], leaf: str) -> int:
    if leaf == "target":
        return _single(attributes, "n_targets")
    labels = attributes.get("classlabels_strings", {}).get("strings", [])
    return max(wire.count_texts(labels), len(_integers(attributes, "classlabels_int64s")))


def _integers(attributes: dict[str, dict[str, list[Any]]], name: str) -> npt.NDArray[np.int64]:
    return wire.numbers(attributes.get(name, {}).get("ints", []), "int64")


def _single(attributes: dict[str, dict[str, list[Any]]], name: str) -> int:
    values = attributes.get(name, {}).get("i", [])
    return wire.signed(values[0]) if values else 0


def _refuse(why: str) -> TrustError:
    return TrustError(
        f"model.onnx is refused: a tree ensemble is broken: {why}.",
        code="MW3202",
        where="model.onnx",
        hint="do not use this package; ask its maker for another",
    )
