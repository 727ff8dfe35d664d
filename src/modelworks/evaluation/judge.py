"""From measures to one of the four verdicts: the gate, condition by condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelworks.core.errors import (
    BudgetStopped,
    Cancelled,
    DiskFull,
    JobTimeout,
    MissingExtra,
    ModelworksError,
    OutOfMemory,
)
from modelworks.core.task import Bound, Limits
from modelworks.core.verdict import Check, Verdict, VerdictKind
from modelworks.evaluation.conditions import (
    Finding,
    bound_checks,
    calibration_check,
    champion_check,
    freshness_check,
    guard_checks,
    limit_checks,
    parity_check,
    signal_checks,
)
from modelworks.evaluation.slice_conditions import champion_slice_checks, slice_checks

ALL_ROWS = "all rows"


def judge(
    evaluation: Mapping[str, Any],
    gate: Sequence[Bound],
    limits: Limits,
    measured: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]],
    guard: Sequence[Mapping[str, Any]] = (),
    champion: Mapping[str, Any] | None = None,
) -> Verdict:
    """Hold a model against the default gate and the task's own.

    Every condition must pass, so no correction is made across them: a model that fails one truly passes all with
    at most that one's error (intersection-union test; Berger, Technometrics 24, 1982). The policy is written down
    in ``docs/explanation/judgement.md``.

    Args:
        evaluation: ``evaluate(...)`` of the shipped graph on the sealed test rows.
        gate: The task's bounds.
        limits: The task's limits.
        measured: ``latency_ms`` ``{p50, p99}`` of one row, ``size_mb`` or ``size_bytes`` of the graph, and ``parity``
            ``{passed, detail}`` of the graph against the fitted model; what is absent is not checked.
        baselines: Name -> ``compare(model, baseline)`` on the same rows and at the same look.
        guard: Findings of the data guard; an ``error`` that was not excluded stands in the way.
        champion: ``compare(model, champion)`` at the same look, or ``SequentialTest.to_json()`` of rows both answered.

    Returns:
        ``released``, ``refused`` with the cause, or ``needs_evidence`` with the rows still to collect.
    """
    findings = [
        *parity_check(measured),
        *guard_checks(guard),
        *freshness_check(evaluation),
        *signal_checks(evaluation, baselines),
        *bound_checks(evaluation, gate),
        *slice_checks(evaluation, gate),
        *limit_checks(measured, limits),
        *champion_check(champion),
        *champion_slice_checks(champion),
        *calibration_check(evaluation),
    ]
    return _verdict(evaluation, findings)


def _verdict(evaluation: Mapping[str, Any], findings: Iterable[Finding]) -> Verdict:
    findings = list(findings)
    checks = tuple(finding.check for finding in findings)
    failed = [finding for finding in findings if finding.check.outcome == "failed"]
    unknown = [finding for finding in findings if finding.check.outcome == "unknown"]
    if failed:
        return Verdict(
            kind=VerdictKind.REFUSED, cause=failed[0].check.detail, fix=failed[0].fix, checks=checks
        )
    if unknown:
        needed: dict[str, int] = {}
        for finding in unknown:
            if finding.check.needed:
                place = finding.check.slice or ALL_ROWS
                needed[place] = max(needed.get(place, 0), finding.check.needed)
        return Verdict(
            kind=VerdictKind.NEEDS_EVIDENCE,
            cause=unknown[0].check.detail,
            fix=unknown[0].fix or _collect(needed),
            needed=needed,
            checks=checks,
        )
    return Verdict(kind=VerdictKind.RELEASED, cause=_released(evaluation, checks), checks=checks)


def _collect(needed: Mapping[str, int]) -> str:
    asked = [
        f"{count:,} more labelled test rows" + (f" of {place}" if place != ALL_ROWS else "")
        for place, count in list(needed.items())[:3]
    ]
    more = f" (and {len(needed) - 3} further slices)" if len(needed) > 3 else ""
    return "collect " + ", ".join(asked) + more if asked else ""


def _released(evaluation: Mapping[str, Any], checks: Sequence[Check]) -> str:
    measure = evaluation["measures"][0]
    signal = next((check.detail for check in checks if check.name.startswith("beats")), "")
    return (
        f"{measure['name']} {measure['value']:.4g} (95 % interval {measure['low']:.4g} to {measure['high']:.4g}) "
        f"on {measure['n']:,} sealed test rows; {len(checks)} of {len(checks)} conditions passed. {signal}"
    ).rstrip()


_FIXES: dict[type[ModelworksError], str] = {
    OutOfMemory: "raise limits.memory_mb, or give the task fewer columns",
    JobTimeout: "raise limits.budget_s, or give the task fewer rows",
    BudgetStopped: "raise limits.budget_s",
    Cancelled: "run the same command again to resume",
    DiskFull: "free disk space and run the same command again; mw gc sweeps what nothing names",
    MissingExtra: "install the extra and run the same command again",
}


def failed_verdict(error: BaseException) -> Verdict:
    """Return the verdict ``failed`` of a line that ended in an error, with its cause and the cheapest fix."""
    if not isinstance(error, ModelworksError):
        return Verdict(
            kind=VerdictKind.FAILED,
            cause=f"An unexpected {type(error).__name__}: {str(error)[:300] or 'no message'}",
            fix="run the line again with --debug and report what it prints",
        )
    fix = error.hint or next(
        (text for kind, text in _FIXES.items() if isinstance(error, kind)),
        "mend the cause and run the line again",
    )
    place = f" ({error.where})" if error.where else ""
    return Verdict(kind=VerdictKind.FAILED, cause=f"{error.error_code}: {error.message}{place}", fix=fix)
