"""F1 on the whole product: ``mw produce`` is killed at any time, and the same command goes on."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelworks.storage.catalog import Catalog
from modelworks.storage.store import Store
from modelworks.telemetry.ledger import amortise, total

SEED = 20261123


def _table(path: Path) -> None:
    source = random.Random(SEED)
    lines = ["age,income,city,churned"]
    for _ in range(300):
        age, income = source.randint(18, 80), source.gauss(50, 12)
        churned = "yes" if age + income + source.gauss(0, 8) > 100 else "no"
        lines.append(f"{age},{income:.2f},{source.choice(['Bern', 'Basel', 'Chur'])},{churned}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _command(table: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "modelworks",
        "produce",
        str(table),
        "--target",
        "churned",
        "--json",
    ]


@pytest.mark.slow
def test_the_same_command_goes_on_after_every_kill(tmp_path: Path) -> None:
    table, home = tmp_path / "people.csv", tmp_path / "home"
    _table(table)
    environment = os.environ | {"MODELWORKS_HOME": str(home)}
    for delay_s in (2.5, 4.0, 5.0):
        process = subprocess.Popen(
            _command(table), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay_s)
        process.kill()
        process.wait()
    answers = []
    for _ in range(2):
        done = subprocess.run(
            _command(table), env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 3, 4), done.stderr[-2000:]
        answers.append(json.loads(done.stdout))
    with Catalog(home / "modelworks.db") as catalog:
        (run,) = catalog.runs.find()
        assert run.status == "done"
        attempts = catalog.ledger.attempts(run=run.id)
        finished = [item.key for item in attempts if item.status == "done" and item.step != "engine"]
        assert len(finished) == len(set(finished)), "a finished step ran again"
        assert {item.status for item in attempts} <= {"done", "lost"}
        bills = amortise(attempts, catalog.ledger.uses(run.id))
        assert sum(bill.cpu_us for bill in bills.values()) == total(attempts).cpu_us
        assert len(catalog.names.newest("model")) <= 1
        for name in catalog.names.newest("model"):
            assert name.version == 1, "released twice"
        store = Store(home / "artifacts")
        for digest in store.expand(catalog.live_digests()):
            store.verify(digest)
