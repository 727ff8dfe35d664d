"""The encoder of levels: what a window's height and trend say is there, whatever is missing."""

from __future__ import annotations

import numpy as np
import pytest

from modelworks.algorithms.backbones.levels import LevelSource
from modelworks.compute.runtime import GraphSession
from modelworks.training.heads.ridge import fit_heads
from modelworks.training.heads.task import HeadTask


def _windows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two channels whose level and trend decide a value in a bent way; units of the channels differ by a million."""
    rng = np.random.default_rng(seed)
    level, trend = rng.uniform(-1, 1, (2, count))
    time = np.linspace(-1, 1, 20)
    one = level[:, None] + 0.1 * rng.normal(size=(count, 20))
    other = 1e6 * (trend[:, None] * time + 0.1 * rng.normal(size=(count, 20)))
    return np.stack([one, other], axis=1).astype(np.float32), level**2 + trend


def test_level_and_trend_are_learned() -> None:
    (train, target), (test, truth) = _windows(400, 0), _windows(200, 1)
    session = GraphSession(LevelSource().make(list(train), 0).onnx)
    rows = session.run({"series": train})["embedding"]
    (head,) = fit_heads(rows, [HeadTask(name="y", labels=target, classes=0)])
    found = session.run({"series": test})["embedding"] @ head.form.weights + head.form.bias
    assert np.abs(found[:, 0] - truth).mean() < 0.15
    plain = np.concatenate([train.mean(axis=2), np.ones((400, 1))], axis=1)
    straight = np.linalg.lstsq(plain, target, rcond=None)[0]
    others = np.concatenate([test.mean(axis=2), np.ones((200, 1))], axis=1) @ straight
    assert np.abs(others - truth).mean() > 0.4


def test_missing_values_and_shorter_series_are_read_as_what_is_there() -> None:
    train, _ = _windows(100, 0)
    session = GraphSession(LevelSource(length=30).make(list(train), 0).onnx)
    wide = np.full((3, 2, 30), np.nan, np.float32)
    wide[:2, :, :20] = train[:2]
    wide[1, 0, 7] = np.nan
    found = session.run({"series": wide})["embedding"]
    assert np.isfinite(found).all()
    own = GraphSession(LevelSource().make(list(train), 0).onnx).run({"series": train[:2]})["embedding"]
    np.testing.assert_allclose(found[0], own[0], atol=1e-4)
    assert np.abs(found[1] - own[1]).max() < 0.15


@pytest.mark.parametrize("channels", [1, 3])
def test_a_channel_that_never_moves_is_left_out(channels: int) -> None:
    train = np.random.default_rng(0).normal(size=(50, channels, 12)).astype(np.float32)
    train[:, 0] = 7.5
    session = GraphSession(LevelSource().make(list(train), 0).onnx)
    moved = train.copy()
    moved[:, 0] = 9
    found = [session.run({"series": values})["embedding"] for values in (train, moved)]
    np.testing.assert_array_equal(found[0], found[1])
