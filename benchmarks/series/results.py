"""One row per measurement, appended at once, so that a run that is cut leaves what it had."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results") / "2026-11-26-b.jsonl"


def write_row(part: str, row: dict[str, Any]) -> None:
    """Append a row of one part of the benchmark and print it."""
    RESULTS.parent.mkdir(exist_ok=True)
    told = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    text = json.dumps({"part": part, **told})
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(text + "\n")
    print(text, flush=True)


def rows(part: str) -> list[dict[str, Any]]:
    """Return the rows of one part; of rows of one set, model and place the latest counts."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["part"] == part:
            found[tuple(str(row.get(key)) for key in ("set", "model", "origins"))] = row
    return list(found.values())


def measure_named(told: str | None, sets: Iterable[str], run: Callable[[str], None]) -> int:
    """Measure the sets that are named on the command line, one after the other."""
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("sets", nargs="+", choices=sorted(sets))
    for name in parser.parse_args().sets:
        run(name)
    return 0
