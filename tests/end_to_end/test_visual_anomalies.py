"""Visual anomalies through the door: a zip of surfaces becomes a released package with score, alarm and heat map."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

import modelworks as mw

Image = pytest.importorskip("PIL.Image")


def surface(rng: np.random.Generator, spot: bool) -> bytes:
    """Return a striped surface as PNG, sometimes with a checked spot."""
    y, x = np.mgrid[:48, :48]
    image = 128 + 50 * np.sin(x / 2.5 + rng.uniform(0, 6))[..., None] + rng.normal(0, 12, (48, 48, 3))
    if spot:
        top, left = rng.integers(4, 32, size=2)
        inside = (y >= top) & (y < top + 12) & (x >= left) & (x < left + 12)
        image[inside] = 128 + 90 * (((x + y) // 3 % 2) * 2 - 1)[inside][:, None]
    held = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(held, format="PNG")
    return held.getvalue()


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    path = tmp_path / "tiles.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, count in (("free", 90), ("scratch", 60), ("hole", 60)):
            for index in range(count):
                archive.writestr(f"{name}/{index}.png", surface(rng, name != "free"))
    return path


@pytest.mark.slow
def test_a_zip_of_surfaces_becomes_a_package(tiles: Path, tmp_path: Path) -> None:
    result = mw.produce(
        tiles, "label", name="tiles", home=tmp_path / "home", kind="anomaly",
        options={"atoms": 16, "memory": 150, "images": 60}, limits={"latency_ms": 1000},
    )  # fmt: skip
    assert result.verdict.kind == "released", result.verdict
    measures = {item.name: item for item in result.line.measures}
    assert measures["roc_auc"].value > 0.9
    assert result.line.rows["train"] < 90, "anomalous samples are not learned from"
