"""Rows of results, appended as they are found, so that a run that is cut leaves what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelworks.algorithms.plugins import estimator

RESULTS = Path(__file__).parent / "results" / "2026-11-26-formula.jsonl"


def record(row: dict[str, Any]) -> None:
    """Append a row and show it."""
    row = {**row, "recipe": version()}
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def version() -> int:
    """Return the version of the recipe that is measured."""
    return int(estimator("samples.heads")().card.version)


def rows() -> list[dict[str, Any]]:
    """Return every recorded row."""
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
