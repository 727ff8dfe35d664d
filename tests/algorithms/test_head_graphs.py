"""A head of every family as a graph: it answers as the fitted head, at the threshold its metric asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelworks.algorithms.samples.head import FittedHead
from modelworks.algorithms.samples.recipe import SampleHeads
from modelworks.compute.embedding import objects
from modelworks.compute.runtime import GraphSession
from modelworks.core.backbone import Backbone
from modelworks.core.budget import Budget
from modelworks.core.errors import TaskError
from modelworks.core.task import Limits, TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.serving.heads.split import split_head
from modelworks.training.heads.choice import FAMILIES, OF_CLASSES, fit_families
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import MISSING, HeadTask

ROWS, WIDTH = 360, 12


def _samples(kind: TaskKind, seed: int = 0, rare: float = 0.5) -> TrainingSamples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    score = x @ rng.normal(size=(WIDTH, 3)) + rng.normal(size=(ROWS, 3))
    classes: tuple[str, ...] = ("no", "yes")
    target = (score[:, 0] > np.quantile(score[:, 0], 1 - rare)).astype(np.int64)
    if kind is TaskKind.MULTICLASS:
        target, classes = score.argmax(axis=1).astype(np.int64), ("a", "b", "c")
    if kind is TaskKind.REGRESSION:
        target, classes = score[:, 0], ()
    if kind is TaskKind.MULTILABEL:
        target, classes = (score > 0).astype(np.uint8), ("a", "b", "never")
        target[:, 2] = 0
        target[rng.random((ROWS, 3)) < 0.1] = MISSING
    return TrainingSamples(
        payload=objects([None] * ROWS), column="x", modality="image", kind=kind, target=target, classes=classes,
        weight=None, folds=(np.arange(ROWS) % 5).astype(np.int8), embeddings={"b": x},
        backbones={"b": Backbone(name="b", modality="image", onnx=b"", width=WIDTH, licence="")},
    )  # fmt: skip


def _few_labels(train: TrainingSamples) -> TrainingSamples:
    target = train.target.copy()
    target[36:] = {"f": np.nan, "u": MISSING, "i": -1}[target.dtype.kind]
    return replace(train, target=target)


def _head(train: TrainingSamples, **more: object) -> FittedHead:
    (head,) = SampleHeads(**more).fit_all([train], Budget(300), 0)  # type: ignore[arg-type]
    assert isinstance(head, FittedHead)
    return head


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "kind", [TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL, TaskKind.REGRESSION]
)
def test_the_graph_answers_as_the_fitted_head(family: str, kind: TaskKind) -> None:
    train = _samples(kind)
    if family == "self_trained":
        train = _few_labels(train)
    head = _head(train, head=family)
    answers = GraphSession(head.onnx).run({"embedding": train.embeddings["b"]})
    if kind is TaskKind.MULTILABEL:
        columns = [np.where(train.target[:, 0] == MISSING, -1, train.target[:, 0].astype(np.int64))]
        tasks = [HeadTask(name="", labels=columns[0], classes=2, folds=train.folds)]
    else:
        classes = 0 if kind is TaskKind.REGRESSION else len(train.classes)
        tasks = [HeadTask(name="", labels=train.target, classes=classes, folds=train.folds)]
    ((fitted,),) = fit_families(
        Space(train.embeddings["b"]), tasks, forced=family, remembered=10_000, seed=0, budget=Budget(300)
    )
    used = "ridge" if kind is TaskKind.REGRESSION and family in OF_CLASSES else family
    assert fitted.family == used and head.diagnostics["head"][0]["family"] == used
    scores = fitted.form.scores(train.embeddings["b"]).astype(np.float64)
    if kind is TaskKind.REGRESSION:
        np.testing.assert_allclose(answers["prediction"], scores[:, 0], atol=1e-4)
        return
    if kind is TaskKind.MULTICLASS:
        expected = np.exp(scores - scores.max(axis=1, keepdims=True))
        np.testing.assert_allclose(
            answers["probabilities"], expected / expected.sum(axis=1, keepdims=True), atol=1e-4
        )
        return
    column = 0 if kind is TaskKind.MULTILABEL else 1
    np.testing.assert_allclose(
        answers["probabilities"][:, column], 1 / (1 + np.exp(-scores[:, 0])), atol=1e-4
    )
    if kind is TaskKind.MULTILABEL:
        assert answers["probabilities"][:, 2].max() < 0.05 and not answers["labels"][:, 2].any()


def test_the_threshold_follows_the_metric() -> None:
    train = _samples(TaskKind.BINARY, rare=0.08)
    usual, sought = _head(train, head="ridge"), _head(train, head="ridge", metric="balanced_accuracy")
    assert usual.diagnostics["threshold"] == [0.5]
    (threshold,) = sought.diagnostics["threshold"]
    assert threshold < 0.3
    found = [GraphSession(head.onnx).run({"embedding": train.embeddings["b"]}) for head in (usual, sought)]
    np.testing.assert_array_equal(found[0]["probabilities"], found[1]["probabilities"])
    yes = [answers["label"] == "yes" for answers in found]
    assert yes[1].sum() > yes[0].sum()
    np.testing.assert_array_equal(yes[1], found[1]["probabilities"][:, 1] >= np.float32(threshold))


@pytest.mark.parametrize("family", ["ridge", "logistic", "network"])
@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION])
def test_the_engine_takes_such_heads_apart(family: str, kind: TaskKind) -> None:
    """Heads of one backbone must share its pass: the engine must know their form."""
    from modelworks.algorithms.backbones.sources import KernelSource

    train = _samples(kind)
    rng = np.random.default_rng(3)
    backbone = KernelSource().make(list(rng.normal(size=(20, 1, 40)).astype(np.float32)), 0)
    train = replace(
        train,
        embeddings={"b": np.pad(train.embeddings["b"], ((0, 0), (0, backbone.width - WIDTH)))},
        backbones={"b": backbone},
    )
    head = _head(train, head=family, metric="rmse" if kind is TaskKind.REGRESSION else "accuracy")
    model = head.fused(backbone, "x")
    assert split_head(model.onnx, model.signature) is not None


def test_the_positive_class_may_be_the_first() -> None:
    train = _samples(TaskKind.BINARY, rare=0.7)
    train.target[::4] = 1 - train.target[::4]
    sought = _head(train, head="ridge", metric="f1", positive="no")
    usual = _head(train, head="ridge", metric="f1", positive="yes")
    assert sought.diagnostics["threshold"][0] > usual.diagnostics["threshold"][0]


def test_rare_classes_are_favoured_by_macro_f1() -> None:
    train = _samples(TaskKind.MULTICLASS)
    keep = (train.target == 0) | (np.random.default_rng(1).random(ROWS) < 0.25)
    train = train.take(np.flatnonzero(keep))
    plain, favoured = _head(train, head="ridge"), _head(train, head="ridge", metric="macro_f1")
    assert len(favoured.diagnostics["threshold"]) == 3
    said = [
        GraphSession(head.onnx).run({"embedding": train.embeddings["b"]})["label"]
        for head in (plain, favoured)
    ]
    assert (said[1] == "a").sum() < (said[0] == "a").sum()


def test_what_was_compared_is_told_and_one_is_kept() -> None:
    head = _head(_samples(TaskKind.BINARY))
    members = head.diagnostics["members"]
    # Logistic is dropped where it does not lead ridge, and no label is missing here.
    finished = [family for family in FAMILIES if family not in {"logistic", "self_trained"}]
    assert [item["name"] for item in members] == [f"{family} on b" for family in finished]
    assert sum(item["kept"] for item in members) == 1
    assert all(np.isfinite(item["oof_loss"]) for item in members)
    assert "head on b: held-out log loss" in head.diagnostics["chosen"]
    few = _head(_few_labels(_samples(TaskKind.BINARY))).diagnostics["members"]
    assert {"ridge on b", "self_trained on b"} <= {item["name"] for item in few}


def test_a_head_that_remembers_keeps_to_the_size_limit() -> None:
    train = _samples(TaskKind.BINARY)
    small = _head(train, head="neighbours", limits=Limits(size_mb=0.01))
    assert small.diagnostics["head"][0]["remembered"] < ROWS and len(small.onnx) < 10_000
    left = _head(train, limits=Limits(size_mb=0.01))
    assert "neighbours on b" not in [item["name"] for item in left.diagnostics["members"]]


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(TaskError, match=r"no head 'prototpye'.*prototype") as raised:
        _head(_samples(TaskKind.BINARY), head="prototpye")
    assert raised.value.error_code == "MW1254"
