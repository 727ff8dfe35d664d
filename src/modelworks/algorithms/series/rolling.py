"""Rolling origins in the last stretch of training series: losses of members there, and the blend of the best."""

from __future__ import annotations

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
ENOUGH_UNITS = 8
Runner = tuple[Member, Floats, float]
"""A member, what it forecasts at the rolling origins, and its loss there."""


@dataclass(kw_only=True)
class RollingOrigins:
    """Windows whose horizons lie in the stretch, and the loss of forecasts on them."""

    problem: Problem
    history: Rows
    extras: Rows
    windows: Windows
    scale: Floats

    def losses(self, predicted: Floats) -> Floats:
        """Return the metric's loss of each value at the rolling origins, NaN = unknown; squared for ``rmse``."""
        truth = self.windows.truth
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


def rolling_origins(problem: Problem) -> RollingOrigins:
    """Return at most about 4,000 origins whose horizons lie in the last stretch of the training series."""
    panel = problem.panel
    first = np.maximum(panel.lengths - problem.stretch, 1)
    stride = max(1, int(np.ceil(len(panel.names) * (problem.stretch - problem.horizon + 1) / MOST_ORIGINS)))
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
    )


def blend_of(measured: RollingOrigins, runners: list[Runner]) -> tuple[list[int], list[float]]:
    """Return members and shares by greedy selection with repetition (Caruana et al., ICML 2004)."""
    order = sorted(range(len(runners)), key=lambda index: runners[index][2])[:20]
    total = np.zeros_like(measured.windows.truth)
    counts: dict[int, int] = {}
    lowest = float("inf")
    for count in range(1, PICKS + 1):
        losses = {index: measured.loss((total + runners[index][1]) / count) for index in order}
        index = min(order, key=lambda item: losses[item])
        if losses[index] > lowest * (1 - 1e-4):
            break
        lowest = losses[index]
        total = total + runners[index][1]
        counts[index] = counts.get(index, 0) + 1
    picked = sum(counts.values())
    return list(counts), [count / picked for count in counts.values()]


def or_naive(
    measured: RollingOrigins, runners: list[Runner], picks: list[int], shares: list[float]
) -> tuple[list[int], list[float], str]:
    """Return the blend, or the best naive member where the blend is not shown to be better at the rolling origins.

    Shown means 1.96 standard errors over independent stretches, or a tenth of the loss where these are too few.

    Returns:
        Members, their shares, and why, for people.
    """
    naive = [index for index, item in enumerate(runners) if item[0].naive]
    best = min(naive, key=lambda index: runners[index][2])
    blend = np.asarray(sum(share * runners[index][1] for index, share in zip(picks, shares, strict=True)))
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
    return (picks, shares, said) if shown else ([best], [1.0], f"{said}, so the plain forecast ships")


def members_table(runners: list[Runner], picks: list[int], shares: list[float]) -> list[dict[str, Any]]:
    """Return members with their loss and weight, the blended ones first, then the best others."""
    share_of = dict(zip(picks, shares, strict=True))
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
