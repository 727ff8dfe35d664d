"""Formula-made images, texts and series as files: nobody's data, learned in seconds."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

PUMP = ["pump", "leaks", "oil", "broken", "noise", "stops"]
FINE = ["green", "runs", "smoothly", "quiet", "fine", "works"]


def write_images(folder: Path, rows: int = 120, *, broken: bool = True) -> Path:
    """Write a zip file with stripes along or across, one folder per class, sizes differing; one file is no image."""
    from PIL import Image

    rng = np.random.default_rng(1)
    path = folder / "stripes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for row in range(rows):
            name = ("along", "across")[row % 2]
            archive.writestr(f"{name}/{row}.png", _png(Image, stripes(rng, row % 2 == 1)))
        if broken:
            archive.writestr("along/broken.png", b"\x89PNG no image at all")
    return path


def write_listed(folder: Path, rows: int = 120) -> tuple[Path, Path]:
    """Write a table with two yes/no attributes per image, some unknown, and a folder with the images."""
    from PIL import Image

    rng = np.random.default_rng(2)
    place = folder / "photos"
    place.mkdir()
    lines = ["photo,across,dark,camera_id"]
    for row in range(rows):
        across, dark = bool(rng.integers(2)), bool(rng.integers(2))
        (place / f"p{row}.png").write_bytes(_png(Image, stripes(rng, across, dark=dark)))
        known = "" if row % 10 == 3 else str(int(across))
        lines.append(f"p{row}.png,{known},{int(dark)},c{row % 12}")
    path = folder / "attributes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path, place


def stripes(rng: np.random.Generator, across: bool, *, dark: bool = False) -> np.ndarray:
    """Return pixels ``[height, width, 3]``."""
    height, width = int(rng.integers(24, 40)), int(rng.integers(24, 40))
    places = np.arange(height)[:, None] if across else np.arange(width)[None, :]
    wave = np.sin(places * rng.uniform(0.8, 1.4) + rng.uniform(0, 6)) * 60 + (60 if dark else 160)
    noisy = np.broadcast_to(wave, (height, width))[..., None] + rng.normal(0, 12, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def _png(image: object, pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image.fromarray(pixels).save(buffer, "PNG")  # type: ignore[attr-defined]
    return buffer.getvalue()


def write_reviews(folder: Path, rows: int = 200) -> Path:
    """Write texts and their labels as JSON lines."""
    rng = np.random.default_rng(3)
    path = folder / "reviews.jsonl"
    with path.open("w") as stream:
        for row in range(rows):
            words = rng.choice(PUMP if row % 2 else FINE, 5).tolist() + rng.choice(PUMP + FINE, 2).tolist()
            text = " ".join(words) + f" case {row}"
            stream.write(json.dumps({"text": text, "label": ("good", "bad")[row % 2]}) + "\n")
    return path


def write_waves(folder: Path, rows: int = 120) -> Path:
    """Write a ``.ts`` pair: waves of two frequencies, training and test part."""
    rng = np.random.default_rng(4)
    place = folder / "waves"
    place.mkdir()
    for part, count in (("TRAIN", rows), ("TEST", rows // 2)):
        lines = ["@problemName waves", "@classLabel true slow fast", "@data"]
        for row in range(count):
            times = np.arange(60)
            wave = np.sin(times * (0.2, 0.6)[row % 2] + rng.uniform(0, 6)) + rng.normal(0, 0.2, 60)
            lines.append(",".join(f"{value:.4f}" for value in wave) + ":" + ("slow", "fast")[row % 2])
        (place / f"waves_{part}.ts").write_text("\n".join(lines) + "\n")
    return place
