"""Judging one task: everything is scored through the shipped graph on the sealed rows, then held to the gate."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelworks.core.task import Task, TaskKind
from modelworks.production.fitting import finite, load_model, load_record, timed
from modelworks.production.survey import load_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from modelworks.compute.runtime import GraphSession
    from modelworks.core.estimator import FittedModel
    from modelworks.core.schema import Schema
    from modelworks.packaging.golden import Answering

JUDGED = "judged.json"
PARITY = 1e-4
"""Largest difference between graph and fitted model (of a probability, or in spreads of the target)."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A judged model, with what its papers need so that nothing is read or loaded twice.

    Attributes:
        record: ``fit.json``.
        model: The fitted model.
        session: What answers as its graph does, bit for bit; the graph itself in ONNX Runtime, or its halves.
        table, schema: The whole table.
        findings: ``evaluation``, ``baselines``, ``champion``, ``importance``, ``measured``, ``verdict`` as plain data.
        parts: CPU-seconds by what they were for.
        train: Rows of the table that trained the model.
        examples: Golden rows, where they are not rows of the table.
    """

    record: dict[str, Any]
    model: FittedModel
    session: Answering
    table: pa.Table
    schema: Schema
    findings: dict[str, Any]
    parts: dict[str, float]
    train: npt.NDArray[np.int64]
    examples: list[dict[str, Any]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the plan and the summary of an order go on with."""
        measured = self.findings["measured"]
        return {
            "verdict": self.findings["verdict"],
            "metric": self.findings["evaluation"]["metric"],
            "measures": self.findings["evaluation"]["measures"],
            "baseline": best_baseline(self.findings),
            "findings": self.record["findings"],
            "chosen": self.model.diagnostics.get("chosen") or "",
            "latency_ms": measured["latency_ms"]["p99"],
            "size_mb": measured["size_mb"],
        }


class SealedRows:
    """The sealed test rows of a task, typed once for every graph that is scored on them."""

    def __init__(self, table_folder: Path, fit_folder: Path, task: Task, record: dict[str, Any]) -> None:
        import pyarrow as pa

        from modelworks.data import open_table, read_target, typed_columns

        self.table, self.schema = open_table(table_folder)
        self.kind = TaskKind(record["kind"])
        self.classes: tuple[str, ...] = tuple(record["classes"])
        rows = load_rows(fit_folder, "test")
        target = read_target(self.table, self.schema, task.target, self.kind, self.classes or None)
        known = target.present[rows]
        rows = rows[known]
        self.truth = target.values[rows]
        self.rows = len(rows)
        wanted = list(
            dict.fromkeys((*record["features"], *task.slices, *([task.weight] if task.weight else [])))
        )
        for name in task.slices:
            _ = self.schema[name]
        self.columns = typed_columns(self.table.select(wanted).take(pa.array(rows)), self.schema, wanted)
        self.features = {name: self.columns[name] for name in record["features"]}
        self.slices = {name: self.columns[name] for name in task.slices}
        self.weight = self.columns[task.weight] if task.weight else None

    def answers(self, model: FittedModel) -> dict[str, npt.NDArray[Any]]:
        """Return what a graph says about the sealed rows."""
        from modelworks.compute.feeds import pack_columns
        from modelworks.compute.runtime import GraphSession

        feeds = pack_columns(model.signature, self.features, self.rows)
        return GraphSession(model.onnx).run_batched(feeds)


def judge_task(
    table_folder: Path,
    fit_folder: Path,
    champion_folder: Path | None,
    task: Task,
    look: int,
    folder: Path,
) -> Judged:
    """Score the model, the baselines and the champion on the sealed rows and hold the result to the gate.

    Args:
        table_folder: What ``ingest`` wrote.
        fit_folder: What ``fit`` wrote.
        champion_folder: Package that answers today, or ``None``.
        task: The task.
        look: How often this sealed test set was looked at, with this time.
        folder: Gets ``judged.json``.
    """
    from modelworks.compute.feeds import pack_columns
    from modelworks.compute.runtime import GraphSession, single_row_latency_ms
    from modelworks.evaluation import judge

    parts: dict[str, float] = {}
    with timed(parts, "read"):
        record = load_record(fit_folder)
        task = replace(task, metric=record["metric"])
        model = load_model(fit_folder, record)
        sealed = SealedRows(table_folder, fit_folder, task, record)
    with timed(parts, "score"):
        session = GraphSession(model.onnx)
        feeds = pack_columns(model.signature, sealed.features, sealed.rows)
        outputs = session.run_batched(feeds)
        evaluation = evaluate_answers(sealed, outputs, model, task, look)
        baselines = _baselines(sealed, record, fit_folder, outputs, task, look)
        champion = _champion(champion_folder, sealed, model, outputs, task, look)
    with timed(parts, "latency"):
        latency = single_row_latency_ms(session, feeds, limit_ms=task.limits.latency_ms)
        measured = {"latency_ms": latency, "size_bytes": len(model.onnx), "size_mb": len(model.onnx) / 1e6}
        measured |= parity_of(model)
    with timed(parts, "importance"):
        ranking = _importance(session, model, sealed, task) if task.explain else []
    verdict = judge(evaluation, task.gate, task.limits, measured, baselines, record["findings"], champion)
    findings = finite(
        {
            "evaluation": evaluation,
            "baselines": baselines,
            "champion": champion,
            "importance": ranking,
            "measured": measured,
            "verdict": verdict.to_json(),
        }
    )
    (folder / JUDGED).write_text(json.dumps(findings), encoding="utf-8")
    return Judged(
        record=record,
        model=model,
        session=session,
        table=sealed.table,
        schema=sealed.schema,
        findings=findings,
        parts=parts,
        train=load_rows(fit_folder, "train"),
    )


def parity_of(model: FittedModel) -> dict[str, Any]:
    """Return how far the graph's answers were from the fitted model's, if the recipe measured it."""
    worst = model.diagnostics.get("measured", {}).get("parity")
    if worst is None:
        return {}
    detail = f"The largest difference of an output is {worst:.1g}."
    return {"parity": {"passed": worst <= PARITY, "detail": detail, "worst": worst}}


class Sealed(Protocol):
    """Sealed rows as evaluation asks for them."""

    kind: TaskKind
    classes: tuple[str, ...]
    truth: npt.NDArray[Any]
    features: dict[str, npt.NDArray[Any]]
    slices: dict[str, npt.NDArray[Any]]
    weight: Any


def evaluate_answers(
    sealed: Sealed, outputs: dict[str, npt.NDArray[Any]], model: FittedModel, task: Task, look: int
) -> dict[str, Any]:
    """Measure answers to sealed rows; see ``evaluation.evaluate``."""
    from modelworks.evaluation import evaluate

    return evaluate(
        sealed.kind,
        outputs,
        sealed.truth,
        sealed.classes,
        metric=task.metric,
        also=[bound.metric for bound in task.gate],
        slices=sealed.slices,
        columns=sealed.features,
        weight=sealed.weight,
        positive=task.positive,
        quantiles=model.signature.quantiles,
        look=look,
        seed=task.seed,
    )


def _baselines(
    sealed: SealedRows,
    record: dict[str, Any],
    fit_folder: Path,
    outputs: dict[str, npt.NDArray[Any]],
    task: Task,
    look: int,
) -> dict[str, dict[str, Any]]:
    return {
        name: compare_answers(
            sealed, outputs, sealed.answers(load_model(fit_folder, record, name)), task, look
        )
        for name in record["baselines"]
    }


def _champion(
    folder: Path | None,
    sealed: SealedRows,
    model: FittedModel,
    outputs: dict[str, npt.NDArray[Any]],
    task: Task,
    look: int,
) -> dict[str, Any] | None:
    """Compare with the package that answers today, unless it is this very model or answers another question."""
    if folder is None:
        return None
    from modelworks.core.estimator import FittedModel
    from modelworks.core.signature import Signature

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    signature = Signature.from_json(manifest["signature"])
    if signature.classes != sealed.classes or not set(signature.columns) <= set(sealed.features):
        return None
    champion = FittedModel(onnx=(folder / "model.onnx").read_bytes(), signature=signature)
    if champion.onnx == model.onnx:
        return None
    return compare_answers(sealed, outputs, sealed.answers(champion), task, look)


def compare_answers(
    sealed: Sealed,
    outputs: dict[str, npt.NDArray[Any]],
    others: dict[str, npt.NDArray[Any]],
    task: Task,
    look: int,
) -> dict[str, Any]:
    """Compare answers to sealed rows with another model's; see ``evaluation.compare``."""
    from modelworks.evaluation import compare

    return compare(
        sealed.kind,
        outputs,
        others,
        sealed.truth,
        sealed.classes,
        metric=task.metric,
        weight=sealed.weight,
        positive=task.positive,
        look=look,
        seed=task.seed,
    )


def _importance(
    session: GraphSession, model: FittedModel, sealed: SealedRows, task: Task
) -> list[dict[str, Any]]:
    from modelworks.compute.feeds import pack_columns
    from modelworks.evaluation import importance

    def predict(columns: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        rows = len(next(iter(columns.values())))
        return session.run_batched(pack_columns(model.signature, columns, rows))

    return importance(
        predict,
        sealed.features,
        sealed.truth,
        sealed.kind,
        task.metric,
        task.seed,
        classes=sealed.classes,
        positive=task.positive,
    )


def best_baseline(findings: dict[str, Any]) -> dict[str, Any]:
    """Return ``{name, value, difference, p_value}`` of the baseline that comes nearest."""
    known = [
        {"name": name, "value": item["other"], "difference": item["difference"], "p_value": item["p_value"]}
        for name, item in findings["baselines"].items()
        if item["difference"] is not None
    ]
    return min(known, key=lambda item: float(item["difference"]), default={})
