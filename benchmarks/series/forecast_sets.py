"""The public series that are forecast: panels with what is sealed, and how the literature of each measures."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.series.sets import DATA, rows_of, text_of
from modelworks.data.samples.panel import HOUR, MINUTE, Panel, panel_of_arrays

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ForecastSet:
    """Series, the place where the sealed part begins, and how the literature measures.

    Attributes:
        panel: All series.
        first: First sealed value of each series.
        horizon: Steps ahead.
        metric: Metric members are chosen for.
        reference: What others reached, from the index of the data and the papers it names.
        scale: Mean and deviation per series that errors are standardised with, [series, 2]; or ``None``.
        stride: Steps between judged origins.
        peer_every: Of these origins every so many is given to statistical models too, which are fitted anew at each.
        peer_seasons: Seasons that statistical models are told.
    """

    panel: Panel
    first: npt.NDArray[np.int64]
    horizon: int
    metric: str
    reference: str
    scale: Array | None = None
    stride: int = 1
    peer_every: int = 1
    peer_seasons: tuple[int, ...] = (24,)


def _standard(values: Array, end: int) -> Array:
    return np.stack([values[:, :end].mean(axis=1), values[:, :end].std(axis=1)], axis=1)


def etth1(horizon: int = 96) -> ForecastSet:
    """Seven channels of a transformer, 12/4/4 months; the 12 and 4 months train, as the recipe parts them itself."""
    rows = rows_of(DATA / "etth1" / "ETTh1.csv")[1:]
    values = np.array([row[1:] for row in rows], float).T[:, : 20 * 30 * 24]
    start = int(np.datetime64(rows[0][0], "us").astype(np.int64))
    panel = panel_of_arrays(
        list(values), season=24, longer_season=168, step=HOUR, starts=np.full(len(values), start)
    )
    known = {
        96: "MSE/MAE: Informer 0.865/0.713, Autoformer 0.449/0.459, DLinear 0.375/0.399, PatchTST 0.370/0.400",
        336: "MSE/MAE: Informer 1.107/0.809, Autoformer 0.521/0.496, DLinear 0.439/0.443, PatchTST 0.422/0.440",
    }
    return ForecastSet(
        panel=panel, first=np.full(7, 16 * 30 * 24), horizon=horizon, metric="rmse", stride=1 if horizon == 96 else 4,
        scale=_standard(values, 12 * 30 * 24), peer_every=96 if horizon == 96 else 48, peer_seasons=(24, 168),
        reference=known[horizon],
    )  # fmt: skip


def exchange_rate() -> ForecastSet:
    """Eight currencies, 70/10/20, 96 days ahead."""
    values = np.loadtxt(
        io.StringIO(text_of(DATA / "exchange_rate" / "exchange_rate.txt.gz")), delimiter=","
    ).T
    size = values.shape[1]
    return ForecastSet(
        panel=panel_of_arrays(list(values), season=1), first=np.full(8, size - size // 5), horizon=96, metric="rmse",
        scale=_standard(values, int(0.7 * size)), peer_every=48, peer_seasons=(1,),
        reference="MSE/MAE: repeat-last 0.081/0.196, DLinear 0.081/0.203",
    )  # fmt: skip


def m4_hourly() -> ForecastSet:
    """414 hourly series of the M4 competition, 48 hours ahead, one origin each."""
    found = []
    train, test = (
        rows_of(DATA / "m4_hourly" / name)[1:] for name in ("Hourly-train.csv.gz", "Hourly-test.csv")
    )
    for one, other in zip(train, test, strict=True):
        found.append(np.array([cell for cell in one[1:] + other[1:] if cell not in ("", "NA")], float))
    lengths = np.array([len(item) for item in found])
    return ForecastSet(
        panel=panel_of_arrays(found, season=24, longer_season=168), first=lengths - 48, horizon=48, metric="smape",
        reference="sMAPE: Naive2 18.38, Theta 18.14, Comb 22.05, ES-RNN (winner) 9.33; MASE: ES-RNN 0.893",
        peer_seasons=(24, 168),
    )  # fmt: skip


def los_loop() -> ForecastSet:
    """207 road sensors, 15 minutes ahead, last 20 %."""
    values = np.array(rows_of(DATA / "los_loop_traffic" / "los_speed.csv.gz")[1:], float).T
    size = values.shape[1]
    return ForecastSet(
        panel=panel_of_arrays(list(values), season=288, step=5 * MINUTE), first=np.full(len(values), int(0.8 * size)),
        horizon=3, metric="mae", peer_every=80, peer_seasons=(288,),
        reference="RMSE/MAE: HA 7.44/4.01, SVR 6.01/3.73, GRU 5.22/3.06, T-GCN 5.13/3.18 (mean over 207 sensors)",
    )  # fmt: skip


def beijing_pm25() -> ForecastSet:
    """Fine dust of a city for 24 hours ahead, with the weather so far as covariates; the last year is sealed."""
    rows = rows_of(DATA / "beijing_pm25" / "pollution.csv.gz")
    head, rows = rows[0], rows[1:]
    names = ("pm2.5", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir")
    values = np.array([[float(row[head.index(name)].replace("NA", "nan")) for row in rows] for name in names])
    start = int(np.datetime64("2010-01-01T00", "us").astype(np.int64))
    panel = panel_of_arrays(
        [values], season=24, longer_season=168, step=HOUR, starts=np.array([start]), channels=names
    )
    return ForecastSet(
        panel=panel, first=np.array([values.shape[1] - 365 * 24]), horizon=24, metric="mae", peer_every=41,
        peer_seasons=(24,), reference="one hour ahead RMSE: persistence 23.45, LSTM tutorial (1 year trains) ~26.5",
    )  # fmt: skip


FORECASTS = {
    "etth1": etth1,
    "etth1_336": lambda: etth1(336),
    "exchange_rate": exchange_rate,
    "m4_hourly": m4_hourly,
    "los_loop": los_loop,
    "beijing_pm25": beijing_pm25,
}
