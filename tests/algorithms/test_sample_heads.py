"""Backbones and the recipe of samples: what is fused answers as its parts, every task gets its own head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelworks.algorithms.backbones.fusion import payload_inputs
from modelworks.algorithms.plugins import (
    REFERENCES,
    backbone_choices,
    backbone_source,
    backbones,
    estimator,
    recipe_for,
    stacked,
)
from modelworks.compute.embedding import embed_column, objects
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.backbone import Backbone
from modelworks.core.budget import Budget
from modelworks.core.errors import ModelworksError, TaskError, UsageError
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples

ROWS = 60


def _samples(modality: str) -> tuple[list[Any], np.ndarray]:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, ROWS)
    if modality == "image":
        found: list[Any] = []
        for label in labels:
            image = rng.integers(0, 60, (int(rng.integers(20, 40)), 30, 3))
            image[:, ::2] += 150 * int(label)
            found.append(image.astype(np.uint8))
        return found, labels
    if modality == "text":
        words = (["pump", "leaks", "oil", "broken"], ["fine", "green", "runs", "smoothly"])
        return [" ".join(rng.choice(words[label], 6)) for label in labels], labels
    times = np.arange(50)
    return [
        np.sin(times * (0.3 + 0.4 * label) + rng.normal())[None].astype(np.float32)
        + rng.normal(0, 0.1, (1, 50)).astype(np.float32)
        for label in labels
    ], labels


def _made(name: str, values: list[Any]) -> Backbone:
    made: Backbone = backbone_source(name)().make(values, 0)
    return made


@pytest.mark.parametrize(
    "name", [name for name, known in backbones().items() if known.origin == "modelworks"]
)
def test_a_backbone_embeds_one_sample_as_in_a_batch(name: str) -> None:
    modality = backbone_source(name)().card.modality
    values, _ = _samples(modality)
    made, again = _made(name, values), _made(name, values)
    assert made.digest == again.digest
    assert (made.name, made.modality) == (name, modality)
    inputs = payload_inputs(made, "x")
    whole = embed_column(made.onnx, inputs, values, tokenizer=made.tokenizer)
    assert whole.shape == (ROWS, made.width)
    assert np.isfinite(whole).all()
    alone = embed_column(made.onnx, inputs, values[7:8], tokenizer=made.tokenizer)
    np.testing.assert_allclose(alone[0], whole[7], atol=1e-4)


def _training(modality: str, kind: TaskKind, target: np.ndarray, classes: tuple[str, ...]) -> TrainingSamples:
    values, _ = _samples(modality)
    made = {name: _made(name, values) for name in (*backbone_choices(modality), REFERENCES[modality])}  # type: ignore[arg-type]
    return TrainingSamples(
        payload=objects(values),
        column="x",
        modality=modality,  # type: ignore[arg-type]
        kind=kind,
        target=target,
        classes=classes,
        weight=None,
        folds=np.arange(ROWS).astype(np.int8) % 5,
        embeddings={
            name: embed_column(item.onnx, payload_inputs(item, "x"), values) for name, item in made.items()
        },
        backbones=made,
    )


@pytest.mark.parametrize("modality", ["image", "text", "series"])
def test_the_fused_graph_answers_as_backbone_and_head(modality: str) -> None:
    _, labels = _samples(modality)
    train = _training(modality, TaskKind.BINARY, labels.astype(np.int64), ("no", "yes"))
    name = recipe_for(modality, TaskKind.BINARY)  # type: ignore[arg-type]
    assert stacked(name)
    recipe = estimator(name)()
    model = recipe.fit(train, None, Budget(60), 0)
    (head,) = recipe.fit_all([train], Budget(60), 0)
    whole = answer(GraphSession(model.onnx), model.signature, {"x": train.payload}, ROWS)
    parts = GraphSession(head.onnx).run({"embedding": train.embeddings[head.backbone]})
    np.testing.assert_allclose(whole["probabilities"], parts["probabilities"], atol=1e-4)
    assert list(whole["label"]) == list(parts["label"])
    right = np.mean(whole["label"] == np.array(["no", "yes"], object)[labels])
    assert right > 0.9
    assert model.diagnostics["members"][0]["oof_loss"] > 0


def test_labels_may_be_missing_and_one_bad_task_leaves_the_others_alone() -> None:
    _, labels = _samples("series")
    binary = _training("series", TaskKind.BINARY, np.where(np.arange(ROWS) < 9, -1, labels), ("no", "yes"))
    several = np.stack([labels, 1 - labels, np.full(ROWS, 255), np.zeros(ROWS)], axis=1).astype(np.uint8)
    several[:5, 0] = 255
    more = [
        (TaskKind.MULTILABEL, several, ("a", "b", "unknown", "never")),
        (TaskKind.REGRESSION, labels * 3.0 + 1, ()),
        (TaskKind.BINARY, np.zeros(ROWS, np.int64), ("no", "yes")),
    ]
    tasks = [binary, *(_with(binary, *item) for item in more)]
    found = estimator("samples.heads")().fit_all(tasks, Budget(60), 0)
    assert isinstance(found[3], TaskError)
    kinds = [item for item in found if not isinstance(item, ModelworksError)]
    names = [[tensor.name for tensor in item.outputs] for item in kinds]
    assert names == [["probabilities", "label"], ["probabilities", "labels"], ["prediction"]]
    answers = GraphSession(kinds[1].onnx).run({"embedding": binary.embeddings[kinds[1].backbone]})
    assert np.mean(answers["labels"][:, 0] == (labels == 1)) > 0.9
    assert answers["probabilities"][:, 3].max() < 0.05


def _with(
    first: TrainingSamples, kind: TaskKind, target: np.ndarray, classes: tuple[str, ...]
) -> TrainingSamples:
    return TrainingSamples(
        payload=first.payload, column="x", modality="series", kind=kind, target=target, classes=classes,
        weight=None, folds=first.folds, embeddings=first.embeddings, backbones=first.backbones,
    )  # fmt: skip


def test_an_unknown_backbone_and_an_impossible_task_are_named() -> None:
    with pytest.raises(UsageError, match=r"images\.patches"):
        backbone_source("images.patch")
    with pytest.raises(TaskError, match="table"):
        recipe_for("table", TaskKind.FORECAST)
