"""One row per measurement, appended at once, so that a run that is cut leaves what it had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results") / "2026-11-25.jsonl"


def write_row(row: dict[str, Any]) -> None:
    """Append a row and print it."""
    RESULTS.parent.mkdir(exist_ok=True)
    text = json.dumps(
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    )
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(text + "\n")
    print(text, flush=True)
