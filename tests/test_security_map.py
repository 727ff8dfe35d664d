"""The table of docs/explanation/security.md names tests that exist, at least one for every requirement it lists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "explanation" / "security.md"
SERVING = {"S1", "S2", "S3", "S4", "S5", "S6", "S8", "S10", "S11", "S13", "S19", "S20"}
FAULTS = {"F7", "F13", "F16", "F17", "F18"}


def test_every_requirement_of_serving_names_tests_that_exist() -> None:
    listed: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| ([SF]\d+) \|", line)
        if row:
            listed[row[1]] = re.findall(r"`(tests/[\w/]+\.py::\w+)`", line)
    assert set(listed) >= SERVING | FAULTS
    known: dict[str, set[str]] = {}
    for requirement, names in listed.items():
        assert names, requirement
        for name in names:
            path, _, function = name.partition("::")
            if path not in known:
                tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
                known[path] = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
            assert function in known[path], f"{requirement}: {name} is not there"
