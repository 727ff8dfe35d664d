"""What is to be forecast: windows, seasons, scales and covariates of a panel, derived once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.series.windows import Windows, calendar, calendar_waves, fill_shifts
from modelworks.data.samples.panel import Floats, Panel

Rows = npt.NDArray[np.float32]

LONGEST_WINDOW = 720
PAST_STEPS = 24


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is to be forecast, and how windows of it are read.

    Attributes:
        panel: Training series.
        horizon: Steps ahead.
        length: Longest window.
        lengths: Windows that are tried.
        stretch: Values at the end of each series on which members are measured.
        metric: What is minimised.
        waves: Calendar features.
        scale: In-sample seasonal naive error of each series.
        spread_floor: Smallest spread of a window.
        never_negative: Whether no training value is below zero.
        moments: Mean and deviation of each covariate: past channels, then known ones.
    """

    panel: Panel
    horizon: int
    length: int
    lengths: tuple[int, ...]
    stretch: int
    metric: str
    waves: tuple[tuple[int, int], ...]
    scale: Floats
    spread_floor: float
    never_negative: bool
    moments: Floats

    @staticmethod
    def of(panel: Panel, horizon: int, *, stretch: int, window: int, metric: str) -> Problem:
        """Return the problem with its derived settings."""
        room = int(np.quantile(panel.lengths, 0.25)) - stretch - horizon
        lengths = (
            (min(window, max(room, panel.season, 2)),) if window else _lengths(panel, horizon, max(room, 2))
        )
        scale = np.array([_naive_error(item[0], panel.season) for item in panel.values])
        usual = float(np.nanmedian(scale[scale > 0])) if (scale > 0).any() else 1.0
        values = np.concatenate([item[0] for item in panel.values])
        known = values[np.isfinite(values)]
        return Problem(
            panel=panel,
            horizon=horizon,
            length=max(lengths),
            lengths=lengths,
            stretch=stretch,
            metric=metric,
            waves=calendar_waves(panel),
            scale=np.where((scale > 0) & np.isfinite(scale), scale, usual),
            spread_floor=1e-3 * usual,
            never_negative=bool(len(known) and known.min() >= 0),
            moments=_moments(panel),
        )

    @property
    def shifts(self) -> tuple[int, ...]:
        return fill_shifts(self.panel.season, self.length)

    @property
    def past_steps(self) -> int:
        """History steps of each past covariate that are read."""
        return min(PAST_STEPS, self.length)

    def extras(self, windows: Windows) -> Rows:
        """Return calendar, past covariates and known covariates of each origin, float32 [rows, k], missing = 0."""
        parts = [calendar(windows.time, self.waves)]
        past = windows.history.shape[1] - 1
        recent = windows.history[:, 1:, self.length - self.past_steps :]
        for index in range(past):
            parts.append(self.standard(recent[:, index], index))
        for index in range(windows.future.shape[1]):
            parts.append(self.standard(windows.future[:, index], past + index))
        return np.concatenate(parts, axis=1)

    def standard(self, values: Rows, covariate: int) -> Rows:
        """Return standardised values, missing = 0."""
        mean, deviation = self.moments[covariate].astype(np.float32)
        moved = (values - mean) / deviation
        return np.where(np.isnan(moved), np.float32(0), np.clip(moved, -10, 10))

    def describe(self) -> dict[str, Any]:
        """Return what was inferred and set, for people."""
        return {
            "frequency": self.panel.frequency,
            "season": self.panel.season,
            "longer_season": self.panel.longer_season,
            "series": len(self.panel.names),
            "horizon": self.horizon,
            "window": self.length,
            "calendar": [list(wave) for wave in self.waves],
            "never_negative": self.never_negative,
            "measured_on": f"rolling origins in the last {self.stretch} values of each training series",
        }


def _lengths(panel: Panel, horizon: int, room: int) -> tuple[int, ...]:
    main, longer = panel.season, panel.longer_season
    wanted = {
        2 * main,
        4 * main,
        14 * main,
        21 * main,
        2 * horizon,
        4 * horizon,
        8,
        24,
        2 * longer,
        3 * longer,
    }
    least = max(2 * main if main > 1 else 2, min(4, room))
    fit = sorted(size for size in wanted if least <= size <= min(room, LONGEST_WINDOW))
    if not fit:
        return (min(max(2, least), max(room, 2)),)
    return tuple(fit[index] for index in sorted({0, len(fit) // 2, len(fit) - 1}))


def _naive_error(values: Floats, season: int) -> float:
    lag = season if len(values) > season else 1
    gaps = np.abs(values[lag:] - values[:-lag])
    gaps = gaps[np.isfinite(gaps)]
    return float(gaps.mean()) if len(gaps) else float("nan")


def _moments(panel: Panel) -> Floats:
    rows = [np.concatenate([item[k] for item in panel.values]) for k in range(1, len(panel.channels))]
    rows += [np.concatenate([item[k] for item in panel.future]) for k in range(len(panel.known))]
    found = np.zeros((len(rows), 2))
    for index, values in enumerate(rows):
        known = values[np.isfinite(values)]
        mean, deviation = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        found[index] = mean, deviation if deviation > 0 else 1.0
    return found
