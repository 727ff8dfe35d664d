"""The public series of this benchmark: panels with what is sealed, streams with their labels."""

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

from modelworks.data.samples.panel import HOUR, MINUTE, Panel, panel_of_arrays

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_BENCHMARK_DATA", REPOSITORY.parent / "shared" / "data"))


@dataclass(frozen=True, kw_only=True)
class ForecastSet:
    """Series, the place where the sealed part begins, and how the literature measures.

    Attributes:
        panel: All series.
        first: First sealed value of each series.
        horizon: Steps ahead.
        metric: Metric members are chosen for.
        scale: Mean and deviation per series that errors are standardised with, [series, 2]; or ``None``.
        stride: Steps between judged origins.
        reference: What others reached, from the index of the data.
    """

    panel: Panel
    first: npt.NDArray[np.int64]
    horizon: int
    metric: str
    reference: str
    scale: npt.NDArray[np.float64] | None = None
    stride: int = 1


def _text(path: Path) -> str:
    return (
        gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8-sig")
    )


def _rows(path: Path, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(_text(path)), delimiter=delimiter))


def _standard(values: npt.NDArray[np.float64], end: int) -> npt.NDArray[np.float64]:
    return np.stack([values[:, :end].mean(axis=1), values[:, :end].std(axis=1)], axis=1)


def etth1() -> ForecastSet:
    """Seven channels of a transformer, 12/4/4 months, 96 hours ahead."""
    rows = _rows(DATA / "etth1" / "ETTh1.csv")[1:]
    values = np.array([row[1:] for row in rows], float).T[:, : 20 * 30 * 24]
    panel = panel_of_arrays(list(values), season=24, longer_season=168, step=HOUR)
    return ForecastSet(
        panel=panel, first=np.full(7, 16 * 30 * 24), horizon=96, metric="rmse", stride=8,
        scale=_standard(values, 12 * 30 * 24),
        reference="MSE/MAE: Informer 0.865/0.713, Autoformer 0.449/0.459, DLinear 0.375/0.399, PatchTST 0.370/0.400",
    )  # fmt: skip


def exchange_rate() -> ForecastSet:
    """Eight currencies, 70/10/20, 96 days ahead."""
    values = np.loadtxt(io.StringIO(_text(DATA / "exchange_rate" / "exchange_rate.txt.gz")), delimiter=",").T
    size = values.shape[1]
    return ForecastSet(
        panel=panel_of_arrays(list(values), season=1), first=np.full(8, size - size // 5), horizon=96, metric="rmse",
        stride=8, scale=_standard(values, int(0.7 * size)), reference="MSE: repeat-last 0.081, DLinear 0.081",
    )  # fmt: skip


def m4_hourly() -> ForecastSet:
    """414 hourly series of the M4 competition, 48 hours ahead, one origin each."""
    found = []
    train, test = (
        _rows(DATA / "m4_hourly" / name)[1:] for name in ("Hourly-train.csv.gz", "Hourly-test.csv")
    )
    for one, other in zip(train, test, strict=True):
        found.append(np.array([cell for cell in one[1:] + other[1:] if cell not in ("", "NA")], float))
    lengths = np.array([len(item) for item in found])
    return ForecastSet(
        panel=panel_of_arrays(found, season=24, longer_season=168), first=lengths - 48, horizon=48, metric="smape",
        reference="sMAPE: Naive2 18.38, Theta 18.14, ES-RNN (winner) 9.33",
    )  # fmt: skip


def los_loop() -> ForecastSet:
    """207 road sensors, 15 minutes ahead, last 20 %."""
    values = np.array(_rows(DATA / "los_loop_traffic" / "los_speed.csv.gz")[1:], float).T
    size = values.shape[1]
    return ForecastSet(
        panel=panel_of_arrays(list(values), season=288, step=5 * MINUTE), first=np.full(len(values), int(0.8 * size)),
        horizon=3, metric="mae", stride=3,
        reference="RMSE/MAE: HA 7.44/4.01, SVR 6.01/3.73, GRU 5.22/3.06, T-GCN 5.13/3.18",
    )  # fmt: skip


FORECASTS = {"etth1": etth1, "exchange_rate": exchange_rate, "m4_hourly": m4_hourly, "los_loop": los_loop}


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
        rows = _rows(path)[1:]
        time = np.array([row[0] for row in rows], "datetime64[s]")
        label = np.zeros(len(rows), bool)
        for low, high in windows[key]:
            label |= (time >= np.datetime64(low[:19])) & (time <= np.datetime64(high[:19]))
        values = np.array([row[1] for row in rows], float)[None]
        yield Stream(name=key, values=values, label=label, first=min(int(0.15 * len(rows)), 750))


def skab() -> Iterator[Stream]:
    """16 runs of a valve; the first 400 values train."""
    for path in sorted((DATA / "skab_valve1" / "valve1").glob("*.csv.gz")):
        head, *rows = _rows(path, ";")
        values = np.array([row[1:9] for row in rows], float).T
        label = np.array([float(row[head.index("anomaly")]) for row in rows]) > 0
        yield Stream(name=path.name, values=values, label=label, first=400)


def ucr() -> Iterator[Stream]:
    """One stream of blood pressure with a single event; its training file trains."""
    place = DATA / "ucr_anomaly_135"
    rows = _rows(next(place.glob("*TEST.csv")))[1:]
    label = np.array([float(row[2]) for row in rows]) > 0
    train = len(_rows(next(place.glob("*TRAIN.csv")))) - 1
    yield Stream(name="135", values=np.array([row[1] for row in rows], float)[None], label=label, first=train)


STREAMS = {"nab_a": nab, "skab_valve1": skab, "ucr_anomaly_135": ucr}
