"""Fit every candidate on design tables and keep its out-of-fold and test scores and its CPU-seconds.

    python -m benchmarks.portfolio.sweep [--folds 0,1] [--most-rows 12000] [--tables a,b]

Only design tables are fitted. Scores go to ``work/portfolio/<table>.<fold>/<candidate>.npz`` below the accuracy
benchmark's work folder; what is there already is not fitted again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.accuracy.run_one import THREAD_VARIABLES
from benchmarks.accuracy.suite import LOCK, work_folder
from benchmarks.portfolio.candidates import FOREST_ROUNDS, everything

SKIPPED = frozenset({"mushroom", "penguins"})
"""Solved by every candidate, or by one of them but for two or three rows: their ratios are noise."""


def folder_of(table: str, fold: int) -> Path:
    """Return where the scores of one task are kept."""
    return work_folder() / "portfolio" / f"{table}.{fold}"


def sweep_task(table: str, fold: int) -> None:
    """Fit every candidate on one training part."""
    import numpy as np

    from benchmarks.accuracy.measures import load_fold
    from benchmarks.accuracy.methods.product import Modelworks, typed_columns
    from modelworks.algorithms.tables.basis import fit_basis
    from modelworks.algorithms.tables.boosted import BoostedTrees
    from modelworks.algorithms.tables.encoder import fit_encoder
    from modelworks.algorithms.tables.linear import LinearModel
    from modelworks.algorithms.tables.problem import problem_of
    from modelworks.core.budget import Budget

    data = load_fold(table, fold)
    train = Modelworks().training_table_of(data)
    problem = problem_of(train)
    encoder = fit_encoder(train)
    encoded = encoder.transform(train.columns, train.rows)
    test = encoder.transform(typed_columns(data.test, data.categories), len(data.test))
    basis = fit_basis(encoded, encoder.features)
    smooth, smooth_test = basis.transform(encoded), basis.transform(test)
    folder = folder_of(table, fold)
    folder.mkdir(parents=True, exist_ok=True)
    for name, family, settings in everything():
        path = folder / f"{name}.npz"
        if path.exists() or (family == "forest" and data.kind != "regression"):
            continue
        begin = time.process_time()
        member: Any
        if family == "linear":
            member = LinearModel(name=name, problem=problem, features=smooth)
        else:
            forest = {"rounds": FOREST_ROUNDS, "patience": FOREST_ROUNDS} if family == "forest" else {}
            member = BoostedTrees(
                name=name, problem=problem, features=encoded, seed=0, settings=settings, **forest
            )
        budget = Budget(300.0)
        fits = member.settle({k: member.fit_fold(k, budget) for k in problem.fold_numbers}, budget)
        spent = time.process_time() - begin
        scores = np.zeros((problem.rows, problem.outputs))
        for inner, fit in fits.items():
            scores[problem.parts(inner)[1]] = fit.scores
        held = member.predict(fits, smooth_test if family == "linear" else test)
        np.savez_compressed(path, oof=scores.astype(np.float32), test=held.astype(np.float32), cpu_s=spent)
        print(
            f"{table} {fold} {name:22} {problem.reported(problem.loss(scores)):10.5g} {spent:6.2f}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folds", default="0")
    parser.add_argument("--most-rows", type=int, default=12_000)
    parser.add_argument("--tables", default="")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.update(
        dict.fromkeys(THREAD_VARIABLES, "1")
    )  # read when numpy is first imported, in sweep_task
    named = set(filter(None, options.tables.split(",")))
    for fold in map(int, options.folds.split(",")):
        for table, line in json.loads(LOCK.read_text()).items():
            allowed = not line["held_out"] and table not in SKIPPED and line["rows"] <= options.most_rows
            if allowed and (not named or table in named):
                sweep_task(table, fold)
    return 0


if __name__ == "__main__":
    sys.exit(main())
