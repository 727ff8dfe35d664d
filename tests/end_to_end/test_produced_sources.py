"""Sources that are no files: a database by query, whose password is in no record; a ready-made test table."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine

pytestmark = pytest.mark.slow


def test_a_query_and_a_ready_made_test_table(
    mw: CommandLine, order_file: Callable[[str], Path], tables: Path, tmp_path: Path
) -> None:
    with (tables / "auto_mpg.csv").open(newline="") as stream:
        head, *rows = list(csv.reader(stream))
    database = tmp_path / "cars.db"
    connection = sqlite3.connect(database)
    connection.execute(f"create table cars ({', '.join(f'{name} text' for name in head)})")
    connection.executemany(f"insert into cars values ({', '.join('?' * len(head))})", rows)
    connection.commit()
    connection.close()
    for name, part in (("train.csv", rows[:300]), ("test.csv", rows[300:])):
        with (tmp_path / name).open("w", newline="") as stream:
            csv.writer(stream).writerows([head, *part])
    order = order_file(
        f"""
        defaults: {{explain: false, exclude: [name]}}
        tasks:
          - {{name: queried, data: "sqlite:///{database}", query: "select * from cars", target: mpg}}
          - {{name: parted, data: train.csv, target: mpg, split: {{test_data: test.csv}}}}
        """
    )
    done = mw.json("produce", str(order))
    lines = {line["task"]: line for line in done["lines"]}
    assert lines["queried"]["verdict"]["kind"] == "released", lines["queried"]["verdict"]
    assert lines["queried"]["kind"] == "regression"
    assert lines["parted"]["rows"] == {"train": 300, "test": 98}
    # The same order again is read again (a query has no state to ask for), and the rest follows from the bytes.
    again = mw.json("produce", str(order))
    assert {line["package"] for line in again["lines"]} == {line["package"] for line in done["lines"]}
