"""The conditions of the gate on declared slices: no slice without signal, none that misses the bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelworks.core.task import Bound, TaskKind
from modelworks.evaluation import normal
from modelworks.evaluation.conditions import Finding, failed, passed, rows_needed, unknown
from modelworks.evaluation.metrics import find_metric
from modelworks.evaluation.multiplicity import holm
from modelworks.evaluation.sequential import METHOD as SEQUENTIAL
from modelworks.evaluation.slices import SLICE_ROWS


def slice_checks(evaluation: Mapping[str, Any], gate: Sequence[Bound]) -> list[Finding]:
    """Check every declared slice on the primary metric.

    A slice fails if it is shown, at Holm's adjusted error, to be worse than guessing or to miss the task's bound
    on the primary metric. It is unknown under 100 rows, and where it looks no better than guessing.
    """
    records = evaluation["slices"]
    better_high = bool(evaluation["higher_is_better"])
    tail = (1 - evaluation["gate_level"]) / 2
    kind = TaskKind(evaluation["kind"])
    bound = next((item for item in gate if find_metric(item.metric, kind).name == evaluation["metric"]), None)
    known = [record for record in records if record["status"] == "measured"]
    needs = [_requirement(record, bound, better_high) for record in known]
    p_values = holm([_p_below(record, need, better_high) for record, need in zip(known, needs, strict=True)])
    found = [_too_few(record) for record in records if record["status"] != "measured"]
    for record, need, p in zip(known, needs, p_values, strict=True):
        found.append(_slice_check(evaluation["metric"], record, need, p <= tail, better_high))
    return found


def _requirement(record: Mapping[str, Any], bound: Bound | None, better_high: bool) -> float | None:
    """Return the value a slice may not be shown to miss: the bound, or what guessing reaches if that is harder."""
    values = [value for value in (record["chance"], bound.value if bound else None) if value is not None]
    return (max(values) if better_high else min(values)) if values else None


def _p_below(record: Mapping[str, Any], need: float | None, better_high: bool) -> float:
    """Return the one-sided p-value that a slice misses ``need``, from the limit on that side."""
    if need is None:
        return 1.0
    gap = need - record["value"] if better_high else record["value"] - need
    if gap <= 0:
        return 1.0
    reach = record["high"] - record["value"] if better_high else record["value"] - record["low"]
    return normal.cumulative(-1.96 * gap / reach) if reach > 0 else 0.0


def _too_few(record: Mapping[str, Any]) -> Finding:
    needed = max(SLICE_ROWS - record["n"], 1)
    return unknown(
        f"slice {record['slice']}",
        f"Nothing can be said about {record['slice']}: {record['reason']}.",
        needed,
        place=record["slice"],
    )


def _slice_check(
    metric: str, record: Mapping[str, Any], need: float | None, missed: bool, better_high: bool
) -> Finding:
    place = record["slice"]
    figures = (
        f"{metric} on {place} is {record['value']:.4g} (95 % interval {record['low']:.4g} to {record['high']:.4g}, "
        f"{record['n']:,} rows)"
    )
    name = f"slice {place}"
    if missed:
        return failed(name, f"{figures}, below the {need:.4g} it must reach.", f"add rows of {place}", place)
    chance, value = record["chance"], record["value"]
    if chance is None or (value > chance if better_high else value < chance):
        return passed(name, f"{figures}.", place)
    worst = record["gate_low"] if better_high else record["gate_high"]
    needed = rows_needed(record["n"], abs(value - worst), abs(value - chance))
    return unknown(name, f"{figures}: no better than guessing ({chance:.4g}) so far.", needed, place=place)


def champion_slice_checks(champion: Mapping[str, Any] | None) -> list[Finding]:
    """Check that no declared slice is shown to be worse than under the champion by more than the margin (Holm)."""
    if champion is None or champion["method"] == SEQUENTIAL:
        return []
    tail = (1 - champion["gate_level"]) / 2
    known = [record for record in champion["slices"] if record["status"] == "measured"]
    p_values = holm([record["p_worse"] for record in known])
    found = []
    for record, p in zip(known, p_values, strict=True):
        place = record["slice"]
        name = f"slice {place} against the champion"
        figures = (
            f"{record['metric']} on {place} is {record['value']:.4g}, the champion's {record['other']:.4g} "
            f"(difference {record['low']:.4g} to {record['high']:.4g}, {record['n']:,} rows)"
        )
        if p <= tail:
            found.append(
                failed(name, f"{figures}: worse.", f"add rows of {place}, or keep the champion", place)
            )
        else:
            found.append(passed(name, f"{figures}.", place))
    return found
