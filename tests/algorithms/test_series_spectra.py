"""The signal encoder: pitch is told apart at any loudness and length, and what lies behind the end does not count."""

from __future__ import annotations

import numpy as np
import pytest

from modelworks.algorithms.backbones.spectra import SpectraSource
from modelworks.algorithms.plugins import backbone_choices
from modelworks.compute.runtime import GraphSession


def _tones(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Tones of two pitches with random start, loudness and length, in noise."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % 2
    found = []
    for kind in kinds:
        time = np.arange(int(rng.integers(1500, 3000)))
        tone = np.sin(2 * np.pi * time * (0.05 if kind else 0.065) + rng.uniform(0, 6))
        found.append(
            (10 ** rng.uniform(-2, 1) * (tone + rng.normal(size=len(time))))[None].astype(np.float32)
        )
    return found, kinds


def _stack(items: list[np.ndarray], length: int = 3000) -> np.ndarray:
    stacked = np.full((len(items), 1, length), np.nan, np.float32)
    for row, item in enumerate(items):
        stacked[row, :, : item.shape[1]] = item
    return stacked


@pytest.fixture(scope="module")
def session() -> GraphSession:
    return GraphSession(SpectraSource(length=3000, features=840).make(_tones(60, 0)[0], 0).onnx)


def test_pitch_is_told_apart(session: GraphSession) -> None:
    (train, kinds), (test, wanted) = _tones(60, 0), _tones(60, 1)
    rows = session.run({"series": _stack(train)})["embedding"]
    centres = np.stack([rows[kinds == kind].mean(axis=0) for kind in (0, 1)])
    found = session.run({"series": _stack(test)})["embedding"]
    nearest = ((found[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == wanted).mean() > 0.95


def test_loudness_and_what_is_behind_the_end_do_not_count(session: GraphSession) -> None:
    items, _ = _tones(4, 2)
    plain = session.run({"series": _stack(items)})["embedding"]
    louder = session.run({"series": _stack([8 * item for item in items])})["embedding"]
    # Shares of positive values may flip where a response equals its bias; the spectra may not move.
    np.testing.assert_allclose(plain[:, :320], louder[:, :320], atol=1e-3)
    assert np.abs(plain - louder).mean() < 1e-3
    one = session.run({"series": _stack(items[1:2])})["embedding"]
    np.testing.assert_allclose(one[0], plain[1], atol=1e-4)


def test_only_long_signals_of_few_channels_are_offered_spectra() -> None:
    assert "series.spectra" in backbone_choices("series", 4000, 1)
    assert "series.spectra" not in backbone_choices("series", 150, 1)
    assert "series.spectra" not in backbone_choices("series", 4000, 12)
    assert "series.spectra" not in backbone_choices("image", 4000, 1)
