"""The forecast recipe: maps and networks over all series raced by rolling origin, blended, with conformal quantiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.series import racing
from modelworks.algorithms.series.forecast_graph import ForecastGraph
from modelworks.algorithms.series.members import Member, View
from modelworks.algorithms.series.problem import Problem
from modelworks.algorithms.series.racing import Raced
from modelworks.algorithms.series.smoothing import repeat_map
from modelworks.algorithms.series.spread import Spread, fit_spread, looks_of
from modelworks.algorithms.series.windows import Windows, cut, filled, origins_of
from modelworks.core.budget import Budget
from modelworks.core.errors import DataError
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.task import TaskKind
from modelworks.data.samples.panel import Floats, Panel
from modelworks.evaluation import normal

Rows = npt.NDArray[np.float32]

CARD = Card(
    name="series.forecast",
    version=3,
    kinds=frozenset({TaskKind.FORECAST}),
    summary="Global linear maps and small networks beside naive and smoothing forecasts, blended by rolling origin.",
    source="Zeng et al. 2023 (linear forecasters); Toner and Darlow 2024 (closed form); Caruana et al. 2004 (blending)",
    cost=(1.0, 1e-6),
)

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class ForecastRecipe:
    """Makes a forecaster of a panel.

    Attributes:
        horizon: Steps ahead.
        metric: Metric of the task; members are chosen and trained for it.
        quantiles: Levels of the ``quantiles`` output.
        window: Longest history that is read; 0 = chosen from the season and the length of the series.
        stretch: Values at the end of each training series that choose members and give the quantiles; 0 = chosen.
    """

    horizon: int
    metric: str = "mase"
    quantiles: tuple[float, ...] = LEVELS
    window: int = 0
    stretch: int = 0

    @property
    def card(self) -> Card:
        return CARD

    def fit(self, train: Panel, valid: Panel | None, budget: Budget, seed: int) -> FittedModel:
        """Fit a forecaster; see ``core.estimator.Estimator``. ``valid`` is not needed.

        Raises:
            DataError: The series are too short for the horizon.
        """
        return self.fit_native(train, budget, seed)[0]

    def fit_native(self, panel: Panel, budget: Budget, seed: int) -> tuple[FittedModel, Forecaster]:
        """Fit and return the forecaster beside its graph, for those who compare the two."""
        problem = self.problem(panel)
        raced = racing.race(problem, budget, seed)
        native = Forecaster(
            problem=problem,
            members=tuple(raced.members),
            shares=raced.shares,
            **_intervals(raced, problem, self.quantiles),
            levels=self.quantiles,
        )
        return native.model({**raced.diagnostics, **problem.describe(), "members": raced.table}), native

    def problem(self, panel: Panel) -> Problem:
        """Return what the race is about: windows, seasons, scales.

        Raises:
            DataError: The series are too short for the horizon.
        """
        if self.horizon < 1:
            raise DataError(f"The horizon is {self.horizon}; it must be at least 1.", code="MW1179")
        usual = int(np.quantile(panel.lengths, 0.25))
        if usual < self.horizon + 3:
            raise DataError(
                f"A quarter of the series have at most {usual} values; a horizon of {self.horizon} needs at least "
                f"{self.horizon + 3}.",
                code="MW1179",
                hint="take a shorter horizon, or longer series",
            )
        season = panel.season if 1 < panel.season <= usual // 3 else 1
        longer = panel.longer_season if season < panel.longer_season <= usual // 3 else 0
        panel = replace(panel, season=season, longer_season=longer)
        stretch = self.stretch or min(max(self.horizon, usual // 5), max(1, (usual - self.horizon) // 2))
        return Problem.of(panel, self.horizon, stretch=stretch, window=self.window, metric=self.metric)

    def baselines(self, panel: Panel) -> dict[str, FittedModel]:
        """Return the plain forecasts that a model must hold against, as graphs over the same inputs."""
        problem = self.problem(panel)
        found = {}
        plain: dict[str, Member | None] = {"last value": self._repeat(problem, 1)}
        if problem.panel.season > 1:
            plain["seasonal naive"] = self._repeat(problem, problem.panel.season)
        plain["Holt-Winters"] = racing.best_smoothing(problem)
        for name, member in plain.items():
            if member is None:
                continue
            raced = racing.alone(problem, member)
            native = Forecaster(
                problem=problem,
                members=(member,),
                shares=raced.shares,
                **_intervals(raced, problem, self.quantiles),
                levels=self.quantiles,
            )
            found[name] = native.model({"chosen": name, **problem.describe()})
        return found

    def _repeat(self, problem: Problem, lag: int) -> Member:
        view = View(length=problem.length, mode="plain", extras=False)
        return Member(
            name=f"value {lag} steps ago", view=view, map=repeat_map(problem.length, self.horizon, lag)
        )


@dataclass(frozen=True, kw_only=True)
class Forecaster:
    """A fitted forecaster in numpy; its graph answers the same.

    Attributes:
        problem: Shape of windows and extras.
        members: What is blended.
        shares: Weights of the members at each step, sum one, float32 [members, horizon].
        spread: Size of an error to be expected, from the window.
        offsets: Quantiles of the scaled error, float32 [horizon, levels].
        levels: Their levels.
    """

    problem: Problem
    members: tuple[Member, ...]
    shares: Rows
    spread: Spread
    offsets: Rows
    levels: tuple[float, ...]

    def predict(self, windows: Windows) -> dict[str, Rows]:
        """Return ``prediction`` [rows, horizon] and ``quantiles`` [rows, horizon, levels]."""
        history = filled(windows.history[:, 0], self.problem.shifts)
        extras = self.problem.extras(windows)
        point = np.zeros((windows.rows, self.problem.horizon), np.float32)
        for member, share in zip(self.members, self.shares, strict=True):
            point = point + share * member.predict(history, extras)
        quantiles = point[:, :, None] + self.spread.of(history)[:, :, None] * self.offsets[None]
        if self.problem.never_negative:
            point, quantiles = np.maximum(point, 0), np.maximum(quantiles, 0)
        return {"prediction": point, "quantiles": quantiles}

    def model(self, diagnostics: dict[str, Any]) -> FittedModel:
        """Return the forecaster as a graph."""
        onnx, signature = ForecastGraph(
            problem=self.problem,
            members=self.members,
            shares=self.shares,
            spread=self.spread,
            offsets=self.offsets,
            levels=self.levels,
        ).write()
        return FittedModel(onnx=onnx, signature=signature, diagnostics=diagnostics)


def _intervals(raced: Raced, problem: Problem, levels: tuple[float, ...]) -> dict[str, Any]:
    """Return ``spread`` and ``offsets`` of a forecaster."""
    measured = raced.measured
    errors = measured.windows.truth - raced.blend
    looks = looks_of(problem.length, problem.panel.season)
    looks = looks if measured.enough else looks[:1]
    spread = fit_spread(measured.history, errors, looks, floor=problem.spread_floor)
    scaled = errors / spread.of(measured.history).astype(np.float64)
    return {"spread": spread, "offsets": conformal(scaled, levels, measured.apart)}


def conformal(errors: Floats, levels: tuple[float, ...], apart: float) -> Rows:
    """Return quantiles of errors over their spread, per step, from origins no member was fitted on.

    Split conformal prediction (Lei et al., JASA 113, 2018): the level is corrected for the number of errors. Where
    origins are few, neighbouring steps lend theirs. Errors of overlapping horizons are no new evidence, and the members
    were chosen at these origins: where few horizons lie apart, distances from the middle grow as Student's t does over
    the normal quantile with as many degrees of freedom.
    """
    horizon = errors.shape[1]
    offsets = np.zeros((horizon, len(levels)), np.float32)
    widening = np.array([_widening(level, apart) for level in levels], np.float32)
    reach = 0 if len(errors) >= 200 else 2 if len(errors) >= 40 else horizon
    for step in range(horizon):
        part = errors[:, max(0, step - reach) : step + reach + 1]
        known = np.sort(part[np.isfinite(part)])
        if not len(known):
            continue
        for index, level in enumerate(levels):
            rank = level * (len(known) + 1) - 1
            offsets[step, index] = np.interp(rank, np.arange(len(known)), known)
        middle = np.float32(np.median(known))
        offsets[step] = middle + (offsets[step] - middle) * widening
    return np.sort(offsets, axis=1)


def _widening(level: float, freedom: float) -> float:
    """Return Student's quantile over the normal one of a level; 1 in the middle."""
    usual = normal.quantile(level)
    return normal.student_quantile(level, freedom) / usual if abs(usual) > 1e-6 else 1.0


def sealed_windows(panel: Panel, problem: Problem, first: npt.NDArray[np.int64], stride: int = 1) -> Windows:
    """Return the windows whose horizons lie at or behind ``first`` of each series, for judging."""
    return cut(panel, problem.length, problem.horizon, origins_of(panel, problem.horizon, first, stride))
