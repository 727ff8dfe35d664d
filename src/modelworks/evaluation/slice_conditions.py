"""The conditions of the gate on declared slices: none worse than guessing, none that misses the bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelworks.core.task import Bound, TaskKind
from modelworks.evaluation import normal
from modelworks.evaluation.comparison import default_margin
from modelworks.evaluation.conditions import Finding, failed, passed, rows_needed, unknown
from modelworks.evaluation.metrics import find_metric
from modelworks.evaluation.multiplicity import holm
from modelworks.evaluation.sequential import METHOD as SEQUENTIAL
from modelworks.evaluation.slices import SLICE_ROWS


def slice_checks(evaluation: Mapping[str, Any], gate: Sequence[Bound]) -> list[Finding]:
    """Check every declared slice on the primary metric.

    A slice fails if it is shown, at Holm's adjusted error, to be worse than guessing by more than a margin, or to
    miss the task's bound on the primary metric. It is unknown under 100 rows, and where it looks worse than guessing.
    """
    records = evaluation["slices"]
    better_high = bool(evaluation["higher_is_better"])
    tail = (1 - evaluation["gate_level"]) / 2
    bound = _bound_on_primary(evaluation, gate)
    known = [record for record in records if record["status"] == "measured"]
    floors = [_floor(evaluation["metric"], record, better_high) for record in known]
    needs = [_harder(floor, bound, better_high) for floor in floors]
    p_values = holm([_p_below(record, need, better_high) for record, need in zip(known, needs, strict=True)])
    found = [_too_few(record, evaluation) for record in records if record["status"] != "measured"]
    for record, floor, need, p in zip(known, floors, needs, p_values, strict=True):
        missed = need if p <= tail else None
        found.append(_slice_check(evaluation["metric"], record, floor, missed, better_high))
    return found


def _bound_on_primary(evaluation: Mapping[str, Any], gate: Sequence[Bound]) -> float | None:
    kind = TaskKind(evaluation["kind"])
    relations = (">", ">=") if evaluation["higher_is_better"] else ("<", "<=")
    for bound in gate:
        if find_metric(bound.metric, kind).name == evaluation["metric"] and bound.relation in relations:
            return bound.value
    return None


def _floor(metric: str, record: Mapping[str, Any], better_high: bool) -> float | None:
    """Return what guessing reaches on the slice, less the margin.

    A slice may hold rows of one class only: then guessing is right as often as any model can be.
    """
    chance = record["chance"]
    if chance is None:
        return None
    margin = default_margin(metric, better_high, chance)
    return float(chance - margin if better_high else chance + margin)


def _harder(floor: float | None, bound: float | None, better_high: bool) -> float | None:
    values = [value for value in (floor, bound) if value is not None]
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


def _too_few(record: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Finding:
    needed = SLICE_ROWS - record["n"]
    if needed <= 0:
        # Enough rows, but a class is missing: as many more as should hold ten of the rarest class.
        rarest = min((count for count in evaluation["class_rows"] if count), default=1)
        needed = max(10, math.ceil(10 * evaluation["rows"] / rarest))
    return unknown(
        f"slice {record['slice']}",
        f"Nothing can be said about {record['slice']}: {record['reason']}.",
        needed,
        place=record["slice"],
    )


def _slice_check(
    metric: str, record: Mapping[str, Any], floor: float | None, missed: float | None, better_high: bool
) -> Finding:
    place, value = record["slice"], record["value"]
    name = f"slice {place}"
    figures = (
        f"{metric} on {place} is {value:.4g} (95 % interval {record['low']:.4g} to {record['high']:.4g}, "
        f"{record['n']:,} rows)"
    )
    if missed is not None:
        return failed(
            name, f"{figures}, worse than the {missed:.4g} it must keep.", f"add rows of {place}", place
        )
    if floor is None or (value >= floor if better_high else value <= floor):
        return passed(name, f"{figures}.", place)
    best = record["gate_high"] if better_high else record["gate_low"]
    needed = rows_needed(record["n"], abs(best - value), abs(value - floor))
    return unknown(
        name, f"{figures}: so far worse than guessing ({record['chance']:.4g}).", needed, place=place
    )


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
