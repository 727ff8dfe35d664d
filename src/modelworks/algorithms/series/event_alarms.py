"""One alarm per event: scores along a longer history, over their usual size there, told at each new height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph

if TYPE_CHECKING:
    from modelworks.algorithms.series.anomaly import Part

Rows = npt.NDArray[np.float32]

MEMORY = 192
"""Earlier positions whose scores say what is usual now."""

QUIET = 96
"""Positions behind an alarm without another one.

Both were chosen on formula-made streams and road traffic of the Numenta benchmark, among 64 to 400 and 32 to 192."""

HALF = MEMORY // 2
TAIL = 0.9
"""Share of held-out scores below the tail that the threshold is read from."""

HEADROOM = 1.2


def scores_along(parts: Sequence[Part], usual: Rows, seen: Rows, length: int) -> Rows:
    """Return the worst relative score at the last positions of each history, float32 [rows, memory + 1].

    Args:
        parts: What is looked at.
        usual: High but usual value of each part.
        seen: Standardised histories, float32 [rows, channels, length + memory].
        length: Values of a window.
    """
    found = [
        (np.stack([part.value(seen[:, :, at : at + length]) for part in parts], axis=1) / usual).max(axis=1)
        for at in range(seen.shape[2] - length + 1)
    ]
    return np.stack(found, axis=1)


@dataclass(frozen=True, eq=False)
class Heights:
    """The newest scores of histories, measured by how their streams were lately.

    Attributes:
        newest: Score of the newest position over its size, float32 [rows].
        earlier: Highest score in memory over the same size, float32 [rows].
        lately: Highest of the last ``QUIET`` scores before the newest, over the same size, float32 [rows].
    """

    newest: Rows
    earlier: Rows
    lately: Rows

    @property
    def score(self) -> Rows:
        """The newest score where it exceeds all in memory, else 0."""
        return np.where(self.newest > self.earlier, self.newest, np.float32(0)).astype(np.float32)

    def alarms(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Say where the threshold is reached, and was not lately."""
        reached = np.float32(threshold)
        return np.asarray((self.newest >= reached) & (self.lately < reached))


def heights(along: Rows) -> Heights:
    """Measure scores along histories by the middle of those in memory, at least 1.

    A stream whose level or spread has changed for good is alarmed once, and then measured by what it has become.
    """
    before = along[:, :-1]
    size = np.maximum(np.sort(before, axis=1)[:, before.shape[1] - HALF], np.float32(1))
    found = (along[:, -1], before.max(axis=1), before[:, -QUIET:].max(axis=1))
    newest, earlier, lately = ((item / size).astype(np.float32) for item in found)
    return Heights(newest=newest, earlier=earlier, lately=lately)


def event_nodes(
    graph: Graph, parts: Sequence[Part], usual: Rows, known: str, channels: int, length: int, threshold: float
) -> tuple[str, str]:
    """Add score and alarm, [rows] each, of a standardised tensor [rows, channels, length + memory]."""
    found = []
    for part, size in zip(parts, usual.tolist(), strict=True):
        width = part.map.shape[1]
        kernel = np.ascontiguousarray(part.map.T.reshape(width, channels, length))
        looked = graph.op("Conv", known, graph.constant(kernel), kernel_shape=[length])
        turned = graph.op("Transpose", looked, perm=[0, 2, 1])
        last = graph.constant(np.array([2], np.int64))
        own = graph.op("ReduceSumSquare", turned, last, keepdims=1)
        cross = graph.op("MatMul", turned, graph.constant(np.ascontiguousarray(-2 * part.centres.T)))
        sizes = graph.constant((part.centres**2).sum(axis=1)[None, None])
        square = graph.op("ReduceMin", graph.op("Sum", own, cross, sizes), last, keepdims=0)
        distance = graph.op("Sqrt", graph.scaled(graph.op("Relu", square), 1.0 / width))
        found.append(graph.scaled(distance, 1.0 / size))
    along = graph.op("Max", *found)
    one = graph.constant(np.array([1], np.int64))
    before = graph.op(
        "Slice",
        along,
        graph.constant(np.array([0], np.int64)),
        graph.constant(np.array([MEMORY], np.int64)),
        one,
    )
    newest = graph.op("Gather", along, graph.constant(np.int64(MEMORY)), axis=1)
    upper, _ = graph.ops(
        "TopK", before, graph.constant(np.array([HALF], np.int64)), outs=(None, None), axis=1
    )
    middle = graph.op("ReduceMin", upper, one, keepdims=0)
    highest = graph.op("ReduceMax", before, one, keepdims=0)
    size = graph.op("Max", middle, graph.constant(np.float32(1)))
    now, earlier = graph.op("Div", newest, size), graph.op("Div", highest, size)
    score = graph.op("Where", graph.op("Greater", now, earlier), now, graph.constant(np.float32(0)))
    reached = graph.constant(np.float32(threshold))
    ends = (graph.constant(np.array([place], np.int64)) for place in (MEMORY - QUIET, MEMORY))
    recent = graph.op("ReduceMax", graph.op("Slice", before, *ends, one), one, keepdims=0)
    lately = graph.op("Div", recent, size)
    alarm = graph.op("And", graph.op("GreaterOrEqual", now, reached), graph.op("Less", lately, reached))
    return score, alarm


def rare(scores: npt.NDArray[Any], rate: float) -> float:
    """Return the score that normal values exceed with the given rate: an exponential tail over held-out scores.

    Source: peaks over a threshold with shape 0; Siffer et al., Anomaly detection in streams with extreme value theory,
    KDD 2017. A rate below one of the scores seen is never answered by less than 1.2 times the highest of them.
    """
    low = float(np.quantile(scores, TAIL))
    excess = scores[scores > low] - low
    mean = max(float(excess.mean()) if len(excess) else 0.0, 1e-3)
    reached = low + mean * math.log(max(1.0, (1 - TAIL) / rate))
    return reached if rate * len(scores) >= 1 else max(reached, HEADROOM * float(scores.max()))
