"""The race of forecast members: fitted before a stretch of time, measured at rolling origins in it, blended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.series.members import Member, View, ridge_maps, target_bounds
from modelworks.algorithms.series.network import flops, train_network
from modelworks.algorithms.series.problem import Problem
from modelworks.algorithms.series.rolling import (
    RollingOrigins,
    Runner,
    blend_of,
    blended,
    members_table,
    or_naive,
    rolling_origins,
)
from modelworks.algorithms.series.smoothing import repeat_map, smoothing_grid
from modelworks.algorithms.series.windows import (
    cut,
    fill_shifts,
    filled,
    origins_of,
)
from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped
from modelworks.data.samples.panel import Floats, Panel

Rows = npt.NDArray[np.float32]

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MOST_CELLS = 32_000_000
"""Values of all training windows together: bounds memory at 128 MB a view."""

FEWEST_FOR_NETWORK = 500
HIDDEN, EPOCHS = 96, 12
RATE = 12e9
"""Floating point operations of a training per CPU-second, for planning; on a slow machine a budget check ends it."""


@dataclass(frozen=True, kw_only=True)
class Raced:
    """What the race found: refitted members, and the blend at the rolling origins before the refit.

    Attributes:
        members: Refitted members.
        shares: Weight of each member at each step ahead, float32 [members, horizon], sum one.
        measured: The rolling origins.
        blend: What was forecast there, [origins, horizon].
        table: Members with their losses, for people.
        diagnostics: For the report.
    """

    members: list[Member]
    shares: Rows
    measured: RollingOrigins
    blend: Floats
    table: list[dict[str, Any]] = field(default_factory=list)
    diagnostics: dict[str, Any] = field(default_factory=dict)


def _training(problem: Problem, panel: Panel) -> tuple[Rows, Rows, Rows, npt.NDArray[np.int64]]:
    """Return filled windows, targets, extras and series of training origins; sparse horizons are left out."""
    first = np.minimum(
        np.maximum(2 * panel.season, problem.length // 2), np.maximum(panel.lengths - problem.horizon, 1)
    )
    count = int(np.maximum(panel.lengths - problem.horizon + 1 - first, 0).sum())
    stride = max(1, int(np.ceil(count * (problem.length + problem.horizon) / MOST_CELLS)))
    windows = cut(panel, problem.length, problem.horizon, origins_of(panel, problem.horizon, first, stride))
    known = np.isfinite(windows.truth).mean(axis=1) >= 0.7
    recent = np.isfinite(windows.history[:, 0]).mean(axis=1) >= 0.3
    rows = np.flatnonzero(known & recent)
    history = filled(windows.history[rows, 0], problem.shifts)
    both = np.concatenate([history, windows.truth[rows].astype(np.float32)], axis=1)
    targets = filled(both, fill_shifts(panel.season, both.shape[1]))[:, problem.length :]
    return history, targets, problem.extras(windows)[rows], windows.series[rows]


def _views(problem: Problem, history: Rows) -> Iterator[View]:
    """Yield the views that maps are fitted on."""
    values = np.concatenate([item[0] for item in problem.panel.values])
    known = values[np.isfinite(values)]
    positive = problem.never_negative and (known > 0).mean() > 0.98
    floor = float(known[known > 0].min()) / 2 if positive else 1e-6
    size = np.array([np.nanstd(item[0]) for item in problem.panel.values])
    alike = size.max() <= 20 * max(float(np.median(size)), 1e-12)
    for logged in (False, True) if positive else (False,):
        seen = np.log(np.maximum(history, np.float32(floor))) if logged else history
        usual = max(float(np.median(seen.std(axis=1))), 1e-6)
        for length in problem.lengths:
            yield View(length=length, mode="shape", logged=logged, floor=floor, unit=0.01 * usual)
            if logged or alike:
                yield View(length=length, mode="level", logged=logged, floor=floor, unit=usual)


def _fixed(problem: Problem, history: Rows) -> Iterator[Member]:
    """Yield the members that are not fitted: naive ones and smoothing."""
    view = View(length=problem.length, mode="plain", extras=False)
    yield Member(name="last value", view=view, map=repeat_map(problem.length, problem.horizon, 1), naive=True)
    for lag in {problem.panel.season, problem.panel.longer_season} - {0, 1}:
        if lag <= problem.length:
            yield Member(
                name=f"value {lag} steps ago",
                view=view,
                map=repeat_map(problem.length, problem.horizon, lag),
                naive=True,
            )
        if 3 * lag <= problem.length:
            yield Member(
                name=f"mean of three seasons of {lag}",
                view=view,
                map=repeat_map(problem.length, problem.horizon, lag, 3),
                naive=True,
            )
    length = min(problem.length, max(8 * problem.panel.season, 60))
    if length < max(2 * problem.panel.season, 4):
        return
    for name, smooth in smoothing_grid(length, problem.horizon, problem.panel.season).items():
        for shown in _views(problem, history):
            if shown.mode == "shape" and shown.length == max(problem.lengths):
                plain = View(
                    length=length, mode="plain", logged=shown.logged, floor=shown.floor, extras=False
                )
                yield Member(name=name + (" of logs" if shown.logged else ""), view=plain, map=smooth)


def alone(problem: Problem, member: Member) -> Raced:
    """Return one member that is not fitted as the result of a race."""
    return _unfitted(problem, [member], np.ones((1, problem.horizon), np.float32))


def _unfitted(problem: Problem, members: list[Member], shares: Rows) -> Raced:
    """Return members that are not fitted; so their errors all through the training series count."""
    measured = rolling_origins(problem, everywhere=True)
    parts = [share * measured.predict(member) for member, share in zip(members, shares, strict=True)]
    return Raced(members=members, shares=shares, measured=measured, blend=np.asarray(sum(parts)))


def best_smoothing(problem: Problem) -> Member | None:
    """Return the smoothing that is best at the rolling origins; ``None`` where windows are too short for it."""
    measured = rolling_origins(problem)
    members = [member for member in _fixed(problem, measured.history) if member.name.startswith("smoothing")]
    losses = [measured.loss(measured.predict(member)) for member in members]
    return members[int(np.argmin(losses))] if members else None


def race(problem: Problem, budget: Budget, seed: int) -> Raced:
    """Fit members before the stretch, blend them by their errors in it, and refit those that are blended."""
    budget.check()
    measured = rolling_origins(problem)
    before = problem.panel.cut(problem.stretch)
    history, targets, extras, series = _training(problem, before)
    runners: list[Runner] = []

    def enter(member: Member) -> float:
        predicted = measured.predict(member)
        loss = measured.loss(predicted) if np.isfinite(predicted).all() else float("inf")
        runners.append((member, predicted, loss))
        return loss

    for member in _fixed(problem, measured.history):
        budget.check()
        enter(member)
    best: list[tuple[float, View, Member]] = []
    for view in _views(problem, history) if len(history) > 20 else ():
        if runners and not budget.allows(0.0):
            break
        fitted = [
            (enter(member), view, member) for member in _linear(view, history, targets, extras, PENALTIES)
        ]
        best.append(min(fitted, key=lambda item: item[0]))
    for _, view, _ in sorted(best, key=lambda item: item[0])[:2] if extras.shape[1] else []:
        # Calendar and covariates do not always help; the best views are tried without them too.
        bare = replace(view, extras=False)
        fitted = [
            (enter(member), bare, member) for member in _linear(bare, history, targets, extras, PENALTIES)
        ]
        best.append(min(fitted, key=lambda item: item[0]))
    rows = _network_rows(problem, budget, len(history), extras.shape[1])
    chosen = sorted(best, key=lambda item: item[0])[:2] if rows >= FEWEST_FOR_NETWORK else []
    for _, view, member in chosen:
        try:
            enter(_network(problem, view, member, history, targets, extras, series, rows, seed, budget))
        except BudgetStopped:
            break  # what is measured so far is enough to go on with
    picks, shares, why = or_naive(measured, runners, *blend_of(measured, runners))
    blend = blended(runners, picks, shares)
    diagnostics = {
        "chosen": " + ".join(sorted({runners[index][0].name for index in picks})),
        "why": why,
        "oof_loss": measured.loss(blend),
        "origins": measured.windows.rows,
        "windows": len(history),
    }
    table = members_table(runners, picks, shares)
    members = [runners[index][0] for index in picks]
    if all(member.view.mode == "plain" for member in members):
        found = _unfitted(problem, members, shares)
        return replace(found, table=table, diagnostics=diagnostics)
    return Raced(
        members=_refit(problem, members, rows, seed, budget.grace()),
        shares=shares,
        measured=measured,
        blend=blend,
        table=table,
        diagnostics=diagnostics,
    )


def _linear(
    view: View, history: Rows, targets: Rows, extras: Rows, penalties: tuple[float, ...]
) -> list[Member]:
    features, place, scale = view.look(history, extras)
    scaled = np.clip((view.logs(targets) - place) / scale, -30, 30)
    bounds = target_bounds(scaled)
    return [
        Member(name=f"linear map, penalty {penalty:g}", view=view, map=found, bounds=bounds)
        for penalty, found in zip(penalties, ridge_maps(features, scaled, penalties), strict=True)
    ]


def _network_rows(problem: Problem, budget: Budget, rows: int, extras: int) -> int:
    """Return on how many windows networks may train: two before the stretch and two again, in 60 % of the budget."""
    one = flops(1, problem.length + extras + 1, problem.horizon, HIDDEN, EPOCHS)
    return int(min(rows, 0.6 * budget.cpu_s * RATE / (4 * one)))


def _network(
    problem: Problem,
    view: View,
    linear: Member,
    history: Rows,
    targets: Rows,
    extras: Rows,
    series: npt.NDArray[np.int64],
    rows: int,
    seed: int,
    budget: Budget,
) -> Member:
    """Train a network from a linear member on; errors weigh as the metric weighs them."""
    if rows < len(history):
        kept = np.sort(np.random.default_rng(seed).permutation(len(history))[:rows])
        history, targets, extras, series = history[kept], targets[kept], extras[kept], series[kept]
    features, place, scale = view.look(history, extras)
    bounds = target_bounds(np.clip((view.logs(targets) - place) / scale, -30, 30))
    scaled = np.clip((view.logs(targets) - place) / scale, bounds[0], bounds[1]).astype(np.float32)
    weight = _weights(problem, view, history, scale[:, 0], series)
    assert isinstance(linear.map, np.ndarray)
    network = train_network(
        features,
        scaled,
        weight,
        linear.map,
        hidden=HIDDEN,
        epochs=EPOCHS,
        seed=seed,
        check=budget.check,
    )
    return Member(name=linear.name.replace("linear map", "network"), view=view, map=network, bounds=bounds)


def _weights(problem: Problem, view: View, history: Rows, scale: Rows, series: npt.NDArray[np.int64]) -> Rows:
    """Return how much a scaled error of one costs in the metric, per window; at most 20 times the usual."""
    size = np.abs(history[:, -view.length :]).mean(axis=1)
    # An error of a logarithm is a share of the value.
    weight = scale * size if view.logged else scale
    if problem.metric == "smape":
        weight = weight / np.maximum(size, np.float32(1e-9))
    elif problem.metric == "mase":
        weight = weight / problem.scale[series].astype(np.float32)
    return np.asarray(np.minimum(weight, np.float32(20) * np.median(weight)), dtype=np.float32)


def _refit(problem: Problem, members: list[Member], rows: int, seed: int, budget: Budget) -> list[Member]:
    """Fit the blended members again on windows up to the end of the training series."""
    history, targets, extras, series = _training(problem, problem.panel)
    maps: dict[View, dict[float, Member]] = {}
    for view in {member.view: None for member in members if member.view.mode != "plain"}:
        wanted = tuple(sorted({_penalty(member) for member in members if member.view == view}))
        maps[view] = dict(zip(wanted, _linear(view, history, targets, extras, wanted), strict=True))
    found = []
    for member in members:
        if member.view.mode == "plain":
            found.append(member)
            continue
        linear = maps[member.view][_penalty(member)]
        if member.name.startswith("network"):
            found.append(
                _network(problem, member.view, linear, history, targets, extras, series, rows, seed, budget)
            )
        else:
            found.append(linear)
    return found


def _penalty(member: Member) -> float:
    return float(member.name.rpartition(" ")[2])
