"""The table recipe: encode once, fit a small fixed portfolio fold by fold, pool, and write one ONNX graph."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.tables.basis import Basis, fit_basis
from modelworks.algorithms.tables.boosted import BoostedTrees
from modelworks.algorithms.tables.encoder import Encoder, fit_encoder
from modelworks.algorithms.tables.outputs import write_outputs
from modelworks.algorithms.tables.portfolio import build_member, portfolio_for
from modelworks.algorithms.tables.problem import SUPPORTED, problem_of
from modelworks.algorithms.trees import merge, write_trees
from modelworks.core.budget import Budget
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.signature import Signature
from modelworks.core.task import Limits
from modelworks.data import TrainingTable
from modelworks.training.problem import Problem
from modelworks.training.race import Entry, Raced, race

CARD = Card(
    name="tables.portfolio",
    version=2,
    kinds=SUPPORTED,
    summary="Linear models, boosted trees and kernel machines: raced, pooled and calibrated out of fold.",
    source="Erickson et al. 2020 (AutoGluon); Salinas and Erickson 2023 (TabRepo); Ke et al. 2017 (LightGBM)",
)


@dataclass(frozen=True, kw_only=True)
class TableRecipe:
    """Makes a model of a table.

    Attributes:
        limits: Size, latency and budget the model must keep.
        metric: Metric of the task; steers the decision threshold.
        order: Members that won on similar tables (from memory of earlier tasks): they alone run, in this order;
            empty = the whole portfolio.
        keep_oof: Whether ``diagnostics["oof"]`` holds the out-of-fold predictions.
    """

    limits: Limits = field(default_factory=Limits)
    metric: str | None = None
    order: tuple[str, ...] = ()
    keep_oof: bool = False

    @property
    def card(self) -> Card:
        return CARD

    def fit(
        self, train: TrainingTable, valid: TrainingTable | None, budget: Budget, seed: int
    ) -> FittedModel:
        """Fit a model; see ``core.estimator.Estimator``."""
        clock = time.process_time
        mark = clock()
        problem = problem_of(train)
        portfolio = portfolio_for(problem, self.order)
        encoder = fit_encoder(train)
        table = encoder.transform(train.columns, train.rows)
        basis = fit_basis(table, encoder.features, max_columns=portfolio.columns)
        smooth = basis.transform(table)
        cpu_parts = {"encode": clock() - mark}

        members = [build_member(name, portfolio, problem, table, smooth, seed) for name in portfolio.members]
        raced = race(members, problem, problem.fold_numbers[: portfolio.folds], budget)
        cpu_parts |= {entry.member.name: entry.cpu_s for entry in raced.entries}

        mark = clock()
        threshold = 0.5
        kept = [entry for entry in raced.entries if entry.weight]
        onnx, signature, shrunk = self._written(kept, encoder, basis, problem, train.classes, threshold)
        cpu_parts["export"] = clock() - mark
        return FittedModel(
            onnx=onnx,
            signature=signature,
            diagnostics={
                "members": [_shown(entry) for entry in raced.entries],
                "oof_loss": problem.reported(problem.loss(raced.scores, raced.rows)),
                "chosen": _reason(raced, shrunk),
                "threshold": threshold,
                "folds": len(kept[0].fits),
                "cpu_parts": cpu_parts,
                **({"oof": {"rows": raced.rows, "scores": raced.scores}} if self.keep_oof else {}),
            },
        )

    def _written(
        self,
        kept: Sequence[Entry],
        encoder: Encoder,
        basis: Basis,
        problem: Problem,
        classes: tuple[str, ...],
        threshold: float,
    ) -> tuple[bytes, Signature, str]:
        """Write the graph; one that is too large answers with the trees of fewer folds."""
        folds = len(kept[0].fits)
        shrunk = ""
        while True:
            graph = Graph()
            encoded = encoder.write(graph)
            smooth = ""
            terms = []
            for entry in kept:
                member: Any = entry.member
                if isinstance(member, BoostedTrees):
                    trees = member.trees(dict(list(entry.fits.items())[:folds]))
                    terms.append(write_trees(graph, merge(trees).scaled(entry.weight / len(trees)), encoded))
                else:
                    smooth = smooth or basis.write(graph, encoded)
                    terms.append(member.write(graph, entry.fits, smooth, entry.weight))
            outputs = write_outputs(graph, graph.total(terms), problem, classes, threshold)
            signature = Signature(inputs=encoder.tensors, outputs=outputs, classes=classes)
            onnx = graph.finish(signature)
            if len(onnx) <= self.limits.size_mb * 1e6 or folds == 1:
                return onnx, signature, shrunk
            folds -= 1
            shrunk = f"; the trees of {folds} fold(s) answer, to stay within {self.limits.size_mb:g} MB"


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.member.name,
        "oof_loss": entry.loss,
        "cpu_s": entry.cpu_s,
        "weight": entry.weight,
        "kept": bool(entry.weight),
        "why": entry.why,
    }


def _reason(raced: Raced, shrunk: str) -> str:
    names = [entry.member.name for entry in raced.entries if entry.weight]
    said = f"{names[0]} alone" if len(names) == 1 else f"a calibrated pool of {', '.join(names)}"
    early = "; the budget ended the race early" if raced.stopped else ""
    return f"{said}: least out-of-fold loss{early}{shrunk}"
