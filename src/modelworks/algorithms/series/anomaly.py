"""The recipe for anomalies in streams: surprise, level and shape of the newest values, each against its usual size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.series.event_alarms import (
    EARLIER,
    LISTENED,
    Listener,
    Loudness,
    event_nodes,
    listen,
    quiet_threshold,
    rare,
)
from modelworks.algorithms.series.parts import Part, level, shape, surprise
from modelworks.algorithms.series.windows import Windows, cut, fill_shifts, filled, filled_nodes
from modelworks.core.budget import Budget
from modelworks.core.errors import DataError
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.signature import HISTORY, Signature, Tensor
from modelworks.core.task import TaskKind
from modelworks.data.samples.panel import Panel

Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

CARD = Card(
    name="series.anomaly",
    version=4,
    kinds=frozenset({TaskKind.ANOMALY}),
    summary="Surprise, level and shape of the newest values of a stream, each over its usual size; the worst counts.",
    source="Box and Jenkins 1976 (residuals); Hotelling 1947 (level); Yeh et al. 2016 (nearest shapes)",
    cost=(1.0, 1e-6),
)

LONGEST, SHORTEST = 192, 32
TOP = np.float32(60)
"""Standardised values are cut here, so that nothing overflows."""

FITTED = 0.7
"""Share of the training stretch that parts are fitted on; the rest says what is usual."""

MOST_WINDOWS = 6000
HEADROOM = 1.2
EVENT_METRICS = frozenset({"event_recall", "event_found", "nab_score"})


@dataclass(frozen=True, kw_only=True)
class AnomalyRecipe:
    """Makes a detector of anomalies in streams.

    Attributes:
        window: Values that are read; 0 = two seasons, between 32 and 192.
        metric: Metric of the task; those of events (``event_recall``, ``nab_score``) ask for one alarm per event.
        alarm: ``state`` (as long as it lasts), ``event`` (once, at its beginning, relative to how the stream was
            lately), or empty: as the metric asks.
        false_alarm_rate: Share of normal values that may raise an alarm; 0 = a little above what was seen.
    """

    window: int = 0
    metric: str = "average_precision"
    alarm: str = ""
    false_alarm_rate: float = 0.0

    @property
    def card(self) -> Card:
        return CARD

    @property
    def once(self) -> bool:
        """Whether an event is alarmed once."""
        return self.alarm == "event" or (not self.alarm and self.metric in EVENT_METRICS)

    def _threshold(self, relative: Rows) -> float:
        if self.false_alarm_rate:
            return rare(relative, self.false_alarm_rate)
        return max(HEADROOM, HEADROOM * float(np.quantile(relative, 0.998)))

    def fit(self, train: Panel, valid: Panel | None, budget: Budget, seed: int) -> FittedModel:
        """Fit a detector; see ``core.estimator.Estimator``. ``valid`` is not needed.

        Raises:
            DataError: The streams are too short.
        """
        return self.fit_native(train, budget, seed)[0]

    def fit_native(
        self, panel: Panel, budget: Budget, seed: int, normal: list[npt.NDArray[np.bool_]] | None = None
    ) -> tuple[FittedModel, Detector]:
        """Fit and return the detector beside its graph.

        Args:
            panel: Streams; every channel is watched.
            budget: Checked between the parts.
            seed: Draws the shapes that are kept.
            normal: Per stream which values are known to be normal; windows that end in others teach nothing.
        """
        length = self.window or int(np.clip(2 * panel.season, SHORTEST, LONGEST))
        windows, early = _windows(panel, length, normal, seed)
        place, scale = _usual(panel)
        shifts = fill_shifts(panel.season, length)
        seen = standardised(windows.history, place, scale, shifts)
        first, rest = seen[early], seen[~early]
        parts: list[Part] = []
        budget.check()
        parts.append(surprise(first))
        parts.append(level(first, max(2, length // 8)))
        budget.check()
        parts.append(shape(first, min(length, max(8, panel.season)), seed))
        values = np.stack([part.value(rest) for part in parts], axis=1)
        usual = np.maximum(np.quantile(values, 0.99, axis=0), 1e-6).astype(np.float32)
        native = Detector(
            length=length, place=place, scale=scale, shifts=shifts, parts=tuple(parts), usual=usual, threshold=1.0
        )  # fmt: skip
        if self.once:
            budget.check()
            later = _windows(panel, length, normal, seed, EARLIER)[0]
            native = native.listening(later.history, fill_shifts(panel.season, length + EARLIER))
            if self.false_alarm_rate:
                threshold = self._threshold(native.listened(later.history[~early]).newest)
            else:
                threshold = quiet_threshold(native.listened(later.history).newest, later.origin)
            native = replace(native, threshold=threshold)
        else:
            native = replace(native, threshold=self._threshold((values / usual).max(axis=1)))
        heard = {one.part.name for one in native.listeners} if self.once else {part.name for part in parts}
        diagnostics = {
            "chosen": " and ".join(part.name for part in parts if part.name in heard)
            + " of the newest values",
            "members": [
                {
                    "name": part.name,
                    "weight": 1 / len(heard) if part.name in heard else 0.0,
                    "kept": part.name in heard,
                }
                for part in parts
            ],
            "threshold": native.threshold,
            "alarm": "event" if self.once else "state",
            "window": length,
            "season": panel.season,
            "windows": len(seen),
        }
        return native.model(diagnostics), native


def baselines(channels: int, length: int) -> dict[str, FittedModel]:
    """Return what a detector must hold against, as graphs: ``constant``, and how far the newest value of any channel
    lies from the mean of its window, in deviations of the window (``windowed Gaussian``, alarm from four on).
    """
    signature = _signature(channels, length)
    found = {}
    for name in ("constant", "windowed Gaussian"):
        graph = Graph()
        last, axis = graph.constant(np.array([2], np.int64)), graph.constant(np.array([1], np.int64))
        missing = graph.op("IsNaN", HISTORY)
        known = graph.op("Where", missing, graph.constant(np.float32(0)), HISTORY)
        mean = graph.op("ReduceMean", known, last, keepdims=1)
        moved = graph.op("Sub", known, mean)
        deviation = graph.op("Sqrt", graph.op("ReduceMean", graph.op("Mul", moved, moved), last, keepdims=0))
        newest = graph.op("Gather", moved, graph.constant(np.int64(length - 1)), axis=2)
        size = graph.op(
            "Div", graph.op("Abs", newest), graph.op("Add", deviation, graph.constant(np.float32(1e-6)))
        )
        score = graph.op("ReduceMax", size, axis, keepdims=0)
        if name == "constant":
            score = graph.scaled(score, 0.0)
        graph.rename(score, "score")
        graph.rename(graph.op("GreaterOrEqual", score, graph.constant(np.float32(4))), "anomalous")
        found[name] = FittedModel(
            onnx=graph.finish(signature), signature=signature, diagnostics={"chosen": name, "threshold": 4.0}
        )
    return found


def _signature(channels: int, length: int) -> Signature:
    return Signature(
        inputs=(Tensor(name=HISTORY, datatype="FP32", shape=(-1, channels, length), columns=(HISTORY,)),),
        outputs=(
            Tensor(name="score", datatype="FP32", shape=(-1,)),
            Tensor(name="anomalous", datatype="BOOL", shape=(-1,)),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A fitted detector in numpy; its graph answers the same.

    Attributes:
        length: Values of a window.
        place, scale: Middle and spread of each channel, float32 [channels].
        shifts: How missing values are filled.
        parts: What is looked at.
        usual: High but usual value of each part, float32 [parts].
        threshold: Score from which a window is anomalous.
        listeners: What tells events; none = the state is alarmed.
    """

    length: int
    place: Rows
    scale: Rows
    shifts: tuple[int, ...]
    parts: tuple[Part, ...]
    usual: Rows
    threshold: float
    listeners: tuple[Listener, ...] = ()

    @property
    def memory(self) -> int:
        """Values before the window that are read too."""
        return EARLIER if self.listeners else 0

    def listening(self, history: Rows, shifts: tuple[int, ...]) -> Detector:
        """Return the detector with listeners for events, made on training histories."""
        seen = standardised(history, self.place, self.scale, shifts)
        made = tuple(
            Listener.of(part, float(usual), seen, self.length)
            for part, usual in zip(self.parts, self.usual.tolist(), strict=True)
            if part.name in LISTENED
        )
        return replace(self, shifts=shifts, listeners=made)

    def listened(self, history: Rows) -> Loudness:
        """Return how loud histories [rows, channels, length + memory] are."""
        seen = standardised(history, self.place, self.scale, self.shifts)
        return listen(self.listeners, seen, self.length)

    def predict(self, windows: Windows) -> dict[str, npt.NDArray[Any]]:
        """Return ``score`` [rows] of the newest value, and ``anomalous`` [rows]."""
        if self.listeners:
            found = self.listened(windows.history)
            return {"score": found.score, "anomalous": found.alarms(self.threshold)}
        seen = standardised(windows.history, self.place, self.scale, self.shifts)
        score = np.stack([part.value(seen) for part in self.parts], axis=1) / self.usual
        worst = score.max(axis=1)
        return {"score": worst, "anomalous": worst >= np.float32(self.threshold)}

    def model(self, diagnostics: dict[str, Any]) -> FittedModel:
        """Return the detector as a graph."""
        channels = len(self.place)
        whole = self.length + self.memory
        signature = _signature(channels, whole)
        graph = Graph()
        place, scale = (graph.constant(item[None, :, None]) for item in (self.place, self.scale))
        moved = graph.op("Div", graph.op("Sub", HISTORY, place), scale)
        held = graph.op("Clip", moved, graph.constant(-TOP), graph.constant(TOP))
        # A missing value stays missing: Clip may turn it into a number.
        held = graph.op("Where", graph.op("IsNaN", moved), graph.constant(np.float32(np.nan)), held)
        lines = graph.op("Reshape", held, graph.constant(np.array([-1, whole], np.int64)))
        known = filled_nodes(graph, lines, whole, self.shifts)
        score, alarm = self._nodes(graph, known, channels)
        graph.rename(score, "score")
        graph.rename(alarm, "anomalous")
        return FittedModel(onnx=graph.finish(signature), signature=signature, diagnostics=diagnostics)

    def _nodes(self, graph: Graph, known: str, channels: int) -> tuple[str, str]:
        """Add score and alarm, [rows] each, of filled windows [rows x channels, length]."""
        if self.listeners:
            shape = graph.constant(np.array([-1, channels, self.length + self.memory], np.int64))
            cube = graph.op("Reshape", known, shape)
            return event_nodes(graph, self.listeners, cube, channels, self.length, self.threshold)
        flat = graph.op("Reshape", known, graph.constant(np.array([-1, channels * self.length], np.int64)))
        parts = [
            graph.scaled(part.nodes(graph, flat), float(1 / usual))
            for part, usual in zip(self.parts, self.usual, strict=True)
        ]
        one = graph.constant(np.array([1], np.int64))
        worst = graph.op("Squeeze", graph.op("Max", *parts), one)
        alarm = graph.op("GreaterOrEqual", worst, graph.constant(np.float32(self.threshold)))
        return worst, alarm


def standardised(history: Rows, place: Rows, scale: Rows, shifts: tuple[int, ...]) -> Rows:
    """Return windows [rows, channels, length] less the middle over the spread of each channel, gaps filled."""
    moved = np.clip((history - place[None, :, None]) / scale[None, :, None], -TOP, TOP)
    rows, channels, length = moved.shape
    return filled(moved.reshape(rows * channels, length), shifts).reshape(rows, channels, length)


def _usual(panel: Panel) -> tuple[Rows, Rows]:
    """Return median and spread (a mix of deviation and quartile range) of each channel, float32 [channels]."""
    place, scale = [], []
    for channel in range(len(panel.channels)):
        values = np.concatenate([item[channel] for item in panel.values])
        known = values[np.isfinite(values)]
        if not len(known):
            place.append(0.0)
            scale.append(1.0)
            continue
        low, middle, high = np.quantile(known, (0.25, 0.5, 0.75))
        place.append(float(middle))
        spread = max(float(high - low) / 1.35, 0.1 * float(known.std()))
        scale.append(spread if spread > 0 else max(abs(float(middle)) * 0.01, 1e-6))
    return np.array(place, np.float32), np.array(scale, np.float32)


def _windows(
    panel: Panel, length: int, normal: list[npt.NDArray[np.bool_]] | None, seed: int, memory: int = 0
) -> tuple[Windows, npt.NDArray[np.bool_]]:
    """Return training windows that end in normal values, thinned evenly, and whether each is fitted on.

    With ``memory`` the same windows begin so many values earlier.
    """
    start = [min(length, size // 3) for size in panel.lengths.tolist()]
    origins = []
    for index, (size, first) in enumerate(zip(panel.lengths.tolist(), start, strict=True)):
        ends = np.arange(first, size, dtype=np.int64)
        origins.append(ends[normal[index][ends]] + 1 if normal is not None else ends + 1)
    count = sum(len(item) for item in origins)
    if count < 40:
        raise DataError(
            f"There are {count} normal windows to learn from; a detector needs at least 40.",
            code="MW1190",
            hint="give a longer stream, or seal less of it: --test-share 0.2",
        )
    stride = max(1, -(-count // MOST_WINDOWS))
    origins = [item[::stride] for item in origins]
    windows = cut(panel, length + memory, 1, origins)
    size = np.concatenate([np.full(len(item), len(item)) for item in origins])
    rank = np.concatenate([np.arange(len(item)) for item in origins])
    return windows, rank < FITTED * size
