"""What is asked of a detector of anomalies: a score and an alarm for every sealed value of the streams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelworks.core.signature import HISTORY
from modelworks.core.task import Task, TaskKind

if TYPE_CHECKING:
    from modelworks.core.estimator import FittedModel
    from modelworks.data.samples.panel import Panel

AT_ONCE = 512
EXAMPLES = 3
SHOWN_STREAMS, SHOWN_POINTS = 6, 400


def scored(panel: Panel, model: FittedModel, first: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """Return ``score`` and ``anomalous`` of every value from ``first`` of each stream on, stream after stream."""
    from modelworks.algorithms.series.windows import cut
    from modelworks.compute.feeds import answer
    from modelworks.compute.runtime import GraphSession

    session = GraphSession(model.onnx)
    length = model.signature.inputs[0].shape[2]
    parts: list[dict[str, npt.NDArray[Any]]] = []
    nothing = np.zeros(0, np.int64)
    for index, (start, size) in enumerate(zip(first.tolist(), panel.lengths.tolist(), strict=True)):
        for at in range(start, size, AT_ONCE):
            ends = np.arange(at, min(at + AT_ONCE, size), dtype=np.int64) + 1
            origins = [ends if other == index else nothing for other in range(len(panel.names))]
            windows = cut(panel, length, 1, origins)
            parts.append(answer(session, model.signature, {HISTORY: windows.history}, windows.rows))
    return {name: np.concatenate([part[name] for part in parts]) for name in ("score", "anomalous")}


@dataclass(kw_only=True)
class AlarmQuestion:
    """The sealed values of an anomaly task, and how answers to them are measured.

    Attributes:
        panel: Watched channels of all streams.
        labels: Label per stream: 1 = anomalous, NaN = unknown.
        first: First sealed value of each stream.
        task: The task, its metric decided.
        look: How often the sealed values were looked at.
    """

    panel: Panel
    labels: list[npt.NDArray[np.float64]]
    first: npt.NDArray[np.int64]
    task: Task
    look: int

    @cached_property
    def label(self) -> npt.NDArray[np.float64]:
        """Labels of the sealed values, [rows]."""
        return np.concatenate(
            [item[start:] for item, start in zip(self.labels, self.first.tolist(), strict=True)]
        )

    @cached_property
    def group(self) -> npt.NDArray[np.int64]:
        """Stream of each sealed value, [rows]."""
        return np.repeat(np.arange(len(self.labels)), self.panel.lengths - self.first)

    def answers(self, model: FittedModel) -> dict[str, npt.NDArray[Any]]:
        """Return what a graph says about the sealed values."""
        return scored(self.panel, model, self.first)

    def comparable(self, model: FittedModel) -> bool:
        """Say whether another model watches the same channels."""
        (tensor,) = model.signature.inputs
        return tensor.name == HISTORY and tensor.shape[1] == len(self.panel.channels)

    def evaluate(self, outputs: dict[str, npt.NDArray[Any]], model: FittedModel) -> dict[str, Any]:
        """Measure answers; see ``evaluation.evaluate``."""
        from modelworks.evaluation import SeriesRows, evaluate

        known = np.isfinite(self.label)
        return evaluate(
            TaskKind.ANOMALY,
            {name: values[known] for name, values in outputs.items()},
            (self.label[known] == 1).astype(np.int64),
            metric=self.task.metric,
            also=[bound.metric for bound in self.task.gate],
            series=SeriesRows(group=self.group[known]),
            look=self.look,
            seed=self.task.seed,
        )

    def compare(self, outputs: dict[str, npt.NDArray[Any]], other: FittedModel) -> dict[str, Any]:
        """Compare answers with another model's; see ``evaluation.compare``."""
        from modelworks.evaluation import SeriesRows, compare

        known = np.isfinite(self.label)
        others = self.answers(other)
        return compare(
            TaskKind.ANOMALY,
            {name: values[known] for name, values in outputs.items()},
            {name: values[known] for name, values in others.items()},
            (self.label[known] == 1).astype(np.int64),
            metric=self.task.metric,
            series=SeriesRows(group=self.group[known]),
            look=self.look,
            seed=self.task.seed,
        )

    def one_row(self, model: FittedModel) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of one row."""
        return {HISTORY: self._windows(model, 1)}

    def examples(self, model: FittedModel) -> list[dict[str, Any]]:
        """Return a few windows that end before anything sealed, as values of the graph's columns."""
        return [{HISTORY: values} for values in self._windows(model, EXAMPLES)]

    def _windows(self, model: FittedModel, count: int) -> npt.NDArray[np.float32]:
        from modelworks.algorithms.series.windows import cut

        index = int(np.argmax(self.first))
        ends = np.unique(np.linspace(self.first[index] // 2, self.first[index], count).astype(np.int64))
        origins = [ends if other == index else ends[:0] for other in range(len(self.labels))]
        return cut(self.panel, model.signature.inputs[0].shape[2], 1, origins).history

    def samples(self, outputs: dict[str, npt.NDArray[Any]], model: FittedModel) -> dict[str, Any]:
        """Return the timelines of a few streams for the report, thinned to the highest scores of stretches.

        A timeline names the place of each value in its stream, the first and last step of labelled events, and how
        often an alarm begins.
        """
        from modelworks.evaluation.nab import windows_of

        found = []
        sizes = self.panel.lengths - self.first
        starts = np.concatenate([[0], np.cumsum(sizes)])
        for index in np.flatnonzero(sizes > 1)[:SHOWN_STREAMS].tolist():
            rows = np.arange(starts[index], starts[index + 1])
            blocks = np.array_split(rows, min(SHOWN_POINTS, len(rows)))
            top = np.array([block[int(np.argmax(outputs["score"][block]))] for block in blocks])
            steps = self.first[index] + top - starts[index]
            values = self.panel.values[index][0][steps]
            found.append(
                {
                    "name": self.panel.names[index],
                    "steps": steps.tolist(),
                    "values": np.nan_to_num(values).tolist(),
                    "scores": outputs["score"][top].tolist(),
                    "threshold": model.diagnostics["threshold"],
                    "alarms": len(windows_of(outputs["anomalous"][rows])),
                    "events": [
                        [int(self.first[index]) + low, int(self.first[index]) + high]
                        for low, high in windows_of(self.label[rows] == 1)
                    ],
                }
            )
        return {"timelines": found}
