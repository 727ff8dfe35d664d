"""The network that saw formulas only: light, unharmed, and better with textures than the picture reduced."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from modelworks.algorithms.backbones import formula
from modelworks.algorithms.backbones.formula import FormulaSource, side_for, weights_card
from modelworks.algorithms.backbones.patches import embed_images
from modelworks.algorithms.backbones.reference import PixelSource
from modelworks.core.errors import StorageError


def textures(rows: int, side: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return noise of four grains at any brightness, and which grain it is."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) + 1 / side
    images, labels = [], np.arange(rows) % 4
    for label in labels:
        wave = np.fft.rfft2(rng.normal(size=(side, side))) * frequency ** -(0.4 + 0.4 * label)
        field = np.fft.irfft2(wave, s=(side, side))
        grey = rng.uniform(80, 170) + rng.uniform(20, 40) * (field - field.mean()) / field.std()
        images.append(np.clip(np.repeat(grey[..., None], 3, axis=2), 0, 255).astype(np.uint8))
    return images, labels


def nearest_mean(rows: np.ndarray, labels: np.ndarray) -> float:
    half = len(rows) // 2
    means = np.stack([rows[:half][labels[:half] == label].mean(axis=0) for label in range(4)])
    away = ((rows[half:, None] - means) ** 2).sum(axis=2)
    return float((away.argmin(axis=1) == labels[half:]).mean())


def test_weights_are_light_and_those_of_their_card() -> None:
    data = (files("modelworks.algorithms.backbones") / formula.WEIGHTS).read_bytes()
    assert len(data) < 3_000_000
    assert hashlib.sha256(data).hexdigest() == formula.WEIGHTS_SHA256 == weights_card()["sha256"]
    assert weights_card()["licence"] == "Apache-2.0" and "no photograph" in weights_card()["pictures"]


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formula, "WEIGHTS_SHA256", "0" * 64)
    formula._weights.cache_clear()
    with pytest.raises(StorageError) as caught:
        FormulaSource(patches=0).make(textures(12, 32, 0)[0], 0)
    assert caught.value.error_code == "MW4061"
    formula._weights.cache_clear()


def test_textures_are_told_apart_whatever_their_brightness() -> None:
    images, labels = textures(160, 48, 0)
    small = embed_images(PixelSource().make(images[:1], 0).onnx, images)
    seen = embed_images(FormulaSource(patches=0, layout=0).make(images[:80], 0).onnx, images)
    assert seen.shape[1] == 448
    assert nearest_mean(seen, labels) > nearest_mean(small, labels) + 0.4


def test_all_parts_weigh_as_said_and_the_side_follows_the_images() -> None:
    images, _ = textures(40, 40, 1)
    made = FormulaSource(patches=16, layout=12).make(images, 0)
    seen = embed_images(made.onnx, images)
    cut = (seen[:, :448], seen[:, 448:460], seen[:, 460:])
    network, layout, patches = (float((part**2).sum(axis=1).mean()) for part in cut)
    assert network == pytest.approx(1, rel=0.2)
    assert layout == pytest.approx(0.49, rel=0.1) and patches == pytest.approx(0.49, rel=0.1)
    assert made.about["settings"]["side"] == 64 and made.about["weights"]["sha256"] == formula.WEIGHTS_SHA256
    assert side_for([np.zeros((200, 90, 3), np.uint8)] * 3) == 96
