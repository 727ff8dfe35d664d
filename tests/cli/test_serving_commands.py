"""Commands of serving without a server: what they say, and tokens (the rest is in tests/end_to_end/test_serving.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("serve",), "MW4220"),
        (("serve", "nothing"), "MW4211"),
        (("deploy", "nothing"), "MW4211"),
        (("deploy", "x", "--canary", "much"), "MW1333"),
        (("infer", "x", "--row", "{}"), "MW4222"),
        (("infer", "x"), "MW1335"),
        (("top",), "MW4222"),
        (("top", "--every", "0"), "MW1332"),
        (("endpoint", "show", "x"), "MW4210"),
        (("endpoint", "promote", "x", "1"), "MW4210"),
        (("endpoint", "set", "x", "pin"), "MW1334"),
        (("endpoint", "load", "x"), "MW4222"),
        (("token", "remove", "x"), "MW1318"),
        (("token", "add", "x", "--role", "king"), "MW1317"),
    ],
)
def test_mistakes_have_a_code_and_a_way_on(run: Run, words: tuple[str, ...], code: str) -> None:
    found = run(*words, "--json")
    assert found.exit_code == 2, found.output
    assert json.loads(found.stdout)["error"]["code"] == code


def test_a_server_elsewhere_that_does_not_answer_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWORKS_TOKEN", "x")
    found = run("infer", "x", "--row", "{}", "--url", "http://127.0.0.1:9", "--json")
    assert json.loads(found.stdout)["error"]["code"] == "MW4223"
    refused = run("deploy", "x", "--json")
    assert json.loads(refused.stdout)["error"]["code"] == "MW4211"


def test_tokens_are_shown_once_listed_and_revoked(run: Run, tmp_path: Path) -> None:
    made = json.loads(run("token", "add", "anna", "--endpoint", "city-*", "--rate", "5", "--json").stdout)
    assert len(made["token"]) >= 40
    listed = run("token", "list", "--json")
    assert json.loads(listed.stdout) == [
        {"name": "anna", "role": "infer", "endpoints": ["city-*"], "rate_per_s": 5.0}
    ]
    assert made["token"] not in listed.stdout
    assert run("token", "remove", "anna").exit_code == 0
    assert json.loads(run("token", "list", "--json").stdout) == []


def test_nothing_is_served_and_nothing_is_listed(run: Run) -> None:
    assert json.loads(run("endpoint", "list", "--json").stdout) == []
