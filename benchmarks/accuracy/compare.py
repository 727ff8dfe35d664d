"""Two methods on the folds they share: ratios of loss and cost with intervals over tables, and regret."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy.results import Result, Results, ordered

TIE = 0.002
DRAWS = 10_000


@dataclass(frozen=True)
class TableRatio:
    """What one table says about method a against method b."""

    table: str
    folds: int
    loss: float
    cpu: float | None
    bytes: float | None
    row_ms: float | None


@dataclass(frozen=True)
class Comparison:
    """Method a against method b over all shared tables; every ratio is a / b."""

    ratios: tuple[TableRatio, ...]
    loss: float
    interval: tuple[float, float]
    cpu: float
    cpu_total: float
    bytes: float
    row_ms: float
    ece: tuple[float, float]

    @property
    def wins(self) -> int:
        return sum(ratio.loss < 1 - TIE for ratio in self.ratios)

    @property
    def losses(self) -> int:
        return sum(ratio.loss > 1 + TIE for ratio in self.ratios)

    @property
    def folds(self) -> int:
        return sum(ratio.folds for ratio in self.ratios)

    @property
    def worst(self) -> TableRatio:
        return max(self.ratios, key=lambda ratio: ratio.loss)


def compare(a: Results, b: Results, tables: Iterable[str] | None = None) -> Comparison | None:
    """Return the comparison on shared folds, or None where there are none."""
    shared = set(a) & set(b)
    if tables is not None:
        shared = {key for key in shared if key[0] in set(tables)}
    names = ordered({table for table, _ in shared})
    if not names:
        return None
    ratios = []
    for name in names:
        pairs = [(a[key], b[key]) for key in sorted(shared) if key[0] == name]
        ratios.append(
            TableRatio(
                table=name,
                folds=len(pairs),
                loss=_mean_ratio(pairs, lambda result: result.floored) or 1.0,
                cpu=_mean_ratio(pairs, lambda result: result.value("fit_cpu_s")),
                bytes=_mean_ratio(pairs, lambda result: result.value("bytes")),
                row_ms=_mean_ratio(pairs, lambda result: result.value("row_ms")),
            )
        )
    logs = np.log([ratio.loss for ratio in ratios])
    both = [(a[key], b[key]) for key in shared]
    costs = [(x.value("fit_cpu_s"), y.value("fit_cpu_s")) for x, y in both]
    known = [(x, y) for x, y in costs if x is not None and y is not None]
    return Comparison(
        ratios=tuple(ratios),
        loss=float(np.exp(logs.mean())),
        interval=bootstrap(logs),
        cpu=_geometric([ratio.cpu for ratio in ratios]),
        cpu_total=sum(x for x, _ in known) / sum(y for _, y in known) if known else float("nan"),
        bytes=_geometric([ratio.bytes for ratio in ratios]),
        row_ms=_geometric([ratio.row_ms for ratio in ratios]),
        ece=_mean_ece(both),
    )


def bootstrap(logs: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of a geometric mean, tables drawn with replacement."""
    generator = np.random.default_rng(seed)
    means = logs[generator.integers(0, len(logs), size=(DRAWS, len(logs)))].mean(axis=1)
    low, high = np.exp(np.percentile(means, [2.5, 97.5]))
    return float(low), float(high)


def regret(all_results: dict[str, Results], method: str) -> dict[str, float]:
    """Return per table (loss - best known) / (constant - best known), clipped to [0, 1], mean over folds."""
    found: dict[str, list[float]] = {}
    for key, result in all_results[method].items():
        best = min(results[key].loss for results in all_results.values() if key in results)
        span = result.constant - best
        share = 0.0 if span <= 0 else (result.loss - best) / span
        found.setdefault(key[0], []).append(float(np.clip(share, 0.0, 1.0)))
    return {table: float(np.mean(shares)) for table, shares in found.items()}


def _mean_ratio(pairs: list[tuple[Result, Result]], number: Callable[[Result], float | None]) -> float | None:
    values = [(number(x), number(y)) for x, y in pairs]
    known = [(x, y) for x, y in values if x is not None and y is not None]
    if not known:
        return None
    return sum(x for x, _ in known) / sum(y for _, y in known)


def _geometric(values: list[float | None]) -> float:
    known = [value for value in values if value is not None and value > 0]
    return float(np.exp(np.mean(np.log(known)))) if known else float("nan")


def _mean_ece(pairs: list[tuple[Result, Result]]) -> tuple[float, float]:
    values = [(x.value("ece"), y.value("ece")) for x, y in pairs]
    known = [(x, y) for x, y in values if x is not None and y is not None]
    if not known:
        return float("nan"), float("nan")
    return float(np.mean([x for x, _ in known])), float(np.mean([y for _, y in known]))
