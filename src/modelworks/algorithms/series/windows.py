"""Cutting series into history windows and horizons, and filling what is missing: in numpy and as graph nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import FLOAT, Graph
from modelworks.data.samples.panel import DAY, HOUR, WEEK, YEAR, Floats, Integers, Panel

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Origins of forecasts: what is known then and what came after.

    Attributes:
        history: float32 [rows, channels, length]; shorter histories begin with NaN.
        truth: float64 [rows, horizon] of channel 0, NaN = unknown or not yet known.
        series: Index of the series, [rows].
        origin: Index of the first forecast value in its series, [rows].
        time: Microseconds of the last history value, [rows].
        future: float32 [rows, covariates, horizon].
    """

    history: Rows
    truth: Floats
    series: Integers
    origin: Integers
    time: Integers
    future: Rows

    @property
    def rows(self) -> int:
        return len(self.series)


def origins_of(panel: Panel, horizon: int, first: Integers, stride: int = 1) -> list[Integers]:
    """Return per series the origins from ``first`` on whose whole horizon lies in the series."""
    return [
        np.arange(start, length - horizon + 1, stride, dtype=np.int64)
        for start, length in zip(first.tolist(), panel.lengths.tolist(), strict=True)
    ]


def cut(panel: Panel, length: int, horizon: int, origins: list[Integers]) -> Windows:
    """Cut windows of ``length`` values before each origin and ``horizon`` values from it on."""
    histories, truths, futures = [], [], []
    for index, (values, at) in enumerate(zip(panel.values, origins, strict=True)):
        padded = np.pad(values, ((0, 0), (length, horizon)), constant_values=np.nan)
        view = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)
        histories.append(view[:, at].transpose(1, 0, 2).astype(np.float32))
        view = np.lib.stride_tricks.sliding_window_view(padded[0], horizon)
        truths.append(view[at + length])
        if panel.future:
            known = np.pad(panel.future[index], ((0, 0), (0, horizon)), constant_values=np.nan)
            view = np.lib.stride_tricks.sliding_window_view(known, horizon, axis=1)
            futures.append(view[:, at].transpose(1, 0, 2).astype(np.float32))
    series = np.repeat(np.arange(len(origins)), [len(at) for at in origins])
    origin = np.concatenate(origins).astype(np.int64)
    return Windows(
        history=np.concatenate(histories),
        truth=np.concatenate(truths),
        series=series,
        origin=origin,
        time=panel.starts[series] + (origin - 1) * panel.step,
        future=np.concatenate(futures) if futures else np.zeros((len(series), 0, horizon), np.float32),
    )


def fill_shifts(season: int, length: int) -> tuple[int, ...]:
    """Return the shifts by which missing values are looked up: seasons back, then ahead, then neighbours."""
    back = [shift for shift in (season, 2 * season, 4 * season) if season > 1 and shift < length]
    near = [shift for shift in (1, 2, 4, 8, 16, 32, 64, 128) if shift < length]
    return (*back, *(-shift for shift in back), *near, *(-shift for shift in near))


def filled(history: Rows, shifts: tuple[int, ...]) -> Rows:
    """Return windows [rows, length] in which a missing value is the one a season, or a few steps, away; else 0."""
    found = history
    for shift in shifts:
        moved = np.full_like(found, np.nan)
        if shift > 0:
            moved[:, shift:] = found[:, :-shift]
        else:
            moved[:, :shift] = found[:, -shift:]
        found = np.where(np.isnan(found), moved, found)
    return np.where(np.isnan(found), np.float32(0), found)


def filled_nodes(graph: Graph, source: str, length: int, shifts: tuple[int, ...]) -> str:
    """Add ``filled`` for a tensor [rows, length]."""
    nan = graph.constant(np.float32(np.nan))
    one, zero = graph.constant(np.array([1], np.int64)), graph.constant(np.array([0], np.int64))
    for shift in shifts:
        if shift > 0:
            part = graph.op("Slice", source, zero, graph.constant(np.array([length - shift], np.int64)), one)
            pads = [0, shift, 0, 0]
        else:
            start = graph.constant(np.array([-shift], np.int64))
            part = graph.op("Slice", source, start, graph.constant(np.array([length], np.int64)), one)
            pads = [0, 0, 0, -shift]
        moved = graph.op("Pad", part, graph.constant(np.array(pads, np.int64)), nan)
        source = graph.op("Where", graph.op("IsNaN", source), moved, source)
    return graph.op("Where", graph.op("IsNaN", source), graph.constant(np.float32(0)), source)


def calendar_waves(panel: Panel) -> tuple[tuple[int, int], ...]:
    """Return ``(period in microseconds, harmonics)`` of the calendar features of the origin; none without time."""
    if not panel.step or panel.monthly:
        return ((YEAR, 3),) if panel.monthly else ()
    waves = []
    if panel.step < DAY:
        waves.append((DAY, 4 if panel.step <= 3 * HOUR else 1))
    if panel.step <= DAY:
        waves.append((WEEK, 3 if panel.step == DAY else 7))
    longest = int(panel.lengths.max()) * panel.step
    if longest >= 2 * YEAR:
        waves.append((YEAR, 2))
    return tuple(waves)


def calendar(time: Integers, waves: tuple[tuple[int, int], ...]) -> Rows:
    """Return sines and cosines of the origin's place in day, week and year, float32 [rows, 2 x harmonics]."""
    columns: list[Floats] = []
    for period, harmonics in waves:
        place = (time % period).astype(np.float32) / np.float32(period)
        for k in range(1, harmonics + 1):
            angle = place * np.float32(2 * np.pi * k)
            columns += [np.sin(angle), np.cos(angle)]
    if not columns:
        return np.zeros((len(time), 0), np.float32)
    return np.stack(columns, axis=1).astype(np.float32)


def calendar_nodes(graph: Graph, source: str, waves: tuple[tuple[int, int], ...]) -> list[str]:
    """Add ``calendar`` for an INT64 tensor [rows, 1]."""
    columns = []
    for period, harmonics in waves:
        rest = graph.op("Mod", source, graph.constant(np.int64(period)))
        place = graph.op("Div", graph.cast(rest, FLOAT), graph.constant(np.float32(period)))
        for k in range(1, harmonics + 1):
            angle = graph.op("Mul", place, graph.constant(np.float32(2 * np.pi * k)))
            columns += [graph.op("Sin", angle), graph.op("Cos", angle)]
    return columns
