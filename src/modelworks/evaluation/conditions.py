"""The conditions of the gate that concern all rows, each with its numbers and the cheapest fix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelworks.core.task import Bound, Limits, TaskKind
from modelworks.core.verdict import Check
from modelworks.evaluation.metrics import find_metric
from modelworks.evaluation.multiplicity import LOOKS_BEFORE_ROTATION
from modelworks.evaluation.sequential import METHOD as SEQUENTIAL

MOST_ASKED = 1_000_000
"""Never ask for more rows than this; such a difference is not worth proving."""

FEWEST_ASKED = 10

POWER_REACH = 1 + 0.84 / 1.96

MOST_GROWTH = 10
"""An effect that would need the test set to grow more than so many times counts as no effect."""


@dataclass(frozen=True)
class Finding:
    """A check and the cheapest way to make it pass."""

    check: Check
    fix: str = ""


def passed(name: str, detail: str, place: str = "") -> Finding:
    """Return a condition that holds."""
    return Finding(Check(name=name, outcome="passed", detail=detail, slice=place))


def failed(name: str, detail: str, fix: str, place: str = "") -> Finding:
    """Return a condition that does not hold."""
    return Finding(Check(name=name, outcome="failed", detail=detail, slice=place), fix)


def unknown(name: str, detail: str, needed: int | None, fix: str = "", place: str = "") -> Finding:
    """Return a condition that the rows at hand cannot decide."""
    return Finding(Check(name=name, outcome="unknown", detail=detail, slice=place, needed=needed), fix)


def rows_needed(rows: int, reach: float, distance: float) -> int:
    """Return how many more rows would decide a condition at the observed effect.

    Intervals shrink as 1 / sqrt(rows). An interval that would just reach the bound decides half of the time, so the
    limit is moved out by 0.84 standard errors, which decides in four cases of five.

    Args:
        rows: Rows at hand.
        reach: From the value to the limit that stands in the way.
        distance: From the value to the bound.

    Returns:
        Rounded up to two digits, between 10 and ``MOST_ASKED``.
    """
    if distance <= 0:
        return MOST_ASKED
    more = min(rows * ((reach * POWER_REACH / distance) ** 2 - 1), float(MOST_ASKED))
    if more <= FEWEST_ASKED:
        return FEWEST_ASKED
    unit = int(10 ** max(0, math.floor(math.log10(more)) - 1))
    return min(MOST_ASKED, math.ceil(more / unit) * unit)


def level_text(level: float) -> str:
    """Return a confidence level for people: ``95 %``, ``98.33 %``, ``99.98 %``."""
    return f"{100 * level:.4g} %"


def parity_check(measured: Mapping[str, Any]) -> list[Finding]:
    """Check that the shipped graph answers as the fitted model did."""
    parity = measured.get("parity")
    if parity is None:
        return []
    name, detail = "the graph answers like the fitted model", str(parity.get("detail", ""))
    if parity.get("passed"):
        return [passed(name, detail or "Outputs are equal within the tolerance.")]
    return [
        failed(
            name,
            f"The exported graph answers differently from the fitted model. {detail}".rstrip(),
            "report this: the export of one of the members is wrong",
        )
    ]


def guard_checks(guard: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Check that no sure leak is left in the columns the model reads.

    Warnings, few rows among them, stand in nobody's way: the intervals already say what few rows can show.
    """
    found = []
    for item in guard:
        if item.get("exclude") or item.get("severity") != "error":
            continue
        column, message = item.get("column"), str(item.get("message", ""))
        fix = f"add '{column}' to the task's exclude list" if column else "mend the data and run it again"
        found.append(failed(f"no {item.get('code', 'leak')}", message, fix))
    return found


def signal_checks(evaluation: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Check that the model beats guessing, and that no simple model is better."""
    found = []
    for name, comparison in sorted(baselines.items(), key=lambda item: not item[1].get("constant")):
        if comparison["undefined"]:
            found.append(_undefined(evaluation, comparison))
        elif comparison["constant"]:
            found.append(_beats_guessing(name, comparison))
        else:
            found.append(_holds_against(name, comparison))
    if not baselines and evaluation["metric"] in evaluation["undefined"]:
        found.append(_undefined(evaluation, {"undefined": evaluation["undefined"][evaluation["metric"]]}))
    return found


def _undefined(evaluation: Mapping[str, Any], comparison: Mapping[str, Any]) -> Finding:
    metric = evaluation["metric"]
    reason = evaluation["undefined"].get(metric) or comparison["undefined"]
    return unknown(
        "beats guessing",
        f"{metric} cannot be computed on the {evaluation['rows']:,} sealed test rows: {reason}.",
        100,
        "collect rows of every class, or choose another metric",
    )


def _figures(comparison: Mapping[str, Any]) -> str:
    level = level_text(comparison["gate_level"])
    return (
        f"{comparison['metric']} {comparison['value']:.4g} against {comparison['other']:.4g}, better by "
        f"{comparison['difference']:.4g} ({level} interval {comparison['gate_low']:.4g} to "
        f"{comparison['gate_high']:.4g}) on {comparison['n']:,} test rows"
    )


def _beats_guessing(name: str, comparison: Mapping[str, Any]) -> Finding:
    title = f"beats the baseline '{name}'"
    figures = _figures(comparison)
    if comparison["better"] and comparison["difference"] < comparison["margin"]:
        # With many rows a difference that helps nobody is still beyond chance.
        return failed(
            title,
            f"Hardly a signal: the gain over one constant answer is below {comparison['margin']:.4g}; {figures}.",
            "add columns that could know the answer",
        )
    if comparison["better"]:
        return passed(title, f"It beats one constant answer: {figures}.")
    difference, reach = comparison["difference"], comparison["difference"] - comparison["gate_low"]
    needed = rows_needed(comparison["n"], reach, difference)
    if difference <= 0 or needed > MOST_GROWTH * comparison["n"]:
        return failed(
            title,
            f"No signal: no more can be told from the columns than by one constant answer; {figures}.",
            "add columns that could know the answer",
        )
    return unknown(
        title,
        f"It seems to beat one constant answer, but the test rows are too few to say so: {figures}.",
        needed,
    )


def _holds_against(name: str, comparison: Mapping[str, Any]) -> Finding:
    title = f"not worse than the baseline '{name}'"
    figures = _figures(comparison)
    if comparison["gate_high"] < -comparison["margin"]:
        return failed(
            title,
            f"The simple model '{name}' is better: {figures}.",
            f"raise limits.budget_s, or ship '{name}' itself",
        )
    if comparison["better"]:
        return passed(title, f"It beats '{name}': {figures}.")
    return passed(title, f"No difference from '{name}' that matters can be shown: {figures}.")


def bound_checks(evaluation: Mapping[str, Any], gate: Sequence[Bound]) -> list[Finding]:
    """Check each bound of the task's gate against the limits of the measure."""
    return [_bound_check(evaluation, bound) for bound in gate]


def _bound_check(evaluation: Mapping[str, Any], bound: Bound) -> Finding:
    metric = find_metric(bound.metric, TaskKind(evaluation["kind"]))
    measure = next((item for item in evaluation["measures"] if item["name"] == metric.name), None)
    if measure is None:
        reason = evaluation["undefined"].get(metric.name, "it was not measured")
        return unknown(str(bound), f"{metric.name} is not known: {reason}.", None, "choose another metric")
    low, high = evaluation["gate_limits"][metric.name]
    value = measure["value"]
    at_least = bound.relation in (">=", ">")
    worst, best = (low, high) if at_least else (high, low)
    figures = (
        f"{metric.name} is {value:.4g} ({level_text(evaluation['gate_level'])} interval {low:.4g} to {high:.4g}, "
        f"{measure['n']:,} test rows), the gate asks {bound.relation} {bound.value:g}"
    )
    if holds(bound, worst):
        return passed(str(bound), f"{figures}.")
    if not holds(bound, best):
        return failed(str(bound), f"{figures}.", "add data or columns, or lower the gate")
    good = holds(bound, value)
    reach = abs(value - (worst if good else best))
    needed = rows_needed(measure["n"], reach, abs(value - bound.value))
    return unknown(str(bound), f"{figures}: these rows cannot decide it.", needed)


def holds(bound: Bound, value: float) -> bool:
    """Say whether a value keeps a bound."""
    if bound.relation == ">=":
        return value >= bound.value
    if bound.relation == ">":
        return value > bound.value
    return value <= bound.value if bound.relation == "<=" else value < bound.value


def limit_checks(measured: Mapping[str, Any], limits: Limits) -> list[Finding]:
    """Check measured latency and size against the task's limits."""
    found = []
    latency = measured.get("latency_ms")
    if latency is not None:
        name = f"latency_ms <= {limits.latency_ms:g}"
        figures = (
            f"One row takes {latency['p50']:.3g} ms (median) and {latency['p99']:.3g} ms (99th percentile) "
            f"on one thread; the limit is {limits.latency_ms:g} ms"
        )
        if latency["p99"] <= limits.latency_ms:
            found.append(passed(name, f"{figures}."))
        elif latency["p50"] <= limits.latency_ms / 2:
            found.append(
                unknown(
                    name,
                    f"{figures}. The median is far below, so the machine was too busy to measure.",
                    None,
                    "run it again when the machine is quiet",
                )
            )
        else:
            found.append(failed(name, f"{figures}.", "raise limits.latency_ms"))
    size = measured.get("size_mb", measured["size_bytes"] / 1e6 if "size_bytes" in measured else None)
    if size is not None:
        name = f"size_mb <= {limits.size_mb:g}"
        figures = f"The graph has {size:.3g} MB; the limit is {limits.size_mb:g} MB."
        if size <= limits.size_mb:
            found.append(passed(name, figures))
        else:
            found.append(failed(name, figures, "raise limits.size_mb"))
    return found


def champion_check(champion: Mapping[str, Any] | None) -> list[Finding]:
    """Check that the model is not worse than the one that answers now."""
    if champion is None:
        return []
    name = "not worse than the champion"
    if champion["method"] == SEQUENTIAL:
        return [_sequential(name, champion)]
    if champion["undefined"]:
        return [unknown(name, f"The comparison is not defined: {champion['undefined']}.", 100)]
    figures = f"{_figures(champion)}; worse by up to {champion['margin']:.3g} is allowed"
    if champion["not_worse"]:
        return [passed(name, f"{figures}.")]
    if champion["gate_high"] < -champion["margin"]:
        return [failed(name, f"The champion is better: {figures}.", "keep the champion, or add data")]
    distance = abs(champion["difference"] + champion["margin"])
    end = champion["gate_low"] if champion["difference"] > -champion["margin"] else champion["gate_high"]
    needed = rows_needed(champion["n"], abs(champion["difference"] - end), distance)
    return [unknown(name, f"It cannot be said whether the champion is better: {figures}.", needed)]


def _sequential(name: str, champion: Mapping[str, Any]) -> Finding:
    figures = (
        f"over {champion['n']:,} paired rows the candidate scores {champion['difference']:+.4g} against the champion; "
        f"evidence {champion['e_value']:.3g} that it is not worse by {champion['margin']:.3g}, "
        f"{1 / champion['error']:g} is asked"
    )
    if champion["decision"] == "accepted":
        return passed(name, f"Shown at every look: {figures}.")
    if champion["decision"] == "rejected":
        return failed(name, f"The champion is better: {figures}.", "keep the champion, or add data")
    return unknown(name, f"Not decided yet: {figures}.", None, "let both answer more rows")


def freshness_check(evaluation: Mapping[str, Any]) -> list[Finding]:
    """Check that the sealed test set was not looked at too often to be believed."""
    look = evaluation["look"]
    if look == 1:
        return []
    name = "the sealed test set is fresh"
    level = level_text(evaluation["gate_level"])
    figures = f"This is look {look} at these test rows, so the limits are those of a {level} interval"
    if look <= LOOKS_BEFORE_ROTATION:
        return [passed(name, f"{figures}.")]
    return [
        unknown(
            name,
            f"{figures}; after {LOOKS_BEFORE_ROTATION} looks choices have followed these rows too long to trust them.",
            evaluation["rows"],
            "seal fresh rows: collect new ones, or part the table anew with another seed",
        )
    ]


def calibration_check(evaluation: Mapping[str, Any]) -> list[Finding]:
    """Report whether the probabilities can be taken at their word; only a bound on ``ece`` refuses."""
    curve = evaluation.get("calibration")
    if curve is None:
        return []
    usual = curve["ece_if_perfect"]["highest"]
    state = "above" if curve["miscalibrated"] else "within"
    return [
        passed(
            "calibration (for information)",
            f"Probabilities are off by {curve['ece']:.3f} on average, {state} the {usual:.3f} that chance alone "
            f"would show on {evaluation['rows']:,} rows.",
        )
    ]
