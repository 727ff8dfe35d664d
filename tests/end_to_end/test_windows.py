"""From a log of machines to their remaining life: windows of one machine stay on one side, a new window is answered."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine

pytestmark = pytest.mark.slow


def test_remaining_life_from_windows(
    mw: CommandLine, order_file: Callable[[str], Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    with (tmp_path / "log.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["machine", "hour", "heat", "noise", "life"])
        for machine in range(40):
            size = int(rng.integers(40, 90))
            for hour in range(size):
                left = size - 1 - hour
                heat = 60 + 25 * np.exp(-left / 15) + rng.normal()
                writer.writerow([f"m{machine}", hour, f"{heat:.3f}", f"{rng.normal():.3f}", min(left, 50)])
    order = order_file(
        """
        tasks:
          - name: life
            data: log.csv
            target: life
            gate: {rmse: "<= 10"}
            kind: regression
            reading:
              series_key: machine
              series_time: hour
              series_values: [heat, noise]
              series_window: 12
              series_stride: 3
        """
    )
    done = mw.json("produce", str(order))
    (line,) = done["lines"]
    assert line["verdict"]["kind"] == "released", line["verdict"]
    assert line["kind"] == "regression"
    manifest = json.loads((Path(line["path"]) / "manifest.json").read_text())
    assert "whole groups of 'machine'" in json.dumps(manifest)
    # The same long table, a window per third hour, is answered; hot is near the end, cool is far from it.
    with (tmp_path / "new.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["machine", "hour", "heat", "noise", "life"])
        for machine, behind in (("hot", 2), ("cool", 45)):
            for hour in range(12):
                writer.writerow([machine, hour, 60 + 25 * np.exp(-(behind + 11 - hour) / 15), 0.0, ""])
    answered = mw.run("predict", "life", str(tmp_path / "new.csv"))
    assert answered.returncode == 0, answered.stderr
    rows = list(csv.DictReader(answered.stdout.splitlines()))
    found = {row["machine"]: float(row["prediction"]) for row in rows} if "machine" in rows[0] else {}
    assert found["hot"] < 15 < 35 < found["cool"], rows
