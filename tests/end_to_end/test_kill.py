"""F1, F2: kill -9 at any moment, then the same command: nothing repeated, nothing lost, nothing released twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine

from modelworks.storage.catalog import Catalog
from modelworks.storage.store import Store

ORDER = """
name: killed
defaults: {explain: false, budget: 20s}
tasks:
  - {data: TABLES/penguins.csv, targets: [species, sex, body_mass_g]}
  - {data: TABLES/heart_cleveland.tsv, target: target}
  - {data: TABLES/heart_cleveland.tsv, name: strict, target: target, gate: {roc_auc: ">= 0.999"}}
  - {data: TABLES/auto_mpg.csv, target: mpg}
"""
TASKS = {"penguins-species", "penguins-sex", "penguins-body_mass_g", "heart_cleveland", "strict", "auto_mpg"}


def running_steps(home: Path) -> int:
    """Return how many attempts were begun, without disturbing the run."""
    path = home / "modelworks.db"
    if not path.exists():
        return 0
    with Catalog(path) as catalog:
        return len(catalog.ledger.attempts())


def kill_after(mw: CommandLine, order: Path, steps: int, delay: float) -> bool:
    """Start the order and kill its whole session once ``steps`` attempts have begun; says whether it still ran."""
    process = mw.start("produce", str(order))
    deadline = time.monotonic() + 120
    while running_steps(mw.home) < steps and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(delay)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    return alive


@pytest.mark.slow
def test_killed_anywhere_and_started_again(mw: CommandLine, order_file: Callable[[str], Path]) -> None:
    seed = int(os.environ.get("MODELWORKS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"MODELWORKS_SEED={seed}")
    dice = random.Random(seed)
    order = order_file(ORDER)
    kills = 0
    for _ in range(5):
        begun = running_steps(mw.home)
        kills += kill_after(mw, order, begun + dice.randint(1, 6), dice.random() * 0.4)
    assert kills >= 2
    # A stopped run is resumed by its lease at once: its holder is dead.
    shown = mw.json("produce", str(order), code=3)
    verdicts = {line["task"]: line["verdict"]["kind"] for line in shown["lines"]}
    assert set(verdicts) == TASKS
    assert verdicts["strict"] == "refused"
    assert "failed" not in verdicts.values()

    with Catalog(mw.home / "modelworks.db") as catalog:
        (run,) = catalog.runs.find(kind="order")
        attempts = catalog.ledger.attempts(run=run.id)
        done = Counter(
            attempt.key for attempt in attempts if attempt.status == "done" and attempt.step != "engine"
        )
        assert set(done.values()) == {1}, "a finished step was repeated"
        assert not [attempt for attempt in attempts if attempt.status == "running"]
        lost = [attempt for attempt in attempts if attempt.status == "lost"]
        assert len({attempt.id for attempt in attempts}) == len(attempts)
        assert len([attempt for attempt in lost if attempt.step == "engine"]) == kills
        for name, kind in verdicts.items():
            released = kind == "released"
            assert len(catalog.names.history("model", name)) == int(released), f"{name} was not released once"
            assert len(catalog.packages.find(name=name)) == int(released)
        live = Store(mw.home / "artifacts").expand(catalog.live_digests())
    assert all(Store(mw.home / "artifacts").has(digest) for digest in live)

    total = shown["cost"]["whole"]["cpu_s"]
    assert total == pytest.approx(sum(attempt.usage.cpu_s for attempt in attempts), abs=1e-3)
    assert total == pytest.approx(sum(line["cpu_s"] for line in shown["cost"]["tasks"].values()), abs=1e-3)

    again = mw.json("produce", str(order), code=3)
    assert again["lines"] and {line["task"] for line in again["lines"]} == TASKS
    with Catalog(mw.home / "modelworks.db") as catalog:
        later = catalog.ledger.attempts(run=run.id)
    assert {attempt.step for attempt in later[len(attempts) :]} == {"engine"}, (
        "the finished order did work again"
    )
    doctor = mw.json("doctor", "--strict")
    assert doctor["ok"]
    assert not list((mw.home / "artifacts" / "staging").iterdir())
