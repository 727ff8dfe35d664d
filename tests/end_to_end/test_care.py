"""Care of an installation that has made something: sweep, doctor, export; released models stay whatever goes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine

pytestmark = pytest.mark.slow


def test_what_was_released_outlives_the_cache(
    mw: CommandLine, order_file: Callable[[str], Path], tmp_path: Path
) -> None:
    order = order_file(
        "defaults: {explain: false}\n"
        "tasks:\n - {data: TABLES/auto_mpg.csv, target: mpg}\n"
        " - {data: TABLES/penguins.csv, target: sex, gate: {roc_auc: '>= 0.9999'}}\n"
    )
    (made,) = [line for line in mw.json("produce", str(order), code=3)["lines"] if line["path"]]
    old = time.time() - 7200
    for path in (mw.home / "artifacts").rglob("*"):
        if path.is_file():
            os.utime(path, (old, old))
    assert mw.json("gc")["blobs"] == 0
    assert mw.json("gc", "--cache")["blobs"] > 0
    doctor = mw.json("doctor", "--strict")
    assert doctor["ok"], doctor
    assert mw.json("package", "verify", "auto_mpg")["package"] == made["package"]
    assert mw.json("package", "verify", made["package"][:12])["package"] == made["package"]

    out = tmp_path / "everything"
    written = mw.json("export", str(out))
    assert written["models"] == 1
    assert mw.json("package", "verify", str(out / "models" / "auto_mpg" / "v1"))["package"] == made["package"]
    attempts = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert len(attempts) == written["attempts"] == mw.json("cost")["total"]["attempts"]
    assert (out / "orders").is_dir()

    # The cache is gone, so the order is made again; the same bytes give the same release.
    again = mw.json("produce", str(order), code=3)
    assert [line["package"] for line in again["lines"] if line["path"]] == [made["package"]]
    assert mw.json("model", "list")[0]["version"] == 1
