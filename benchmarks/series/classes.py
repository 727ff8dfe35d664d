"""Classes of series, spoken digits and remaining useful life through ``mw.produce``, on the official parts.

OMP_NUM_THREADS=1 python -m benchmarks.series.classes SET...
"""

from __future__ import annotations

import csv
import gzip
import itertools
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modelworks as mw
from benchmarks.series.results import measure_named, write_row
from benchmarks.series.sets import DATA
from modelworks.data.samples.series import read_ts, stack_series

SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)
"""Sensors of FD001 that move at all, as most papers choose them."""
CAP, WINDOW, STRIDE = 125, 30, 3
LIFTING = "Velloso et al. 2013, windows of 2.5 s and RF: ~0.98 in 10 random folds, ~0.78 on people not seen"


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Where a set lies once it is laid out for ``mw.produce``, what is asked, and what others reached."""

    data: Path
    target: str
    reference: str
    options: dict[str, Any] = field(default_factory=dict)
    neighbours: bool = True


def ucr(name: str, reference: str) -> Callable[[Path], SampleSet]:
    """Return a set of the UCR/UEA archive in its two parts."""

    def laid_out(place: Path) -> SampleSet:
        for part in ("TRAIN", "TEST"):
            shutil.copy(DATA / "ucr_tsc_a" / f"{name}_{part}.ts", place)
        return SampleSet(data=place, target="label", reference=reference)

    return laid_out


def spoken(place: Path) -> SampleSet:
    """Spoken digits: recordings 0 to 4 of each speaker and digit test, 5 to 17 train."""
    for part in ("train", "test"):
        (place / part).mkdir()
    with zipfile.ZipFile(DATA / "fsdd" / "recordings.zip") as archive:
        for item in archive.namelist():
            if item.endswith(".wav"):
                number = int(item.removesuffix(".wav").rpartition("_")[2])
                target = place / ("test" if number < 5 else "train") / Path(item).name
                target.write_bytes(archive.read(item))
    return SampleSet(
        data=place, target="label", neighbours=False,
        reference="MFCC+SVM ~0.95-0.98, CNN on spectra ~0.97-0.99, from 45 recordings a digit and speaker (here 13)",
    )  # fmt: skip


def life(place: Path) -> SampleSet:
    """Turbofan engines FD001: windows of 30 cycles, life capped at 125; one window of each test engine, at its end."""
    head = ["unit", "cycle", *(f"s{number}" for number in SENSORS), "life"]
    left = [int(line) for line in (DATA / "cmapss_fd001" / "RUL_FD001.txt").read_text().split()]
    for part in ("train", "test"):
        text = gzip.decompress((DATA / "cmapss_fd001" / f"{part}_FD001.txt.gz").read_bytes()).decode()
        rows = [line.split() for line in text.splitlines()]
        last = {row[0]: int(row[1]) for row in rows}
        with (place / f"{part}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(head)
            for row in rows:
                cycle, end = int(row[1]), last[row[0]]
                if part == "test" and cycle <= end - WINDOW:
                    continue
                life = end - cycle + (left[int(row[0]) - 1] if part == "test" else 0)
                writer.writerow(
                    [f"{part}{row[0]}", cycle, *(row[4 + number] for number in SENSORS), min(CAP, life)]
                )
    return SampleSet(
        data=place / "train.csv", target="life", neighbours=False,
        reference="RMSE: CNN 18.45, LSTM 16.14, DCNN 12.61; score: CNN 1287, LSTM 338, DCNN 274 (Li et al. 2018)",
        options={
            "metric": "rmse", "kind": "regression", "split": {"test_data": str(place / "test.csv")},
            "reading": {
                "series_key": "unit", "series_time": "cycle", "series_window": WINDOW, "series_stride": STRIDE,
                "series_values": [f"s{number}" for number in SENSORS],
            },
        },
    )  # fmt: skip


def lifted(place: Path) -> SampleSet:
    """Ways of lifting a weight, one row a moment as the file has it: random rows are sealed, so neighbours train."""
    for part, name in (("har_train", "train"), ("har_validate", "test")):
        text = gzip.decompress((DATA / "har_weight_lifting" / f"{part}.csv.gz").read_bytes())
        (place / f"{name}.csv").write_bytes(text)
    return SampleSet(
        data=place / "train.csv", target="classe", neighbours=False, reference=f"RF ~0.99; {LIFTING}",
        options={"split": {"test_data": str(place / "test.csv")}},
    )  # fmt: skip


def lifted_windows(place: Path) -> SampleSet:
    """Windows of 30 rows of the same file: where the sensors jump a passage ends, and whole passages are sealed.

    The file has neither people nor times, but its rows follow each other; the same people lift on both sides.
    """
    text = gzip.decompress((DATA / "har_weight_lifting" / "har_train.csv.gz").read_bytes()).decode()
    head, *rows = list(csv.reader(text.splitlines()))
    values = np.array([row[1:] for row in rows], float)
    jump = (np.abs(np.diff(values, axis=0)) / values.std(axis=0)).mean(axis=1) > 1
    other = np.array([one[0] != two[0] for one, two in itertools.pairwise(rows)])
    passage = np.concatenate([[0], np.cumsum(jump | other)]).tolist()
    with (place / "lifted.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["passage", "moment", *head])
        writer.writerows(
            [number, at, *row] for at, (number, row) in enumerate(zip(passage, rows, strict=True))
        )
    return SampleSet(
        data=place / "lifted.csv", target="classe", neighbours=False, reference=LIFTING,
        options={
            "split": {"kind": "group", "group": "passage", "test_share": 0.3},
            "reading": {
                "series_key": "passage", "series_time": "moment", "series_window": WINDOW, "series_stride": 10,
                "series_values": head[1:],
            },
        },
    )  # fmt: skip


SETS: dict[str, Callable[[Path], SampleSet]] = {
    "GunPoint": ucr("GunPoint", "1-NN DTW 0.907, ROCKET 1.00, MiniRocket ~0.99"),
    "ItalyPowerDemand": ucr("ItalyPowerDemand", "1-NN DTW 0.950, ROCKET 0.97, MiniRocket ~0.96"),
    "ArrowHead": ucr("ArrowHead", "1-NN DTW 0.703, ROCKET 0.81, MiniRocket ~0.86"),
    "BasicMotions": ucr("BasicMotions", "1-NN DTW 0.975, ROCKET 1.00, MiniRocket ~1.00"),
    "fsdd": spoken,
    "cmapss_fd001": life,
    "har_weight_lifting": lifted,
    "har_weight_lifting, windows": lifted_windows,
}


def nearest(place: Path) -> Iterator[tuple[str, float]]:
    """Yield the accuracy of the nearest neighbour by Euclid's distance and by full dynamic time warping."""
    parts = []
    for part in ("TRAIN", "TEST"):
        table = read_ts(next(place.glob(f"*_{part}.ts"))).table
        parts.append(
            (stack_series(table.column("series")).astype(float), np.array(table.column("label").to_pylist()))
        )
    (train, labels), (test, truth) = parts
    euclid = ((test[:, None] - train[None]) ** 2).sum(axis=(2, 3))
    yield "1-NN Euclid", float((labels[euclid.argmin(axis=1)] == truth).mean())
    warped = np.array([_warping(row, train) for row in test])
    yield "1-NN DTW", float((labels[warped.argmin(axis=1)] == truth).mean())


def _warping(row: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return dependent dynamic time warping distances from one series to many, without a window."""
    size = row.shape[1]
    cost = ((row[None, :, :, None] - others[:, :, None, :]) ** 2).sum(axis=1)
    total = np.full((len(others), size + 1, size + 1), np.inf)
    total[:, 0, 0] = 0
    for one in range(size):
        for other in range(size):
            best = np.minimum(
                np.minimum(total[:, one, other + 1], total[:, one + 1, other]), total[:, one, other]
            )
            total[:, one + 1, other + 1] = cost[:, one, other] + best
    return np.asarray(total[:, -1, -1])


def late_score(error: npt.NDArray[np.float64]) -> float:
    """Return the score of the PHM 2008 challenge: late answers (error > 0) cost more; Saxena et al. 2008."""
    return float(np.where(error < 0, np.exp(-error / 13) - 1, np.exp(error / 10) - 1).sum())


def run(name: str) -> None:
    """Produce one set, and write a row per model."""
    with tempfile.TemporaryDirectory() as home:
        place = Path(home) / "data"
        place.mkdir()
        found = SETS[name](place)
        tasks = [
            {
                "name": name.replace(", ", "_"),
                "data": str(found.data),
                "target": found.target,
                **found.options,
            }
        ]
        result = mw.order({"tasks": tasks}, home=Path(home) / "work")[tasks[0]["name"]]
        row: dict[str, Any] = {"set": name, "model": "modelworks", "verdict": str(result.verdict.kind)}
        for measure in result.measures.values():
            row[measure.name] = measure.value
            row[f"{measure.name}_95"] = [round(measure.low, 4), round(measure.high, 4)]
        row["cpu_s"] = result.cost["cpu_s"]
        if name == "cmapss_fd001":
            row |= _lives(result, place)
        write_row("classes", {**row, "reference": found.reference})
        for label, value in nearest(place) if found.neighbours else ():
            write_row("classes", {"set": name, "model": label, "accuracy": value})


def _lives(result: Any, place: Path) -> dict[str, float]:
    with (place / "test.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    units: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        units.setdefault(row["unit"], []).append(row)
    samples = [
        {"series": [[float(row[f"s{number}"]) for row in group] for number in SENSORS]}
        for group in units.values()
    ]
    truth = np.array([float(group[-1]["life"]) for group in units.values()])
    answers = np.array([item["prediction"] for item in result.predict(samples)])
    error = np.clip(answers, 0, CAP) - truth
    return {"rmse_clipped": float(np.sqrt((error**2).mean())), "phm_score": late_score(error)}


if __name__ == "__main__":
    raise SystemExit(measure_named(__doc__, SETS, run))
