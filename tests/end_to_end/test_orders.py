"""Orders through the command line: verdicts, bill, budget, stopping, resuming, reports."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine

pytestmark = pytest.mark.slow

SMALL = """
name: small
defaults: {explain: false}
tasks:
  - {data: TABLES/penguins.csv, targets: [species, sex]}
  - {data: TABLES/heart_cleveland.tsv, target: target, gate: {roc_auc: ">= 0.999"}}
  - {data: TABLES/auto_mpg.csv, name: wrong, target: mgp}
  - {data: TABLES/auto_mpg.csv, name: mpg, target: mpg, priority: 9}
"""


def test_an_order_from_files_to_verdicts(
    mw: CommandLine, order_file: Callable[[str], Path], tmp_path: Path
) -> None:
    order = order_file(SMALL)
    out = tmp_path / "out"
    done = mw.json("produce", str(order), "--out", str(out), code=3)
    verdicts = {line["task"]: line["verdict"]["kind"] for line in done["lines"]}
    assert verdicts["heart_cleveland"] == "refused"
    assert verdicts["wrong"] == "refused"
    (wrong,) = [line for line in done["lines"] if line["task"] == "wrong"]
    assert "Did you mean 'mpg'" in wrong["verdict"]["cause"]
    assert {"penguins-species", "penguins-sex", "mpg"} >= {
        name for name, kind in verdicts.items() if kind == "released"
    }
    for line in done["lines"]:
        if line["path"]:
            assert (Path(line["path"]) / "model.onnx").exists()
            assert (out / line["task"] / "manifest.json").exists()
        if line["task"] != "wrong":
            assert Path(line["report"]).read_text().lower().startswith("<!doctype html")
            assert line["looks"] >= 1
    page = Path(done["report"]).read_text()
    assert "<script" not in page.lower()
    assert "small" in page

    whole, steps, tasks = (done["cost"][key] for key in ("whole", "steps", "tasks"))
    assert whole["cpu_s"] == pytest.approx(sum(bill["cpu_s"] for bill in steps.values()), abs=1e-3)
    assert whole["cpu_s"] == pytest.approx(sum(bill["cpu_s"] for bill in tasks.values()), abs=1e-3)
    assert whole["money"] > 0
    assert done["cost"]["unshared"]["cpu_s"] > whole["cpu_s"]
    assert done["forecast"]["cpu_s"] > 0
    assert len(done["curve"]) == len(tasks)

    shown = mw.run("order", "show", "small")
    assert "penguins-species" in shown.stdout and "refused" in shown.stdout
    assert mw.json("order", "list")[0]["status"] == "done"
    bill = mw.json("cost", "small", "--by", "step", "--curve")
    assert {row["step"] for row in bill["rows"]} == {"ingest", "fit", "judge", "engine"}
    assert bill["total"]["cpu_s"] == pytest.approx(whole["cpu_s"])
    remembered = mw.json("memory", "show")["lessons"]
    assert {lesson["task"] for lesson in remembered} == set(verdicts) - {"wrong"}


def test_the_budget_of_an_order_stops_it_and_a_higher_one_resumes(
    mw: CommandLine, order_file: Callable[[str], Path]
) -> None:
    order = order_file(SMALL + "budget: 500ms\n")
    first = mw.json("produce", str(order), code=5)
    stopped = [line for line in first["lines"] if line["verdict"]["kind"] == "failed"]
    assert stopped
    assert "budget" in stopped[0]["verdict"]["cause"]
    command = stopped[0]["verdict"]["fix"]
    assert re.fullmatch(r"mw order resume small-\w+ --budget \d+s", command)
    assert first["resume"].startswith("mw order resume small-")
    resumed = mw.json("order", "resume", "small", "--budget", "10m", code=3)
    assert not [line for line in resumed["lines"] if line["verdict"]["kind"] == "failed"]


def test_ctrl_c_stops_well_and_prints_how_to_resume(
    mw: CommandLine, order_file: Callable[[str], Path]
) -> None:
    process = mw.start("produce", str(order_file(SMALL)))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("plan:"):
            break
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    command = re.search(r"next: mw (order resume \S+)", err)
    assert command is not None
    assert "Traceback" not in err
    assert mw.json("order", "list")[0]["status"] == "cancelled"
    resumed = mw.json(*command[1].split(), code=3)
    assert len(resumed["lines"]) == 5
    assert mw.json("doctor", "--strict")["ok"]


def test_another_process_can_cancel_a_run_and_two_cannot_share_it(
    mw: CommandLine, order_file: Callable[[str], Path]
) -> None:
    order = order_file(SMALL)
    process = mw.start("produce", str(order))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("plan:"):
            break
    rival = mw.run("produce", str(order))
    assert rival.returncode == 9
    assert "being worked on by another process" in rival.stderr
    assert "stops at its next safe point" in mw.run("order", "cancel", "small").stdout
    _, err = process.communicate(timeout=120)
    assert process.returncode in (130, 3), err


def test_a_plan_fits_nothing(mw: CommandLine, order_file: Callable[[str], Path]) -> None:
    plan = mw.json("produce", str(order_file(SMALL)), "--dry-run")
    assert [task["task"] for task in plan["tasks"]] == [
        "mpg",
        "penguins-species",
        "penguins-sex",
        "heart_cleveland",
    ]
    assert plan["low"] <= plan["cpu_s"] <= plan["high"]
    assert mw.json("order", "list") == []
    assert mw.json("model", "list") == []
