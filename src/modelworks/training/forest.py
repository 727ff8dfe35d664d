"""Extremely randomised trees, grown level by level for all trees at once (Geurts, Ernst and Wehenkel 2006).

Every candidate split of a node is a random column and a random point between the node's extremes of it; the best of
a few candidates is taken. Trees are grown until their leaves are pure or small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.budget import Budget

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_LEVELS = 60
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class GrownTrees:
    """Trees as flat arrays, each tree's nodes and leaves together.

    Children ``>= 0`` are node numbers, children ``< 0`` are leaves ``~number``; a missing value goes to ``right``.

    Attributes:
        roots: int64 [trees].
        feature, left, right: int64 [nodes]; ``x <= split`` goes to ``left``.
        split: float32 [nodes].
        leaf: float64 [leaves, outputs], mean of the target in the leaf.
    """

    roots: Integers
    feature: Integers
    split: Singles
    left: Integers
    right: Integers
    leaf: Floats

    def mean(self, features: Singles) -> Floats:
        """Return the mean of the trees' leaves ``[rows, outputs]``."""
        total = np.zeros((len(features), self.leaf.shape[1]))
        rows = np.arange(len(features))
        for root in self.roots.tolist():
            node = np.full(len(features), root)
            open_rows = rows
            while len(open_rows):
                here = node[open_rows]
                low = features[open_rows, self.feature[here]] <= self.split[here]
                node[open_rows] = np.where(low, self.left[here], self.right[here])
                open_rows = open_rows[node[open_rows] >= 0]
            total += self.leaf[~node]
        return total / len(self.roots)


@dataclass
class _Level:
    """The open nodes of one level: their rows lie one node after the other; how often each was tried in vain."""

    rows: Integers
    start: Integers
    node: Integers
    tries: Integers

    @property
    def size(self) -> Integers:
        return np.diff(np.append(self.start, len(self.rows)))


def grow_trees(
    features: Singles,
    target: Floats,
    samples: list[Integers],
    *,
    candidates: int,
    least: int,
    seed: int,
    budget: Budget,
) -> GrownTrees:
    """Grow one tree per sample of rows.

    Args:
        features: float32 ``[rows, columns]``; NaN is missing.
        target: float64 ``[rows, outputs]``: numbers, or 0/1 per class.
        samples: Row numbers of each tree.
        candidates: Splits tried per node.
        least: Rows a node must hold to be split further is twice this.
        seed: Seed of columns and points.
        budget: Checked at every level.
    """
    generator = np.random.default_rng(seed)
    columns = np.ascontiguousarray(features.T)
    grower = _Grower(columns, target, candidates, least, generator)
    lengths = np.array([len(rows) for rows in samples], dtype=np.int64)
    roots = grower.open(len(samples))
    level = _Level(np.concatenate(samples), np.cumsum(lengths) - lengths, roots, np.zeros_like(roots))
    for _ in range(_LEVELS):
        if not len(level.node):
            break
        budget.check()
        level = grower.split(level)
    grower.close(level)
    return grower.trees(len(samples))


class _Grower:
    """What was found so far: every node has a number, a leaf is a node without a split."""

    def __init__(
        self, columns: Singles, target: Floats, candidates: int, least: int, generator: np.random.Generator
    ) -> None:
        self._columns, self._target, self._least = columns, target, least
        self._candidates, self._random = candidates, generator
        self._count = 0
        self._made: list[tuple[Any, ...]] = []
        self._ended: list[tuple[Integers, Floats]] = []

    def open(self, count: int) -> Integers:
        """Number ``count`` new nodes."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def close(self, level: _Level) -> None:
        """Make every open node a leaf."""
        if len(level.node):
            sums = np.add.reduceat(self._target[level.rows], level.start, axis=0)
            self._ended.append((level.node, sums / level.size[:, None]))

    def split(self, level: _Level) -> _Level:
        """Split or close the open nodes; returns the children, and the nodes to try again."""
        level = self._without_finished(level)
        if not len(level.node):
            return level
        gain, feature, point = self._best(level)
        barren = gain <= 0
        if not barren.any():
            return self._children(level, feature, point)
        vain = replace(_some(level, barren), tries=level.tries[barren] + 1)
        self.close(_some(vain, vain.tries >= _TRIES))
        again = _some(vain, vain.tries < _TRIES)
        if barren.all():
            return again
        split = self._children(_some(level, ~barren), feature[~barren], point[~barren])
        return _Level(
            np.concatenate([split.rows, again.rows]),
            np.concatenate([split.start, again.start + len(split.rows)]),
            np.concatenate([split.node, again.node]),
            np.concatenate([split.tries, again.tries]),
        )

    def _children(self, level: _Level, feature: Integers, point: Singles) -> _Level:
        """Send the rows of every node to its two children."""
        of_row = np.repeat(np.arange(len(level.node)), level.size)
        low = self._columns[feature[of_row], level.rows] <= point[of_row]
        lows = np.add.reduceat(low.astype(np.int64), level.start)
        before: Integers = np.cumsum(low) - low
        rank_low: Integers = before - before[level.start][of_row]
        place = np.arange(len(low)) - level.start[of_row]
        spot = level.start[of_row] + np.where(low, rank_low, lows[of_row] + place - rank_low)
        rows = np.empty_like(level.rows)
        rows[spot] = level.rows
        children = self.open(2 * len(level.node)).reshape(-1, 2)
        self._made.append((level.node, feature, point, children))
        start = np.stack([level.start, level.start + lows], axis=1).ravel()
        return _Level(rows, start, children.ravel(), np.zeros(children.size, dtype=np.int64))

    def _without_finished(self, level: _Level) -> _Level:
        """Close nodes that are small or whose rows all have one target."""
        values = self._target[level.rows]
        low = np.minimum.reduceat(values, level.start, axis=0)
        high = np.maximum.reduceat(values, level.start, axis=0)
        finished = (level.size < 2 * self._least) | (high == low).all(axis=1)
        if finished.any():
            self.close(_some(level, finished))
            level = _some(level, ~finished)
        return level

    def _best(self, level: _Level) -> tuple[Floats, Integers, Singles]:
        """Return gain, column and point of the best candidate of each node (gain 0: none parts the rows)."""
        nodes, size = len(level.node), level.size
        of_row = np.repeat(np.arange(nodes), size)
        values = self._target[level.rows]
        whole = np.add.reduceat(values, level.start, axis=0)
        base = np.square(whole).sum(axis=1) / size
        best = np.zeros(nodes)
        feature = np.zeros(nodes, dtype=np.int64)
        point = np.zeros(nodes, dtype=np.float32)
        for _ in range(self._candidates):
            column = self._random.integers(0, len(self._columns), nodes)
            seen = self._columns[column[of_row], level.rows]
            low = np.fmin.reduceat(seen, level.start)
            high = np.fmax.reduceat(seen, level.start)
            drawn = low + (high - low) * self._random.random(nodes, dtype=np.float32)
            drawn = np.where(drawn < high, drawn, low)
            left = seen <= drawn[of_row]
            count = np.add.reduceat(left.astype(np.float64), level.start)
            sums = np.add.reduceat(values * left[:, None], level.start, axis=0)
            other = size - count
            usable = (count >= self._least) & (other >= self._least)
            score = np.square(sums).sum(axis=1) / np.maximum(count, 1)
            score += np.square(whole - sums).sum(axis=1) / np.maximum(other, 1)
            gain = np.where(usable, score - base + 1e-12 * size, 0.0)
            better = gain > best
            best[better], feature[better], point[better] = gain[better], column[better], drawn[better]
        return best, feature, point

    def trees(self, count: int) -> GrownTrees:
        """Return the trees, numbered tree after tree; one that is a single leaf gets a node with two equal leaves."""
        grown = np.zeros(self._count, dtype=bool)
        for node, *_ in self._made:
            grown[node] = True
        for node, means in list(self._ended):
            for root in np.flatnonzero((node < count) & ~grown[node]):
                pair = self.open(2)
                single = node[root : root + 1]
                self._made.append((single, np.zeros(1, np.int64), np.zeros(1, np.float32), pair[None, :]))
                self._ended.append((pair, means[[root, root]]))
        parent = np.full(self._count, -1)
        tree = np.arange(self._count)
        feature = np.full(self._count, -1)
        split = np.zeros(self._count, dtype=np.float32)
        children = np.zeros((self._count, 2), dtype=np.int64)
        for node, column, point, pair in self._made:
            feature[node], split[node], children[node] = column, point, pair
            parent[pair] = node[:, None]
            tree[pair] = tree[node][:, None]
        leaf = np.zeros((self._count, self._target.shape[1]))
        for node, means in self._ended:
            leaf[node] = means
        inner = np.flatnonzero(feature >= 0)
        inner = inner[np.argsort(tree[inner], kind="stable")]
        ended = np.flatnonzero(feature < 0)
        ended = ended[np.argsort(tree[ended], kind="stable")]
        number = np.empty(self._count, dtype=np.int64)
        number[inner] = np.arange(len(inner))
        number[ended] = ~np.arange(len(ended))
        return GrownTrees(
            roots=number[:count],
            feature=feature[inner],
            split=split[inner],
            left=number[children[inner, 0]],
            right=number[children[inner, 1]],
            leaf=leaf[ended],
        )


def _some(level: _Level, chosen: npt.NDArray[np.bool_]) -> _Level:
    """Return some of the open nodes with their rows."""
    size = level.size
    kept = np.repeat(chosen, size)
    left = size[chosen]
    return _Level(level.rows[kept], np.cumsum(left) - left, level.node[chosen], level.tries[chosen])
