"""Write every table of the suite as Parquet with five fixed folds, after checking the raw files' digests.

python -m benchmarks.accuracy.prepare            # verify against tables.json, write work/tables
python -m benchmarks.accuracy.prepare --lock     # also rewrite tables.json (a new suite)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, StratifiedKFold

from benchmarks.accuracy.measures import loss_of
from benchmarks.accuracy.suite import LOCK, SUITE, TableSpec, shared_folder, work_folder

FOLDS = 5
TARGET = "__target__"


def read_raw(spec: TableSpec) -> pd.DataFrame:
    """Return the raw rows of ``spec``; ``?`` and blank cells are missing."""
    folder = shared_folder() / "data" / spec.name
    names = None if spec.header else (folder / "columns.txt").read_text().split()
    parts = [
        pd.read_csv(
            folder / file,
            sep=spec.separator,
            header=0 if spec.header else None,
            names=names,
            skipinitialspace=True,
            na_values=["?", "", " "],
        )
        for file in spec.files
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.dropna(subset=[spec.target]).drop(columns=list(spec.drop)).reset_index(drop=True)


def typed(spec: TableSpec, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return float columns, string categories (missing = None), the target last; and categories, classes."""
    target = frame.pop(spec.target)
    classes: list[str] = []
    if spec.kind == "regression":
        target = target.astype("float64")
    else:
        text = target.astype(str).str.strip(" .'")  # adult's test half ends its labels in a full stop
        classes = sorted(text.unique())
        target = text.map({label: code for code, label in enumerate(classes)}).astype("int64")
    columns: dict[str, pd.Series] = {}
    categories: list[str] = []
    for name in frame.columns:
        values = frame[name]
        coded = name in spec.categories or spec.categories == ("*",)
        if coded or not pd.api.types.is_numeric_dtype(values) or values.dtype == bool:
            categories.append(name)
            columns[name] = pd.Series(
                [None if pd.isna(v) else _label(v) for v in values], index=frame.index, dtype=object
            )
        else:
            columns[name] = values.astype("float64")
    return pd.DataFrame({**columns, TARGET: target}), categories, classes


def _label(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def fold_of_row(kind: str, target: np.ndarray) -> np.ndarray:
    """Return the test fold of every row: five parts, shuffled with seed 0, stratified for classes."""
    splitter = KFold if kind == "regression" else StratifiedKFold
    folds = np.zeros(len(target), dtype=np.int8)
    parts = splitter(FOLDS, shuffle=True, random_state=0).split(np.zeros(len(target)), target)
    for fold, (_, test) in enumerate(parts):
        folds[test] = fold
    return folds


def constant_losses(kind: str, target: np.ndarray, folds: np.ndarray, classes: int) -> list[float]:
    """Return, fold by fold, the loss of predicting the training part's prior (or mean)."""
    losses = []
    for fold in range(FOLDS):
        train, test = target[folds != fold], target[folds == fold]
        if kind == "regression":
            outputs = np.full(len(test), train.mean())
        else:
            prior = np.bincount(train, minlength=classes) / len(train)
            outputs = np.tile(prior, (len(test), 1))
        losses.append(loss_of(kind, test, outputs))
    return losses


def prepare(spec: TableSpec, folder: Path) -> dict[str, Any]:
    """Write ``<name>.parquet`` and ``<name>.folds.npy`` and return the table's line of the lock file."""
    frame, categories, classes = typed(spec, read_raw(spec))
    target = frame[TARGET].to_numpy()
    folds = fold_of_row(spec.kind, target)
    frame.to_parquet(folder / f"{spec.name}.parquet")
    np.save(folder / f"{spec.name}.folds.npy", folds)
    raw = shared_folder() / "data" / spec.name
    return {
        "kind": spec.kind,
        "rows": len(frame),
        "features": frame.shape[1] - 1,
        "categories": categories,
        "classes": classes,
        "missing": round(float(frame.drop(columns=TARGET).isna().to_numpy().mean()), 5),
        "held_out": spec.held_out,
        "raw_sha256": {file: _digest((raw / file).read_bytes()) for file in spec.files},
        "folds_sha256": _digest(folds.tobytes()),
        "constant_loss": constant_losses(spec.kind, target, folds, len(classes)),
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", action="store_true", help="rewrite tables.json instead of checking it")
    options = parser.parse_args()
    folder = work_folder() / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    lock = {spec.name: prepare(spec, folder) for spec in SUITE}
    if options.lock:
        LOCK.write_text(json.dumps(lock, indent=1) + "\n")
        return 0
    pinned = json.loads(LOCK.read_text())
    moved = [
        name
        for name, line in lock.items()
        if any(line[key] != pinned[name][key] for key in ("raw_sha256", "folds_sha256"))
    ]
    for name in moved:
        print(f"{name}: the raw file or the folds differ from tables.json", file=sys.stderr)
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
