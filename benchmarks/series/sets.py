"""The public streams with labelled anomalies, and how files of this benchmark are read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_BENCHMARK_DATA", REPOSITORY.parent / "shared" / "data"))


def text_of(path: Path) -> str:
    return (
        gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8-sig")
    )


def rows_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text_of(path)), delimiter=delimiter))


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One stream with labels: what comes before ``first`` trains, what comes after is judged."""

    name: str
    values: npt.NDArray[np.float64]
    label: npt.NDArray[np.bool_]
    first: int


def nab() -> Iterator[Stream]:
    """25 files of the Numenta benchmark; the first 15 % (at most 750 values) train."""
    windows = json.loads((DATA / "nab_a" / "combined_windows.json").read_text("utf-8"))
    for path in sorted((DATA / "nab_a").glob("*/*.csv*")):
        key = f"{path.parent.name}/{path.name.removesuffix('.gz')}"
        rows = rows_of(path)[1:]
        time = np.array([row[0] for row in rows], "datetime64[s]")
        label = np.zeros(len(rows), bool)
        for low, high in windows[key]:
            label |= (time >= np.datetime64(low[:19])) & (time <= np.datetime64(high[:19]))
        values = np.array([row[1] for row in rows], float)[None]
        yield Stream(name=key, values=values, label=label, first=min(int(0.15 * len(rows)), 750))


def skab() -> Iterator[Stream]:
    """16 runs of a valve; the first 400 values train."""
    for path in sorted((DATA / "skab_valve1" / "valve1").glob("*.csv.gz")):
        head, *rows = rows_of(path, ";")
        values = np.array([row[1:9] for row in rows], float).T
        label = np.array([float(row[head.index("anomaly")]) for row in rows]) > 0
        yield Stream(name=path.name, values=values, label=label, first=400)


def ucr() -> Iterator[Stream]:
    """One stream of blood pressure with a single event; its training file trains."""
    place = DATA / "ucr_anomaly_135"
    rows = rows_of(next(place.glob("*TEST.csv")))[1:]
    label = np.array([float(row[2]) for row in rows]) > 0
    train = len(rows_of(next(place.glob("*TRAIN.csv")))) - 1
    yield Stream(name="135", values=np.array([row[1] for row in rows], float)[None], label=label, first=train)
