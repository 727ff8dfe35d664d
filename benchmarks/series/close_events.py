"""How close two events may be and both be alarmed, through the shipped graph.

OMP_NUM_THREADS=1 python -m benchmarks.series.close_events
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.series.anomaly import AnomalyRecipe
from modelworks.core.budget import Budget
from modelworks.data.samples.panel import panel_of_arrays
from modelworks.production.stream_alarms import scored

Array = npt.NDArray[np.float64]
GAPS = (60, 100, 140, 200, 320, 500)
SEEDS, FIRST, LEAD, LONG, TAIL = 6, 1200, 60, 24, 60
"""Streams per kind, values that train, values before the first event, values of an event and values behind it."""


def _spike(values: Array, at: int, rng: np.random.Generator) -> None:
    values[at : at + 4] += 4


def _plateau(values: Array, at: int, rng: np.random.Generator) -> None:
    values[at : at + LONG] += 3


def _noise(values: Array, at: int, rng: np.random.Generator) -> None:
    values[at : at + LONG] += rng.normal(0, 2, LONG)


def _flat(values: Array, at: int, rng: np.random.Generator) -> None:
    values[at : at + 2 * LONG] = values[at]


KINDS: dict[str, Callable[[Array, int, np.random.Generator], None]] = {
    "spike": _spike, "plateau": _plateau, "noise": _noise, "flat line": _flat,
}  # fmt: skip


def found(kind: str, gap: int) -> tuple[int, int]:
    """Return how many first and how many second events of ``SEEDS`` streams are alarmed while they last."""
    both = [0, 0]
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, gap])
        one, two = FIRST + 900, FIRST + 900 + gap
        time = np.arange(two + LONG + TAIL)
        values = np.sin(2 * np.pi * time / 24) + 0.15 * rng.normal(size=len(time))
        model, _ = AnomalyRecipe(alarm="event").fit_native(
            panel_of_arrays([values[None, :FIRST]]), Budget(60), 0
        )
        for at in (one, two):
            KINDS[kind](values, at, rng)
        start = one - LEAD
        alarm = scored(panel_of_arrays([values[None]], season=1), model, np.array([start]))["anomalous"]
        for place, at in enumerate((one, two)):
            both[place] += bool(alarm[at - start : at - start + LONG + 10].any())
    return both[0], both[1]


def main() -> int:
    """Print a row per kind and gap."""
    for kind in KINDS:
        for gap in GAPS:
            first, second = found(kind, gap)
            row = {"kind": kind, "gap": gap, "first": f"{first} of {SEEDS}", "second": f"{second} of {SEEDS}"}
            print(json.dumps({"part": "close events", **row}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
