"""Judging a model of running series: the shipped graph on sealed windows at the end of time."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import FUTURE, HISTORY, Signature
from modelworks.core.task import Task, TaskKind
from modelworks.production.fitting import finite, load_model, load_record, timed
from modelworks.production.judging import JUDGED, Judged, parity_of
from modelworks.production.stream_alarms import AlarmQuestion
from modelworks.production.streams import read_stream, sealed_origins, without_label

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from modelworks.algorithms.series.windows import Windows
    from modelworks.compute.runtime import GraphSession
    from modelworks.core.estimator import FittedModel
    from modelworks.data.samples.panel import Panel
    from modelworks.evaluation import SeriesRows

ORIGIN = "origin"
WARM_UP, REPEATS = 3, 20
EXAMPLES = 3
SHOWN_WINDOWS = 6


def columns_of(windows: Windows) -> dict[str, npt.NDArray[Any]]:
    """Return windows as the columns a graph reads."""
    return {HISTORY: windows.history, ORIGIN: windows.time, FUTURE: windows.future}


def window_schema(signature: Signature) -> Schema:
    """Return the columns of a graph on windows, for manifests and doors."""
    kinds = {ORIGIN: ColumnKind.DATETIME}
    told = {
        HISTORY: "the last values of the series, and of its covariates",
        ORIGIN: "moment of the last value",
        FUTURE: "covariates of the steps ahead",
    }
    return Schema(
        tuple(
            Column(name=name, kind=kinds.get(name, ColumnKind.SERIES), reason=told[name])
            for name in signature.columns
        )
    )


def shape_of(signature: Signature) -> tuple[int, int]:
    """Return the values of a window and the steps ahead of a forecaster."""
    history = next(tensor for tensor in signature.inputs if tensor.name == HISTORY)
    ahead = next(tensor for tensor in signature.outputs if tensor.name == "prediction")
    return history.shape[2], ahead.shape[1]


@dataclass(kw_only=True)
class SealedWindows:
    """The sealed windows of a forecast task.

    Attributes:
        panel: All series.
        first: First sealed value of each series.
        horizon: Steps ahead.
        season: Season of the scale of ``mase``.
    """

    panel: Panel
    first: npt.NDArray[np.int64]
    horizon: int
    season: int

    def windows(self, length: int) -> Windows:
        """Return the windows with histories of ``length`` values."""
        from modelworks.algorithms.series.windows import cut

        origins, _ = sealed_origins(self.panel, self.first, self.horizon)
        return cut(self.panel, length, self.horizon, origins)

    def answers(self, model: FittedModel) -> dict[str, npt.NDArray[Any]]:
        """Return what a graph says about the sealed windows."""
        from modelworks.compute.feeds import answer
        from modelworks.compute.runtime import GraphSession

        windows = self.windows(shape_of(model.signature)[0])
        return answer(GraphSession(model.onnx), model.signature, columns_of(windows), windows.rows)

    def rows(self, windows: Windows) -> SeriesRows:
        """Return which windows hang together, and the naive error of their series before the sealed end."""
        import numpy as np

        from modelworks.evaluation import SeriesRows, naive_scale

        scale = np.array(
            [
                naive_scale(item[0, :end], self.season)
                for item, end in zip(self.panel.values, self.first.tolist(), strict=True)
            ]
        )
        _, stride = sealed_origins(self.panel, self.first, self.horizon)
        return SeriesRows(group=windows.series, scale=scale[windows.series], block=-(-self.horizon // stride))


def judge_stream(
    table_folder: Path, fit_folder: Path, champion_folder: Path | None, task: Task, look: int, folder: Path
) -> Judged:
    """Score the model, the baselines and the champion on the sealed windows and hold the result to the gate.

    Args:
        table_folder: What ``ingest`` wrote.
        fit_folder: What ``fit_stream`` wrote.
        champion_folder: Package that answers today, or ``None``.
        task: The task.
        look: How often this sealed test set was looked at, with this time.
        folder: Gets ``judged.json``.
    """
    import numpy as np

    from modelworks.compute.runtime import GraphSession
    from modelworks.data import open_table
    from modelworks.evaluation import judge
    from modelworks.production.stream_fitting import FIRST

    parts: dict[str, float] = {}
    with timed(parts, "read"):
        record = load_record(fit_folder)
        task = replace(task, metric=record["metric"])
        model = load_model(fit_folder, record)
        table, schema = open_table(table_folder)
        panel, _ = read_stream(table, schema, task)
        question = _question(panel, np.load(fit_folder / FIRST, allow_pickle=False), task, look, model)
    with timed(parts, "score"):
        outputs = question.answers(model)
        evaluation = question.evaluate(outputs, model)
        others = {name: load_model(fit_folder, record, name) for name in record["baselines"]}
        baselines = {name: question.compare(outputs, other) for name, other in others.items()}
        champion = _champion(champion_folder, question, model, outputs)
    with timed(parts, "latency"):
        session = GraphSession(model.onnx)
        measured = _measured(session, model, question, task.limits.latency_ms)
    verdict = judge(evaluation, task.gate, task.limits, measured, baselines, record["findings"], champion)
    findings = finite(
        {
            "evaluation": evaluation,
            "baselines": baselines,
            "champion": champion,
            "importance": [],
            "samples": question.samples(outputs, model),
            "measured": measured,
            "verdict": verdict.to_json(),
        }
    )
    (folder / JUDGED).write_text(json.dumps(findings), encoding="utf-8")
    return Judged(
        record=record,
        model=model,
        session=session,
        table=table,
        schema=window_schema(model.signature),
        findings=findings,
        parts=parts,
        train=np.zeros(0, np.int64),
        examples=question.examples(model),
    )


def _question(
    panel: Panel, first: npt.NDArray[np.int64], task: Task, look: int, model: FittedModel
) -> Question | AlarmQuestion:
    if task.kind is TaskKind.ANOMALY:
        watched, labels = without_label(panel)
        return AlarmQuestion(panel=watched, labels=labels, first=first, task=task, look=look)
    length, horizon = shape_of(model.signature)
    season = int(model.diagnostics["season"])
    sealed = SealedWindows(panel=panel, first=first, horizon=horizon, season=season)
    return Question(sealed=sealed, windows=sealed.windows(length), task=task, look=look)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every forecaster of a task: the sealed windows, and how answers to them are measured."""

    sealed: SealedWindows
    windows: Windows
    task: Task
    look: int

    def answers(self, model: FittedModel) -> dict[str, npt.NDArray[Any]]:
        """Return what a graph says about the sealed windows."""
        return self.sealed.answers(model)

    def comparable(self, model: FittedModel) -> bool:
        """Say whether another model reads windows of the same series and forecasts as many steps."""
        known = len(self.windows.history[0]), self.windows.future.shape[1]
        wide = {tensor.name: tensor.shape[1] for tensor in model.signature.inputs}
        same = (wide.get(HISTORY), wide.get(FUTURE, 0)) == known
        return same and shape_of(model.signature)[1] == self.sealed.horizon

    def one_row(self, model: FittedModel) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of one row."""
        return {name: values[:1] for name, values in columns_of(self.windows).items()}

    def examples(self, model: FittedModel) -> list[dict[str, Any]]:
        """Return a few windows that end before anything sealed, as values of the graph's columns."""
        return _examples(self.sealed.panel, self.sealed.first, *shape_of(model.signature))

    def samples(self, outputs: dict[str, npt.NDArray[Any]], model: FittedModel) -> dict[str, Any]:
        """Return a few sealed windows with their forecasts, for the report."""
        return {"forecasts": _shown(self.sealed.panel, self.windows, outputs, model)}

    def evaluate(self, outputs: dict[str, npt.NDArray[Any]], model: FittedModel) -> dict[str, Any]:
        """Measure answers; see ``evaluation.evaluate``."""
        from modelworks.evaluation import evaluate

        return evaluate(
            TaskKind.FORECAST,
            outputs,
            self.windows.truth,
            metric=self.task.metric,
            also=[bound.metric for bound in self.task.gate],
            quantiles=model.signature.quantiles,
            series=self.sealed.rows(self.windows),
            look=self.look,
            seed=self.task.seed,
        )

    def compare(self, outputs: dict[str, npt.NDArray[Any]], other: FittedModel) -> dict[str, Any]:
        """Compare answers with another model's; see ``evaluation.compare``."""
        from modelworks.evaluation import compare

        return compare(
            TaskKind.FORECAST,
            outputs,
            self.sealed.answers(other),
            self.windows.truth,
            metric=self.task.metric,
            quantiles=other.signature.quantiles,
            series=self.sealed.rows(self.windows),
            look=self.look,
            seed=self.task.seed,
        )


def _measured(
    session: GraphSession, model: FittedModel, question: Question | AlarmQuestion, limit_ms: float
) -> dict[str, Any]:
    from modelworks.compute.feeds import pack_columns
    from modelworks.compute.runtime import single_row_latency_ms

    feeds = pack_columns(model.signature, question.one_row(model), 1)
    latency = single_row_latency_ms(session, feeds, repeats=REPEATS, warm_up=WARM_UP, limit_ms=limit_ms)
    size = {"size_bytes": len(model.onnx), "size_mb": len(model.onnx) / 1e6}
    return {"latency_ms": latency, **size, **parity_of(model)}


def _champion(
    folder: Path | None,
    question: Question | AlarmQuestion,
    model: FittedModel,
    outputs: dict[str, npt.NDArray[Any]],
) -> dict[str, Any] | None:
    """Compare with the package that answers today, unless it is this very model or answers another question."""
    if folder is None:
        return None
    from modelworks.core.estimator import FittedModel

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    signature = Signature.from_json(manifest["signature"])
    champion = FittedModel(onnx=(folder / "model.onnx").read_bytes(), signature=signature)
    alike = signature.columns == model.signature.columns and signature.quantiles == model.signature.quantiles
    if not alike or champion.onnx == model.onnx or not question.comparable(champion):
        return None
    return question.compare(outputs, champion)


def _examples(panel: Panel, first: npt.NDArray[np.int64], length: int, horizon: int) -> list[dict[str, Any]]:
    """Return a few windows that end before anything sealed, as values of the graph's columns."""
    import numpy as np

    from modelworks.algorithms.series.windows import cut

    series = np.flatnonzero(first > horizon)[:EXAMPLES].tolist()
    origins = [
        np.array([first[index] - horizon] if index in series else [], np.int64) for index in range(len(first))
    ]
    windows = cut(panel, length, horizon, origins)
    columns = columns_of(windows)
    return [
        {HISTORY: columns[HISTORY][row], ORIGIN: int(columns[ORIGIN][row]), FUTURE: columns[FUTURE][row]}
        for row in range(windows.rows)
    ]


def _shown(
    panel: Panel, windows: Windows, outputs: dict[str, npt.NDArray[Any]], model: FittedModel
) -> list[dict[str, Any]]:
    """Return a few sealed windows with their forecasts, for the report."""
    import numpy as np

    levels = model.signature.quantiles
    low, high = int(np.argmin(levels)), int(np.argmax(levels))
    shown = []
    for row in np.unique(np.linspace(0, windows.rows - 1, SHOWN_WINDOWS).astype(np.int64)).tolist():
        horizon = windows.truth.shape[1]
        shown.append(
            {
                "name": panel.names[int(windows.series[row])],
                "origin": _moment(panel, int(windows.series[row]), int(windows.origin[row])),
                "history": windows.history[row, 0, -3 * horizon :].tolist(),
                "prediction": outputs["prediction"][row].tolist(),
                "low": outputs["quantiles"][row, :, low].tolist(),
                "high": outputs["quantiles"][row, :, high].tolist(),
                "level": float(levels[high] - levels[low]),
                "actual": windows.truth[row].tolist(),
            }
        )
    return shown


def _moment(panel: Panel, series: int, origin: int) -> str:
    """Return the moment of the last value before an origin, as exactly as steps are; empty where they have no time."""
    import numpy as np

    from modelworks.data.samples.panel import DAY, YEAR

    start = np.datetime64(int(panel.starts[series]), "us")
    if panel.monthly:
        months = round(panel.step / (YEAR / 12))
        return str(start.astype("datetime64[M]") + (origin - 1) * months)
    if not panel.step:
        return ""
    unit = "D" if panel.step >= DAY else "m"
    moment = start + np.timedelta64((origin - 1) * panel.step, "us")
    return str(moment.astype(f"datetime64[{unit}]")).replace("T", " ")
