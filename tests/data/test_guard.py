"""The guard finds planted leaks of several kinds and bars nothing on honest tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from modelworks.core.task import SplitPolicy, TaskKind
from modelworks.data import guard, infer_task_kind, split
from modelworks.data.drift import chi_square_p, discoveries, kolmogorov_smirnov, smirnov_p
from modelworks.data.kinds import infer_schema

ROWS = 1500
Findings = list[dict[str, Any]]


def _guard(table: pa.Table, target: str | tuple[str, ...] = "y", **policy: Any) -> Findings:
    schema = infer_schema(table)
    kind, _ = infer_task_kind(table, schema, target)
    return guard(table, schema, target, split(table, schema, target, kind, SplitPolicy(**policy), 0))


def _codes(findings: Findings, column: str | None = None) -> set[str]:
    return {item["code"] for item in findings if column is None or item["column"] == column}


def _excluded(findings: Findings) -> set[str]:
    return {item["column"] for item in findings if item["exclude"]}


def _base(kind: str, seed: int = 0, rows: int = ROWS) -> tuple[dict[str, Any], npt.NDArray[Any]]:
    """Return honest columns and a target they only partly explain."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=rows)
    noise = generator.normal(size=rows)
    colour = np.array(["red", "green", "blue"])[generator.integers(0, 3, rows)]
    y: npt.NDArray[Any]
    if kind == "binary":
        y = np.where(x + noise > 0.8, "churned", "stayed")
    elif kind == "multiclass":
        y = np.array(["a", "b", "c", "d"])[np.digitize(x + noise, [-1, 0, 1])]
    else:
        y = 50 + 10 * x + 5 * noise
    return {"x": x, "colour": colour, "strong": x + 0.3 * noise, "y": y}, generator.random(rows)


def _relabelled(columns: dict[str, Any], chance: npt.NDArray[Any]) -> Any:
    names = {level: f"code-{index}" for index, level in enumerate(sorted(set(columns["y"])))}
    return np.array([names[level] for level in columns["y"]])


def _closing_date(columns: dict[str, Any], chance: npt.NDArray[Any]) -> Any:
    closed = columns["y"] == "churned"
    stamps = (1.6e15 + chance * 1e13).astype(np.int64)
    return pa.array(stamps, mask=~closed).cast(pa.timestamp("us"))


def _sometimes_filled_reason(columns: dict[str, Any], chance: npt.NDArray[Any]) -> Any:
    filled = (columns["y"] == "churned") & (chance < 0.8)
    return pa.array([f"reason {int(c * 90) % 7}" if f else None for f, c in zip(filled, chance, strict=True)])


def _only_value(columns: dict[str, Any], chance: npt.NDArray[Any]) -> Any:
    return pa.array(["left" if level == "churned" else None for level in columns["y"]])


def _emptied(columns: dict[str, Any], chance: npt.NDArray[Any]) -> Any:
    return pa.array(np.round(chance, 3), mask=columns["y"] == "churned")


@pytest.mark.parametrize(
    ("plant", "code"),
    [
        (_relabelled, "leak_copy"),
        (_closing_date, "leak_filled_after"),
        (_sometimes_filled_reason, "leak_filled_after"),
        (_only_value, "leak_filled_after"),
        (_emptied, "leak_filled_after"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sure_leaks_are_barred(plant: Callable[..., Any], code: str, seed: int) -> None:
    columns, chance = _base("binary", seed)
    table = pa.table({**columns, "leak": plant(columns, chance)})
    findings = _guard(table)
    assert _excluded(findings) == {"leak"}
    assert code in _codes(findings, "leak")
    message = next(item["message"] for item in findings if item["column"] == "leak")
    assert "leak" in message and any(mark.isdigit() for mark in message)


def test_a_copy_of_many_classes_and_a_label_copy_are_barred() -> None:
    columns, chance = _base("multiclass")
    findings = _guard(pa.table({**columns, "leak": _relabelled(columns, chance)}))
    assert _excluded(findings) == {"leak"}
    labels = {"first": columns["x"] > 0, "second": chance > 0.5, "x": columns["x"], "copy": columns["x"] > 0}
    findings = _guard(
        pa.table({name: pa.array(cells) for name, cells in labels.items()}), ("first", "second")
    )
    assert _excluded(findings) == {"copy"}


def test_a_number_in_another_unit_is_barred_and_a_close_follower_is_warned_of() -> None:
    columns, chance = _base("regression")
    y = columns["y"]
    table = pa.table({**columns, "fahrenheit": y * 1.8 + 32, "measured_again": y + 0.1 * (chance - 0.5)})
    findings = _guard(table)
    assert _excluded(findings) == {"fahrenheit"}
    assert _codes(findings, "measured_again") == {"leak_near_copy"}
    zero = pa.table(
        {
            "x": columns["x"],
            "amount": pa.array(chance, mask=chance < 0.4),
            "y": np.where(chance < 0.4, 0, chance),
        }
    )
    assert _excluded(_guard(zero)) == {"amount"}


def test_nearly_the_answer_is_warned_of_not_barred() -> None:
    columns, chance = _base("binary")
    wrong = chance < 0.01
    near = np.where((columns["y"] == "churned") ^ wrong, "left", "here")
    margin = np.where(columns["y"] == "churned", 1.0, -1.0) * (0.5 + chance)
    findings = _guard(pa.table({**columns, "near": near, "margin": margin}))
    assert _excluded(findings) == set()
    assert _codes(findings, "near") == {"leak_near_copy"}
    assert _codes(findings, "margin") == {"leak_suspect"}


def test_identifiers_and_constants_are_barred_with_a_reason() -> None:
    columns, _ = _base("binary")
    table = pa.table({**columns, "customer_id": np.arange(ROWS) * 7, "same": ["v"] * ROWS})
    findings = _guard(table)
    assert _excluded(findings) == {"customer_id", "same"}
    assert _codes(findings, "customer_id") == {"identifier"}
    assert _codes(findings, "same") == {"constant"}


HONEST = [
    ("abalone/abalone.csv", "c8"), ("adult/adult-train.csv.gz", "c14"), ("auto_imports/auto_imports.csv", "c25"),
    ("auto_mpg/mpg.csv", "mpg"), ("boston_housing/BostonHousing.csv", "medv"),
    ("breast_cancer_wdbc/breast_cancer_wdbc.tsv.gz", "target"),
    ("california_housing/housing.csv.gz", "median_house_value"), ("diamonds/diamonds.csv.gz", "price"),
    ("german_credit/german.csv", "c20"), ("heart_cleveland/heart_cleveland.tsv.gz", "target"),
    ("horse_colic/horse-colic.csv", "c23"), ("house_16H/house_16H.tsv.gz", "target"),
    ("letter/letter.tsv.gz", "target"), ("mammography/mammography.csv", "c6"), ("mushroom/mushroom.tsv.gz", "target"),
    ("nursery/nursery.tsv.gz", "target"), ("online_shoppers/online_shoppers_intention.csv.gz", "Revenue"),
    ("optdigits/optdigits.tsv.gz", "target"), ("penguins/penguins.csv", "species"),
    ("pima_diabetes/pima-indians-diabetes.csv", "c8"), ("satimage/satimage.tsv.gz", "target"),
    ("shuttle/shuttle.tsv.gz", "target"), ("spambase/spambase.tsv.gz", "target"),
    ("wine_quality_white/winequality-white.csv", "c11"), ("har_weight_lifting/har_train.csv.gz", "classe"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "target"), HONEST, ids=lambda value: str(value).split("/")[0])
def test_honest_tables_lose_no_column(read, shared_data: Path, file: str, target: str) -> None:
    table, schema, _ = read(shared_data / file)
    kind, _ = infer_task_kind(table, schema, target)
    findings = guard(table, schema, target, split(table, schema, target, kind, SplitPolicy(), 0))
    assert {item["code"] for item in findings if item["exclude"]} <= {"constant"}
    assert "drift" not in _codes(findings)
    assert not {item["code"] for item in findings} & {"leak_copy", "leak_filled_after"}


@pytest.mark.parametrize(
    ("file", "target", "leaks"),
    [
        ("titanic/titanic.csv", "survived", {"alive"}),
        (
            "nyc311_animals/311_Animals_short.csv.gz",
            "Status",
            {"Closed Date", "Resolution Action Updated Date"},
        ),
        ("nyc311_animals/311_Animals_short.csv.gz", "Borough", {"Park Borough"}),
        ("airline_tweets/TwitterUSAirlineSentiment.csv.gz", "airline_sentiment", {"negativereason"}),
        ("telco_churn/Telco-Customer-Churn.csv", "Churn", set()),
        ("cardio_train/cardio_train.csv.gz", "cardio", set()),
    ],
)
def test_real_leaks_are_barred(read, shared_data: Path, file: str, target: str, leaks: set[str]) -> None:
    table, schema, _ = read(shared_data / file)
    kind, _ = infer_task_kind(table, schema, target)
    findings = guard(table, schema, target, split(table, schema, target, kind, SplitPolicy(), 0))
    assert {
        item["column"] for item in findings if item["code"].startswith("leak") and item["exclude"]
    } == leaks


def test_duplicates_across_a_ready_made_split_are_counted() -> None:
    columns, _ = _base("binary")
    table = pa.table(columns)
    both = pa.concat_tables([table, table.slice(0, 150), pa.table(_base("binary", 9, 150)[0])])
    schema = infer_schema(both)
    parts = split(both, schema, "y", TaskKind.BINARY, SplitPolicy(), 0, np.arange(ROWS, ROWS + 300))
    findings = guard(both, schema, "y", parts)
    found = next(item for item in findings if item["code"] == "duplicates_across")
    assert found["detail"]["rows"] == 150
    assert found["severity"] == "warning"


def test_near_duplicates_and_conflicting_labels() -> None:
    columns, chance = _base("binary")
    near = {**columns, "x": columns["x"] + 1e-9 * chance}
    both = pa.concat_tables([pa.table(columns), pa.table(near)])
    schema = infer_schema(both)
    parts = split(both, schema, "y", TaskKind.BINARY, SplitPolicy(), 0, np.arange(ROWS, 2 * ROWS))
    assert "near_duplicates_across" in _codes(guard(both, schema, "y", parts))
    answers = np.array(["no", "yes"])[np.arange(ROWS) % 2]
    clash = pa.table({"x": np.repeat(columns["x"][: ROWS // 2], 2), "y": answers})
    found = next(item for item in _guard(clash) if item["code"] == "conflicting_labels")
    assert found["detail"]["share"] == pytest.approx(0.5, abs=0.02)


def test_imbalance_scarce_classes_and_few_rows() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=2000)
    assert "imbalance" in _codes(_guard(pa.table({"x": x, "y": (np.arange(2000) % 50 == 0).astype(int)})))
    rare = pa.table({"x": x, "y": ["a", "b"] * 990 + ["c"] * 20})
    assert "scarce_class" in _codes(_guard(rare))
    assert "few_rows" in _codes(_guard(pa.table({"x": x[:60], "y": [0, 1] * 30})))


def test_subjects_on_both_sides_are_asked_about() -> None:
    columns, _ = _base("binary")
    table = pa.table({**columns, "patient_id": np.arange(ROWS) // 10 * 13})
    findings = _guard(table)
    assert "groups_across" in _codes(findings, "patient_id")
    assert "groups_across" not in _codes(_guard(table, group="patient_id"))


def test_drift_needs_rows_and_size() -> None:
    generator = np.random.default_rng(0)
    rows = 3000
    day = np.arange(rows)
    late = day > 0.8 * rows
    table = pa.table(
        {
            "day": pa.array(day * 86_400_000_000, pa.timestamp("us")),
            "steady": generator.normal(size=rows),
            "moved": generator.normal(size=rows) + np.where(late, 1.0, 0.0),
            "kind": np.where(late & (generator.random(rows) < 0.5), "new", "old"),
            "broken": pa.array(generator.normal(size=rows), mask=late & (generator.random(rows) < 0.4)),
            "y": generator.integers(0, 2, rows),
        }
    )
    findings = _guard(table, time="day")
    drifted = {item["column"] for item in findings if item["code"] == "drift"}
    assert {"moved", "kind", "broken"} <= drifted
    assert "steady" not in drifted
    assert "drift_unknown" in _codes(_guard(table.slice(0, 600), time="day"))


def test_drift_alarms_are_rare_at_any_size() -> None:
    """At the same distribution the false alarm rate stays near its level, from small windows to large ones."""
    generator = np.random.default_rng(0)
    for rows in (200, 1000, 20_000):
        alarms = 0
        for _ in range(200):
            first, second = generator.normal(size=5000), generator.normal(size=rows)
            alarms += smirnov_p(kolmogorov_smirnov(first, second), 5000, rows) < 0.01
        assert alarms <= 8


def test_p_values_agree_with_known_tables() -> None:
    assert smirnov_p(1.36 / np.sqrt(500), 1000, 1000) == pytest.approx(0.05, abs=0.004)
    assert chi_square_p(np.array([[90, 60, 50], [110, 140, 150]])) == pytest.approx(5.8e-5, rel=0.7)
    assert chi_square_p(np.array([[50, 50], [52, 48]])) == pytest.approx(0.777, abs=0.02)
    scipy_stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(1)
    for _ in range(20):
        counts = generator.integers(20, 80, (2, 6))
        assert chi_square_p(counts) == pytest.approx(scipy_stats.chi2_contingency(counts).pvalue, abs=0.01)
        first, second = generator.normal(size=300), generator.normal(0.1, 1, size=400)
        known = scipy_stats.ks_2samp(first, second, method="asymp")
        gap = kolmogorov_smirnov(first, second)
        assert gap == pytest.approx(known.statistic)
        assert smirnov_p(gap, 300, 400) == pytest.approx(known.pvalue, abs=0.03)


def test_false_discovery_rate_is_controlled() -> None:
    assert discoveries([0.001, 0.02, 0.5, 0.9], 0.05).tolist() == [True, True, False, False]
    assert discoveries([0.04, 0.5, 0.9, 0.8], 0.05).tolist() == [False] * 4
    assert discoveries([], 0.05).tolist() == []
