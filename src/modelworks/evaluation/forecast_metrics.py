"""Metrics of forecasts over origins and horizons: scaled and percentage errors, quantile loss, coverage."""

from __future__ import annotations

import numpy as np

from modelworks.evaluation.clusters import summed
from modelworks.evaluation.predictions import Booleans, Floats, Predictions
from modelworks.evaluation.statistic import SumStatistic


def known_values(predictions: Predictions) -> Booleans:
    """Return which values of the horizons are known, bool [rows, horizon]."""
    return np.asarray(np.isfinite(predictions.truth))


def _errors(predictions: Predictions) -> Floats:
    assert predictions.prediction is not None
    return np.asarray(predictions.prediction - predictions.truth)


def _mean(values: Floats, predictions: Predictions) -> SumStatistic:
    """Return the mean over known values; ``values`` [rows, horizon]."""
    known = known_values(predictions)
    terms = np.stack([np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)], axis=1)
    return summed(terms, lambda sums: np.asarray(sums[:, 0] / sums[:, 1]), predictions)


def mae(predictions: Predictions) -> SumStatistic:
    """Mean absolute error."""
    return _mean(np.abs(_errors(predictions)), predictions)


def rmse(predictions: Predictions) -> SumStatistic:
    """Root mean squared error."""
    known = known_values(predictions)
    square = np.where(known, _errors(predictions) ** 2, 0.0).sum(axis=1)
    terms = np.stack([square, known.sum(axis=1)], axis=1)
    return summed(terms, lambda sums: np.sqrt(sums[:, 0] / sums[:, 1]), predictions)


def mase(predictions: Predictions) -> SumStatistic:
    """Mean of |error| / (in-sample error of the seasonal naive forecast of the series).

    Hyndman and Koehler (2006), Another look at measures of forecast accuracy; as in M4. Not defined without a scale;
    series whose naive error is zero are left out.
    """
    scale = np.full(predictions.rows, np.nan) if predictions.scale is None else predictions.scale
    usable = np.isfinite(scale) & (scale > 0)
    known = known_values(predictions) & usable[:, None]
    relative = np.abs(_errors(predictions)) / np.where(usable, scale, 1.0)[:, None]
    terms = np.stack([np.where(known, relative, 0.0).sum(axis=1), known.sum(axis=1)], axis=1)
    return summed(terms, lambda sums: np.asarray(sums[:, 0] / sums[:, 1]), predictions)


def smape(predictions: Predictions) -> SumStatistic:
    """Mean of 2 |error| / (|truth| + |forecast|), 0 to 2 (M4 prints it times 100); 0 where both are zero."""
    assert predictions.prediction is not None
    size = np.abs(predictions.truth) + np.abs(predictions.prediction)
    relative = 2 * np.abs(_errors(predictions)) / np.where(size > 0, size, 1.0)
    return _mean(relative, predictions)


def pinball(predictions: Predictions) -> Floats:
    """Return the pinball loss per value and level, [rows, horizon, levels]."""
    assert predictions.quantiles is not None
    gap = predictions.truth[:, :, None] - predictions.quantiles
    level = np.asarray(predictions.levels)
    return np.asarray(np.maximum(level * gap, (level - 1) * gap))


def wql(predictions: Predictions) -> SumStatistic:
    """Weighted quantile loss: mean over levels of 2 sum(pinball loss) / sum |truth| (Gasthaus et al., AISTATS 2019)."""
    known = known_values(predictions)
    loss = np.where(known, 2 * pinball(predictions).mean(axis=2), 0.0).sum(axis=1)
    size = np.where(known, np.abs(predictions.truth), 0.0).sum(axis=1)
    return summed(
        np.stack([loss, size], axis=1),
        lambda sums: np.where(sums[:, 1] > 0, sums[:, 0] / np.maximum(sums[:, 1], 1e-300), np.nan),
        predictions,
    )


def _outer(predictions: Predictions) -> tuple[Floats, Floats]:
    assert predictions.quantiles is not None
    low, high = int(np.argmin(predictions.levels)), int(np.argmax(predictions.levels))
    return predictions.quantiles[:, :, low], predictions.quantiles[:, :, high]


def interval_coverage(predictions: Predictions) -> SumStatistic:
    """Share of truths between the lowest and the highest predicted quantile."""
    low, high = _outer(predictions)
    inside = (predictions.truth >= low) & (predictions.truth <= high)
    return _mean(inside.astype(np.float64), predictions)


def interval_width(predictions: Predictions) -> SumStatistic:
    """Mean distance between the lowest and the highest predicted quantile."""
    low, high = _outer(predictions)
    return _mean(high - low, predictions)


def naive_scale(values: Floats, season: int = 1) -> float:
    """Return the mean absolute error of repeating the value one season ago, on one series; NaN if never defined.

    Args:
        values: Training part of the series in order of time, NaN = missing.
        season: Steps of one season; shorter series fall back to the last value.
    """
    lag = season if len(values) > season else 1
    gaps = np.abs(values[lag:] - values[:-lag])
    gaps = gaps[np.isfinite(gaps)]
    return float(gaps.mean()) if len(gaps) else float("nan")
