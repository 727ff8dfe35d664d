"""Deep recipes: equal bytes for one seed, the graph answers as the network, budgets and missing labels are minded."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from modelworks.algorithms.plugins import estimator
from modelworks.compute.embedding import objects
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped, Cancelled, TaskError
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples

pytest.importorskip("torch", reason="needs the extra 'torch'")

from modelworks.algorithms.deep.images import DeepImages
from modelworks.algorithms.deep.series import DeepSeries
from modelworks.algorithms.deep.text import DeepText

RECIPES: dict[str, Any] = {
    "image": DeepImages(side=16, width=4, epochs=6, trials=0),
    "text": DeepText(width=4, depth=1, buckets=256, epochs=6, trials=0),
    "series": DeepSeries(width=4, depth=3, epochs=6, trials=0),
}
KINDS = {"image": TaskKind.MULTICLASS, "text": TaskKind.BINARY, "series": TaskKind.REGRESSION}


def samples(modality: str, kind: TaskKind, rows: int = 120, seed: int = 0) -> TrainingSamples:
    """Payloads whose class is a place, a word or a bump, of different sizes and lengths."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3 if kind is TaskKind.MULTICLASS else 2, rows)
    payload: list[Any] = []
    for code in codes:
        if modality == "image":
            image = rng.integers(0, 90, (int(rng.integers(18, 30)), 24, 3))
            image[4:12, int(code) * 7 : int(code) * 7 + 7] += 140
            payload.append(image.astype(np.uint8))
        elif modality == "text":
            words = list(rng.choice(["pump", "valve", "line", "ünit", "漢字"], int(rng.integers(3, 8))))
            payload.append(" ".join([*words, "LEAKS badly" if code else "runs fine"]))
        else:
            series = rng.normal(0, 0.3, (2, int(rng.integers(30, 41)))).astype(np.float32)
            series[0, 8:16] += 2.0 * code
            series[1, 3] = np.nan
            payload.append(series)
    target: Any = codes.astype(np.int64)
    classes: tuple[str, ...] = ("a", "b", "c")[: codes.max() + 1]
    if kind is TaskKind.REGRESSION:
        target, classes = 100.0 + 20 * codes + rng.normal(0, 1, rows), ()
    if kind is TaskKind.MULTILABEL:
        target, classes = np.stack([codes, 1 - codes], 1).astype(np.uint8), ("yes", "no")
        target[::5, 0] = 255
    return TrainingSamples(
        payload=objects(payload), column="x", modality=modality, kind=kind, target=target, classes=classes,  # type: ignore[arg-type]
        weight=None, folds=(np.arange(rows) % 5).astype(np.int8),
    )  # fmt: skip


def _answers(model: Any, rows: TrainingSamples) -> dict[str, Any]:
    return answer(GraphSession(model.onnx), model.signature, {"x": rows.payload}, rows.rows)


@functools.cache
def _fitted(modality: str) -> Any:
    return RECIPES[modality].fit_native(samples(modality, KINDS[modality]), None, Budget(600), 0)


@pytest.mark.slow
@pytest.mark.parametrize("modality", RECIPES)
def test_one_seed_gives_equal_bytes(modality: str) -> None:
    again = RECIPES[modality].fit(samples(modality, KINDS[modality]), None, Budget(600), 0)
    assert again.onnx == _fitted(modality)[0].onnx


@pytest.mark.parametrize("modality", RECIPES)
def test_the_graph_answers_as_the_network(modality: str) -> None:
    kind = KINDS[modality]
    train, fresh = samples(modality, kind), samples(modality, kind, 40, seed=1)
    model, native = _fitted(modality)
    written = _answers(model, fresh)
    computed = native.predict({"x": fresh.payload}, fresh.rows)
    for name in ("probabilities", "prediction"):
        if name in written:
            scale = float(np.std(train.target)) if name == "prediction" else 1.0
            assert np.abs(written[name] - computed[name]).max() <= 2e-4 * scale
    alone = _answers(model, fresh.take(np.array([7])))
    for name, values in alone.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values[0], written[name][7], atol=1e-4, rtol=1e-5)
    import onnx

    domains = {node.domain for node in onnx.load_model_from_string(model.onnx).graph.node}
    assert domains <= {"", "ai.onnx.ml"}
    assert "BatchNormalization" not in {
        node.op_type for node in onnx.load_model_from_string(model.onnx).graph.node
    }


@pytest.mark.slow
@pytest.mark.parametrize("modality", RECIPES)
def test_a_recipe_learns_what_the_samples_show(modality: str) -> None:
    kind = KINDS[modality]
    recipe = estimator(f"deep.{ {'image': 'images'}.get(modality, modality) }")
    more = {"side": 16} if modality == "image" else {}
    model = recipe(width=8, epochs=14, trials=0, **more).fit(
        samples(modality, kind, 200), None, Budget(600), 0
    )
    fresh = samples(modality, kind, 100, seed=9)
    found = _answers(model, fresh)
    if kind is TaskKind.REGRESSION:
        assert np.sqrt(np.mean((found["prediction"] - fresh.target) ** 2)) < 0.5 * fresh.target.std()
    else:
        assert np.mean(found["label"] == np.array(fresh.classes, object)[fresh.target]) > 0.85
    assert model.diagnostics["training"]["history"][-1]["valid_loss"] > 0


def test_missing_labels_and_several_labels() -> None:
    train = samples("text", TaskKind.MULTILABEL)
    model = RECIPES["text"].fit(train, samples("text", TaskKind.MULTILABEL, 40, seed=2), Budget(600), 0)
    assert _answers(model, train)["labels"].shape == (train.rows, 2)
    binary = samples("text", TaskKind.BINARY, 60)
    binary.target[:30] = -1
    assert RECIPES["text"].rows(binary, None, Budget(60)).samples.rows == 30
    binary.target[:] = -1
    with pytest.raises(TaskError, match="at least 16"):
        RECIPES["text"].fit(binary, None, Budget(60), 0)


def test_unseen_values_get_finite_answers() -> None:
    model, _ = _fitted("series")
    strange = np.full((3, 2, model.signature.inputs[0].shape[2]), np.nan, np.float32)
    strange[1], strange[2] = 1e30, -1e30
    assert np.isfinite(GraphSession(model.onnx).run({"series": strange})["prediction"]).all()
    text, _ = _fitted("text")
    odd = objects(["", "x" * 3000, "\U0001f600", "ΑΒΓ"])
    assert np.isfinite(answer(GraphSession(text.onnx), text.signature, {"x": odd}, 4)["probabilities"]).all()


def test_the_search_is_the_same_for_one_seed_and_ends_bad_trials_early() -> None:
    train = samples("image", TaskKind.MULTICLASS, 80)
    recipe = DeepImages(side=16, width=4, epochs=8, trials=5)
    first, again = (recipe.fit(train, None, Budget(600), 1) for _ in range(2))
    assert first.onnx == again.onnx
    trials = first.diagnostics["search"]["trials"]
    assert trials == again.diagnostics["search"]["trials"]
    assert len(trials) == 5
    assert trials[0]["settings"] == {"rate": 5e-3, "variation": "medium"}
    assert first.diagnostics["plan"]["rate"] in [trial["settings"]["rate"] for trial in trials]


def test_the_budget_is_kept_and_a_cancelled_fit_ends() -> None:
    train = samples("series", TaskKind.REGRESSION, 60)
    ticks = itertools.count()
    try:
        model = DeepSeries(width=4, epochs=300, trials=0).fit(
            train, None, Budget(60, cpu_time=lambda: float(next(ticks))), 0
        )
        assert model.diagnostics["stopped"] == "budget"
    except BudgetStopped:
        pytest.fail("sixty checks are enough for one pass")
    budget = Budget(600)
    budget.cancel()
    with pytest.raises(Cancelled):
        RECIPES["series"].fit(train, None, budget, 0)


@pytest.mark.slow
def test_a_local_encoder_is_fine_tuned_within_the_recipe(tmp_path: Any) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4
    )  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    recipe = DeepImages(side=16, folder=str(tmp_path), epochs=4, trials=0)
    train = samples("image", TaskKind.MULTICLASS, 80)
    model, native = recipe.fit_native(train, None, Budget(600), 0)
    written = _answers(model, train)
    computed = native.predict({"x": train.payload}, train.rows)
    assert np.abs(written["probabilities"] - computed["probabilities"]).max() < 2e-4
    assert model.diagnostics["network"]["kind"] == "pretrained"
