"""Streams made by formulas with injected events, on which alarms of events are designed; no public data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.series.sets import Stream

Array = npt.NDArray[np.float64]
SEASONS = (24, 48, 96, 144, 288)
SEEDS, COUNT = (5, 77), 36


def injected() -> Iterator[Stream]:
    """Yield 72 streams of six kinds with one to three events each; as in NAB the first 15 % (at most 750) train."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        for number in range(COUNT):
            yield _stream(rng, number % 6)


def _stream(rng: np.random.Generator, kind: int) -> Stream:
    size, season = int(rng.integers(2500, 8000)), int(rng.choice(SEASONS))
    values = _normal(rng, kind, size, season)
    first = min(int(0.15 * size), 750)
    wanted = int(rng.integers(1, 4))
    width = max(20, int(0.1 * size / wanted))
    room = np.arange(first + width, size - width, width * 2)
    places = np.sort(rng.choice(room, size=min(wanted, len(room)), replace=False))
    label = np.zeros(size, bool)
    spread = float(values[:first].std())
    for place in places.tolist():
        _inject(rng, values, place, width, spread, seasonal=kind < 2, first=first)
        label[max(0, place - width // 2) : place + width // 2] = True
    return Stream(name=f"injected {kind}", values=values[None], label=label, first=first)


def _normal(rng: np.random.Generator, kind: int, size: int, season: int) -> Array:
    time = np.arange(size)
    wave = np.sin(2 * np.pi * time / season)
    if kind == 0:  # a smooth day
        return np.asarray(
            wave + 0.4 * np.sin(4 * np.pi * time / season + 1) + 0.1 * rng.normal(size=size), float
        )
    if kind == 1:  # counts with working days
        return rng.poisson(np.exp(2 + 0.8 * wave - 0.6 * ((time // season) % 7 >= 5))).astype(float)
    if kind == 2:  # latencies with a heavy tail
        return np.asarray(10 + np.exp(0.5 * rng.standard_t(4, size=size)), float)
    if kind == 3:  # a temperature that drifts
        return 20 + _walk(0.1 * rng.normal(size=size), 0.998) + 0.6 * wave + 0.1 * rng.normal(size=size)
    if kind == 4:  # idle with bursts
        values = np.abs(0.05 * rng.normal(size=size))
        bursts = rng.random(size) < 0.02
        values[bursts] += rng.gamma(2, 1, size=int(bursts.sum()))
        return values
    walk = _walk(rng.standard_t(5, size=size), 0.9)  # jumps that are usual, in half of the streams
    return walk + (time // season % 2) * 2 * (rng.random() < 0.5)


def _walk(steps: Array, memory: float) -> Array:
    found = np.zeros(len(steps))
    for at in range(1, len(steps)):
        found[at] = memory * found[at - 1] + steps[at]
    return found


def _inject(
    rng: np.random.Generator,
    values: Array,
    place: int,
    width: int,
    spread: float,
    *,
    seasonal: bool,
    first: int,
) -> None:
    """Put one event into the values: spike, plateau, flat line, wider swings, noise, or a new level."""
    kind, length = rng.integers(0, 6), int(rng.integers(5, max(6, width // 2)))
    part = slice(place, place + length)
    if kind == 0:
        end = place + int(rng.integers(1, 4))
        values[place:end] += spread * rng.choice([-1, 1]) * rng.uniform(5, 9)
    elif kind == 1:
        values[part] += spread * rng.choice([-1, 1]) * rng.uniform(2, 4)
    elif kind == 2:
        flat = (
            np.median(values[:first]) + 0.02 * spread * rng.normal(size=length) if seasonal else values[place]
        )
        values[part] = flat
    elif kind == 3:
        middle = np.median(values)
        values[part] = middle + (values[part] - middle) * rng.uniform(2, 3)
    elif kind == 4:
        values[part] += spread * rng.uniform(1.5, 3) * rng.normal(size=length)
    else:
        values[place:] += spread * rng.choice([-1, 1]) * rng.uniform(2, 4)
