"""One or many series on a regular grid of time: read from a long or wide table, with frequency and seasons inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.errors import DataError, close_matches

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND
WEEK, YEAR = 7 * DAY, 365 * DAY + DAY // 4
MONTH = YEAR // 12
MOST_GRID = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Series on a grid of equal steps.

    Attributes:
        names: Name of each series.
        values: Per series float64 [channels, length], NaN = missing; channel 0 is what is forecast or watched, the
            others are covariates that are known up to now.
        starts: Microseconds since 1970 of each series' first value; all zero where time is a mere index.
        step: Microseconds between values; 0 where time is a mere index.
        season: Steps of the main season; 1 = none found.
        longer_season: Steps of a second, longer season; 0 = none.
        future: Per series float64 [covariates, length]: covariates known ahead (holidays, plans, forecasts).
        channels: Names of the channels.
        known: Names of the covariates known ahead.
        frequency: What was inferred, for people, e.g. ``hourly``.
        monthly: Steps are calendar months, quarters or years, so ``step`` is a mean.
    """

    names: tuple[str, ...]
    values: tuple[Floats, ...]
    starts: Integers
    step: int = 0
    season: int = 1
    longer_season: int = 0
    future: tuple[Floats, ...] = ()
    channels: tuple[str, ...] = ("value",)
    known: tuple[str, ...] = ()
    frequency: str = "steps"
    monthly: bool = False

    def __post_init__(self) -> None:
        if not self.values or any(item.ndim != 2 or not item.shape[1] for item in self.values):
            raise DataError("A panel needs at least one series [channels, length].", code="MW1174")

    @property
    def lengths(self) -> Integers:
        """Values per series."""
        return np.array([item.shape[1] for item in self.values], dtype=np.int64)

    def cut(self, drop: int) -> Panel:
        """Return the panel without the last ``drop`` values of each series; series that end up empty are left out."""
        return self.until(self.lengths - drop)

    def until(self, ends: Integers) -> Panel:
        """Return the panel with the first ``ends[i]`` values of series ``i``; empty series are left out."""
        kept = [index for index, end in enumerate(ends.tolist()) if end > 0]
        return replace(
            self,
            names=tuple(self.names[index] for index in kept),
            values=tuple(self.values[index][:, : ends[index]] for index in kept),
            future=tuple(self.future[index] for index in kept) if self.future else (),
            starts=self.starts[kept],
        )


def panel_of_arrays(
    values: Sequence[npt.NDArray[Any]], *, season: int = 0, names: Sequence[str] = (), **more: Any
) -> Panel:
    """Return a panel of arrays ``[length]`` or ``[channels, length]``; a season of 0 is looked for."""
    arrays = tuple(np.atleast_2d(np.asarray(item, dtype=np.float64)) for item in values)
    more.setdefault("starts", np.zeros(len(arrays), np.int64))
    found = season or find_season([item[0] for item in arrays])
    return Panel(
        names=tuple(names) or tuple(f"series{index}" for index in range(len(arrays))),
        values=arrays,
        season=found,
        **more,
    )


_FREQUENCIES: tuple[tuple[str, int, int, int], ...] = (
    # name, microseconds, main season, longer season
    ("every second", SECOND, 60, 3600),
    ("every minute", MINUTE, 1440, 10080),
    ("every 5 minutes", 5 * MINUTE, 288, 2016),
    ("every 10 minutes", 10 * MINUTE, 144, 1008),
    ("every 15 minutes", 15 * MINUTE, 96, 672),
    ("every 30 minutes", 30 * MINUTE, 48, 336),
    ("hourly", HOUR, 24, 168),
    ("daily", DAY, 7, 0),
    ("weekly", WEEK, 52, 0),
)
_CALENDAR: tuple[tuple[str, int, int], ...] = (("monthly", 1, 12), ("quarterly", 3, 4), ("yearly", 12, 1))


def infer_frequency(times: Integers) -> tuple[str, int, int, int, bool]:
    """Return name, step in microseconds, main and longer season, and whether steps are calendar months.

    The step is the most frequent gap between moments that follow each other, so missing rows do not matter.

    Args:
        times: Sorted distinct microseconds of one series.

    Raises:
        DataError: There are fewer than three moments.
    """
    if len(times) < 3:
        raise DataError("A frequency cannot be found in fewer than three moments.", code="MW1175")
    gaps = np.diff(times)
    months = np.diff(_month_numbers(times))
    days = times.astype("datetime64[us]").astype("datetime64[D]")
    if (months > 0).all() and np.median(gaps) >= 27 * DAY and len(np.unique(_day_of_month(days))) <= 4:
        usual = int(np.median(months))
        for name, count, season in _CALENDAR:
            if usual == count:
                return name, count * MONTH, season, 0, True
    values, counts = np.unique(gaps, return_counts=True)
    step = int(values[np.argmax(counts)])
    for name, size, season, longer in _FREQUENCIES:
        if step == size:
            return name, step, season, longer, False
    if step < DAY and DAY % step == 0:
        season = DAY // step
        return f"every {step / MINUTE:g} minutes", step, season, 7 * season, False
    return f"every {step / DAY:g} days", step, 1, 0, False


def _month_numbers(times: Integers) -> Integers:
    return times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _day_of_month(days: npt.NDArray[Any]) -> Integers:
    return np.asarray((days - days.astype("datetime64[M]")).astype(np.int64))


def find_season(series: Sequence[Floats], most: int = 400) -> int:
    """Return the lag of the highest peak of the autocorrelation of differenced series; 1 if none reaches 0.3."""
    total, used = np.zeros(most + 1), 0
    for values in series[:50]:
        known = np.where(
            np.isfinite(values), values, np.nanmean(values) if np.isfinite(values).any() else 0.0
        )
        change = np.diff(known)[-4 * most :]
        if len(change) < 24 or not change.std() > 0:
            continue
        change = change - change.mean()
        size = 1 << int(2 * len(change)).bit_length()
        power = np.abs(np.fft.rfft(change, size)) ** 2
        acf = np.fft.irfft(power)[: min(most, len(change) // 3) + 1]
        total[: len(acf)] += acf / acf[0]
        used += 1
    if not used:
        return 1
    acf = total / used
    peaks = [k for k in range(2, most) if acf[k] >= acf[k - 1] and acf[k] >= acf[k + 1] and acf[k] > 0.3]
    return max(peaks, key=lambda k: acf[k], default=1)


def read_panel(
    table: pa.Table,
    targets: Sequence[str],
    *,
    time: str | None = None,
    series: str | None = None,
    past: Sequence[str] = (),
    known: Sequence[str] = (),
    season: int = 0,
) -> Panel:
    """Read a table of moments as a panel: long (``series`` names each row's series) or wide (a target is a series).

    Rows are put on a grid of the inferred step; moments without a row, and empty cells, are missing values; of
    rows of one moment the last counts.

    Args:
        table: Rows are moments.
        targets: Value columns; several make several series (wide table).
        time: Timestamp column; without it rows count as equally spaced, in the order of the table.
        series: Column that names the series of a row (long table).
        past: Covariates known up to now.
        known: Covariates known ahead.
        season: Steps of a season; 0 = inferred.

    Raises:
        DataError: A column is absent, no time stamp can be read, or gaps would blow the grid up.
    """
    for name in (*targets, *past, *known, *((time,) if time else ()), *((series,) if series else ())):
        if name not in table.column_names:
            raise DataError(
                f"There is no column '{name}'.{close_matches(name, table.column_names)}", code="MW1176"
            )
    stamps = _stamps(table, time) if time else None
    matrix = np.stack([_numbers(table, name) for name in (*targets, *past, *known)])
    parts = _parts(table, series)
    first = max(parts.values(), key=len)
    name, step, main, longer, monthly = "steps", 0, 0, 0, False
    if stamps is not None:
        name, step, main, longer, monthly = infer_frequency(np.unique(stamps[first][stamps[first] != _NONE]))
    names, values, future, starts = [], [], [], []
    for label, rows in parts.items():
        grid, start = _on_grid(matrix[:, rows], None if stamps is None else stamps[rows], step, monthly)
        covariates = grid[len(targets) : len(targets) + len(past)]
        for index, target in enumerate(targets):
            names.append(" ".join(part for part in (label, target if len(targets) > 1 else "") if part))
            values.append(np.concatenate([grid[index : index + 1], covariates]))
            future.append(grid[len(targets) + len(past) :])
            starts.append(start)
    if not names[0]:
        names = [targets[0]]
    return Panel(
        names=tuple(names),
        values=tuple(values),
        future=tuple(future) if known else (),
        starts=np.array(starts, dtype=np.int64),
        step=step,
        season=season or main or find_season([item[0] for item in values]),
        longer_season=longer,
        channels=(targets[0] if len(targets) == 1 else "value", *past),
        known=tuple(known),
        frequency=name,
        monthly=monthly,
    )


_NONE = -(2**63)


def _stamps(table: pa.Table, time: str) -> Integers:
    column = table.column(time).combine_chunks()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.cast(column, pa.timestamp("us"))
    if pa.types.is_temporal(column.type):
        column = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
    else:
        raise DataError(
            f"Column '{time}' holds no time stamps but {column.type}.",
            code="MW1177",
            hint="name a column of dates or times, or leave the time column out",
        )
    return np.asarray(pc.fill_null(column, _NONE).to_numpy(zero_copy_only=False), dtype=np.int64)


def _numbers(table: pa.Table, name: str) -> Floats:
    column = pc.cast(table.column(name), pa.float64())
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _parts(table: pa.Table, series: str | None) -> dict[str, Integers]:
    if series is None:
        return {"": np.arange(table.num_rows)}
    encoded = pc.dictionary_encode(pc.cast(table.column(series), pa.string()).combine_chunks())
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return {label: np.flatnonzero(codes == code) for code, label in enumerate(encoded.dictionary.to_pylist())}


def _on_grid(matrix: Floats, stamps: Integers | None, step: int, monthly: bool) -> tuple[Floats, int]:
    if stamps is None:
        return matrix, 0
    kept = stamps != _NONE
    matrix, stamps = matrix[:, kept], stamps[kept]
    order = np.argsort(stamps, kind="stable")
    matrix, stamps = matrix[:, order], stamps[order]
    if monthly:
        months = _month_numbers(stamps)
        place = (months - months[0]) // max(1, round(step / MONTH))
    else:
        place = np.round((stamps - stamps[0]) / step).astype(np.int64)
    size = int(place[-1]) + 1
    if size * len(matrix) > MOST_GRID:
        raise DataError(
            f"A regular grid from the first to the last time stamp would have {size:,} moments.",
            code="MW1178",
            hint="the time stamps have huge gaps; cut the table, or leave the time column out",
        )
    grid = np.full((len(matrix), size), np.nan)
    grid[:, place] = matrix
    return grid, int(stamps[0])
