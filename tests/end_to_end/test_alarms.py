"""From a stream with labelled events to a released detector and its alarms, by the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine

pytestmark = pytest.mark.slow

EVENTS = (700, 1300, 1500, 1700, 1850)


def write(path: Path, *, label: bool, events: tuple[int, ...] = EVENTS, size: int = 2000) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(size)
    values = 20 + np.sin(time / 24 * 2 * np.pi) + 0.1 * rng.normal(size=size)
    strange = np.zeros(size, int)
    for start in events:
        values[start : start + 12] = 20 + rng.normal(size=12)
        strange[start : start + 12] = 1
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["pressure", *(["fault"] if label else [])])
        for value, mark in zip(values.tolist(), strange.tolist(), strict=True):
            writer.writerow([f"{value:.5f}", *([mark] if label else [])])


def test_faults_of_a_pump_are_found(mw: CommandLine, tmp_path: Path) -> None:
    write(tmp_path / "pump.csv", label=True)
    write(tmp_path / "fresh.csv", label=False)
    done = mw.json(
        "produce", str(tmp_path / "pump.csv"), "--target", "fault", "--kind", "anomaly",
        "--test-share", "0.5", "--option", "season=24",
    )  # fmt: skip
    (line,) = done["lines"]
    assert line["verdict"]["kind"] == "released", line["verdict"]
    measures = {item["name"]: item["value"] for item in line["measures"]}
    assert measures["roc_auc"] > 0.8 and measures["event_recall"] >= 0.75, measures
    verified = mw.run("package", "verify", "pump").stdout
    assert "golden examples answered as expected" in verified, verified
    # The label is for judging only: fresh values come without it.
    rows = mw.json("predict", "pump", str(tmp_path / "fresh.csv"))
    assert len(rows) == 2000 and set(rows[0]) == {"step", "score", "anomalous"}
    alarms = np.flatnonzero([row["anomalous"] for row in rows])
    assert all(((alarms >= start) & (alarms < start + 12)).any() for start in EVENTS[1:4])
    refused = mw.run(
        "produce",
        str(tmp_path / "pump.csv"),
        "--target",
        "fault",
        "--kind",
        "anomaly",
        "--option",
        "horizon=3",
    )
    assert refused.returncode and "MW1241" in refused.stderr


def test_alarms_of_events_and_what_moved_them(mw: CommandLine, tmp_path: Path) -> None:
    # Closer together than the detector remembers (320 values): none may hide the next one.
    write(tmp_path / "pump.csv", label=True, events=(700, *range(1600, 3000, 170)), size=3000)
    done = mw.json(
        "produce", str(tmp_path / "pump.csv"), "--target", "fault", "--kind", "anomaly", "--option", "alarm=event",
        "--test-share", "0.5", "--option", "season=24", "--name", "events",
    )  # fmt: skip
    (line,) = done["lines"]
    assert line["verdict"]["kind"] == "released", line["verdict"]
    rows = mw.json("predict", "events", str(tmp_path / "pump.csv"))
    alarms = np.flatnonzero([row["anomalous"] for row in rows])
    judged = alarms[alarms >= 1500]
    # Each of the nine sealed events is told once or twice, and hardly anything else is.
    told = [any(start <= alarm < start + 40 for alarm in judged) for start in range(1600, 3000, 170)]
    assert sum(told) >= 8 and len(judged) <= 14, judged
    told = mw.json("explain", "events")
    assert told["contributions"] and told["base_is"] == "the same series held at its mean"
    total = told["base"] + sum(item["contribution"] for item in told["contributions"])
    assert abs(total - told["prediction"]) < 1e-3 * max(1, abs(told["prediction"]))
    for option in ("alarm=evnt", "false_alarm_rate=2"):
        refused = mw.run(
            "produce", str(tmp_path / "pump.csv"), "--target", "fault", "--kind", "anomaly", "--option", option,
        )  # fmt: skip
        assert refused.returncode and ("MW1253" in refused.stderr or "MW1259" in refused.stderr)
