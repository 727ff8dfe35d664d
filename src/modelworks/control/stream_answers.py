"""Answers of a model of running series: the newest window of each series of a table, and its forecast as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.series.windows import cut
from modelworks.core.errors import DataError
from modelworks.core.estimator import FittedModel
from modelworks.core.schema import Column, ColumnKind
from modelworks.data.samples.panel import MONTH
from modelworks.production.stream_alarms import scored
from modelworks.production.stream_judging import columns_of, shape_of
from modelworks.production.streams import read_stream, without_label
from modelworks.production.task_data import task_from_json

if TYPE_CHECKING:
    import pyarrow as pa

    from modelworks.core.schema import Schema
    from modelworks.data.samples.panel import Panel
    from modelworks.packaging import Package

Outputs = dict[str, npt.NDArray[Any]]


def forecast_table(
    package: Package,
    table: pa.Table,
    schema: Schema,
    outputs: Callable[[Mapping[str, npt.NDArray[Any]], int], Outputs],
) -> pa.Table:
    """Return a row per series and step ahead: ``series`` (of several), ``step``, ``time``, ``prediction``, quantiles.

    The forecast begins behind the last known value; rows behind it may give covariates that are known ahead.

    Args:
        package: The package; its task names the columns.
        table, schema: The history, as ingested.
        outputs: Runs the graph on columns of windows.

    Raises:
        DataError: A column is absent, or a series holds no value.
    """
    import pyarrow as pa

    task = task_from_json(package.manifest.task)
    panel, _ = read_stream(table, schema, task)
    length, horizon = shape_of(package.signature)
    origins = [_behind_last(item[0], name) for name, item in zip(panel.names, panel.values, strict=True)]
    windows = cut(panel, length, horizon, origins)
    found = outputs(columns_of(windows), windows.rows)
    rows = windows.rows * horizon
    shown: dict[str, Any] = {}
    if windows.rows > 1:
        shown["series"] = np.repeat(np.array(panel.names, object), horizon)
    shown["step"] = np.tile(np.arange(1, horizon + 1), windows.rows)
    if panel.step:
        times = [_times(panel, int(time), horizon) for time in _last_times(panel, origins)]
        shown["time"] = pa.array(np.concatenate(times), pa.timestamp("us"))
    shown["prediction"] = found["prediction"].reshape(rows)
    for index, level in enumerate(package.signature.quantiles):
        shown[f"q{level:g}"] = found["quantiles"][:, :, index].reshape(rows)
    return pa.table(shown)


def alarm_table(package: Package, table: pa.Table, schema: Schema) -> pa.Table:
    """Return one row per value of each stream: ``series`` (of several), ``step``, ``time``, ``score``, ``anomalous``.

    Args:
        package: The package; its task names the columns.
        table, schema: The streams, as ingested; the label may be absent.

    Raises:
        DataError: The table has not as many columns of numbers to watch as the model.
    """
    import pyarrow as pa

    task = task_from_json(package.manifest.task)
    label = task.targets[0]
    if label not in table.column_names:
        table = table.append_column(label, pa.nulls(table.num_rows, pa.float64()))
        schema = replace(schema, columns=(*schema.columns, Column(name=label, kind=ColumnKind.NUMBER)))
    panel, _ = without_label(read_stream(table, schema, task)[0])
    wanted = package.signature.inputs[0].shape[1]
    if len(panel.channels) != wanted:
        raise DataError(
            f"The model watches {wanted} columns of numbers; the table has {len(panel.channels)}: "
            f"{', '.join(panel.channels)}.",
            code="MW1247",
            hint="give the columns the model was made with",
        )
    model = FittedModel(onnx=package.onnx, signature=package.signature)
    found = scored(panel, model, np.zeros(len(panel.names), np.int64))
    shown: dict[str, Any] = {}
    if len(panel.names) > 1:
        shown["series"] = np.repeat(np.array(panel.names, object), panel.lengths)
    steps = [np.arange(size) for size in panel.lengths.tolist()]
    shown["step"] = np.concatenate(steps)
    if panel.step and not panel.monthly:
        times = [start + panel.step * at for start, at in zip(panel.starts.tolist(), steps, strict=True)]
        shown["time"] = pa.array(np.concatenate(times), pa.timestamp("us"))
    return pa.table({**shown, **found})


def _behind_last(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.int64]:
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        raise DataError(f"Series '{name}' holds no value to go on from.", code="MW1244")
    return np.array([int(known[-1]) + 1], np.int64)


def _last_times(panel: Panel, origins: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return the moment of the last known value of each series; calendar months are counted as such."""
    ends = np.array([int(at[0]) - 1 for at in origins], np.int64)
    return np.array(
        [_moved(panel, start, end) for start, end in zip(panel.starts.tolist(), ends.tolist(), strict=True)]
    )


def _times(panel: Panel, last: int, horizon: int) -> npt.NDArray[np.int64]:
    return np.array([_moved(panel, last, step) for step in range(1, horizon + 1)], np.int64)


def _moved(panel: Panel, moment: int, steps: int) -> int:
    """Return the moment ``steps`` later; on a calendar grid the same day of a later month, or its last day."""
    if not panel.monthly:
        return moment + steps * panel.step
    stamp = np.datetime64(moment, "us")
    month = stamp.astype("datetime64[M]")
    later = month + steps * max(1, round(panel.step / MONTH))
    rest = stamp - month.astype("datetime64[us]")
    end = (later + 1).astype("datetime64[us]") - np.timedelta64(1, "D")
    day = min(later.astype("datetime64[us]") + rest, end)
    return int(day.astype(np.int64))
