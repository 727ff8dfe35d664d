"""Choose a portfolio from the sweep: greedily the member that lowers the pooled loss most per CPU-second.

    python -m benchmarks.portfolio.choose [--size 4] [--least-rows 0] [--most-rows 3000] [--start linear]

A set of members is judged as TabRepo does (Salinas and Erickson 2023): weights are fitted on out-of-fold scores and
the loss is that of the pooled scores on the test fold, here always of design tables. ``--leave-one-out`` chooses anew
without each table and judges on that table alone, which is what a new user's table would see.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from benchmarks.accuracy.measures import load_fold
from benchmarks.accuracy.methods.product import Modelworks
from benchmarks.accuracy.results import SOLVED, lock
from benchmarks.portfolio.candidates import LINEAR, describe, everything
from benchmarks.portfolio.sweep import folder_of


@dataclass(frozen=True, eq=False)
class Trial:
    """One swept task: its problem and every candidate's scores."""

    table: str
    fold: int
    problem: Any
    test_problem: Any
    oof: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    cpu_s: dict[str, float]

    def pooled_loss(self, members: frozenset[str]) -> float:
        """Return the test loss (nats or RMSE) of the pool of ``members``; raised to the solved floor."""
        return _pooled_loss(self, members)


@cache
def _pooled_loss(trial: Trial, members: frozenset[str]) -> float:
    from modelworks.training.pool import pool_weights, pooled

    names = sorted(members)
    rows = np.arange(trial.problem.rows)
    weights = pool_weights([trial.oof[name] for name in names], trial.problem, rows, floor=0.05)
    scores = pooled([trial.test[name] for name in names], weights)
    loss = trial.problem.reported(trial.test_problem.loss(scores))
    return max(loss, SOLVED * float(lock()[trial.table]["constant_loss"][trial.fold]))


def read_trial(table: str, fold: int) -> Trial | None:
    """Return a swept task, or None if some candidate has not been fitted on it."""
    from modelworks.algorithms.tables.problem import problem_of
    from modelworks.training.problem import Problem

    data = load_fold(table, fold)
    names = [name for name, family, _ in everything() if family != "forest"]
    paths = {name: folder_of(table, fold) / f"{name}.npz" for name in names}
    if not all(path.exists() for path in paths.values()):
        return None
    problem = problem_of(Modelworks().training_table_of(data))
    target = data.test_target
    if data.kind == "regression":
        target = (target - problem.centre) / problem.spread
    judged = Problem(
        kind=problem.kind,
        target=target,
        folds=np.zeros(len(target), dtype=np.int8),
        classes=problem.classes,
        centre=problem.centre,
        spread=problem.spread,
    )
    stored = {name: np.load(path) for name, path in paths.items()}
    return Trial(
        table,
        fold,
        problem,
        judged,
        {name: file["oof"].astype(np.float64) for name, file in stored.items()},
        {name: file["test"].astype(np.float64) for name, file in stored.items()},
        {name: float(file["cpu_s"]) for name, file in stored.items()},
    )


def mean_log_loss(trials: Sequence[Trial], members: frozenset[str]) -> float:
    """Return the mean over tables (folds of a table first) of the log of the pooled test loss."""
    found: dict[str, list[float]] = {}
    for trial in trials:
        found.setdefault(trial.table, []).append(np.log(trial.pooled_loss(members)))
    return float(np.mean([np.mean(values) for values in found.values()]))


def cost(trials: Sequence[Trial], members: frozenset[str]) -> float:
    """Return the mean CPU-seconds of fitting ``members``."""
    return float(np.mean([sum(trial.cpu_s[name] for name in members) for trial in trials]))


def greedy(trials: Sequence[Trial], start: frozenset[str], size: int) -> list[tuple[str, float, float]]:
    """Return the members in the order they were added: name, log-loss gain, CPU-seconds added."""
    names = sorted(trials[0].oof)
    members, path = start, []
    while len(members) < size:
        now = mean_log_loss(trials, members) if members else 0.0
        best: tuple[float, str, float, float] | None = None
        for name in names:
            if name in members:
                continue
            gain = now - mean_log_loss(trials, members | {name})
            seconds = cost(trials, frozenset({name}))
            worth = gain if not members else gain / seconds
            if best is None or worth > best[0]:
                best = (worth, name, gain, seconds)
        if best is None or (members and best[2] <= 0.0005):
            break
        members |= {best[1]}
        path.append(best[1:])
    return path


def singles(trials: Sequence[Trial]) -> list[tuple[str, float, float]]:
    """Return every candidate pooled with the additive model: loss ratio to the additive model alone, cost."""
    alone = mean_log_loss(trials, frozenset({LINEAR}))
    rows = [
        (
            name,
            float(np.exp(mean_log_loss(trials, frozenset({LINEAR, name})) - alone)),
            cost(trials, frozenset({name})),
        )
        for name in trials[0].oof
        if name != LINEAR
    ]
    return sorted(rows, key=lambda row: row[1])


def leave_one_out(trials: Sequence[Trial], start: frozenset[str], size: int) -> dict[str, float]:
    """Return per table the loss ratio of the portfolio chosen without it to the one chosen with all."""
    everyone = start | {name for name, _, _ in greedy(trials, start, size)}
    ratios = {}
    for table in sorted({trial.table for trial in trials}):
        others = [trial for trial in trials if trial.table != table]
        own = [trial for trial in trials if trial.table == table]
        chosen = start | {name for name, _, _ in greedy(others, start, size)}
        ratios[table] = float(np.exp(mean_log_loss(own, chosen) - mean_log_loss(own, everyone)))
    return ratios


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--start", default=LINEAR, help="members that are always there, comma separated")
    parser.add_argument("--least-rows", type=int, default=0)
    parser.add_argument("--most-rows", type=int, default=10**9)
    parser.add_argument("--leave-one-out", action="store_true")
    options = parser.parse_args()
    start = frozenset(filter(None, options.start.split(",")))
    trials = []
    for table, line in lock().items():
        for fold in range(5):
            wanted = (
                options.least_rows <= line["rows"] <= options.most_rows and folder_of(table, fold).exists()
            )
            trial = read_trial(table, fold) if wanted else None
            if trial is not None:
                trials.append(trial)
    print(f"{len(trials)} tasks of {len({trial.table for trial in trials})} tables")
    for name, ratio, seconds in singles(trials)[:12]:
        print(f"  linear + {name:22} loss ratio {ratio:.4f}  {seconds:6.2f} CPU-s")
    path = greedy(trials, start, options.size)
    for name, gain, seconds in path:
        print(
            f"add {name}: loss {np.expm1(-gain):+.2%} for {seconds:.2f} CPU-s  {json.dumps(describe(name))}"
        )
    if options.leave_one_out:
        print(json.dumps(leave_one_out(trials, start, options.size), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
