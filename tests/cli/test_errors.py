"""Mistakes are answered with a code, a cause and the next command, never a trace, and the documented exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelworks.cli.terminal import BAD_INPUT, UNTRUSTED, USAGE, exit_code, verdict_exit_code
from modelworks.core.errors import (
    Cancelled,
    DataError,
    DiskFull,
    JobCrashed,
    MissingExtra,
    ModelworksError,
    NotFound,
    TaskError,
    TrustError,
    UsageError,
)

Run = Callable[..., Any]

FAULTS = [
    (
        ("produce", "table.csv"),
        USAGE,
        "MW1304",
        "Which column of 'table.csv' shall be predicted?",
        "mw data show",
    ),
    (("produce", "nothing.csv", "--target", "y"), BAD_INPUT, "MW1207", "there is no file 'nothing.csv'", ""),
    (("produce", "tabel.csv", "--target", "y"), BAD_INPUT, "MW1207", "Did you mean 'table.csv'?", ""),
    (
        ("produce", "table.csv", "--target", "y", "--gate", "roc_auc"),
        USAGE,
        "MW1305",
        "is not NAME=VALUE",
        "--gate",
    ),
    (
        ("produce", "table.csv", "--target", "y", "--gate", "auc=high"),
        BAD_INPUT,
        "MW1207",
        "gate.auc: 'high'",
        "",
    ),
    (
        ("produce", "table.csv", "--target", "y", "--budget", "soon"),
        BAD_INPUT,
        "MW1207",
        "budget: 'soon'",
        "",
    ),
    (
        ("produce", "table.csv", "--target", "y", "--kind", "binry"),
        BAD_INPUT,
        "MW1207",
        "Did you mean 'binary'?",
        "",
    ),
    (
        ("produce", "table.csv", "--target", "y", "--read", "delim=;"),
        BAD_INPUT,
        "MW1207",
        "Did you mean 'delimiter'",
        "",
    ),
    (
        ("produce", "table.csv", "--target", "y", "--test-share", "0.9"),
        BAD_INPUT,
        "MW1207",
        "at most 0.5",
        "",
    ),
    (
        ("produce", "order.yaml", "--target", "y"),
        USAGE,
        "MW1303",
        "An order sets its own target",
        "write it into order.yaml",
    ),
    (("produce", "missing.yaml"), BAD_INPUT, "MW1206", "cannot be read", "mw order schema"),
    (("order", "check", "order.yaml"), BAD_INPUT, "MW1207", "line 2: tasks[0]", "mw order check order.yaml"),
    (("order", "show", "nothing"), USAGE, "MW4213", "There is no order 'nothing'", "mw order list"),
    (("order", "resume", "nothing"), USAGE, "MW4213", "There is no order 'nothing'", "mw order list"),
    (
        ("package", "verify", "nothing"),
        USAGE,
        "MW4211",
        "There is no package or model 'nothing'",
        "mw model list",
    ),
    (("package", "verify", "empty"), UNTRUSTED, "MW3", "", ""),
    (("predict", "nothing", "table.csv"), USAGE, "MW4211", "There is no package", "mw model list"),
    (("cost", "--by", "moodel"), USAGE, "MW1329", "Did you mean 'model'", "--by model"),
    (("completion", "bsh"), USAGE, "MW1307", "Did you mean 'bash'", "mw completion bash"),
    (("data", "show", "nothing.csv"), BAD_INPUT, "MW11", "nothing.csv", ""),
    (("export", "full"), 9, "MW4311", "is not empty", "empty folder"),
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text("x,y\n1,a\n2,b\n")
    (tmp_path / "order.yaml").write_text("tasks:\n  - {data: table.csv}\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "number", "text", "hint"), FAULTS, ids=lambda value: str(value)[:40]
)
def test_a_mistake_is_answered(
    run: Run, files: Path, arguments: tuple[str, ...], code: int, number: str, text: str, hint: str
) -> None:
    ended = run(*arguments)
    assert ended.exit_code == code, ended.output
    assert f"error {number}" in ended.stderr
    assert text in ended.stderr
    assert not hint or f"next: {hint}" in ended.stderr or hint in ended.stderr.partition("next: ")[2]
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("arguments", [fault[0] for fault in FAULTS[:3]], ids=str)
def test_a_mistake_is_json_where_json_was_asked_for(
    run: Run, files: Path, arguments: tuple[str, ...]
) -> None:
    ended = run(*arguments, "--json")
    error = json.loads(ended.stdout)["error"]
    assert error["code"].startswith("MW")
    assert error["message"]


def test_an_unknown_option_is_answered_by_the_parser(run: Run) -> None:
    ended = run("produce", "x.csv", "--traget", "y")
    assert ended.exit_code == USAGE
    assert "--target" in ended.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2), (NotFound("x"), 2), (DataError("x"), 6), (TaskError("x"), 6), (Cancelled("x"), 7),
        (TrustError("x"), 8), (DiskFull("x"), 9), (JobCrashed("x"), 10), (MissingExtra("x"), 11),
    ],
)  # fmt: skip
def test_each_kind_of_error_has_its_exit_code(error: ModelworksError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0), (["released"], 0), (["released", "needs_evidence"], 4), (["needs_evidence", "refused"], 3),
        (["refused", "failed", "released"], 5),
    ],
)  # fmt: skip
def test_the_worst_verdict_is_the_exit_code(verdicts: list[str], code: int) -> None:
    assert verdict_exit_code(verdicts) == code
