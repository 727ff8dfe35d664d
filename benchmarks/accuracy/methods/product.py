"""Modelworks itself: a data frame in memory through ``modelworks.data`` and ``TableRecipe`` to an ONNX graph."""

from __future__ import annotations

import os
import subprocess
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.measures import Fold
from benchmarks.accuracy.methods.contract import Method
from benchmarks.accuracy.suite import REPOSITORY

TARGET = "__target__"
BUDGET_S = 60.0
DECIDING_CODE = ("src/modelworks/algorithms", "src/modelworks/data", "src/modelworks/compute")


def recipe_commit() -> str:
    """Return the commit of the code that decides the result; ``+`` marks uncommitted changes.

    Where the package is an unpacked archive of a commit, ``MODELWORKS_COMMIT`` names it.
    """
    if named := os.environ.get("MODELWORKS_COMMIT"):
        return named

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=REPOSITORY, check=True, capture_output=True, text=True
        ).stdout.strip()

    head = git("log", "-1", "--format=%h", "--", *DECIDING_CODE)
    return head + ("+" if git("status", "--porcelain", "--", *DECIDING_CODE) else "")


def typed_columns(frame: Any, categories: list[str]) -> dict[str, np.ndarray]:
    """Return float32 numbers with NaN, and objects of text with "" for missing."""
    return {
        name: np.array(["" if value is None else value for value in frame[name]], dtype=object)
        if name in categories
        else frame[name].to_numpy(dtype=np.float32)
        for name in frame.columns
    }


class Modelworks(Method):
    """``TableRecipe`` as the factory calls it; the split into folds and the graph's export are counted."""

    libraries = (
        "pyarrow",
        "modelworks.algorithms.tables.recipe",
        "modelworks.compute.runtime",
        "modelworks.data.parts",
        "modelworks.data.training_rows",
    )
    """What the factory's own process imports: it reads Arrow tables and needs no pandas."""

    def versions(self) -> dict[str, str]:
        names = ("lightgbm", "onnx", "onnxruntime", "numpy", "scipy")
        return {"commit": recipe_commit(), **{name: version(name) for name in names}}

    def fit(self, fold: Fold, folder: Path) -> None:
        from modelworks.algorithms import TableRecipe
        from modelworks.core.budget import Budget

        self.kind, self.categories = fold.kind, fold.categories
        self.model = TableRecipe().fit(self.training_table_of(fold), None, Budget(BUDGET_S), 0)
        self.notes = {
            key: value
            for key, value in self.model.diagnostics.items()
            if key in ("members", "chosen", "oof_loss", "cpu_parts", "baselines")
        }

    @cached_property
    def session(self) -> Any:
        """The loaded graph; loading counts as prediction, as a server pays it."""
        from modelworks.compute.runtime import GraphSession

        return GraphSession(self.model.onnx)

    def training_table_of(self, fold: Fold) -> Any:
        import pandas as pd
        import pyarrow

        from modelworks.core.schema import Column, ColumnKind, Schema
        from modelworks.core.task import Task, TaskKind
        from modelworks.data import training_table
        from modelworks.data.folds import fold_count, stratified_folds

        kind = TaskKind(fold.kind)
        regression = fold.kind == "regression"
        target = fold.train_target if regression else fold.train_target.astype(str)
        frame = fold.train.assign(**{TARGET: target})
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        columns = [
            Column(
                name=name,
                kind=ColumnKind.CATEGORY if name in fold.categories else ColumnKind.NUMBER,
                missing=int(frame[name].isna().sum()),
                distinct=int(frame[name].nunique()),
            )
            for name in fold.train.columns
        ]
        columns.append(
            Column(
                name=TARGET,
                kind=ColumnKind.NUMBER if regression else ColumnKind.CATEGORY,
                distinct=len(np.unique(target)),
            )
        )
        schema = Schema(columns=tuple(columns), rows=len(frame))
        task = Task(name="accuracy", data="memory", target=TARGET, kind=kind)
        strata = (
            pd.qcut(target, 10, labels=False, duplicates="drop")
            if regression
            else np.unique(target, return_inverse=True)[1]
        )
        rows = np.arange(len(frame))
        folds = stratified_folds(
            np.asarray(strata), rows, fold_count(len(rows), len(rows)), np.random.default_rng(0)
        )
        return training_table(table, schema, task, rows, folds)

    def predict(self, frame: Any) -> np.ndarray:
        from modelworks.compute.feeds import pack_columns

        columns = typed_columns(frame, self.categories)
        feeds = pack_columns(self.model.signature, columns, len(frame))
        name = "prediction" if self.kind == "regression" else "probabilities"
        return np.asarray(self.session.run_batched(feeds, outputs=[name])[name])

    def save(self, folder: Path) -> int:
        from modelworks.compute.runtime import single_row_latency_ms

        feeds = {
            tensor.name: np.zeros(
                (1, len(tensor.columns)),
                dtype={"FP32": np.float32, "INT64": np.int64}.get(tensor.datatype, object),
            )
            for tensor in self.model.signature.inputs
        }
        feeds = {
            name: np.full(array.shape, "", dtype=object) if array.dtype == object else array
            for name, array in feeds.items()
        }
        self.notes["graph_ms"] = single_row_latency_ms(self.session, feeds)
        return len(self.model.onnx)
