"""From a file of moments to a released forecaster and its forecast: real numbers, by the command line."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest
from command_line import CommandLine

pytestmark = pytest.mark.slow


def test_passengers_are_forecast(mw: CommandLine, tables: Path, tmp_path: Path) -> None:
    source = str(tables / "air_passengers.csv")
    done = mw.json(
        "produce", source, "--target", "value", "--kind", "forecast", "--option", "horizon=12",
        "--gate", "mase<=1.2", "--name", "passengers",
    )  # fmt: skip
    (line,) = done["lines"]
    assert line["verdict"]["kind"] == "released", line["verdict"]
    assert line["metric"] == "mase" and line["measures"][0]["value"] < 1
    assert {"last value", "seasonal naive", "Holt-Winters"} >= {line["baseline"]["name"]}
    assert line["rows"] == {"train": 115, "test": 29}
    verified = mw.run("package", "verify", "passengers").stdout
    assert "golden examples answered as expected" in verified, verified
    report = Path(line["report"]).read_text()
    assert "Forecasts on sealed windows" in report
    # What was tried is told with its loss and its weight, and why it ships.
    assert "Loss, at rolling origins" in report and "in the model" in report and "left out" in report
    assert re.search(r"the blend loses [0-9.]+% (less|more) than", report), "why it ships"
    # The forecast goes on behind the last month, and its quantiles are in order.
    answered = mw.run("predict", "passengers", source)
    assert answered.returncode == 0, answered.stderr
    rows = list(csv.DictReader(answered.stdout.splitlines()))
    assert [row["time"][:10] for row in rows[:2]] == ["1961-01-01", "1961-02-01"] and len(rows) == 12
    for row in rows:
        assert float(row["q0.05"]) <= float(row["prediction"]) <= float(row["q0.95"])
    told = mw.json("explain", "passengers")
    assert told["contributions"][0]["column"] == "history, 45 to 48 of 48"
    # What is judged is what answers: without the last year, the forecast meets it.
    with (tables / "air_passengers.csv").open(newline="") as stream:
        lines = stream.read().splitlines()
    (tmp_path / "until_1959.csv").write_text("\n".join(lines[:-12]) + "\n")
    found = mw.run("predict", "passengers", str(tmp_path / "until_1959.csv"))
    told = [float(row["prediction"]) for row in csv.DictReader(found.stdout.splitlines())]
    truth = [float(text.split(",")[1]) for text in lines[-12:]]
    assert math.dist(told, truth) / math.sqrt(12) < 45


def test_series_of_a_long_table_with_a_plan(mw: CommandLine, tmp_path: Path) -> None:
    source = tmp_path / "shops.csv"
    with source.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["shop", "day", "sales", "promotion"])
        for shop in ("north", "south"):
            for day in range(280):
                promotion = int(day % 11 == 3)
                sales = "" if day >= 273 else 50 + 20 * math.sin(day / 7 * 2 * math.pi) + 30 * promotion
                writer.writerow([shop, f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}", sales, promotion])
    done = mw.json(
        "produce", str(source), "--target", "sales", "--kind", "forecast", "--option", "horizon=7",
        "--option", "series=shop", "--option", "known=promotion", "--name", "shops",
    )  # fmt: skip
    (line,) = done["lines"]
    assert line["verdict"]["kind"] in {"released", "needs_evidence"}, line["verdict"]
    assert line["kind"] == "forecast" and line["measures"]
    refused = mw.run(
        "produce", str(source), "--target", "sales", "--kind", "forecast", "--option", "horizn=7"
    )
    assert refused.returncode and "MW1241" in refused.stderr
    refused = mw.run("produce", str(source), "--target", "shop", "--kind", "forecast")
    assert refused.returncode and "MW1242" in refused.stderr
    if line["verdict"]["kind"] == "released":
        told = mw.json("predict", "shops", str(source))
        assert [row["series"] for row in told] == ["north"] * 7 + ["south"] * 7, json.dumps(told[:1])
