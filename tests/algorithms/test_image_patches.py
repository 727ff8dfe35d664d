"""The patch encoder: any image size, seeds, batches, and accuracy on made textures."""

from __future__ import annotations

import numpy as np
import pytest

from modelworks.algorithms.backbones.patches import PatchEncoder, embed_images
from modelworks.core.errors import DataError
from modelworks.training.heads.ridge import fit_heads
from modelworks.training.heads.task import HeadTask

SMALL = PatchEncoder(atoms=24, width=48, patches=3000)


def _stripes(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Stripes in one of three directions under noise, of different sizes."""
    rng = np.random.default_rng(seed)
    images, labels = [], rng.integers(3, size=n)
    for label in labels:
        height, width = rng.choice([40, 56]), rng.choice([40, 64])
        y, x = np.mgrid[:height, :width] / 40
        wave = np.sin(2 * np.pi * 4 * (x, y, x + y)[label] + rng.uniform(0, 6))
        image = 128 + 60 * wave[..., None] + rng.normal(0, 40, (height, width, 3))
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return images, labels


def test_one_seed_gives_equal_bytes() -> None:
    images, _ = _stripes(12, 0)
    assert SMALL.fit(images, seed=1) == SMALL.fit(images, seed=1)


def test_a_batch_equals_single_images_of_any_size() -> None:
    images, _ = _stripes(20, 1)
    encoder = SMALL.fit(images)
    batch = embed_images(encoder, images)
    single = np.stack([embed_images(encoder, [image])[0] for image in images])
    np.testing.assert_allclose(batch, single, atol=1e-4)


def test_directions_of_stripes_are_told_apart_by_a_linear_head() -> None:
    images, labels = _stripes(120, 2)
    unseen, truth = _stripes(60, 3)
    encoder = SMALL.fit(images)
    head = fit_heads(embed_images(encoder, images), [HeadTask(name="way", labels=labels, classes=3)])[0]
    found = (embed_images(encoder, unseen) @ head.form.weights + head.form.bias).argmax(axis=1)
    assert (found == truth).mean() > 0.9


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="at least 10 images"):
        SMALL.fit([np.zeros((8, 8, 3), np.uint8)] * 9)
