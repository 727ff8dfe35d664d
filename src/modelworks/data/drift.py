"""Do training and test rows look alike? Effect sizes with thresholds that know how many rows there are.

Fixed thresholds misfire on small windows and significance alone on large ones; a column is reported only if its
difference is both unlikely to be chance (Benjamini and Hochberg 1995, false discovery rate 1 %) and large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.schema import ColumnKind, Schema
from modelworks.data.bins import MAX_BINS, bin_column
from modelworks.data.findings import Finding
from modelworks.data.typed import as_doubles

MIN_ROWS = 200
LARGE = 0.1
FALSE_DISCOVERIES = 0.01
_NUMERIC = frozenset({ColumnKind.NUMBER, ColumnKind.DATETIME})


@dataclass(frozen=True)
class Difference:
    """How one column differs between two parts.

    Attributes:
        column: Its name.
        effect: Largest gap between the two distribution functions (numbers) or half the summed gaps between
            shares (categories), in [0, 1].
        p_value: Chance of such a gap if both parts come from one population.
        kind: ``ks``, ``total_variation`` or ``missing``.
    """

    column: str
    effect: float
    p_value: float
    kind: str


def find_drift(
    table: pa.Table,
    schema: Schema,
    names: list[str],
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
) -> list[Finding]:
    """Compare every column between training and test rows."""
    if min(len(train), len(test)) < MIN_ROWS:
        message = (
            f"The parts have {len(train):,} and {len(test):,} rows; at least {MIN_ROWS} in each are needed "
            "to say whether they differ."
        )
        return [Finding(code="drift_unknown", severity="info", message=message)]
    differences = [
        difference
        for name in names
        if schema[name].kind is not ColumnKind.TEXT
        for difference in compare_column(table, schema, name, train, test)
    ]
    kept = discoveries([difference.p_value for difference in differences], FALSE_DISCOVERIES)
    findings = []
    for difference, real in zip(differences, kept, strict=True):
        if not real or difference.effect < LARGE:
            continue
        what = "is missing at another rate" if difference.kind == "missing" else "is distributed differently"
        findings.append(
            Finding(
                code="drift",
                severity="warning",
                column=difference.column,
                message=(
                    f"'{difference.column}' {what} in the test part (gap {difference.effect:.2f}, "
                    f"p = {difference.p_value:.1g})."
                ),
                detail={"effect": difference.effect, "p_value": difference.p_value, "kind": difference.kind},
            )
        )
    return findings


def compare_column(
    table: pa.Table,
    schema: Schema,
    name: str,
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
) -> list[Difference]:
    """Return the differences of one column: in its values, and in how often they are missing."""
    if schema[name].kind in _NUMERIC:
        values = as_doubles(table.column(name))
        first, second = values[train], values[test]
        gone = np.isnan(first).sum(), np.isnan(second).sum()
        found = [_missing(name, int(gone[0]), len(first), int(gone[1]), len(second))]
        first, second = first[~np.isnan(first)], second[~np.isnan(second)]
        if min(len(first), len(second)) >= MIN_ROWS:
            gap = kolmogorov_smirnov(first, second)
            found.append(Difference(name, gap, smirnov_p(gap, len(first), len(second)), "ks"))
        return [difference for difference in found if difference is not None]
    codes = bin_column(table, schema, name).codes
    counts = np.stack([np.bincount(codes[part], minlength=MAX_BINS + 1) for part in (train, test)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    gap = 0.5 * float(np.abs(shares[0] - shares[1]).sum())
    return [Difference(name, gap, chi_square_p(counts), "total_variation")]


def _missing(name: str, gone: int, rows: int, gone_later: int, rows_later: int) -> Difference:
    counts = np.array([[gone, rows - gone], [gone_later, rows_later - gone_later]])
    return Difference(name, abs(gone / rows - gone_later / rows_later), chi_square_p(counts), "missing")


def kolmogorov_smirnov(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Return the largest gap between two empirical distribution functions."""
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate([first, second])
    gaps = np.searchsorted(first, points, "right") / len(first)
    gaps -= np.searchsorted(second, points, "right") / len(second)
    return float(np.abs(gaps).max())


def smirnov_p(gap: float, rows: int, rows_later: int) -> float:
    """Return the asymptotic two-sided p value of a Kolmogorov-Smirnov gap (with Stephens' correction, 1970)."""
    size = math.sqrt(rows * rows_later / (rows + rows_later))
    scaled = (size + 0.12 + 0.11 / size) * gap
    if scaled < 0.2:
        return 1.0
    terms = (2.0 * (-1.0) ** (k - 1) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 101))
    return min(1.0, max(0.0, sum(terms)))


def chi_square_p(counts: npt.NDArray[np.int64]) -> float:
    """Return the p value of a table of counts, thin columns put together.

    Wilson and Hilferty's cube-root approximation (1931) of the chi-square tail.
    """
    total = counts.sum()
    expected_share = counts.sum(axis=0) / total
    smallest = counts.sum(axis=1).min()
    thick = expected_share * smallest >= 5
    merged = np.concatenate([counts[:, thick], counts[:, ~thick].sum(axis=1, keepdims=True)], axis=1)
    merged = merged[:, merged.sum(axis=0) > 0]
    freedom = merged.shape[1] - 1
    if freedom < 1:
        return 1.0
    expected = merged.sum(axis=1, keepdims=True) * merged.sum(axis=0, keepdims=True) / total
    statistic = float(((merged - expected) ** 2 / expected).sum())
    spread = 2 / (9 * freedom)
    score = (float(statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(score / math.sqrt(2))


def discoveries(p_values: list[float], rate: float) -> npt.NDArray[np.bool_]:
    """Return which tests are discoveries at a false discovery rate (Benjamini and Hochberg 1995)."""
    count = len(p_values)
    if count == 0:
        return np.zeros(0, dtype=bool)
    values = np.array(p_values)
    order = np.argsort(values)
    below = np.flatnonzero(values[order] <= rate * np.arange(1, count + 1) / count)
    found = np.zeros(count, dtype=bool)
    if len(below):
        found[order[: below[-1] + 1]] = True
    return found
