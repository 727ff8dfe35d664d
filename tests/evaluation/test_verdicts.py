"""The gate: each of the four verdicts for its cause, with numbers, a fix and the rows still to collect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from judged_samples import BINARY, MULTICLASS, Sample, binary, constant, multiclass, multilabel, regression

from modelworks.core.errors import BudgetStopped, DataError, ModelworksError, OutOfMemory
from modelworks.core.task import Bound, Limits
from modelworks.core.verdict import Verdict, VerdictKind
from modelworks.evaluation import SequentialTest, compare, evaluate, failed_verdict, judge
from modelworks.evaluation.conditions import signal_checks

FAST = {"latency_ms": {"p50": 0.05, "p99": 0.1}, "size_mb": 0.4}
RELEASED, REFUSED = VerdictKind.RELEASED, VerdictKind.REFUSED
NEEDS_EVIDENCE, FAILED = VerdictKind.NEEDS_EVIDENCE, VerdictKind.FAILED


def judged(
    sample: Sample,
    *,
    gate: dict[str, str] | None = None,
    limits: Limits | None = None,
    measured: dict[str, Any] | None = None,
    others: dict[str, Any] | None = None,
    guard: list[dict[str, Any]] | None = None,
    champion: Any = None,
    metric: str | None = None,
    slices: dict[str, np.ndarray] | None = None,
    look: int = 1,
) -> Verdict:
    kind, outputs, truth, classes = sample
    bounds = [Bound.parse(name, text) for name, text in (gate or {}).items()]
    more = {"metric": metric, "look": look}
    evaluation = evaluate(*sample, also=[bound.metric for bound in bounds], slices=slices, **more)
    rivals = {"constant": constant(sample), **(others or {})}
    baselines = {
        name: compare(kind, outputs, rival, truth, classes, **more) for name, rival in rivals.items()
    }
    against = champion
    if champion is not None and "decision" not in champion:
        against = compare(kind, outputs, champion, truth, classes, slices=slices, **more)
    verdict = judge(evaluation, bounds, limits or Limits(), measured or FAST, baselines, guard or [], against)
    assert Verdict.from_json(verdict.to_json()) == verdict
    return verdict


def noise(sample: Sample, seed: int = 0) -> Sample:
    """The sample with a truth that has nothing to do with the outputs."""
    kind, outputs, truth, classes = sample
    return kind, outputs, np.random.default_rng(seed).permutation(truth), classes


@pytest.mark.parametrize("make", [binary, multiclass, regression, multilabel])
@pytest.mark.parametrize("rows", [60, 500])
def test_a_clearly_better_model_is_released_by_default(make: Any, rows: int) -> None:
    verdict = judged(make(np.random.default_rng(0), rows))
    assert verdict.kind is RELEASED
    assert f"on {rows} sealed test rows" in verdict.cause and "95 % interval" in verdict.cause
    assert verdict.fix == "" and verdict.needed == {}
    assert {check.outcome for check in verdict.checks} == {"passed"}


@pytest.mark.parametrize("make", [binary, multiclass, regression, multilabel])
def test_no_signal_is_refused_as_such(make: Any) -> None:
    verdicts = [judged(noise(make(np.random.default_rng(seed), 600), seed)) for seed in range(12)]
    assert [verdict.kind for verdict in verdicts].count(RELEASED) <= 1  # one in forty is
    refused = [verdict for verdict in verdicts if verdict.kind is REFUSED]
    assert (
        len(refused) >= 8
    )  # the others look as if there were something, and are told how many rows would tell
    for verdict in refused:
        assert verdict.cause.startswith("No signal") and "600 test rows" in verdict.cause
        assert verdict.fix == "add columns that could know the answer"


def test_a_weak_signal_on_few_rows_asks_for_rows_and_that_many_suffice() -> None:
    """Of many weak models on 80 rows, those told to collect k rows are released with k more rows in most cases."""
    asked, enough = 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sample = binary(rng, 80, effect=0.5, positives=0.5)
        verdict = judged(sample)
        if verdict.kind is not NEEDS_EVIDENCE:
            continue
        needed = verdict.needed["all rows"]
        assert 10 <= needed <= 10 * 80
        assert f"{needed:,} more labelled test rows" in verdict.fix
        asked += 1
        enough += judged(binary(rng, 80 + needed, effect=0.5, positives=0.5)).kind is RELEASED
    assert asked >= 8
    assert enough / asked > 0.5


def test_bounds_pass_fail_and_stay_open_by_the_ends_of_the_interval() -> None:
    sample = binary(np.random.default_rng(2), 400, effect=2.0)
    assert judged(sample, gate={"roc_auc": ">= 0.80"}).kind is RELEASED
    refused = judged(sample, gate={"roc_auc": ">= 0.99"})
    assert refused.kind is REFUSED
    assert "the gate asks >= 0.99" in refused.cause and "add data" in refused.fix
    value = next(item["value"] for item in evaluate(*sample)["measures"] if item["name"] == "roc_auc")
    open_ = judged(sample, gate={"roc_auc": f">= {value - 0.01:.4f}"})
    assert open_.kind is NEEDS_EVIDENCE
    assert open_.needed["all rows"] > 400
    assert judged(sample, gate={"auc": ">= 0.80", "log_loss": "<= 0.60", "ece": "< 0.2"}).kind is RELEASED
    assert judged(sample, gate={"log_loss": "<= 0.10"}).kind is REFUSED


def test_a_bound_on_a_metric_that_is_not_defined_is_open() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(3), 300, effect=2.5)
    silent = {**outputs, "label": np.array(["no"] * 300, dtype=object)}
    verdict = judged((kind, silent, truth, classes), gate={"precision": ">= 0.9"})
    assert verdict.kind is NEEDS_EVIDENCE and "never names the positive class" in verdict.cause


def test_one_class_in_the_test_rows_needs_evidence() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(4), 50)
    verdict = judged((kind, outputs, np.zeros_like(truth), classes))
    assert verdict.kind is NEEDS_EVIDENCE
    assert "all judged rows are of class 'no'" in verdict.cause and verdict.needed == {"all rows": 100}


def test_a_simple_model_that_is_better_refuses_the_complex_one() -> None:
    kind, outputs, truth, classes = regression(np.random.default_rng(5), 400, noise=0.5)
    worse = {"prediction": outputs["prediction"] + np.random.default_rng(6).normal(size=400)}
    verdict = judged((kind, worse, truth, classes), others={"linear": outputs})
    assert verdict.kind is REFUSED, verdict
    assert "The simple model 'linear' is better" in verdict.cause and "ship 'linear' itself" in verdict.fix


def test_a_draw_with_a_simple_model_is_no_reason_to_refuse() -> None:
    sample = regression(np.random.default_rng(7), 400)
    rival = {"prediction": sample[1]["prediction"] + 0.01}
    verdict = judged(sample, others={"linear": rival})
    assert verdict.kind is RELEASED
    assert any("No difference from 'linear' that matters" in check.detail for check in verdict.checks)


@pytest.mark.parametrize(
    ("measured", "kind", "says"),
    [
        ({"latency_ms": {"p50": 5.0, "p99": 9.0}, "size_mb": 1.0}, REFUSED, "the limit is 2 ms"),
        ({"latency_ms": {"p50": 0.1, "p99": 9.0}, "size_mb": 1.0}, NEEDS_EVIDENCE, "too busy to measure"),
        (
            {"latency_ms": {"p50": 0.1, "p99": 0.2}, "size_bytes": 30_000_000},
            REFUSED,
            "30 MB; the limit is 10 MB",
        ),
        (
            {"parity": {"passed": False, "detail": "Largest difference 0.3."}},
            REFUSED,
            "Largest difference 0.3",
        ),
    ],
)
def test_limits_of_the_shipped_graph(measured: dict[str, Any], kind: VerdictKind, says: str) -> None:
    verdict = judged(binary(np.random.default_rng(8), 300), measured=measured)
    assert verdict.kind is kind and says in verdict.cause and verdict.fix


def test_leaks_refuse_unless_the_column_was_left_out() -> None:
    leak = {
        "code": "leak_copy",
        "severity": "error",
        "column": "code",
        "message": "'code' is the target.",
        "exclude": False,
    }
    sample = binary(np.random.default_rng(9), 300)
    refused = judged(sample, guard=[leak])
    assert refused.kind is REFUSED and refused.cause == "'code' is the target." and "'code'" in refused.fix
    assert judged(sample, guard=[{**leak, "exclude": True}]).kind is RELEASED
    assert judged(sample, guard=[{**leak, "severity": "warning"}]).kind is RELEASED


def test_a_champion_is_replaced_by_equals_not_by_worse_and_not_by_doubt() -> None:
    kind, outputs, truth, classes = sample = binary(np.random.default_rng(10), 2000, effect=2.0)
    assert judged(sample, champion=outputs).kind is RELEASED
    rng = np.random.default_rng(11)
    odds = np.log(outputs["probabilities"][:, 1] / outputs["probabilities"][:, 0])
    p = 1 / (1 + np.exp(-(odds + 1.5 * rng.normal(size=2000))))
    noisy: Sample = (kind, {"probabilities": np.stack([1 - p, p], axis=1)}, truth, classes)
    refused = judged(noisy, champion=outputs)
    assert refused.kind is REFUSED and refused.cause.startswith("The champion is better")
    assert judged(sample, champion=noisy[1]).kind is RELEASED
    p = 1 / (1 + np.exp(-(odds + 0.5 * rng.normal(size=2000))))
    doubtful: Sample = (kind, {"probabilities": np.stack([1 - p, p], axis=1)[:150]}, truth[:150], classes)
    doubt = judged(doubtful, champion={"probabilities": outputs["probabilities"][:150]})
    assert doubt.kind is NEEDS_EVIDENCE and doubt.needed["all rows"] >= 10


def test_a_betting_test_stands_in_for_the_champion_comparison() -> None:
    sample = binary(np.random.default_rng(12), 300)
    test = SequentialTest(margin=0.02)
    assert judged(sample, champion=test.after(np.zeros(2000)).to_json()).kind is RELEASED
    assert judged(sample, champion=test.after(np.zeros(5)).to_json()).kind is NEEDS_EVIDENCE
    assert judged(sample, champion=test.after(-np.ones(50)).to_json()).kind is REFUSED


def test_a_small_declared_slice_needs_its_own_rows() -> None:
    sample = binary(np.random.default_rng(13), 600)
    place = np.array(["north"] * 540 + ["south"] * 60, dtype=object)
    verdict = judged(sample, slices={"place": place})
    assert verdict.kind is NEEDS_EVIDENCE
    assert verdict.needed == {"place = south": 40}
    assert verdict.fix == "collect 40 more labelled test rows of place = south"


def test_a_slice_without_signal_refuses_and_names_itself() -> None:
    rng = np.random.default_rng(14)
    kind, outputs, truth, classes = binary(rng, 2000, effect=2.0)
    place = np.where(np.arange(2000) < 600, "south", "north").astype(object)
    truth = truth.copy()
    truth[:600] = 1 - truth[:600]
    refused = judged((kind, outputs, truth, classes), slices={"place": place})
    assert (
        refused.kind is REFUSED
        and "place = south" in refused.cause
        and refused.fix == "add rows of place = south"
    )
    assert judged(binary(rng, 2000, effect=2.0), slices={"place": place}).kind is RELEASED


def test_a_slice_that_misses_the_bound_refuses() -> None:
    rng = np.random.default_rng(15)
    kind, outputs, truth, classes = regression(rng, 1500, noise=0.5)
    place = np.where(np.arange(1500) < 200, "south", "north").astype(object)
    outputs = {"prediction": outputs["prediction"] + (np.arange(1500) < 200) * rng.normal(size=1500)}
    sample: Sample = (kind, outputs, truth, classes)
    assert judged(sample, gate={"rmse": "<= 0.75"}).kind is RELEASED
    refused = judged(sample, gate={"rmse": "<= 0.75"}, slices={"place": place})
    assert refused.kind is REFUSED and "place = south" in refused.cause


def test_chance_alone_rarely_refuses_one_of_many_slices() -> None:
    rng = np.random.default_rng(16)
    refused = 0
    for _ in range(30):
        place = rng.choice(list("abcdefgh"), 1600).astype(object)
        refused += (
            judged(binary(rng, 1600), gate={"roc_auc": ">= 0.8"}, slices={"place": place}).kind is REFUSED
        )
    assert refused <= 2


def test_a_worse_slice_than_under_the_champion_refuses() -> None:
    rng = np.random.default_rng(17)
    kind, outputs, truth, classes = multiclass(rng, 3000)
    place = np.where(np.arange(3000) < 400, "south", "north").astype(object)
    spoiled = outputs["probabilities"].copy()
    spoiled[:400] = np.roll(spoiled[:400], 1, axis=0)
    champion = outputs["probabilities"].copy()
    champion[400:] = 0.6 * champion[400:] + 0.4 * rng.dirichlet(np.ones(3), 2600)
    verdict = judged(
        (kind, {"probabilities": spoiled}, truth, classes),
        champion={"probabilities": champion},
        slices={"place": place},
    )
    failed = [check.slice for check in verdict.checks if check.outcome == "failed"]
    assert verdict.kind is REFUSED and "place = south" in failed


def test_a_worn_out_test_set_needs_fresh_rows() -> None:
    sample = binary(np.random.default_rng(18), 500, effect=2.5)
    assert judged(sample, look=20).kind is RELEASED
    worn = judged(sample, look=21)
    assert worn.kind is NEEDS_EVIDENCE
    assert "look 21" in worn.cause and "fresh rows" in worn.fix and worn.needed == {"all rows": 500}


def test_poor_calibration_is_told_but_only_a_bound_refuses() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(19), 3000)
    odds = 3 * np.log(outputs["probabilities"][:, 1] / outputs["probabilities"][:, 0])
    p = 1 / (1 + np.exp(-odds))
    loud: Sample = (kind, {"probabilities": np.stack([1 - p, p], axis=1)}, truth, classes)
    told = judged(loud)
    assert told.kind is RELEASED
    assert any("above the" in check.detail for check in told.checks if "calibration" in check.name)
    assert judged(loud, gate={"ece": "<= 0.05"}).kind is REFUSED


def test_the_first_failure_is_the_cause_and_all_checks_are_kept() -> None:
    verdict = judged(
        noise(binary(np.random.default_rng(20), 600)),
        gate={"roc_auc": ">= 0.9"},
        measured={"latency_ms": {"p50": 5.0, "p99": 9.0}},
    )
    outcomes = [check.outcome for check in verdict.checks]
    assert outcomes.count("failed") == 3
    assert verdict.cause.startswith("No signal")


@pytest.mark.parametrize(
    ("error", "cause", "fix"),
    [
        (
            DataError("Column 'y' is empty.", code="MW1120", hint="choose another target"),
            "MW1120: Column 'y' is empty.",
            "choose another target",
        ),
        (
            OutOfMemory("The fit took 5 GB."),
            "MW5100: The fit took 5 GB.",
            "raise limits.memory_mb, or give the task fewer columns",
        ),
        (BudgetStopped("Out of time.", where="fit"), "MW2100: Out of time. (fit)", "raise limits.budget_s"),
        (ModelworksError("Odd."), "MW0000: Odd.", "mend the cause and run the line again"),
        (
            ZeroDivisionError("division by zero"),
            "An unexpected ZeroDivisionError: division by zero",
            "run the line again with --debug and report what it prints",
        ),
    ],
)
def test_errors_become_failed_with_the_cheapest_fix(error: Exception, cause: str, fix: str) -> None:
    verdict = failed_verdict(error)
    assert (verdict.kind, verdict.cause, verdict.fix) == (FAILED, cause, fix)


def test_a_binary_task_is_judged_on_the_class_that_counts() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(21), 200)
    record = evaluate(kind, outputs, truth, classes, positive="no")
    assert kind is BINARY and record["positive"] == "no"


def test_a_slice_of_one_class_is_no_reason_to_refuse_and_asks_for_no_million_rows() -> None:
    rng = np.random.default_rng(22)
    truth = np.where(np.arange(900) < 300, 0, rng.integers(0, 3, 900))
    p = np.eye(3)[truth] * 0.94 + 0.02
    place = np.where(np.arange(900) < 300, "calm", "lively").astype(object)
    assert (
        judged((MULTICLASS, {"probabilities": p}, truth, list("abc")), slices={"place": place}).kind
        is RELEASED
    )


def test_a_slice_without_positives_asks_for_rows_that_should_hold_some() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(23), 1000, positives=0.2)
    order = np.argsort(truth, kind="stable")
    sample: Sample = (kind, {"probabilities": outputs["probabilities"][order]}, truth[order], classes)
    place = np.where(np.arange(1000) < 150, "calm", "lively").astype(object)
    verdict = judged(sample, slices={"place": place})
    assert verdict.kind is NEEDS_EVIDENCE and "not defined on these 150 rows" in verdict.cause
    assert 40 <= verdict.needed["place = calm"] <= 65


@pytest.mark.parametrize(("difference", "outcome"), [(0.004, "failed"), (0.02, "passed")])
def test_a_gain_beyond_chance_that_helps_nobody_is_refused(difference: float, outcome: str) -> None:
    comparison = {
        "constant": True,
        "undefined": "",
        "metric": "roc_auc",
        "value": 0.5 + difference,
        "other": 0.5,
        "difference": difference,
        "gate_level": 0.95,
        "gate_low": difference / 2,
        "gate_high": difference * 1.5,
        "margin": 0.01,
        "better": True,
        "n": 100_000,
    }
    (found,) = signal_checks({"metric": "roc_auc", "undefined": {}}, {"constant": comparison})
    assert found.check.outcome == outcome
