"""The conformance suite of table estimators: every implementation, ours and plugged-in ones, sits this exam.

    CASES = estimator_suite.cases(MyEstimator().card.kinds)

    @pytest.mark.parametrize(("check", "kind"), CASES)
    def test_my_estimator(check, kind):
        estimator_suite.run(check, MyEstimator, kind)

An estimator that also has ``fit_native(train, budget, seed) -> (FittedModel, predictor)``, whose predictor has
``predict(columns, rows) -> outputs``, is compared with its graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.compute.feeds import pack_columns
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped, Cancelled
from modelworks.core.estimator import Estimator, FittedModel
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import MISSING_DATETIME
from modelworks.core.task import TaskKind
from modelworks.data import TrainingTable

PARITY = 1e-5
TABLE_KINDS = (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION, TaskKind.MULTILABEL)
_DAY_US = 86_400_000_000
_PLENTY_S = 600.0
_LATE_CHECKS = 3

Make = Callable[[], Estimator]
Check = Callable[[Make, TaskKind], None]


def sample_table(
    kind: TaskKind, rows: int = 240, seed: int = 0, *, weighted: bool = False, folds: int = 4
) -> TrainingTable:
    """Return a table whose target depends on a number, a category, an order, the season of a date and a word.

    It has gaps, a rare level, a constant column and, with ``weighted``, row weights.
    """
    generator = np.random.default_rng(seed)
    size = generator.normal(size=rows).astype(np.float32)
    age = generator.integers(1, 80, rows).astype(np.float32)
    city = _pick(generator, ["Bern", "Basel", "Genf", "Uri", ""], rows, [0.4, 0.3, 0.2, 0.02, 0.08])
    grade = _pick(generator, ["low", "mid", "high"], rows)
    note = _pick(generator, ["ok", "late again", "Late, sorry", "all fine here", ""], rows)
    opened = (19_000 + generator.integers(0, 900, rows)).astype(np.int64) * _DAY_US
    signal = size + 0.02 * age + (city == "Bern") - (city == "Genf") + 0.8 * (grade == "high")
    signal = signal + np.sin(opened / _DAY_US / 365.25 * 2 * np.pi) + 0.5 * generator.normal(size=rows)
    signal = signal - 0.7 * np.array(["late" in text.lower() for text in note])
    size[generator.random(rows) < 0.1] = np.nan
    opened[generator.random(rows) < 0.05] = MISSING_DATETIME
    kinds = {
        "size": ColumnKind.NUMBER,
        "age": ColumnKind.NUMBER,
        "same": ColumnKind.NUMBER,
        "city": ColumnKind.CATEGORY,
        "grade": ColumnKind.ORDERED,
        "note": ColumnKind.TEXT,
        "opened": ColumnKind.DATETIME,
    }
    levels = {"grade": ("low", "mid", "high")}
    target, classes = _target(kind, signal, generator)
    return TrainingTable(
        columns={
            "size": size,
            "age": age,
            "same": np.ones(rows, dtype=np.float32),
            "city": city,
            "grade": grade,
            "note": note,
            "opened": opened,
        },
        schema=Schema(
            columns=tuple(
                Column(name=name, kind=column, levels=levels.get(name)) for name, column in kinds.items()
            ),
            rows=rows,
        ),
        target=target,
        classes=classes,
        weight=generator.random(rows).astype(np.float32) + np.float32(0.1) if weighted else None,
        folds=(np.arange(rows) % folds).astype(np.int8),
        kind=kind,
    )


def _pick(
    generator: np.random.Generator, values: Sequence[str], rows: int, shares: Sequence[float] | None = None
) -> npt.NDArray[np.object_]:
    return np.array(values, dtype=object)[generator.choice(len(values), rows, p=shares)]


def _target(
    kind: TaskKind, signal: npt.NDArray[np.float64], generator: np.random.Generator
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if kind is TaskKind.REGRESSION:
        return 1000.0 + 50.0 * signal, ()
    if kind is TaskKind.BINARY:
        return (signal > np.median(signal)).astype(np.int64), ("no", "yes")
    if kind is TaskKind.MULTICLASS:
        return np.digitize(signal, np.quantile(signal, [0.4, 0.7])).astype(np.int64), ("a", "b", "c")
    noisy = signal + generator.normal(size=len(signal))
    labels = np.stack([signal > 0.5, noisy > 1.0], axis=1).astype(np.uint8)
    labels[generator.random(labels.shape) < 0.1] = 255
    return labels, ("red", "green")


def answers(model: FittedModel, table: TrainingTable) -> dict[str, npt.NDArray[Any]]:
    """Return the graph's outputs for the rows of a table."""
    feeds = pack_columns(model.signature, table.columns, table.rows)
    return GraphSession(model.onnx).run(feeds)


def _numbers(outputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float64]]:
    return {
        name: outputs[name].astype(np.float64)
        for name in ("probabilities", "prediction", "quantiles")
        if name in outputs
    }


def _scale(table: TrainingTable) -> float:
    return float(table.target.std()) if table.kind is TaskKind.REGRESSION else 1.0


def equal_bytes_for_one_seed(make: Make, kind: TaskKind) -> None:
    """Two fits with one seed give the same bytes."""
    first, second = (make().fit(sample_table(kind), None, Budget(_PLENTY_S), 7).onnx for _ in range(2))
    assert first == second


def signature_is_the_graphs(make: Make, kind: TaskKind) -> None:
    """The signature names the graph's inputs and the outputs that the contract asks for."""
    table = sample_table(kind)
    model = make().fit(table, None, Budget(_PLENTY_S), 0)
    session = GraphSession(model.onnx)
    assert session.inputs == tuple(tensor.name for tensor in model.signature.inputs)
    assert session.outputs == tuple(tensor.name for tensor in model.signature.outputs)
    assert set(model.signature.columns) <= set(table.columns)
    wanted = {
        TaskKind.BINARY: {"probabilities", "label"},
        TaskKind.MULTICLASS: {"probabilities", "label"},
        TaskKind.MULTILABEL: {"probabilities", "labels"},
        TaskKind.REGRESSION: {"prediction"},
    }[kind]
    assert wanted <= set(session.outputs)
    assert model.signature.classes == table.classes
    outputs = session.run(pack_columns(model.signature, table.columns, table.rows))
    for tensor in model.signature.outputs:
        shape = tuple(table.rows if axis < 0 else axis for axis in tensor.shape)
        assert outputs[tensor.name].shape == shape


def graph_equals_native(make: Make, kind: TaskKind) -> None:
    """The graph gives the native prediction on new rows, to 1e-5 of the target's spread."""
    estimator: Any = make()
    if not hasattr(estimator, "fit_native"):
        return
    table, fresh = sample_table(kind), sample_table(kind, seed=1)
    model, native = estimator.fit_native(table, Budget(_PLENTY_S), 0)
    written = answers(model, fresh)
    computed = native.predict(fresh.columns, fresh.rows)
    for name, values in _numbers(written).items():
        assert float(np.abs(values - computed[name]).max()) <= PARITY * _scale(table)
    for name in ("label", "labels"):
        if name in written:
            assert np.mean(written[name] == computed[name]) > 0.99


def one_row_equals_the_batch(make: Make, kind: TaskKind) -> None:
    """A row answered alone is answered as in a batch."""
    table = sample_table(kind)
    model = make().fit(table, None, Budget(_PLENTY_S), 0)
    batch = answers(model, table)
    for index in (0, 1, table.rows // 2, table.rows - 1):
        alone = answers(model, table.take(np.array([index])))
        for name, values in _numbers(alone).items():
            apart = np.abs(values[0] - batch[name][index].astype(np.float64)).max()
            assert float(apart) <= PARITY * _scale(table)


def missing_and_unseen_values(make: Make, kind: TaskKind) -> None:
    """Rows of nothing but gaps, unseen levels and far numbers get finite answers."""
    model = make().fit(sample_table(kind), None, Budget(_PLENTY_S), 0)
    strange = sample_table(kind, rows=4, seed=5)
    columns = {name: values.copy() for name, values in strange.columns.items()}
    for name, values in columns.items():
        if values.dtype == object:
            values[:] = ["", "never seen", "Ünseen 漢字", "x" * 500]
        elif values.dtype == np.int64:
            values[:] = [MISSING_DATETIME, -(2**40), 0, 2**53]
        else:
            values[:] = [np.nan, 1e30, -1e30, 0.0]
        columns[name] = values
    outputs = GraphSession(model.onnx).run(pack_columns(model.signature, columns, 4))
    for values in _numbers(outputs).values():
        assert np.isfinite(values).all()
    if kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        assert np.allclose(outputs["probabilities"].sum(axis=1), 1.0, atol=1e-5)


def learns_something(make: Make, kind: TaskKind) -> None:
    """On new rows the model is better than the best constant, with and without row weights."""
    fresh = sample_table(kind, rows=400, seed=1)
    for weighted in (False, True):
        train = sample_table(kind, weighted=weighted)
        model = make().fit(train, None, Budget(_PLENTY_S), 0)
        assert _loss(answers(model, fresh), fresh) < 0.9 * _constant_loss(train, fresh)


def tiny_and_lopsided_tables(make: Make, kind: TaskKind) -> None:
    """A dozen rows, and a class that a fold does not hold, still give a model."""
    model = make().fit(sample_table(kind, rows=12, folds=3), None, Budget(_PLENTY_S), 0)
    assert model.onnx
    if kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        table = sample_table(kind, rows=60)
        table.target[:] = 0
        table.target[table.folds == 0] = np.arange((table.folds == 0).sum()) % len(table.classes)
        outputs = answers(make().fit(table, None, Budget(_PLENTY_S), 0), table)
        assert np.isfinite(outputs["probabilities"]).all()


class _Ticks:
    """CPU time that passes by one second whenever it is read, so that budgets end at a known act."""

    def __init__(self) -> None:
        self._count = itertools.count()
        self.read = 0

    def __call__(self) -> float:
        self.read += 1
        return float(next(self._count))


def budget_is_kept(make: Make, kind: TaskKind) -> None:
    """When the budget ends, fitting ends: with the best model so far, or with ``BudgetStopped``."""
    table = sample_table(kind)
    for seconds in (3, 30, 120):
        ticks = _Ticks()
        try:
            model = make().fit(table, None, Budget(float(seconds), cpu_time=ticks), 0)
        except BudgetStopped:
            continue
        assert np.isfinite(next(iter(_numbers(answers(model, table)).values()))).all()
    whole = _Ticks()
    make().fit(table, None, Budget(1e9, cpu_time=whole), 0)
    assert whole.read > 10, "the budget is hardly asked"


class _CancelledAt(Budget):
    """A budget that is cancelled at a given check and counts the checks that still come."""

    def __init__(self, number: int) -> None:
        super().__init__(_PLENTY_S)
        self.number = number
        self.checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.number:
            self.cancel()
        super().check()


def cancellation_is_prompt(make: Make, kind: TaskKind) -> None:
    """A cancelled fit raises ``Cancelled`` at its next check, wherever it is."""
    table = sample_table(kind)
    for number in (1, 5, 25):
        budget = _CancelledAt(number)
        try:
            make().fit(table, None, budget, 0)
        except Cancelled:
            assert budget.checks <= number + _LATE_CHECKS
        else:
            raise AssertionError(f"a fit that was cancelled at check {number} ended well")


def _loss(outputs: dict[str, npt.NDArray[Any]], table: TrainingTable) -> float:
    truth = table.target
    if table.kind is TaskKind.REGRESSION:
        return float(np.sqrt(np.mean((outputs["prediction"] - truth) ** 2)))
    chances = np.clip(outputs["probabilities"].astype(np.float64), 1e-6, 1 - 1e-6)
    return _log_loss(chances, table)


def _constant_loss(train: TrainingTable, table: TrainingTable) -> float:
    if table.kind is TaskKind.REGRESSION:
        return float(np.sqrt(np.mean((train.target.mean() - table.target) ** 2)))
    if table.kind is TaskKind.MULTILABEL:
        share = np.ma.masked_equal(train.target, 255).mean(axis=0).filled(0.5)
        return _log_loss(np.tile(share, (table.rows, 1)), table)
    share = np.bincount(train.target, minlength=len(train.classes)) / train.rows
    return _log_loss(np.tile(np.clip(share, 1e-6, 1), (table.rows, 1)), table)


def _log_loss(chances: npt.NDArray[np.float64], table: TrainingTable) -> float:
    if table.kind is TaskKind.MULTILABEL:
        likelihood = np.where(table.target == 1, chances, 1 - chances)[table.target != 255]
    else:
        likelihood = chances[np.arange(table.rows), table.target]
    return float(-np.log(likelihood).mean())


CHECKS: tuple[Check, ...] = (
    equal_bytes_for_one_seed,
    signature_is_the_graphs,
    graph_equals_native,
    one_row_equals_the_batch,
    missing_and_unseen_values,
    learns_something,
    tiny_and_lopsided_tables,
    budget_is_kept,
    cancellation_is_prompt,
)


def cases(kinds: Iterable[TaskKind]) -> list[tuple[Check, TaskKind]]:
    """Return every check with every kind of task the estimator can do."""
    wanted = set(kinds)
    return [(check, kind) for check in CHECKS for kind in TABLE_KINDS if kind in wanted]


def run(check: Check, make: Make, kind: TaskKind) -> None:
    """Run one check of the suite on an estimator."""
    check(make, kind)
