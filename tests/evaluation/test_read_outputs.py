"""Outputs that cannot be judged are refused with a cause, not scored."""

from __future__ import annotations

import numpy as np
import pytest
from judged_samples import BINARY, MULTICLASS, MULTILABEL, REGRESSION

from modelworks.core.errors import ExecutionError, TaskError
from modelworks.core.task import TaskKind
from modelworks.evaluation.predictions import read_outputs

TRUTH = np.array([0, 1, 1, 0])
HALF = np.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("outputs", "code", "says"),
    [
        ({}, "MW5412", "no output 'probabilities'"),
        ({"probabilities": np.full((4, 3), 1 / 3)}, "MW5412", r"shape \[4, 3\]"),
        ({"probabilities": np.where(np.eye(4, 2) > 0, np.nan, 0.5)}, "MW5413", "2 of 4 judged rows"),
        ({"probabilities": np.full((4, 2), 1.5)}, "MW5403", "range 0 to 1"),
        (
            {"probabilities": HALF, "label": np.array(["no", "yes", "maybe", "no"], dtype=object)},
            "MW5404",
            "maybe",
        ),
    ],
)
def test_bad_outputs(outputs: dict[str, np.ndarray], code: str, says: str) -> None:
    with pytest.raises(ExecutionError, match=says) as caught:
        read_outputs(BINARY, outputs, TRUTH, ["no", "yes"])
    assert caught.value.error_code == code


@pytest.mark.parametrize(
    ("kind", "truth", "more", "code"),
    [
        (BINARY, np.array([], dtype=int), {}, "MW1280"),
        (BINARY, np.array([0, 1, 2, 0]), {}, "MW1283"),
        (BINARY, TRUTH, {"positive": "maybe"}, "MW1284"),
        (BINARY, TRUTH, {"weight": np.array([1, -1, 1, 1])}, "MW1281"),
        (BINARY, TRUTH, {"weight": np.zeros(4)}, "MW1281"),
        (MULTILABEL, np.full((4, 2), 7, dtype=np.uint8), {}, "MW1283"),
        (REGRESSION, np.array([1.0, np.nan, 0.0, 0.0]), {}, "MW1283"),
        (TaskKind.FORECAST, TRUTH, {}, "MW1283"),
        (TaskKind.FORECAST, np.full((4, 2), np.nan), {}, "MW1280"),
        (TaskKind.ANOMALY, np.array([0, 1, 2, 0]), {}, "MW1283"),
    ],
)
def test_bad_truths(kind: TaskKind, truth: np.ndarray, more: dict[str, object], code: str) -> None:
    outputs = {"probabilities": HALF[: len(truth)], "prediction": np.zeros(len(truth))}
    with pytest.raises(TaskError) as caught:
        read_outputs(kind, outputs, truth, ["no", "yes"], **more)
    assert caught.value.error_code == code


def test_float32_rounding_is_forgiven() -> None:
    p = np.array([[1.0000001, -1e-7], [0.3, 0.7], [0.5, 0.5], [0.2, 0.8]], dtype=np.float32)
    predictions = read_outputs(BINARY, {"probabilities": p}, TRUTH, ["no", "yes"])
    assert predictions.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert predictions.probabilities.min() >= 0


def test_labels_are_read_as_texts_or_codes() -> None:
    p = np.eye(3)[[0, 1, 2, 1]]
    for label in (np.array(["c", "a", "b", "b"], dtype=object), np.array([2, 0, 1, 1])):
        found = read_outputs(
            MULTICLASS, {"probabilities": p, "label": label}, np.array([0, 1, 2, 1]), list("abc")
        )
        assert found.label.tolist() == [2, 0, 1, 1]


def test_a_column_of_predictions_is_a_vector() -> None:
    found = read_outputs(REGRESSION, {"prediction": np.ones((4, 1), dtype=np.float32)}, np.zeros(4), ())
    assert found.prediction.shape == (4,)
