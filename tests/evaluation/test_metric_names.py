"""Metrics are found by name, by alias and by near miss; defaults are those of practitioners."""

from __future__ import annotations

import pytest
from judged_samples import BINARY, MULTICLASS, MULTILABEL, REGRESSION

from modelworks.core.errors import TaskError
from modelworks.core.task import TaskKind
from modelworks.evaluation import METRICS, default_metric, find_metric


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("roc_auc", BINARY, "roc_auc"),
        ("ROC-AUC", BINARY, "roc_auc"),
        ("auc", MULTICLASS, "roc_auc_ovr"),
        ("roc_auc", MULTILABEL, "roc_auc_macro"),
        ("pr_auc", BINARY, "average_precision"),
        ("f1", MULTICLASS, "macro_f1"),
        ("f1", BINARY, "f1"),
        ("logloss", MULTILABEL, "log_loss"),
        ("accuracy", MULTILABEL, "mean_accuracy"),
    ],
)
def test_names_people_use(name: str, kind: TaskKind, found: str) -> None:
    assert find_metric(name, kind).name == found


def test_a_misspelt_name_is_answered_with_close_ones() -> None:
    with pytest.raises(TaskError, match=r"Did you mean 'roc_auc'") as caught:
        find_metric("roc_auk", BINARY)
    assert caught.value.error_code == "MW1205"
    assert "average_precision" in (caught.value.hint or "")


def test_a_metric_of_another_kind_is_refused() -> None:
    with pytest.raises(TaskError, match="regression"):
        find_metric("roc_auc", REGRESSION)


def test_defaults() -> None:
    assert default_metric(BINARY) == "roc_auc"
    assert default_metric(BINARY, [0.7, 0.3]) == "roc_auc"
    assert default_metric(BINARY, [0.98, 0.02]) == "average_precision"
    assert default_metric(MULTICLASS) == "accuracy"
    assert default_metric(MULTICLASS, [0.4, 0.4, 0.2]) == "accuracy"
    assert default_metric(MULTICLASS, [0.9, 0.05, 0.05]) == "macro_f1"
    assert default_metric(REGRESSION) == "rmse"
    assert default_metric(MULTILABEL) == "roc_auc_macro"
    assert default_metric(TaskKind.FORECAST) == "mase"
    assert default_metric(TaskKind.ANOMALY) == "roc_auc"
    assert default_metric(TaskKind.ANOMALY, [0.99, 0.01]) == "average_precision"


def test_every_metric_says_what_it_means_in_one_line() -> None:
    for known in METRICS.values():
        for name, metric in known.items():
            assert metric.name == name
            assert 10 < len(metric.meaning) < 120 and "\n" not in metric.meaning
            assert metric.low < metric.high
