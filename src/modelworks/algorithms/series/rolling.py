"""Rolling origins in the last stretch of training series: losses of members there, and the blend of the best."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.series.members import Member
from modelworks.algorithms.series.problem import Problem
from modelworks.algorithms.series.windows import Windows, cut, filled
from modelworks.data.samples.panel import Floats

Rows = npt.NDArray[np.float32]

MOST_ORIGINS = 4000
PICKS = 8
BEST_OVERALL, BEST_IN_BAND = 20, 2
ENOUGH_UNITS = 8
Runner = tuple[Member, Floats, float]
"""A member, what it forecasts at the rolling origins, and its loss there."""


@dataclass(kw_only=True)
class RollingOrigins:
    """Windows whose horizons lie in the stretch, and the loss of forecasts on them.

    Attributes:
        problem: What is forecast.
        history: Filled windows.
        extras: Calendar and covariates.
        windows: The windows with what came.
        scale: Naive error of the series of each window.
        apart: How many horizons would lie side by side in the judged values.
    """

    problem: Problem
    history: Rows
    extras: Rows
    windows: Windows
    scale: Floats
    apart: float

    @property
    def enough(self) -> bool:
        """Whether so many horizons lie side by side that steps ahead can be told apart."""
        return self.apart >= ENOUGH_UNITS

    def losses(self, predicted: Floats, low: int = 0) -> Floats:
        """Return the metric's loss of each value from step ``low`` on, NaN = unknown; squared for ``rmse``."""
        truth = self.windows.truth[:, low : low + predicted.shape[1]]
        if self.problem.never_negative:
            predicted = np.maximum(predicted, 0)
        error = np.abs(predicted - truth)
        if self.problem.metric == "rmse":
            return np.asarray(error**2)
        if self.problem.metric in ("mae", "wql"):
            return np.asarray(error)
        if self.problem.metric == "smape":
            size = np.abs(truth) + np.abs(predicted)
            return np.asarray(2 * error / np.where(size > 0, size, 1))
        return np.asarray(error / self.scale[:, None])

    def loss(self, predicted: Floats) -> float:
        """Return the metric's loss at the rolling origins."""
        mean = float(np.nanmean(self.losses(predicted)))
        return mean**0.5 if self.problem.metric == "rmse" else mean

    def by_step(self, predicted: Floats, low: int = 0) -> Floats:
        """Return the mean loss at each step from ``low`` on, 0 where nothing is known; squared for ``rmse``."""
        losses = self.losses(predicted, low)
        known = np.isfinite(losses)
        return np.asarray(np.where(known, losses, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))

    def gains(self, predicted: Floats, other: Floats) -> Floats:
        """Return by how much less ``predicted`` loses than ``other``, in stretches that hardly depend on each other.

        Stretches of time as long as the horizon, over all series; or series, where there are more of these.
        """
        gap = self.losses(other) - self.losses(predicted)
        back = self.problem.panel.lengths[self.windows.series] - self.windows.origin
        blocks = back // self.problem.horizon
        unit = blocks if len(np.unique(blocks)) >= ENOUGH_UNITS else self.windows.series
        return np.array([np.nanmean(gap[unit == code]) for code in np.unique(unit)])

    def predict(self, member: Member) -> Floats:
        return member.predict(self.history, self.extras).astype(np.float64)


def rolling_origins(problem: Problem, *, everywhere: bool = False) -> RollingOrigins:
    """Return at most about 4,000 origins whose horizons lie in the last stretch of the training series.

    Args:
        problem: What is forecast.
        everywhere: Take all origins with a full window, for members that are not fitted.
    """
    panel = problem.panel
    first = panel.lengths - problem.stretch
    if everywhere:
        first = np.minimum(first, problem.length)
    first = np.maximum(first, 1)
    judged = panel.lengths - first
    stride = max(1, int(np.ceil(np.maximum(judged - problem.horizon + 1, 1).sum() / MOST_ORIGINS)))
    origins = [
        np.arange(length - problem.horizon, start - 1, -stride, dtype=np.int64)[::-1]
        for start, length in zip(first.tolist(), panel.lengths.tolist(), strict=True)
    ]
    windows = cut(panel, problem.length, problem.horizon, origins)
    history = filled(windows.history[:, 0], problem.shifts)
    return RollingOrigins(
        problem=problem,
        history=history,
        extras=problem.extras(windows),
        windows=windows,
        scale=problem.scale[windows.series],
        apart=float(judged.sum()) / problem.horizon,
    )


def blended(runners: list[Runner], picks: list[int], shares: Rows) -> Floats:
    """Return the forecasts of a blend at the rolling origins, [rows, horizon]."""
    parts = [share * runners[index][1] for index, share in zip(picks, shares, strict=True)]
    return np.asarray(sum(parts), dtype=np.float64)


def bands(horizon: int) -> list[tuple[int, int]]:
    """Return stretches of the horizon that double in length: one step, two, four and so on."""
    edges = [0]
    while edges[-1] < horizon:
        edges.append(min(horizon, 2 * edges[-1] + 1))
    return list(itertools.pairwise(edges))


def blend_of(measured: RollingOrigins, runners: list[Runner]) -> tuple[list[int], Rows]:
    """Return members and their shares per step ahead, float32 [members, horizon].

    Greedy selection with repetition (Caruana et al., ICML 2004) in each band of the horizon, among those that are best
    over all steps or in a band; between the middles of bands shares go over into each other. Few horizons side by side
    are one band.
    """
    horizon = measured.problem.horizon
    steps = np.stack([measured.by_step(predicted) for _, predicted, _ in runners])
    parts = bands(horizon) if measured.enough else [(0, horizon)]
    pool = dict.fromkeys(np.argsort([runner[2] for runner in runners])[:BEST_OVERALL].tolist())
    for low, high in parts:
        pool |= dict.fromkeys(np.argsort(steps[:, low:high].mean(axis=1))[:BEST_IN_BAND].tolist())
    counts = np.zeros((len(runners), len(parts)))
    for place, (low, high) in enumerate(parts):
        for index in _greedy(measured, runners, list(pool), low, high):
            counts[index, place] += 1
    counts /= counts.sum(axis=0)
    middles = [(low + high - 1) / 2 for low, high in parts]
    picks = np.flatnonzero(counts.sum(axis=1)).tolist()
    shares = np.stack([np.interp(np.arange(horizon), middles, counts[index]) for index in picks])
    return picks, shares.astype(np.float32)


def _greedy(
    measured: RollingOrigins, runners: list[Runner], pool: list[int], low: int, high: int
) -> list[int]:
    """Return the members of one band, with repetition."""
    total = np.zeros((measured.windows.rows, high - low))
    chosen: list[int] = []
    lowest = float("inf")
    for count in range(1, PICKS + 1):
        losses = {
            index: float(measured.by_step((total + runners[index][1][:, low:high]) / count, low).mean())
            for index in pool
        }
        index = min(pool, key=lambda item: losses[item])
        if losses[index] > lowest * (1 - 1e-4):
            break
        lowest = losses[index]
        total = total + runners[index][1][:, low:high]
        chosen.append(index)
    return chosen


def or_naive(
    measured: RollingOrigins, runners: list[Runner], picks: list[int], shares: Rows
) -> tuple[list[int], Rows, str]:
    """Return the blend, or the best naive member where the blend is not shown to be better at the rolling origins.

    Shown means 1.96 standard errors over independent stretches, or a tenth of the loss where these are too few.

    Returns:
        Members, their shares, and why, for people.
    """
    naive = [index for index, item in enumerate(runners) if item[0].naive]
    best = min(naive, key=lambda index: runners[index][2])
    blend = blended(runners, picks, shares)
    gains = measured.gains(blend, runners[best][1])
    gains = gains[np.isfinite(gains)]
    mean = float(gains.mean()) if len(gains) else 0.0
    usual = float(np.nanmean(measured.losses(runners[best][1])))
    if len(gains) >= ENOUGH_UNITS:
        error = 1.96 * float(gains.std(ddof=1)) / len(gains) ** 0.5
        shown = mean > error
        margin = f" (95 % limits ±{error / usual:.1%})" if usual > 0 else ""
    else:
        shown = mean > 0.1 * usual
        margin = f" over {len(gains)} independent stretches, where 10% is asked for" if usual > 0 else ""
    gain = mean / usual if usual > 0 else 0.0
    name = runners[best][0].name
    said = f"the blend loses {abs(gain):.1%} {'less' if gain >= 0 else 'more'} than '{name}'{margin}"
    if shown:
        return picks, shares, said
    return [best], np.ones_like(shares[:1]), f"{said}, so the plain forecast ships"


def members_table(runners: list[Runner], picks: list[int], shares: Rows) -> list[dict[str, Any]]:
    """Return members with their loss and weight, the blended ones first, then the best others."""
    share_of = dict(zip(picks, shares.mean(axis=1).tolist(), strict=True))
    order = sorted(range(len(runners)), key=lambda index: (-share_of.get(index, 0.0), runners[index][2]))
    plain = [index for index in order[len(picks) + 12 :] if runners[index][0].view.mode == "plain"]
    return [
        {
            "name": f"{runners[index][0].name} ({runners[index][0].view.name})",
            "oof_loss": runners[index][2],
            "weight": share_of.get(index, 0.0),
            "kept": index in share_of,
        }
        for index in order[: len(picks) + 12] + plain[:6]
    ]
