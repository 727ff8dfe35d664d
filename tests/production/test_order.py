"""Order files: what is accepted, how mistakes are named, and which tasks come out."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, TaskError
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.task import TaskKind
from modelworks.production.order import (
    in_order_of_work,
    load_order,
    parse_duration,
    parse_moment,
    parse_order,
)
from modelworks.production.order_fields import ORDER, json_schema, json_schema_text
from modelworks.production.order_tasks import expand
from modelworks.production.shapes import read_document
from modelworks.production.sources import with_secrets

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = jsonschema.Draft202012Validator(json_schema())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("penguins.csv", "heart.tsv.gz", "wine.csv", "notes.md"):
        (tmp_path / name).write_bytes(b"a,b\n1,2\n")
    return tmp_path


def problems(text: str, folder: Path) -> str:
    with pytest.raises(TaskError) as caught:
        parse_order(text, folder=folder)
    return str(caught.value)


def test_defaults_are_merged_one_level_deep(folder: Path) -> None:
    order = parse_order(
        """
        name: shop
        defaults: {gate: {roc_auc: ">= 0.8"}, limits: {latency_ms: 1}, budget: 2m}
        tasks:
          - {data: wine.csv, target: b, limits: {size_mb: 3}, gate: {log_loss: "<= 0.4"}}
        """,
        folder=folder,
    )
    (task,) = expand(order.lines[0], Schema((column("a"), column("b"))))
    assert {str(bound) for bound in task.gate} == {"roc_auc >= 0.8", "log_loss <= 0.4"}
    assert (task.limits.latency_ms, task.limits.size_mb, task.limits.budget_s) == (1, 3, 120)


def test_every_problem_is_named_with_line_field_and_close_match(folder: Path) -> None:
    text = problems(
        """name: shop
defaults:
  gate: {roc_auc: "=> 0.8"}
  budgett: 60s
tasks:
  - data: penguin.csv
    target: x
  - data: wine.csv
    priority: hi
    limits: {latency_ms: -1}
    kinds: {a: categry}
    kind: regresion
""",
        folder,
    )
    assert "line 3: defaults.gate.roc_auc: '=> 0.8' cannot be read" in text
    assert "line 4: defaults.budgett: there is no field 'budgett' here. Did you mean 'budget'?" in text
    assert "line 8: tasks[1]: needs exactly one of 'target' and 'targets'" in text
    assert "line 9: tasks[1].priority: expected a whole number, got 'hi'" in text
    assert "line 10: tasks[1].limits.latency_ms: -1 must be above 0" in text
    assert "line 11: tasks[1].kinds.a: 'categry' is not one of" in text
    assert "Did you mean 'regression'?" in text
    assert "next: mw order check order.yaml" in text


def test_a_missing_file_is_named_with_its_line_and_neighbour(folder: Path) -> None:
    text = problems("tasks:\n  - {data: wine.csv, target: b}\n  - {data: penguin.csv, target: b}\n", folder)
    assert "line 3: tasks[1]: there is no file 'penguin.csv'. Did you mean 'penguins.csv'" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("tasks: [", "this is not YAML"),
        ("tasks: []", "needs at least 1 item"),
        ("name: x", "the field 'tasks' is missing"),
        ("- 1", "expected a mapping, got a list"),
        ("tasks: [{data: wine.csv, target: a, target: b}]", "this field is written twice"),
        ("tasks:\n - data: wine.csv\n   target: a\n   target: b", "this field is written twice"),
        ("tasks: [{data: wine.csv, target: []}]", "needs at least 1 item"),
        ("tasks: [{data: '*.nothing', target: b}]", "no file matches '*.nothing'"),
        ("tasks: [{data: wine.csv, target: b, due: 2026-13-45}]", "is not a date"),
        ("tasks: [{data: wine.csv, target: b, name: 'a b'}]", "'a b' cannot be read"),
        (
            "tasks: [{data: wine.csv, target: a}, {data: wine.csv, target: b}]",
            "the name 'wine' is already used in line 1",
        ),
        ("tasks: [{data: wine.csv, target: b, split: {test_share: 0.9}}]", "at most 0.5"),
    ],
)
def test_mistakes_are_answered(text: str, message: str, folder: Path) -> None:
    assert message in problems(text, folder)


def test_unfolding_aliases_do_not_grow_without_end(folder: Path) -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    for level in range(1, 9):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "more than 200000 values" in problems(bomb, folder)
    assert "nested too deeply" in problems("[" * 60 + "]" * 60, folder)


def test_globs_and_folders_make_one_line_per_table(folder: Path) -> None:
    order = parse_order(
        "tasks: [{data: '*.csv', target: b}, {data: ., targets: '*', name: all}]", folder=folder
    )
    names = [line.name for line in order.lines]
    assert names == ["penguins", "wine", "all-heart", "all-penguins", "all-wine"]
    assert order.lines[0].data == str(folder / "penguins.csv")


def column(name: str, kind: ColumnKind = ColumnKind.NUMBER, distinct: int = 9) -> Column:
    return Column(name=name, kind=kind, distinct=distinct)


def test_a_star_makes_one_task_per_column_that_can_be_a_target(folder: Path) -> None:
    order = parse_order("tasks: [{data: wine.csv, targets: '*', weight: w, exclude: [x]}]", folder=folder)
    schema = Schema(
        (
            column("a"),
            column("id", ColumnKind.IDENTIFIER),
            column("when", ColumnKind.DATETIME),
            column("words", ColumnKind.TEXT),
            column("same", ColumnKind.CONSTANT, 1),
            column("w"),
            column("x"),
            column("b c", ColumnKind.CATEGORY),
        )
    )
    tasks = expand(order.lines[0], schema)
    assert [(task.name, task.target) for task in tasks] == [("wine-a", "a"), ("wine-b-c", "b c")]


def test_several_targets_are_several_tasks_and_a_list_under_target_is_one(folder: Path) -> None:
    order = parse_order(
        "tasks: [{data: wine.csv, targets: [a, b]}, {data: heart.tsv.gz, target: [a, b]}]", folder=folder
    )
    schema = Schema((column("a"), column("b"), column("c")))
    assert [task.target for task in expand(order.lines[0], schema)] == ["a", "b"]
    (joint,) = expand(order.lines[1], schema)
    assert joint.target == ("a", "b")
    assert joint.kind is TaskKind.MULTILABEL


def test_an_unknown_target_is_answered_with_close_matches(folder: Path) -> None:
    order = parse_order("tasks: [{data: wine.csv, target: qualty}]", folder=folder)
    with pytest.raises(TaskError, match=r"no column 'qualty'. Did you mean 'quality'\?"):
        expand(order.lines[0], Schema((column("quality"),)))


def test_priority_then_due_date_then_position(folder: Path) -> None:
    order = parse_order(
        """tasks:
        - {data: wine.csv, target: a, name: late, due: 2027-01-01}
        - {data: wine.csv, target: a, name: never}
        - {data: wine.csv, target: a, name: urgent, priority: 5}
        - {data: wine.csv, target: a, name: soon, due: "2026-11-01T12:00:00+02:00"}
        """,
        folder=folder,
    )
    assert [line.name for line in in_order_of_work(order.lines)] == ["urgent", "soon", "late", "never"]
    assert parse_moment("2026-11-01T12:00:00+02:00") == parse_moment("2026-11-01T10:00:00Z")


def test_the_digest_ignores_budget_and_prices_and_nothing_else(folder: Path) -> None:
    def digest(head: str, tail: str = "") -> str:
        text = f"{head}\ntasks: [{{data: wine.csv, target: b{tail}}}]"
        return parse_order(text, folder=folder).digest

    plain = digest("name: x")
    assert digest("name: x\nbudget: 5m\nprices: {cpu_hour: 1}") == plain
    assert digest("name: y") != plain
    assert digest("name: x", ", seed: 1") != plain


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), (90, 90), ("60s", 60), ("1h30m", 5400), ("250ms", 0.25), ("1.5m", 90)]
)
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.text(max_size=12))
def test_durations_are_positive_or_refused(text: str) -> None:
    try:
        assert parse_duration(text) > 0
    except TaskError as error:
        assert error.hint


def test_the_published_schema_is_the_definition() -> None:
    published = ROOT / "src" / "modelworks" / "production" / "order.schema.json"
    assert published.read_text() == json_schema_text()
    jsonschema.Draft202012Validator.check_schema(json_schema())


WORDS = st.sampled_from(["a", "penguins.csv", "binary", "60s", ">= 0.5", "", "x y", "2026-01-02"])
LEAVES = st.one_of(WORDS, st.integers(-5, 5), st.booleans(), st.floats(0, 2), st.none())
KEYS = st.sampled_from(
    [
        "name",
        "data",
        "target",
        "targets",
        "kind",
        "gate",
        "split",
        "limits",
        "budget",
        "seed",
        "quantiles",
        "z",
    ]
)
TASKS = st.dictionaries(
    KEYS,
    st.one_of(LEAVES, st.lists(LEAVES, max_size=2), st.dictionaries(KEYS, LEAVES, max_size=2)),
    max_size=4,
)
DOCUMENTS = st.fixed_dictionaries(
    {}, optional={"name": LEAVES, "defaults": TASKS, "tasks": st.lists(TASKS, max_size=3), "budget": LEAVES}
)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS)
def test_reader_and_schema_agree(document: dict[str, object]) -> None:
    reading = read_document(json.dumps(document), ORDER)
    if not reading.problems:
        SCHEMA.validate(document)
    for problem in reading.problems:
        assert problem.line == 1
        assert problem.message


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    reading = read_document(text, ORDER)
    assert reading.problems or reading.value["tasks"]


def test_the_file_gives_the_name(folder: Path) -> None:
    path = folder / "my shop.yaml"
    path.write_text(yaml.safe_dump({"tasks": [{"data": "wine.csv", "target": "b"}]}))
    assert load_order(path).name == "my-shop"
    with pytest.raises(TaskError, match="cannot be read"):
        load_order(folder / "none.yaml")


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("weight: colour", "weight"),
        ("split: {group: colour}", "split.group"),
        ("split: {time: colour}", "split.time"),
        ("slices: [a, colour]", "slices"),
        ("exclude: [colour]", "exclude"),
    ],
)
def test_a_column_that_is_not_there_is_named_before_anything_is_fitted(
    folder: Path, setting: str, field: str
) -> None:
    order = parse_order(f"tasks: [{{data: wine.csv, target: a, {setting}}}]", folder=folder)
    with pytest.raises(TaskError, match=rf"{field} names the column 'colour', .* Did you mean 'color'"):
        expand(order.lines[0], Schema((column("a"), column("color"))))


def test_secrets_of_a_url_are_put_back_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_TEST", "s3cret")
    assert with_secrets("postgresql://ann:${SECRET_OF_TEST}@host/db") == "postgresql://ann:s3cret@host/db"
    monkeypatch.delenv("SECRET_OF_TEST")
    with pytest.raises(DataError, match="SECRET_OF_TEST, which is not set"):
        with_secrets("postgresql://ann:${SECRET_OF_TEST}@host/db")
