"""F1 and F2: SIGKILL at numbered boundaries of the line, and again while it recovers."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _drive(folder: Path, stride: int, kills: int) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, str(HERE / "crash_driver.py"), str(folder), str(stride), str(kills)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, *lines = [json.loads(line) for line in done.stdout.splitlines()]
    return first["boundaries"], lines


def _check(line: dict[str, Any], members: int) -> None:
    place = f"killed at boundary {line['point']}: "
    assert line["ends"][0] == "killed", place + "the boundary was not reached"
    assert line["ends"][-1] == "done", place + "the last start did not complete"
    assert line["repeated"] == [], place + "a finished step ran again"
    assert line["run"] == "done", place + "the run is not at its end"
    assert line["results"] == 3 + members
    assert (line["versions"], line["packages"]) == (1, 1), place + "released more or less than once"
    assert line["missing"] == [], place + "a recorded file is missing"
    assert line["left"] == [], place + "unfinished files remain after the sweep"
    assert line["bill"], place + "the bill is not the sum of the attempts"
    fits = "".join(f"fit-{member}(split(ingest(a,b\n1,2\n)))" for member in range(members))
    assert line["package"] == f"package({fits})"
    ids = [attempt[3] for attempt in line["attempts"]]
    assert len(ids) == len(set(ids))
    steps = [attempt for attempt in line["attempts"] if attempt[0] != "engine"]
    assert {status for _, status, _, _ in line["attempts"]} <= {"done", "lost"}
    done = Counter(key for _, status, key, _ in steps if status == "done")
    assert set(done.values()) == {1}, place + "a step's effect is recorded more than once"
    assert len(done) == 3 + members
    begun = Counter(
        text.removeprefix("begin ").split("-")[0] for text in line["begun"] if text.startswith("begin")
    )
    recorded = Counter(attempt[0] for attempt in steps)
    for name, count in begun.items():
        # An attempt that was recorded and killed before its first line is a row too; one that ran always has one.
        assert recorded[name] >= count, place + f"an attempt of {name} is not in the ledger"
        # The scheduler hands over one job more than there are slots, so a kill finds at most two of them.
        assert recorded[name] - count <= 2 * (len(line["ends"]) - 1), (
            place + f"rows of {name} without an attempt"
        )


def test_f1_a_kill_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    boundaries, lines = _drive(tmp_path, stride=9, kills=0)
    assert boundaries > 100
    assert len(lines) > boundaries // 9
    for line in lines:
        _check(line, 2)


def test_f2_recovery_may_be_killed_twice(tmp_path: Path) -> None:
    _, lines = _drive(tmp_path, stride=17, kills=2)
    assert sum(line["ends"][1] == "killed" for line in lines) > len(lines) // 2
    for line in lines:
        _check(line, 2)


@pytest.mark.slow
def test_f1_at_every_third_boundary(tmp_path: Path) -> None:
    boundaries, lines = _drive(tmp_path, stride=3, kills=0)
    assert len(lines) >= boundaries // 3
    for line in lines:
        _check(line, 2)
