"""Tasks on running series (forecasts, anomalies in streams): which columns they read, and what is sealed at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import TaskError, close_matches
from modelworks.core.schema import ColumnKind, Schema
from modelworks.core.task import Task, TaskKind

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from modelworks.data.samples.panel import Panel

STREAM_KINDS = frozenset({TaskKind.FORECAST, TaskKind.ANOMALY})
NUMBERS = frozenset({ColumnKind.NUMBER, ColumnKind.INTEGER_CATEGORY, ColumnKind.BOOLEAN, ColumnKind.ORDERED})
OPTIONS = {
    TaskKind.FORECAST: ("horizon", "window", "stretch", "season", "time", "series", "past", "known"),
    TaskKind.ANOMALY: ("window", "season", "time", "series", "alarm", "false_alarm_rate"),
}
ALARMS = ("state", "event")
MOST_ORIGINS = 2000
FEWEST_AHEAD, MOST_AHEAD = 1, 2000


@dataclass(frozen=True, kw_only=True)
class StreamColumns:
    """What each column is to a task on running series.

    Attributes:
        values: Columns that are forecast; or those watched, then the label; or one whose rows hold whole series.
        time: Time stamps, or ``None`` where rows count as equally spaced.
        series: Column that tells the series of a row apart, or ``None``.
        past: Covariates known up to now.
        known: Covariates known ahead.
        listed: Whether each row holds a whole series.
        why: How they were found, for people.
    """

    values: tuple[str, ...]
    time: str | None = None
    series: str | None = None
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    listed: bool = False
    why: str = ""


def is_stream(task: Task) -> bool:
    """Say whether a task is about running series, not about samples or rows."""
    return task.modality == "series" and task.kind in STREAM_KINDS


def stream_columns(schema: Schema, task: Task) -> StreamColumns:
    """Return the columns a task reads, as its options name them or as the schema shows.

    Raises:
        TaskError: An option is unknown or cannot be used, or a column holds no numbers.
    """
    _check_options(task)
    values = task.targets
    if task.kind is TaskKind.ANOMALY:
        values = _watched(schema, task)
    elif [schema[name].kind for name in values] == [ColumnKind.SERIES]:
        return StreamColumns(values=values, listed=True, why="a row holds a whole series")
    series = _one(task, "series")
    time = _one(task, "time") or task.split.time
    past, known = _several(task, "past"), _several(task, "known")
    for name in (*values, *past, *known, *(item for item in (series, time) if item)):
        _ = schema[name]
    for name in (*values, *past, *known):
        if schema[name].kind not in NUMBERS and schema[name].kind is not ColumnKind.CONSTANT:
            raise TaskError(
                f"'{task.name}': column '{name}' is {schema[name].kind.value}; a running series holds numbers.",
                code="MW1242",
                where=name,
                hint=f"--as {name}=number if it holds numbers",
            )
    why = "time set by the user" if time else "rows count as equally spaced"
    if time is None:
        moments = [item.name for item in schema.columns if item.kind is ColumnKind.DATETIME]
        moments = [name for name in moments if name not in {*task.exclude, series}]
        if moments:
            time, why = moments[0], f"'{moments[0]}' is the time"
    return StreamColumns(values=values, time=time, series=series, past=past, known=known, why=why)


def _watched(schema: Schema, task: Task) -> tuple[str, ...]:
    """Return the columns of numbers that an anomaly task watches, and its label behind them.

    Raises:
        TaskError: The label is not one column of 0 and 1, or nothing is left to watch.
    """
    label = task.targets[0]
    if len(task.targets) > 1 or schema[label].kind not in NUMBERS | {ColumnKind.CONSTANT}:
        raise TaskError(
            f"'{task.name}': the label of an anomaly task is one column of 0 and 1 (anomalous), empty where unknown.",
            code="MW1245",
            where=label,
            hint="--target COLUMN",
        )
    used = {label, *task.exclude, task.split.time, _one(task, "time"), _one(task, "series")}
    found = tuple(item.name for item in schema.columns if item.kind in NUMBERS and item.name not in used)
    if not found:
        raise TaskError(
            f"'{task.name}': beside '{label}' there is no column of numbers to watch.",
            code="MW1246",
            hint=f"mw data show {task.data}",
        )
    return (*found, label)


def all_values(schema: Schema, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every column of numbers that the settings of a task give no other part."""
    options = values.get("options", {})
    used = {*values["exclude"], values["split"].time, options.get("time"), options.get("series")}
    for name in ("past", "known"):
        given = options.get(name) or ()
        used |= {given} if isinstance(given, str) else set(given)
    return tuple(item.name for item in schema.columns if item.kind in NUMBERS and item.name not in used)


def _check_options(task: Task) -> None:
    assert task.kind is not None
    options = OPTIONS[task.kind]
    for name in task.options:
        if name not in options:
            raise TaskError(
                f"'{task.name}': there is no option '{name}' for a {task.kind} task."
                f"{close_matches(name, options)}",
                code="MW1241",
                hint="options: " + ", ".join(options),
            )
    alarm, rate = task.options.get("alarm", ALARMS[0]), task.options.get("false_alarm_rate", 0.01)
    if alarm not in ALARMS:
        raise TaskError(
            f"'{task.name}': alarm is {alarm!r:.40}.{close_matches(str(alarm), ALARMS)}",
            code="MW1253",
            hint="--option alarm=state (as long as it lasts) or alarm=event (once per event)",
        )
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 0.5:
        raise TaskError(
            f"'{task.name}': false_alarm_rate is {rate!r:.40}; it is a share of values above 0 and below 0.5.",
            code="MW1259",
            hint="--option false_alarm_rate=0.001",
        )
    for name in ("horizon", "window", "stretch", "season"):
        value = task.options.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not FEWEST_AHEAD <= value <= MOST_AHEAD:
            raise TaskError(
                f"'{task.name}': {name} is {value!r:.40}; it is a whole number from {FEWEST_AHEAD} to {MOST_AHEAD}.",
                code="MW1240",
                hint=f"--option {name}=24",
            )


def _one(task: Task, name: str) -> str | None:
    value = task.options.get(name)
    return str(value) if value not in (None, "") else None


def _several(task: Task, name: str) -> tuple[str, ...]:
    value = task.options.get(name) or ()
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else (str(value),)


def read_stream(table: pa.Table, schema: Schema, task: Task) -> tuple[Panel, StreamColumns]:
    """Return the series of a table on their grid of time; the last channel of an anomaly task is its label.

    Raises:
        TaskError: An option or a column cannot be used.
        DataError: The time stamps cannot be used.
    """
    from modelworks.data.samples.panel import panel_of_arrays, read_panel
    from modelworks.data.samples.payload import payload_values

    columns = stream_columns(schema, task)
    season = int(task.options.get("season", 0))
    if columns.listed:
        found = [_without_end(item) for item in payload_values(table, columns.values[0])]
        return panel_of_arrays(found, season=season), columns
    alarms = task.kind is TaskKind.ANOMALY
    panel = read_panel(
        table,
        columns.values[:1] if alarms else columns.values,
        time=columns.time,
        series=columns.series,
        past=columns.values[1:] if alarms else columns.past,
        known=columns.known,
        season=season,
    )
    return panel, columns


def without_label(panel: Panel) -> tuple[Panel, list[npt.NDArray[np.float64]]]:
    """Return the watched channels of an anomaly task, and its label per stream: 1 = anomalous, NaN = unknown."""
    watched = replace(panel, values=tuple(item[:-1] for item in panel.values), channels=panel.channels[:-1])
    return watched, [item[-1] for item in panel.values]


def _without_end(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the first channel of a series without the missing values behind its last one."""
    import numpy as np

    known = np.flatnonzero(np.isfinite(values[0]))
    return np.asarray(values[:1, : int(known[-1]) + 1 if len(known) else 1])


def horizon_of(task: Task, panel: Panel) -> int:
    """Return how many steps ahead are forecast: as set, else one season, or ten steps without one."""
    import numpy as np

    if "horizon" in task.options:
        return int(task.options["horizon"])
    usual = int(np.quantile(panel.lengths, 0.25))
    return max(1, min(panel.season if panel.season > 1 else 10, usual // 10))


def first_sealed(panel: Panel, share: float, horizon: int) -> npt.NDArray[np.int64]:
    """Return where the sealed end of each series begins: at one moment of time, or by shares where there is no time.

    A series that ends before that moment has no sealed end; one that begins after it has nothing else.

    Args:
        panel: All series.
        share: Share of the values that is sealed.
        horizon: Least number of sealed values.

    Raises:
        TaskError: The series are too short to seal a horizon and to learn from the rest.
    """
    import numpy as np

    lengths = panel.lengths
    first = np.minimum(np.round(lengths * (1 - share)).astype(np.int64), lengths - horizon)
    if panel.step and not panel.monthly:
        ends = panel.starts + (lengths - 1) * panel.step
        moment = int(np.quantile(np.concatenate(_moments(panel)), 1 - share))
        moment = min(moment, int(ends.max()) - (horizon - 1) * panel.step)
        first = np.clip(-((panel.starts - moment) // panel.step), 0, lengths)
    if not (first >= horizon + 3).any():
        raise TaskError(
            f"The longest series has {int(lengths.max())} values; a horizon of {horizon} needs that many sealed at "
            "the end and some more to learn from.",
            code="MW1243",
            hint="take a shorter horizon: --option horizon=1",
        )
    return np.asarray(first, dtype=np.int64)


def _moments(panel: Panel) -> Sequence[npt.NDArray[np.int64]]:
    import numpy as np

    return [
        start + panel.step * np.arange(length, dtype=np.int64)
        for start, length in zip(panel.starts.tolist(), panel.lengths.tolist(), strict=True)
    ]


def sealed_origins(
    panel: Panel, first: npt.NDArray[np.int64], horizon: int
) -> tuple[list[npt.NDArray[np.int64]], int]:
    """Return the origins whose horizons are sealed, at most 2,000 of them, and the steps between them."""
    from modelworks.algorithms.series.windows import origins_of

    start = first.clip(1)
    count = int((panel.lengths - horizon + 1 - start).clip(0).sum())
    stride = max(1, -(-count // MOST_ORIGINS))
    return origins_of(panel, horizon, start, stride), stride
