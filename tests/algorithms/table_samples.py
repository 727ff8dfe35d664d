"""Small generated tables of every task kind, with gaps, rare categories, dates and short texts."""

from __future__ import annotations

import numpy as np

from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import MISSING_DATETIME
from modelworks.core.task import TaskKind
from modelworks.data import TrainingTable

DAY_US = 86_400_000_000


def sample_table(kind: TaskKind, rows: int = 300, seed: int = 0, weighted: bool = False) -> TrainingTable:
    """Return a table whose target depends on a number, a category and the month of a date."""
    generator = np.random.default_rng(seed)
    size = generator.normal(size=rows).astype(np.float32)
    age = generator.integers(1, 80, rows).astype(np.float32)
    city = np.array(["Bern", "Basel", "Genf", "Uri", ""], dtype=object)[
        generator.choice(5, rows, p=[0.4, 0.3, 0.2, 0.02, 0.08])
    ]
    grade = np.array(["low", "mid", "high"], dtype=object)[generator.integers(0, 3, rows)]
    opened = (19_000 + generator.integers(0, 900, rows)).astype(np.int64) * DAY_US
    signal = size + 0.02 * age + (city == "Bern") - (city == "Genf") + 0.8 * (grade == "high")
    signal = signal + np.sin(opened / DAY_US / 365.25 * 2 * np.pi) + 0.5 * generator.normal(size=rows)
    size[generator.random(rows) < 0.1] = np.nan
    opened[generator.random(rows) < 0.05] = MISSING_DATETIME
    columns = {"size": size, "age": age, "city": city, "grade": grade, "opened": opened}
    schema = Schema(
        columns=(
            Column(name="size", kind=ColumnKind.NUMBER),
            Column(name="age", kind=ColumnKind.NUMBER),
            Column(name="city", kind=ColumnKind.CATEGORY),
            Column(name="grade", kind=ColumnKind.ORDERED, levels=("low", "mid", "high")),
            Column(name="opened", kind=ColumnKind.DATETIME),
        ),
        rows=rows,
    )
    target, classes = _target(kind, signal, generator)
    return TrainingTable(
        columns=columns,
        schema=schema,
        target=target,
        classes=classes,
        weight=generator.random(rows).astype(np.float32) + 0.1 if weighted else None,
        folds=(np.arange(rows) % 5).astype(np.int8),
        kind=kind,
    )


def _target(
    kind: TaskKind, signal: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, tuple[str, ...]]:
    if kind is TaskKind.REGRESSION:
        return 1000.0 + 50.0 * signal, ()
    if kind is TaskKind.BINARY:
        return (signal > np.median(signal)).astype(np.int64), ("no", "yes")
    if kind is TaskKind.MULTICLASS:
        return np.digitize(signal, np.quantile(signal, [0.4, 0.7])).astype(np.int64), ("a", "b", "c")
    labels = np.stack([signal > 0.5, signal + generator.normal(size=len(signal)) > 1.0], axis=1).astype(
        np.uint8
    )
    labels[generator.random(labels.shape) < 0.1] = 255
    return labels, ("red", "green")
