"""Forecasts that are fixed linear maps of the window: naive ones and exponential smoothing with season and trend."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]


def repeat_map(length: int, horizon: int, lag: int, periods: int = 1) -> Rows:
    """Return the map [length, horizon] that repeats the mean of the last ``periods`` seasons of ``lag`` steps."""
    found = np.zeros((length, horizon), np.float32)
    for step in range(horizon):
        for period in range(periods):
            found[length - lag * (period + 1) + step % lag, step] = 1.0 / periods
    return found


def smoothing_map(
    length: int,
    horizon: int,
    *,
    season: int,
    level: float,
    seasonal: float,
    trend: float = 0.0,
    damping: float = 1.0,
) -> Rows:
    """Return additive Holt-Winters smoothing with fixed weights as a map [length, horizon].

    Smoothing is linear in the values, so running it on the unit windows gives the map. The start is the first
    season: its mean, and its deviations from it.

    Args:
        length: Values of a window, at least two seasons.
        horizon: Steps ahead.
        season: Steps of a season; 1 = none.
        level, seasonal, trend: Smoothing weights.
        damping: Factor of the trend per step ahead.

    Source: Holt (1957); Winters (1960); Gardner and McKenzie (1985) for the damped trend.
    """
    units = np.eye(length)
    base = units[:season].mean(axis=0)
    slope = np.zeros(length)
    pattern = units[:season] - base if season > 1 else np.zeros((1, length))
    for at in range(season, length):
        place = at % season
        before = base
        base = level * (units[at] - pattern[place]) + (1 - level) * (base + damping * slope)
        if trend:
            slope = trend * (base - before) + (1 - trend) * damping * slope
        if season > 1:
            pattern[place] = seasonal * (units[at] - base) + (1 - seasonal) * pattern[place]
    steps, ahead = [], 0.0
    for step in range(horizon):
        ahead += damping ** (step + 1)
        steps.append(base + ahead * slope + pattern[(length + step) % season])
    return np.stack(steps, axis=1).astype(np.float32)


def smoothing_grid(length: int, horizon: int, season: int) -> dict[str, Rows]:
    """Return the smoothing maps that are tried, by name."""
    found = {}
    for level in (0.1, 0.3, 0.6, 0.9):
        for trend, damping in ((0.0, 1.0), (0.05, 0.95), (0.2, 0.98)):
            for seasonal in (0.1, 0.4) if season > 1 else (0.0,):
                name = f"smoothing(level {level:g}, trend {trend:g}, season {seasonal:g})"
                found[name] = smoothing_map(
                    length,
                    horizon,
                    season=season,
                    level=level,
                    seasonal=seasonal,
                    trend=trend,
                    damping=damping,
                )
    return found
