"""The conformance suite of estimators of samples: heads on embeddings, models of texts, images or series.

CASES = sample_suite.cases(MyEstimator().card.kinds)

@pytest.mark.parametrize(("check", "kind"), CASES)
def test_my_estimator(check, kind):
    sample_suite.run(check, MyEstimator, kind, "text")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.fusion import payload_inputs
from modelworks.algorithms.plugins import REFERENCES, backbone_source
from modelworks.compute.embedding import embed_column, objects
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped, Cancelled, TaskError
from modelworks.core.estimator import Estimator, FittedModel
from modelworks.core.task import Modality, TaskKind
from modelworks.data.samples.training import TrainingSamples

SAMPLE_KINDS = (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION, TaskKind.MULTILABEL)
COLUMN = "payload"
CLOSE = 1e-4
ROWS = 160
_PLENTY_S = 600.0
_LATE_CHECKS = 3

Make = Callable[[], Estimator]
Check = Callable[[Make, TaskKind, Modality], None]

_WORDS = (
    ("leaks", "oil", "hot", "noise"),
    ("quiet", "cold", "dry", "fine"),
    ("late", "again", "slow", "stops"),
)


def made_samples(kind: TaskKind, modality: Modality, rows: int = ROWS, seed: int = 0) -> TrainingSamples:
    """Return samples whose target can be seen in them, with embeddings of the reference; some labels are missing."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, rows)
    payload = objects([_payload(rng, int(code), modality) for code in codes])
    target: npt.NDArray[Any]
    classes: tuple[str, ...]
    if kind is TaskKind.REGRESSION:
        target, classes = 10.0 + 5.0 * codes + rng.normal(0, 0.3, rows), ()
        target[rng.random(rows) < 0.05] = np.nan
    elif kind is TaskKind.MULTILABEL:
        target, classes = np.stack([codes == 0, codes == 2], axis=1).astype(np.uint8), ("first", "last")
        target[rng.random(target.shape) < 0.05] = 255
    else:
        several = kind is TaskKind.MULTICLASS
        target = codes if several else (codes == 0).astype(np.int64)
        classes = ("a", "b", "c") if several else ("no", "yes")
        target = np.where(rng.random(rows) < 0.05, -1, target)
    backbone = backbone_source(REFERENCES[modality])().make(list(payload), 0)
    return TrainingSamples(
        payload=payload,
        column=COLUMN,
        modality=modality,
        kind=kind,
        target=target,
        classes=classes,
        weight=None,
        folds=(np.arange(rows) % 5).astype(np.int8),
        embeddings={backbone.name: embed_column(backbone.onnx, payload_inputs(backbone, COLUMN), payload)},
        backbones={backbone.name: backbone},
    )


def _payload(rng: np.random.Generator, code: int, modality: Modality) -> Any:
    if modality == "text":
        words = rng.choice([*_WORDS[code], "pump", "valve"], 7).tolist()
        return " ".join(words) + " !" * (3 * code)
    if modality == "series":
        times = np.arange(48)
        wave = np.sin(times * 0.4 + rng.uniform(0, 6)) * (1 + code)
        return (wave + rng.normal(0, 0.1, 48))[None].astype(np.float32)
    image = rng.integers(0, 40, (24, 20, 3))
    image[..., code] += 150
    return image.astype(np.uint8)


def answers(model: FittedModel, samples: TrainingSamples) -> dict[str, npt.NDArray[Any]]:
    """Return the graph's outputs for samples."""
    return answer(GraphSession(model.onnx), model.signature, {COLUMN: samples.payload}, samples.rows)


def _fitted(make: Make, samples: TrainingSamples, seed: int = 0) -> FittedModel:
    return make().fit(samples, None, Budget(_PLENTY_S), seed)


def _numbers(outputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float64]]:
    return {name: value.astype(np.float64) for name, value in outputs.items() if value.dtype.kind == "f"}


def equal_bytes_for_one_seed(make: Make, kind: TaskKind, modality: Modality) -> None:
    """Two fits with one seed give the same bytes."""
    first, second = (_fitted(make, made_samples(kind, modality), 7).onnx for _ in range(2))
    assert first == second


def signature_is_the_graphs(make: Make, kind: TaskKind, modality: Modality) -> None:
    """The signature names the graph's inputs and outputs; the payload column is the only one."""
    samples = made_samples(kind, modality)
    model = _fitted(make, samples)
    session = GraphSession(model.onnx)
    assert session.inputs == tuple(tensor.name for tensor in model.signature.inputs)
    assert session.outputs == tuple(tensor.name for tensor in model.signature.outputs)
    assert set(model.signature.columns) == {COLUMN}
    assert model.signature.classes == samples.classes
    found = answers(model, samples)
    for tensor in model.signature.outputs:
        assert found[tensor.name].shape == tuple(samples.rows if axis < 0 else axis for axis in tensor.shape)
    if kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1.0, atol=1e-5)
        assert set(found["label"]) <= set(samples.classes)


def one_row_equals_the_batch(make: Make, kind: TaskKind, modality: Modality) -> None:
    """A sample answered alone is answered as in a batch."""
    samples = made_samples(kind, modality)
    model = _fitted(make, samples)
    batch = _numbers(answers(model, samples))
    for index in (0, samples.rows // 2, samples.rows - 1):
        for name, values in _numbers(answers(model, samples.take(np.array([index])))).items():
            np.testing.assert_allclose(values[0], batch[name][index], atol=CLOSE, rtol=CLOSE)


def learns_something(make: Make, kind: TaskKind, modality: Modality) -> None:
    """On new samples the model is better than the best constant."""
    train, fresh = made_samples(kind, modality), made_samples(kind, modality, seed=1)
    found = answers(_fitted(make, train), fresh)
    if kind is TaskKind.REGRESSION:
        known = np.isfinite(fresh.target)
        error = found["prediction"][known] - fresh.target[known]
        assert float((error**2).mean()) < 0.8 * float(np.var(fresh.target[known]))
        return
    if kind is TaskKind.MULTILABEL:
        known = fresh.target != 255
        said, truth = (found["probabilities"] >= 0.5)[known], (fresh.target == 1)[known]
        assert float((said == truth).mean()) > max(truth.mean(), 1 - truth.mean()) + 0.05
        return
    known = fresh.target >= 0
    truth = np.array(fresh.classes, object)[fresh.target[known]]
    most = max(np.bincount(fresh.target[known])) / known.sum()
    assert float((found["label"][known] == truth).mean()) > most + 0.05


def few_and_lopsided_labels(make: Make, kind: TaskKind, modality: Modality) -> None:
    """A dozen labels give a finite model; a task without two classes is refused as such."""
    samples = made_samples(kind, modality)
    few = samples.take(np.arange(15))
    found = _numbers(answers(_fitted(make, few), samples))
    assert all(np.isfinite(values).all() for values in found.values())
    if kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        samples.target[:] = np.where(samples.target < 0, -1, 0)
        try:
            _fitted(make, samples)
        except TaskError as error:
            assert error.message
        else:
            raise AssertionError("a task of one class was fitted")


def budget_and_cancellation_are_kept(make: Make, kind: TaskKind, modality: Modality) -> None:
    """A spent budget ends with ``BudgetStopped``; a cancelled fit raises ``Cancelled`` at its next check."""
    samples = made_samples(kind, modality)
    spent = Budget(1e-9)
    try:
        make().fit(samples, None, spent, 0)
    except BudgetStopped:
        pass
    else:
        raise AssertionError("a fit without any budget ended well")
    budget = _CancelledAt(1)
    try:
        make().fit(samples, None, budget, 0)
    except Cancelled:
        assert budget.checks <= 1 + _LATE_CHECKS
    else:
        raise AssertionError("a fit that was cancelled ended well")


class _CancelledAt(Budget):
    """A budget that is cancelled at a given check and counts the checks that still come."""

    def __init__(self, number: int) -> None:
        super().__init__(_PLENTY_S)
        self.number, self.checks = number, 0

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.number:
            self.cancel()
        super().check()


CHECKS: tuple[Check, ...] = (
    equal_bytes_for_one_seed,
    signature_is_the_graphs,
    one_row_equals_the_batch,
    learns_something,
    few_and_lopsided_labels,
    budget_and_cancellation_are_kept,
)


def cases(kinds: Iterable[TaskKind]) -> list[tuple[Check, TaskKind]]:
    """Return every check with every kind that samples have."""
    able = set(kinds)
    return [(check, kind) for check in CHECKS for kind in SAMPLE_KINDS if kind in able]


def run(check: Check, make: Make, kind: TaskKind, modality: Modality) -> None:
    """Run one check of an estimator."""
    check(make, kind, modality)
