"""Statistics of every column as plain JSON, for people, reports and the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.errors import TaskError
from modelworks.core.schema import SAMPLE_KINDS, Column, ColumnKind, Schema
from modelworks.core.task import TaskKind
from modelworks.data.bins import association, bin_column, bin_target
from modelworks.data.target import infer_task_kind, read_target
from modelworks.data.typed import as_doubles, codes_and_levels

SAMPLED_ABOVE = 100_000
HISTOGRAM_BINS = 20
TOP_VALUES = 20
EXAMPLE_LENGTH = 120
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def profile(table: pa.Table, schema: Schema, targets: Sequence[str] = ()) -> dict[str, Any]:
    """Describe every column.

    Args:
        table, schema: The ingested table.
        targets: Columns whose association with every other column is wanted.

    Returns:
        ``rows``, ``sampled`` (rows looked at, if not all), ``targets``, and ``columns``, each with ``name, kind,
        levels, reason, missing, missing_share, distinct, examples`` and by kind: ``mean, sd, min, max, zeros,
        quantiles`` (level -> value) and ``histogram`` {edges, counts}; ``top`` [[value, count]] and ``other``;
        ``words, length`` for text. ``associations`` maps a target to a value in [0, 1] (see ``bins``).
    """
    sampled = table.num_rows > SAMPLED_ABOVE
    part = table
    if sampled:
        rows = np.linspace(0, table.num_rows - 1, SAMPLED_ABOVE).astype(np.int64)
        part = table.take(pa.array(rows))
    columns = [
        _describe(part.column(column.name), column, schema.rows or table.num_rows)
        for column in schema.columns
    ]
    _associate(columns, part, schema, targets)
    return {
        "rows": table.num_rows,
        "sampled": part.num_rows if sampled else None,
        "targets": list(targets),
        "columns": columns,
    }


def _describe(cells: pa.ChunkedArray, column: Column, rows: int) -> dict[str, Any]:
    levels = column.levels
    sample = column.kind in SAMPLE_KINDS
    entry: dict[str, Any] = {
        **asdict(column),
        "kind": column.kind.value,
        "levels": list(levels[:TOP_VALUES]) if levels is not None else None,
        "missing_share": column.missing / rows if rows else 0.0,
        "examples": [] if sample else _examples(cells),
    }
    if sample:
        return entry
    kind = cells.type
    if pa.types.is_timestamp(kind):
        return entry | _describe_moments(cells)
    if column.kind is ColumnKind.NUMBER or (
        column.kind is ColumnKind.IDENTIFIER and (pa.types.is_integer(kind) or pa.types.is_floating(kind))
    ):
        return entry | _describe_numbers(as_doubles(cells))
    if column.kind in {ColumnKind.TEXT, ColumnKind.IDENTIFIER}:
        return entry | _describe_texts(cells)
    return entry | _describe_levels(cells)


def _examples(cells: pa.ChunkedArray) -> list[str]:
    found: list[str] = []
    for cell in cells.slice(0, 50).to_pylist():
        text = "" if cell is None else str(cell)[:EXAMPLE_LENGTH]
        if text and text not in found:
            found.append(text)
        if len(found) == 3:
            break
    return found


def _describe_numbers(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    ordered = np.sort(values)
    ordered = ordered[: len(ordered) - np.count_nonzero(np.isnan(ordered))]
    count = len(ordered)
    if count == 0:
        return {}
    places = np.clip(np.round(np.array(_QUANTILES) * (count - 1)).astype(np.int64), 0, count - 1)
    mean = float(ordered.mean())
    low, high = float(ordered[0]), float(ordered[-1])
    return {
        "mean": mean,
        "sd": float(np.sqrt(np.mean((ordered - mean) ** 2))),
        "min": low,
        "max": high,
        "zeros": int(np.searchsorted(ordered, 0.0, "right") - np.searchsorted(ordered, 0.0, "left")),
        "quantiles": {
            f"{level:g}": float(ordered[place]) for level, place in zip(_QUANTILES, places, strict=True)
        },
        "histogram": _histogram(ordered, low, high),
    }


def _histogram(ordered: npt.NDArray[np.float64], low: float, high: float) -> dict[str, Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    if not np.isfinite(edges).all() or low == high:
        return {"edges": [low, high], "counts": [len(ordered)]}
    counts = np.diff(np.searchsorted(ordered, edges[1:-1], "left"), prepend=0, append=len(ordered))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _describe_moments(cells: pa.ChunkedArray) -> dict[str, Any]:
    micros = np.sort(pc.cast(cells.drop_null(), pa.int64()).to_numpy()).astype(np.float64)
    if len(micros) == 0:
        return {}
    low, high = float(micros[0]), float(micros[-1])
    histogram = _histogram(micros, low, high)
    return {
        "first": _iso(low),
        "last": _iso(high),
        "histogram": {"edges": [_iso(edge) for edge in histogram["edges"]], "counts": histogram["counts"]},
    }


def _iso(micros: float) -> str:
    return str(np.datetime64(int(micros), "us"))[:19]


def _describe_texts(cells: pa.ChunkedArray) -> dict[str, Any]:
    step = max(1, len(cells) // 1000)
    part = cells.take(pa.array(np.arange(0, len(cells), step))).drop_null().to_pylist()
    if not part:
        return {}
    lengths = [len(str(text)) for text in part]
    return {
        "words": sum(len(str(text).split()) for text in part) / len(part),
        "length": {"mean": sum(lengths) / len(part), "max": max(lengths)},
    }


def _describe_levels(cells: pa.ChunkedArray) -> dict[str, Any]:
    codes, levels = codes_and_levels(cells)
    counts = np.bincount(codes + 1, minlength=len(levels) + 1)[1:]
    order = np.argsort(-counts, kind="stable")[:TOP_VALUES]
    top = [[levels[index][:EXAMPLE_LENGTH], int(counts[index])] for index in order]
    return {"top": top, "other": int(counts.sum() - sum(count for _, count in top))}


def _associate(columns: list[dict[str, Any]], part: pa.Table, schema: Schema, targets: Sequence[str]) -> None:
    readings = []
    for name in targets:
        try:
            kind, _ = infer_task_kind(part, schema, name)
            target = read_target(part, schema, name, kind)
        except TaskError:
            continue
        values = target.values if kind is TaskKind.REGRESSION else np.empty(0)
        readings.append((name, target, bin_target(target), values))
    if not readings:
        return
    for entry in columns:
        if entry["kind"] in {ColumnKind.IDENTIFIER.value, ColumnKind.CONSTANT.value, *SAMPLE_KINDS}:
            continue
        binned = bin_column(part, schema, entry["name"])
        entry["associations"] = {
            name: round(association(binned, target, classes, values), 6)
            for name, target, classes, values in readings
            if name != entry["name"]
        }
