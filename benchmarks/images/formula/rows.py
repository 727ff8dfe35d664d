"""Training rows of real sets, to watch how much an encoder says: rows that no order's sealed part holds.

python -m benchmarks.images.formula.rows FOLDER
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.images.run import DATA, NAMES, filed
from modelworks.core.task import Task
from modelworks.data import open_table
from modelworks.production.embedding import lots_of, sample_part
from modelworks.production.reading import read_table

ATTRIBUTES = ("Smiling", "Male", "Bangs", "Eyeglasses")
MOST, SIDE = 1500, 64


def training_rows(name: str) -> tuple[list[bytes], list[str]]:
    """Return the files of a set that backbones may learn from, and their paths below the set's folder."""
    with tempfile.TemporaryDirectory() as work:
        folder, table_folder = Path(work) / name, Path(work) / "table"
        for place, data in filed(name):
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        table_folder.mkdir()
        read_table(folder, None, {}, table_folder, isolate=False)
        table, schema = open_table(table_folder)
        drawn = sample_part(Task(name="rows", data=str(folder), target="label", modality="image"), None)
        learn = np.flatnonzero(lots_of(table_folder, table, schema, "image", drawn).learn)
        paths = [table.column("file")[int(row)].as_py() for row in learn]
        return [(folder / path).read_bytes() for path in paths], paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--most", type=int, default=MOST)
    parser.add_argument("--names", default=",".join(NAMES))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    text = (DATA / "celeba40_a" / "attributes.csv").read_text(encoding="utf-8")
    attributes = {
        f"{int(row['image_id'].split('.')[0]):06}": row for row in csv.DictReader(io.StringIO(text))
    }
    for name in given.names.split(","):
        files, paths = training_rows(name)
        chosen = np.random.default_rng(0).permutation(len(files))[: given.most]
        pixels = np.stack([_read(files[row], given.side) for row in chosen])
        if (np.ptp(pixels, axis=3) < 8).all():
            pixels = pixels[..., :1]
        if name == "celeba40_a":
            stems = [Path(paths[row]).stem for row in chosen]
            for one in ATTRIBUTES:
                labels = np.array([attributes[stem][one] == "1" for stem in stems])
                _write(given.folder / f"celeba_{one.lower()}.npz", pixels, labels.astype(np.int64))
            continue
        labels = np.unique([Path(paths[row]).parent.name for row in chosen], return_inverse=True)[1]
        _write(given.folder / f"{name}.npz", pixels, labels)


def _read(data: bytes, side: int) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    wide, high = image.size
    if wide != high or wide > side:
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _write(path: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    np.savez_compressed(path, pixels=pixels, labels=labels.astype(np.int64))
    print(path.name, pixels.shape, np.bincount(labels.astype(np.int64)).tolist(), flush=True)


if __name__ == "__main__":
    main()
