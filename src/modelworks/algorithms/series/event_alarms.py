"""One alarm per event: the mean of the newest surprises, in deviations of such means in the memory before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.series.parts import Part

Rows = npt.NDArray[np.float32]

LISTENED = {"surprise": (10, 4.2), "level": (1, 5.1)}
"""Parts that tell events: newest positions whose mean is taken, and how many deviations of it are an event.

These, the memory, the quiet and the bounds below were chosen on formula-made streams and road traffic of the Numenta
benchmark and on streams with injected events (``benchmarks/series/injected.py``). The shape told no more there."""

MEMORY = 320
"""Earlier means that say what is usual now."""

QUIET = 96
"""Positions behind an alarm without another one."""

CLIPPED = 3.0
"""Deviations above the middle at which an earlier mean is remembered, so that an event does not hide the next one."""

EARLIER = QUIET + 2 * MEMORY + 3 * max(span for span, _ in LISTENED.values()) - 3
"""Positions before the newest that are read: the memory of every position that is remembered is needed too."""

BOUNDS = (0.95, 1.5)
"""Threshold: the loudest of the training stretch, within these, so that an event hidden there does not deafen."""

SETTLED = 150
"""Values of a stream before its loudness counts for the threshold."""

FLOOR = 0.25
"""Least deviation, as a share of the deviation in the training stretch."""

TAIL = 0.9
"""Share of held-out scores below the tail that a threshold is read from."""

HEADROOM = 1.2


@dataclass(frozen=True, kw_only=True)
class Listener:
    """One part, listened to along a history.

    Attributes:
        part: The part.
        usual: High but usual value of it.
        span: Newest positions whose mean is taken.
        floor: Least deviation of such means.
        unit: Deviations that are an event.
    """

    part: Part
    usual: float
    span: int
    floor: float
    unit: float

    @staticmethod
    def of(part: Part, usual: float, seen: Rows, length: int) -> Listener:
        """Return the listener to a part; its least deviation is read from standardised training histories."""
        span, unit = LISTENED[part.name]
        newest = _along(part, usual, seen[:, :, seen.shape[2] - length - span + 1 :], length)
        floor = FLOOR * float(newest.mean(axis=1).std()) + 1e-3
        return Listener(part=part, usual=usual, span=span, floor=floor, unit=unit)

    def loudness(self, seen: Rows, length: int) -> Rows:
        """Return the deviations over ``unit`` at the last ``QUIET`` + 1 positions, float32 [rows, positions]."""
        means = _means(_along(self.part, self.usual, seen, length), self.span)
        means = means[:, -(QUIET + 2 * (self.span + MEMORY) - 1) :]
        means = means - means.mean(axis=1, keepdims=True, dtype=np.float32)
        middle, deviation = self._usual(means)
        kept = np.minimum(means[:, self.span + MEMORY - 1 :], middle + np.float32(CLIPPED) * deviation)
        middle, deviation = self._usual(kept)
        return np.asarray((means[:, -QUIET - 1 :] - middle) / (deviation * np.float32(self.unit)))

    def _usual(self, means: Rows) -> tuple[Rows, Rows]:
        """Return middle and deviation of the memory of every position that has a whole one."""
        count = means.shape[1] - self.span - MEMORY + 1
        middle, square = (_means(values, MEMORY)[:, :count] for values in (means, means * means))
        deviation = np.sqrt(np.maximum(square - middle * middle, 0))
        return middle, np.maximum(deviation, np.float32(self.floor))

    def nodes(self, graph: Graph, known: str, channels: int, length: int) -> str:
        """Add ``loudness`` for a standardised tensor [rows, channels, length + EARLIER]."""
        along = self._along_nodes(graph, known, channels, length)
        count = QUIET + 2 * (self.span + MEMORY) - 1
        means = _slice(graph, _mean_nodes(graph, along, self.span), EARLIER + 2 - self.span - count, count)
        last = graph.constant(np.array([2], np.int64))
        means = graph.op("Sub", means, graph.op("ReduceMean", means, last, keepdims=1))
        middle, deviation = self._usual_nodes(graph, means, count)
        highest = graph.op("Add", middle, graph.scaled(deviation, CLIPPED))
        remembered = QUIET + self.span + MEMORY
        kept = graph.op("Min", _slice(graph, means, count - remembered, remembered), highest)
        middle, deviation = self._usual_nodes(graph, kept, remembered)
        now = graph.op("Sub", _slice(graph, means, count - QUIET - 1, QUIET + 1), middle)
        return graph.op("Div", now, graph.scaled(deviation, self.unit))

    def _usual_nodes(self, graph: Graph, means: str, positions: int) -> tuple[str, str]:
        """Add middle and deviation of the memory of every position that has a whole one."""
        count = positions - self.span - MEMORY + 1
        middle = _slice(graph, _mean_nodes(graph, means, MEMORY), 0, count)
        square = _slice(graph, _mean_nodes(graph, graph.op("Mul", means, means), MEMORY), 0, count)
        variance = graph.op("Relu", graph.op("Sub", square, graph.op("Mul", middle, middle)))
        return middle, graph.op("Max", graph.op("Sqrt", variance), graph.constant(np.float32(self.floor)))

    def _along_nodes(self, graph: Graph, known: str, channels: int, length: int) -> str:
        """Add the value of the part at every position, [rows, 1, positions]."""
        width = self.part.map.shape[1]
        kernel = np.ascontiguousarray(self.part.map.T.reshape(width, channels, length))
        looked = graph.op("Conv", known, graph.constant(kernel), kernel_shape=[length])
        turned = graph.op("Transpose", looked, perm=[0, 2, 1])
        last = graph.constant(np.array([2], np.int64))
        own = graph.op("ReduceSumSquare", turned, last, keepdims=1)
        cross = graph.op("MatMul", turned, graph.constant(np.ascontiguousarray(-2 * self.part.centres.T)))
        sizes = graph.constant((self.part.centres**2).sum(axis=1)[None, None])
        square = graph.op("ReduceMin", graph.op("Sum", own, cross, sizes), last, keepdims=1)
        distance = graph.op("Sqrt", graph.scaled(graph.op("Relu", square), 1.0 / width))
        return graph.op("Transpose", graph.scaled(distance, 1.0 / self.usual), perm=[0, 2, 1])


def _along(part: Part, usual: float, seen: Rows, length: int) -> Rows:
    """Return the value of a part at every position of standardised histories, float32 [rows, positions]."""
    found = [part.value(seen[:, :, at : at + length]) for at in range(seen.shape[2] - length + 1)]
    return np.asarray(np.stack(found, axis=1) / np.float32(usual))


def _means(values: Rows, count: int) -> Rows:
    """Return the means of ``count`` neighbours along rows."""
    total = np.cumsum(values, axis=1, dtype=np.float64)
    total = np.concatenate([np.zeros((len(values), 1)), total], axis=1)
    return ((total[:, count:] - total[:, :-count]) / count).astype(np.float32)


def _mean_nodes(graph: Graph, values: str, count: int) -> str:
    kernel = graph.constant(np.full((1, 1, count), 1 / count, np.float32))
    return graph.op("Conv", values, kernel, kernel_shape=[count])


def _slice(graph: Graph, values: str, start: int, count: int) -> str:
    ends = (graph.constant(np.array([end], np.int64)) for end in (start, start + count))
    return graph.op("Slice", values, *ends, graph.constant(np.array([2], np.int64)))


@dataclass(frozen=True, eq=False)
class Loudness:
    """The newest loudness of histories and the highest of the ``QUIET`` before, float32 [rows]."""

    newest: Rows
    lately: Rows

    @property
    def score(self) -> Rows:
        """The newest loudness where it exceeds what was lately, else 0."""
        louder = (self.newest > self.lately) & (self.newest > 0)
        return np.where(louder, self.newest, np.float32(0)).astype(np.float32)

    def alarms(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Say where the threshold is reached, and was not lately."""
        reached = np.float32(threshold)
        return np.asarray((self.newest >= reached) & (self.lately < reached))


def listen(listeners: Sequence[Listener], seen: Rows, length: int) -> Loudness:
    """Listen to standardised histories, float32 [rows, channels, length + EARLIER].

    A stream whose level or noise has changed for good is alarmed once, and then measured by what it has become.

    Source: Ahmad et al., Unsupervised real-time anomaly detection for streaming data, Neurocomputing 262, 2017 (the
    likelihood of a mean of prediction errors under those before).
    """
    along = np.stack([one.loudness(seen, length) for one in listeners]).max(axis=0)
    return Loudness(newest=along[:, -1], lately=along[:, :-1].max(axis=1))


def quiet_threshold(loudness: Rows, origin: npt.NDArray[np.int64]) -> float:
    """Return the threshold that leaves the training stretch without alarms, within bounds.

    Args:
        loudness: Of training histories, float32 [rows].
        origin: Values before each in its stream, [rows].
    """
    settled = loudness[origin > min(SETTLED, int(np.median(origin)))]
    return float(np.clip(settled.max(initial=0.0), *BOUNDS))


def event_nodes(
    graph: Graph, listeners: Sequence[Listener], known: str, channels: int, length: int, threshold: float
) -> tuple[str, str]:
    """Add score and alarm, [rows] each, of a standardised tensor [rows, channels, length + EARLIER]."""
    found = [one.nodes(graph, known, channels, length) for one in listeners]
    along = graph.op("Max", *found)
    both = graph.constant(np.array([1, 2], np.int64))
    newest = graph.op("Squeeze", _slice(graph, along, QUIET, 1), both)
    lately = graph.op("ReduceMax", _slice(graph, along, 0, QUIET), both, keepdims=0)
    silence = graph.constant(np.float32(0))
    louder = graph.op("Greater", newest, graph.op("Max", lately, silence))
    score = graph.op("Where", louder, newest, silence)
    reached = graph.constant(np.float32(threshold))
    alarm = graph.op("And", graph.op("GreaterOrEqual", newest, reached), graph.op("Less", lately, reached))
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
