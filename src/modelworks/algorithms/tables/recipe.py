"""The table recipe: encode once, race a small fixed portfolio, pool, and write one ONNX graph."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from modelworks.algorithms.tables import RECIPE_VERSION
from modelworks.algorithms.tables.basis import fit_basis
from modelworks.algorithms.tables.encoder import fit_encoder
from modelworks.algorithms.tables.ensemble import Ensemble, Measured, Part, measure
from modelworks.algorithms.tables.intervals import Intervals, fit_intervals
from modelworks.algorithms.tables.portfolio import Portfolio, default_portfolio, make_member
from modelworks.algorithms.tables.problem import SUPPORTED, problem_of
from modelworks.algorithms.tables.scaling import fit_scaling
from modelworks.algorithms.tables.views import TABLE, ViewedRows, Views
from modelworks.core.budget import Budget
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.signature import Signature
from modelworks.core.task import Limits, TaskKind
from modelworks.data import TrainingTable
from modelworks.training.decision import Decision, choose_decision
from modelworks.training.problem import Problem
from modelworks.training.race import Choice, RaceResult, RaceRules, Runner, choose, race, rows_of, scores_of

CARD = Card(
    name="tables.portfolio",
    version=RECIPE_VERSION,
    kinds=SUPPORTED,
    summary="Additive, kernel, tree, forest and network models, raced, pooled and calibrated out of fold.",
    source="Erickson et al. 2020 (AutoGluon); Salinas and Erickson 2023 (TabRepo); Ke et al. 2017 (LightGBM)",
)


@dataclass(frozen=True, kw_only=True)
class TableRecipe:
    """Makes a model of a table.

    Attributes:
        limits: Size and latency the model must keep.
        metric: Metric of the task; steers the decision threshold.
        quantiles: Levels of the interval output of a regression; empty = none.
        order: Members that won on similar tables (from the memory of earlier tasks): of the portfolio's plan for
            the table they alone run, in this order; empty, or none of them in the plan = the whole plan.
        portfolio: Members and plans; the shipped one by default.
        keep_oof: Whether ``diagnostics["oof"]`` holds the out-of-fold scores of pool and members.
    """

    limits: Limits = field(default_factory=Limits)
    metric: str | None = None
    quantiles: tuple[float, ...] = ()
    order: tuple[str, ...] = ()
    portfolio: Portfolio = field(default_factory=default_portfolio)
    keep_oof: bool = False

    @property
    def card(self) -> Card:
        return CARD

    def fit(
        self, train: TrainingTable, valid: TrainingTable | None, budget: Budget, seed: int
    ) -> FittedModel:
        """Fit a model; see ``core.estimator.Estimator``. Early stopping uses the table's own folds."""
        return self.fit_native(train, budget, seed)[0]

    def fit_native(self, train: TrainingTable, budget: Budget, seed: int) -> tuple[FittedModel, Ensemble]:
        """Fit a model and return the ensemble beside its graph, for those who compare the two."""
        spent: dict[str, float] = {}
        with _one_thread():
            with _timed(spent, "encode"):
                problem = problem_of(train)
                rows = encode(train)
            raced = self._race(problem, rows, budget, seed)
            spent |= {runner.name: runner.cpu_s for runner in raced.runners}
            with _timed(spent, "pool"):
                choice = choose(raced.finalists, problem, raced.folds)
            with _timed(spent, "intervals"):
                intervals = self._intervals(problem, rows, raced, choice, budget.grace(), seed)
            shipped = self._ship(train, rows.views, problem, raced, choice, intervals, budget.grace(), spent)
        ensemble, onnx, signature, measured = shipped
        model = FittedModel(
            onnx=onnx,
            signature=signature,
            diagnostics=self._diagnostics(problem, raced, choice, ensemble, measured, spent),
        )
        return model, ensemble

    def _race(self, problem: Problem, rows: ViewedRows, budget: Budget, seed: int) -> RaceResult:
        plan = self.portfolio.plan(problem)
        entrants = [
            partial(make_member, spec, problem, rows, seed)
            for spec in self.portfolio.entrants(problem, rows.views.encoder.features, self.order)
        ]
        folds = problem.fold_numbers[: plan.folds]
        return race(entrants, problem, budget, RaceRules(folds=folds, spend_s=plan.spend_s))

    def _intervals(
        self,
        problem: Problem,
        rows: ViewedRows,
        raced: RaceResult,
        choice: Choice,
        grace: Budget,
        seed: int,
    ) -> Intervals | None:
        if not self.quantiles or problem.kind is not TaskKind.REGRESSION:
            return None
        judged = rows_of(problem, raced.folds)
        return fit_intervals(problem, judged, choice.scores, rows[TABLE], self.quantiles, grace, seed)

    def _ship(
        self,
        train: TrainingTable,
        views: Views,
        problem: Problem,
        raced: RaceResult,
        choice: Choice,
        intervals: Intervals | None,
        grace: Budget,
        spent: dict[str, float],
    ) -> tuple[Ensemble, bytes, Signature, Measured]:
        """Write the graph; while it breaks a limit, average fewer fold models, then leave members out."""
        weights = dict(zip([runner.name for runner in raced.finalists], choice.weights.tolist(), strict=True))
        decision = choose_decision(problem, choice.scores, rows_of(problem, raced.folds), self.metric)
        keep = len(raced.folds)
        while True:
            with _timed(spent, "finish"):
                parts = tuple(
                    _part(runner, weights[runner.name], keep, grace)
                    for runner in raced.finalists
                    if weights[runner.name] > 0
                )
                ensemble = Ensemble(
                    views=views,
                    parts=parts,
                    problem=problem,
                    classes=train.classes,
                    decision=decision,
                    intervals=intervals,
                )
            with _timed(spent, "export"):
                onnx, signature = ensemble.write()
            with _timed(spent, "measure"):
                measured = measure(ensemble, onnx, signature, train.columns, train.rows, self.limits)
            if not measured.over(self.limits) or (keep == 1 and len(parts) == 1):
                return ensemble, onnx, signature, measured
            if keep > 1:
                keep //= 2
            else:
                lightest = min(parts, key=lambda part: part.weight).member.name
                weights = _without(lightest, weights)

    def _diagnostics(
        self,
        problem: Problem,
        raced: RaceResult,
        choice: Choice,
        ensemble: Ensemble,
        measured: Measured,
        spent: dict[str, float],
    ) -> dict[str, Any]:
        shipped = {part.member.name: part.weight for part in ensemble.parts}
        oof_rows = rows_of(problem, raced.folds)
        diagnostics: dict[str, Any] = {
            "members": [_line(runner, problem, shipped.get(runner.name, 0.0)) for runner in raced.runners],
            "oof_loss": problem.reported(choice.loss),
            "chosen": choice.chosen,
            "threshold": _threshold(ensemble.decision),
            "folds": len(raced.folds),
            "stopped": raced.stopped,
            "cpu_parts": {name: round(seconds, 4) for name, seconds in spent.items()},
            "measured": {
                "size_mb": measured.size_mb,
                "latency_ms": measured.latency_ms,
                "parity": measured.parity,
                "over": measured.over(self.limits),
            },
        }
        if self.keep_oof:
            diagnostics["oof"] = {
                "rows": oof_rows,
                "scores": choice.scores,
                "members": {runner.name: scores_of(runner, raced.folds) for runner in raced.finalists},
            }
        return diagnostics


def encode(train: TrainingTable) -> ViewedRows:
    """Fit the encodings on the training columns and see the training rows through them."""
    encoder = fit_encoder(train)
    table = encoder.transform(train.columns, train.rows)
    basis = fit_basis(table, encoder.features)
    views = Views(encoder=encoder, basis=basis, scaling=fit_scaling(table, basis))
    return ViewedRows(views, table)


def _part(runner: Runner, weight: float, keep: int, grace: Budget) -> Part:
    fits = dict(list(runner.fits.items())[:keep])
    return Part(member=runner.member, model=runner.member.finish(fits, grace), weight=weight)


def _without(name: str, weights: dict[str, float]) -> dict[str, float]:
    """Give the weight of a member to the others, in proportion."""
    left = {other: weight for other, weight in weights.items() if other != name}
    factor = sum(weights.values()) / max(sum(left.values()), 1e-9)
    return {other: weight * factor for other, weight in left.items()} | {name: 0.0}


def _line(runner: Runner, problem: Problem, weight: float) -> dict[str, Any]:
    """Return a member's line of the leaderboard; a dropped one is judged on the folds it ran."""
    folds = tuple(runner.fits)
    rows = rows_of(problem, folds)
    losses = problem.row_losses(scores_of(runner, folds), rows)
    mean = float(np.average(losses, weights=problem.row_weight(rows)))
    error = float(losses.std() / np.sqrt(len(losses)))
    shown = problem.reported(mean)
    return {
        "name": runner.name,
        "oof_loss": shown,
        "oof_se": problem.reported(mean + error) - shown,
        "cpu_s": runner.cpu_s,
        "weight": weight,
        "kept": weight > 0,
        "folds": len(folds),
        "why": runner.dropped or ("" if weight > 0 else "no weight in the pool"),
    }


def _threshold(decision: Decision) -> float | list[float]:
    thresholds = list(decision.thresholds)
    return thresholds[0] if len(thresholds) == 1 else thresholds


@contextmanager
def _timed(spent: dict[str, float], name: str) -> Iterator[None]:
    begin = time.process_time()
    try:
        yield
    finally:
        spent[name] = spent.get(name, 0.0) + time.process_time() - begin


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep linear algebra on one thread: honest CPU-seconds, and the same bytes on every machine size."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
