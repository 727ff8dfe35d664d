"""Visual anomalies: found and placed on made surfaces, thresholds that hold, one graph, bytes that repeat."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from scipy.stats import norm

from modelworks.algorithms.images.anomaly import ImageAnomaly, least_images, tolerance_threshold
from modelworks.algorithms.images.looks import Look, NetworkLook
from modelworks.algorithms.plugins import estimator, recipe_for
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped, TaskError
from modelworks.core.estimator import FittedModel
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples

SMALL = ImageAnomaly(
    atoms=16, width=24, memory=150, looks=(Look(32, 8, 4), Look(64, 16, 8)), network=(NetworkLook(64, 1),)
)


def _surface(rng: np.random.Generator, spot: bool) -> tuple[np.ndarray, tuple[float, float]]:
    """A striped surface under noise, sometimes with a small checked spot; and where that lies, of the whole."""
    height, width = rng.choice([48, 60]), rng.choice([48, 72])
    y, x = np.mgrid[:height, :width]
    image = 128 + 50 * np.sin(x / 2.5 + rng.uniform(0, 6))[..., None] + rng.normal(0, 12, (height, width, 3))
    top, left = rng.integers(4, height - 16), rng.integers(4, width - 16)
    if spot:
        inside = (y >= top) & (y < top + 12) & (x >= left) & (x < left + 12)
        image[inside] = 128 + 90 * (((x + y) // 3 % 2) * 2 - 1)[inside][:, None]
    centre = ((top + 6) / height, (left + 6) / width)
    return np.clip(image, 0, 255).astype(np.uint8), centre


def _samples(n: int, seed: int, faulty: int = 0) -> tuple[TrainingSamples, list[tuple[float, float]]]:
    rng = np.random.default_rng(seed)
    target = (np.arange(n) < faulty).astype(np.int64)
    made = [_surface(rng, bool(code)) for code in target]
    payload = np.empty(n, object)
    for index, (image, _) in enumerate(made):
        payload[index] = image
    samples = TrainingSamples(
        payload=payload, column="photo", modality="image", kind=TaskKind.ANOMALY, target=target,
        classes=("normal", "anomalous"), weight=None, folds=(np.arange(n) % 4).astype(np.int8),
    )  # fmt: skip
    return samples, [centre for _, centre in made]


@pytest.fixture(scope="module")
def fitted() -> FittedModel:
    return SMALL.fit(_samples(60, 0)[0], None, Budget(600), 3)


def _answers(model: FittedModel, samples: TrainingSamples) -> dict[str, np.ndarray]:
    return answer(GraphSession(model.onnx), model.signature, {"photo": samples.payload}, samples.rows)


def test_spots_are_found_and_placed(fitted: FittedModel) -> None:
    unseen, centres = _samples(60, 1, faulty=30)
    found = _answers(fitted, unseen)
    assert found["score"][:30].min() > np.quantile(found["score"][30:], 0.9)
    assert found["anomalous"][:30].all() and found["anomalous"][30:].mean() < 0.2
    side = found["heat"].shape[1]
    misses = []
    for heat, centre in zip(found["heat"][:30], centres[:30], strict=True):
        row, column = np.divmod(int(heat.argmax()), side)
        misses.append(np.hypot((row + 0.5) / side - centre[0], (column + 0.5) / side - centre[1]))
    assert np.median(misses) < 0.1 and max(misses) < 0.25


def test_the_heat_of_a_spot_in_a_corner_is_not_dimmed_by_the_edge(fitted: FittedModel) -> None:
    samples = _samples(20, 5)[0]
    before = _answers(fitted, samples)["heat"]
    for index, image in enumerate(samples.payload):
        samples.payload[index] = image.copy()
        samples.payload[index][:6, :6] = 255
    after = _answers(fitted, samples)["heat"]
    hottest = [np.divmod(int(heat.argmax()), heat.shape[1]) for heat in after]
    assert np.mean([max(place) <= 0.25 * after.shape[1] for place in hottest]) > 0.8
    # Nor is an ordinary edge darker than the middle for being one: half of what lies beyond counted as nothing before.
    assert before[:, 0].mean() > 0.8 * before[:, 8:-8, 8:-8].mean()


def test_one_image_equals_a_batch_and_the_graph_is_standard(fitted: FittedModel) -> None:
    rng = np.random.default_rng(5)
    batch = np.stack([_surface(rng, index % 2 == 0)[0][:44, :44] for index in range(7)])
    session = GraphSession(fitted.onnx)
    whole = session.run({"pixels": batch})
    for index in range(7):
        alone = session.run({"pixels": batch[index : index + 1]})
        np.testing.assert_allclose(alone["score"][0], whole["score"][index], rtol=1e-4)
        np.testing.assert_allclose(alone["heat"][0], whole["heat"][index], rtol=1e-3, atol=1e-4)
    assert {node.domain for node in onnx.load_model_from_string(fitted.onnx).graph.node} == {""}
    assert session.outputs == ("score", "anomalous", "heat")
    assert (whole["anomalous"] == (whole["score"] > 1)).all()


def test_labelled_faults_do_not_enter_the_memory(fitted: FittedModel) -> None:
    clean, _ = _samples(60, 0)
    faulty, _ = _samples(20, 9, faulty=20)
    payload = np.concatenate([clean.payload, faulty.payload])
    both = TrainingSamples(
        payload=payload, column="photo", modality="image", kind=TaskKind.ANOMALY,
        target=np.concatenate([clean.target, faulty.target]), classes=clean.classes, weight=None,
        folds=np.concatenate([clean.folds, faulty.folds]),
    )  # fmt: skip
    assert SMALL.fit(both, None, Budget(600), 3).onnx == fitted.onnx


def test_one_seed_gives_equal_bytes(fitted: FittedModel) -> None:
    assert SMALL.fit(_samples(60, 0)[0], None, Budget(600), 3).onnx == fitted.onnx


def test_the_threshold_keeps_its_promise_on_further_normal_scores() -> None:
    rng = np.random.default_rng(0)
    rates = [
        1 - norm.cdf(tolerance_threshold(rng.normal(size=120).astype(np.float32), 0.1)) for _ in range(1000)
    ]
    assert 0.9 <= np.mean(np.array(rates) <= 0.1) < 0.97
    few = np.array([3.0, 1.0, 2.0], np.float32)
    assert tolerance_threshold(few, 0.05) == 3.0
    assert least_images(0.05) == 45


def test_too_few_normal_images_and_a_spent_budget_are_named() -> None:
    with pytest.raises(TaskError, match="9 normal images"):
        SMALL.fit(_samples(20, 0, faulty=11)[0], None, Budget(600), 0)
    with pytest.raises(BudgetStopped):
        SMALL.fit(_samples(20, 0)[0], None, Budget(0), 0)


def test_the_recipe_is_the_one_for_anomalies_of_images() -> None:
    assert estimator(recipe_for("image", TaskKind.ANOMALY)) is ImageAnomaly
