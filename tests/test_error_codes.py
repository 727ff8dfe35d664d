"""One code, one cause: a code belongs to one room, and a room that shares one is written down here with the reason."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
SHARED = {
    "MW1101": "a column that is not there, in a schema and in a table",
    "MW1104": "a column that the model does not have, in a file and in a request",
    "MW1105": "a value of another type, in a file and in a request",
    "MW1160": "an image that cannot be read, in the decoder and in its parent",
    "MW1186": "a file missing from the folder of a Hugging Face encoder, exported or fine-tuned",
    "MW1206": "an order that cannot be read",
    "MW1220": "too few rows or samples with a target",
    "MW4101": "the disk is full, in a job and in the store",
    "MW4302": "a run that another process took over",
}


def _hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("error_codes", ROOT / "docs" / "hooks" / "error_codes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_code_belongs_to_one_room() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for use in _hook().uses():
        rooms[use.code].add(use.room)
    assert len(rooms) > 250
    twice = {code: sorted(names) for code, names in rooms.items() if len(names) > 1 and code not in SHARED}
    assert twice == {}, "give one side a code of its own, or say in SHARED why both mean the same"


def test_the_page_of_codes_names_each_with_its_words() -> None:
    page = _hook().page()
    assert "| MW1101 | There is no column '...'.... |" in page
    missing = {use.code for use in _hook().uses() if f"| {use.code} |" not in page}
    assert missing == set()
