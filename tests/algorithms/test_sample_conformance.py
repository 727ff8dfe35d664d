"""Built-in estimators of samples sit the exam of plug-ins, and the exam fails who deserves it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelworks.algorithms.samples.recipe import SampleHeads
from modelworks.algorithms.text.linear import TextLinear
from modelworks.core.estimator import FittedModel
from modelworks.core.task import TaskKind
from modelworks.testing import sample_suite


@pytest.mark.parametrize("modality", ["image", "text", "series"])
@pytest.mark.parametrize(("check", "kind"), sample_suite.cases(SampleHeads().card.kinds))
def test_heads(check: sample_suite.Check, kind: TaskKind, modality: Any) -> None:
    sample_suite.run(check, lambda: SampleHeads(head="logistic"), kind, modality)


@pytest.mark.parametrize("family", ["auto", "prototype", "neighbours", "network"])
@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.MULTILABEL])
@pytest.mark.parametrize("check", sample_suite.CHECKS)
def test_every_family(check: sample_suite.Check, kind: TaskKind, family: str) -> None:
    sample_suite.run(check, lambda: SampleHeads(head=family), kind, "series")


@pytest.mark.parametrize(("check", "kind"), sample_suite.cases(TextLinear().card.kinds))
def test_the_linear_model_of_texts(check: sample_suite.Check, kind: TaskKind) -> None:
    pytest.importorskip("sklearn", reason="needs the extra 'text'")
    sample_suite.run(check, TextLinear, kind, "text")


class _Wrong(SampleHeads):
    """Answers the classes the other way round."""

    def fit(self, train: Any, valid: Any, budget: Any, seed: int) -> FittedModel:
        turned = train.take(np.arange(train.rows))
        turned.target[:] = np.where(turned.target < 0, turned.target, 1 - turned.target)
        return super().fit(turned, valid, budget, seed)


def test_the_exam_fails_who_learns_the_wrong_way_round() -> None:
    with pytest.raises(AssertionError):
        sample_suite.run(sample_suite.learns_something, _Wrong, TaskKind.BINARY, "series")
