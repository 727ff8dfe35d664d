"""The tables of requirements and faults name tests that exist, at least one for every line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "explanation"
SERVING = {"S1", "S2", "S3", "S4", "S5", "S6", "S8", "S10", "S11", "S13", "S19", "S20"}
LISTED = {
    "security.md": SERVING | {"F7", "F13", "F16", "F17", "F18"},
    "faults.md": {"F1", "F2", "F3", "F4", "F5", "F6", "F9", "F12", "F14", "F15", "F16"},
}


@pytest.mark.parametrize("page", LISTED)
def test_every_line_names_tests_that_exist(page: str) -> None:
    listed: dict[str, list[str]] = {}
    for line in (PAGES / page).read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| ([SF]\d+) \|", line)
        if row:
            listed[row[1]] = re.findall(r"`(tests/[\w/]+\.py::\w+)`", line)
    assert set(listed) >= LISTED[page]
    known: dict[str, set[str]] = {}
    for requirement, names in listed.items():
        assert names, requirement
        for name in names:
            path, _, function = name.partition("::")
            if path not in known:
                tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
                known[path] = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
            assert function in known[path], f"{requirement}: {name} is not there"
