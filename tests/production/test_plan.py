"""The plan of an order: what is known before anything is fitted."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from modelworks.core.errors import TaskError
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.task import Bound, SplitPolicy, Task, TaskKind
from modelworks.production.order import Line
from modelworks.production.plan import Plan, feature_columns, plan_task
from modelworks.production.survey import load_rows, save_split, survey, target_facts
from modelworks.production.task_data import fitting_part, task_from_json, task_to_json

SCHEMA = Schema(
    (
        Column(name="x", kind=ColumnKind.NUMBER, distinct=60),
        Column(name="c", kind=ColumnKind.CATEGORY, distinct=3),
        Column(name="id", kind=ColumnKind.IDENTIFIER, distinct=60),
        Column(name="y", kind=ColumnKind.CATEGORY, distinct=2),
        Column(name="z", kind=ColumnKind.NUMBER, distinct=60),
    ),
    rows=60,
)
TABLE = pa.table(
    {
        "x": [float(n) for n in range(60)],
        "c": [("a", "b", "c")[n % 3] for n in range(60)],
        "id": [f"row{n}" for n in range(60)],
        "y": [("no", "yes")[n % 2] for n in range(58)] + [None, None],
        "z": [n * 1.37 for n in range(60)],
    }
)


def line(name: str = "t", priority: int = 0, due: float | None = None) -> Line:
    return Line(name=name, data="t.csv", targets=("y",), priority=priority, due=due)


def test_facts_come_from_one_reading_of_the_table() -> None:
    facts = target_facts(TABLE, SCHEMA)
    assert facts["y"]["kind"] == "binary"
    assert facts["y"]["counts"] == [29, 29]
    assert facts["y"]["rows"] == 58
    assert facts["z"]["kind"] == "regression"
    assert "error" in facts["id"]
    json.dumps(facts, allow_nan=False)


def test_a_task_is_planned_without_reading_the_table_again() -> None:
    task = Task(name="t", data="t.csv", target="y", exclude=("z",))
    planned = plan_task(line(), task, SCHEMA, target_facts(TABLE, SCHEMA), [])
    assert (planned.facts.kind, planned.facts.rows, planned.facts.features) == ("binary", 46, 2)
    assert planned.fit.cpu_s <= task.limits.budget_s
    assert feature_columns(SCHEMA, task) == ["x", "c"]


@pytest.mark.parametrize("task", [{"metric": "rmse"}, {"gate": (Bound.parse("rmse", "<= 1.0"),)}], ids=str)
def test_a_metric_of_another_kind_is_refused_before_anything_is_fitted(task: dict[str, object]) -> None:
    with pytest.raises(TaskError, match="no metric 'rmse' for a binary task"):
        plan_task(
            line(), Task(name="t", data="t.csv", target="y", **task), SCHEMA, target_facts(TABLE, SCHEMA), []
        )


def test_quantiles_of_classes_are_refused() -> None:
    task = Task(name="t", data="t.csv", target="y", quantiles=(0.1, 0.9))
    with pytest.raises(TaskError, match="quantiles are for regression"):
        plan_task(line(), task, SCHEMA, target_facts(TABLE, SCHEMA), [])


def test_what_should_be_late_is_said() -> None:
    facts = target_facts(TABLE, SCHEMA)
    lines = [line("urgent", priority=1), line("soon", due=100.0), line("never")]
    planned = [
        plan_task(item, Task(name=item.name, data="t.csv", target="y"), SCHEMA, facts, []) for item in lines
    ]
    plan = Plan(tasks=sorted(planned, key=lambda item: item.rank), slots=1)
    assert [item.task.name for item in plan.tasks] == ["urgent", "soon", "never"]
    assert plan.late(now=99.9) == ["soon"]
    assert plan.late(now=0.0) == []
    assert plan.forecast().cpu_s > sum(item.fit.cpu_s + item.after for item in planned)


def test_a_survey_parts_and_guards_the_rows(tmp_path: Path) -> None:
    seen = survey(TABLE, SCHEMA, Task(name="t", data="t.csv", target="y"))
    assert seen.task.kind is TaskKind.BINARY
    assert "id" in seen.exclude or "id" not in [item["column"] for item in seen.findings]
    assert set(seen.split.train) | set(seen.split.test) <= set(range(58))
    save_split(seen.split, tmp_path)
    assert list(load_rows(tmp_path, "test")) == list(seen.split.test)
    assert list(load_rows(tmp_path, "folds")) == list(seen.split.folds)


def test_a_ready_made_test_part_is_kept_apart() -> None:
    seen = survey(TABLE, SCHEMA, Task(name="t", data="t.csv", target="y"), sealed_from=40)
    assert min(seen.split.test) >= 40
    assert max(seen.split.train) < 40


def test_a_task_survives_as_plain_data_and_only_some_of_it_refits() -> None:
    task = Task(
        name="t", data="t.csv", target=("y", "c"), kind=TaskKind.MULTILABEL, gate=(Bound.parse("f1", ">= 0.5"),),
        split=SplitPolicy(group="id"), quantiles=(0.1,), kinds={"x": "number"},
    )  # fmt: skip
    assert task_from_json(json.loads(json.dumps(task_to_json(task)))) == task
    same = fitting_part(task)
    for change in ({"name": "u"}, {"gate": ()}, {"slices": ("c",)}, {"explain": False}):
        assert fitting_part(task_from_json({**task_to_json(task), **change})) == same
    for change in ({"seed": 1}, {"exclude": ("x",)}, {"metric": "f1_macro"}):
        assert fitting_part(task_from_json({**task_to_json(task), **change})) != same
