"""Completion, colours, streams: what a terminal and a script each get."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("shell", "words", "found"),
    [
        ("bash", {"COMP_WORDS": "mw pro", "COMP_CWORD": "1"}, "produce"),
        ("bash", {"COMP_WORDS": "mw produce --tar", "COMP_CWORD": "2"}, "--target"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "mw order sh"}, "show"),
        ("fish", {"_TYPER_COMPLETE_ARGS": "mw order ", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "resume"),
    ],
)
def test_a_shell_completes_commands_and_options(
    run: Run, shell: str, words: dict[str, str], found: str
) -> None:
    assert "_MW_COMPLETE=complete_" + shell in run("completion", shell).stdout
    ended = subprocess.run(
        [sys.executable, "-m", "modelworks"],
        env={**os.environ, **words, "_MW_COMPLETE": f"complete_{shell}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found in ended.stdout


def test_results_are_on_stdout_and_nothing_else(run: Run) -> None:
    ended = run("order", "list", "--json")
    assert json.loads(ended.stdout) == []
    assert ended.stderr == ""


def test_there_is_no_colour_off_a_terminal(run: Run) -> None:
    assert "\x1b" not in run("doctor").output
    assert "\x1b" not in run("--help").output


def test_the_schema_is_printed(run: Run) -> None:
    assert json.loads(run("order", "schema").stdout)["title"] == "Modelworks order"


def test_a_question_without_a_person_is_a_no(run: Run) -> None:
    from modelworks.control.service import Service
    from modelworks.production.memory import Facts, Lesson

    lesson = Lesson(facts=Facts(kind="binary", rows=9), members=(), cpu_s=1.0, task="t")
    service = Service.open()
    service.workspace.catalog.memory.remember("lessons", "k", lesson.to_json())
    assert "use --yes" in run("memory", "clear").stderr
    assert len(service.memory_show()["lessons"]) == 1
    assert run("memory", "clear", "--yes").stdout == "forgot 1 lessons\n"
    assert service.memory_show()["lessons"] == []
