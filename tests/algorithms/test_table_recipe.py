"""The table recipe end to end: one graph from raw columns to outputs."""

from __future__ import annotations

import numpy as np
import pytest
from table_samples import sample_table

from modelworks.algorithms import TableRecipe, fit_baselines
from modelworks.compute.feeds import pack_columns
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.task import TaskKind

KINDS = [TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION, TaskKind.MULTILABEL]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_better_than_the_constant_on_new_rows(kind: TaskKind) -> None:
    train, fresh = sample_table(kind, seed=0), sample_table(kind, seed=1)
    model = TableRecipe().fit(train, None, Budget(30), 0)
    constant = fit_baselines(train, Budget(30), 0)["constant"]
    truth = fresh.target
    losses = []
    for one in (model, constant):
        feeds = pack_columns(one.signature, fresh.columns, fresh.rows)
        losses.append(_loss(kind, GraphSession(one.onnx).run(feeds), truth))
    assert losses[0] < 0.85 * losses[1]


def _loss(kind: TaskKind, outputs: dict[str, np.ndarray], truth: np.ndarray) -> float:
    if kind is TaskKind.REGRESSION:
        return float(np.sqrt(np.mean((outputs["prediction"] - truth) ** 2)))
    chances = np.clip(outputs["probabilities"], 1e-6, 1 - 1e-6)
    if kind is TaskKind.MULTILABEL:
        known = truth != 255
        likelihood = np.where(truth == 1, chances, 1 - chances)[known]
    else:
        likelihood = chances[np.arange(len(truth)), truth]
    return float(-np.log(likelihood).mean())
