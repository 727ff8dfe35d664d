"""An order of tables, images, text and series: every line to a verdict, packages that hold, killed and resumed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from command_line import CommandLine
from sample_sources import write_images, write_listed, write_reviews, write_waves
from test_kill import kill_after, running_steps

from modelworks.storage.catalog import Catalog

pytestmark = pytest.mark.slow
pytest.importorskip("PIL")
pytest.importorskip("tokenizers")

ORDER = """
name: mixed
defaults: {explain: false, budget: 20s}
tasks:
  - {data: TABLES/penguins.csv, target: species}
  - {data: stripes.zip, target: label}
  - {data: attributes.csv, files: photos, name: photo, targets: [across, dark]}
  - {data: attributes.csv, files: photos, name: both, target: [across, dark]}
  - {data: reviews.jsonl, target: label}
  - {data: waves, target: label}
  - {data: stripes.zip, name: strict, target: label, gate: {roc_auc: ">= 1.5"}}
  - {data: stripes.zip, name: absent, target: colour}
"""
TASKS = {"penguins", "stripes", "photo-across", "photo-dark", "both", "reviews", "waves", "strict", "absent"}


@pytest.fixture
def order(tmp_path: Path, tables: Path) -> Path:
    write_images(tmp_path)
    write_listed(tmp_path)
    write_reviews(tmp_path)
    write_waves(tmp_path)
    path = tmp_path / "order.yaml"
    path.write_text(ORDER.replace("TABLES", str(tables)))
    return path


def test_a_mixed_order_ends_in_verdicts(mw: CommandLine, order: Path, tmp_path: Path) -> None:
    plan = mw.json("produce", str(order), "--dry-run")
    modality = {task["task"]: task["modality"] for task in plan["tasks"]}
    assert modality["stripes"] == modality["both"] == "image"
    assert (modality["reviews"], modality["waves"], modality["penguins"]) == ("text", "series", "table")

    done = mw.json("produce", str(order), code=3)
    lines = {line["task"]: line for line in done["lines"]}
    assert set(lines) == TASKS
    for name in ("strict", "absent"):
        assert lines[name]["verdict"]["kind"] == "refused"
    for name in TASKS - {"strict", "absent"}:
        assert lines[name]["verdict"]["kind"] == "released", lines[name]["verdict"]
        assert mw.run("package", "verify", name).returncode == 0
    assert lines["waves"]["rows"] == {"train": 120, "test": 60}
    assert lines["both"]["kind"] == "multilabel"
    assert sum(lines["photo-across"]["rows"].values()) < sum(lines["photo-dark"]["rows"].values())

    with Catalog(mw.home / "modelworks.db") as catalog:
        attempts = catalog.ledger.attempts()
    steps = Counter(attempt.step for attempt in attempts)
    # Stripes and photos for two backbones each, once for all of their tasks; texts and waves.
    assert steps["embed"] == 8
    assert steps["heads"] == 5

    for name, source in (("stripes", "stripes.zip"), ("reviews", "reviews.jsonl"), ("waves", "waves")):
        asked = mw.json("predict", name, str(tmp_path / source))
        assert len(asked) >= 120
        assert asked[0]["label"] in lines[name]["verdict"]["cause"] or asked[0]["label"]
    listed = mw.json("predict", "photo-dark", str(tmp_path / "photos"))
    assert len(listed) == 120


def test_killed_anywhere_it_is_resumed(mw: CommandLine, order: Path) -> None:
    dice = random.Random(11)
    kills = 0
    for _ in range(3):
        kills += kill_after(mw, order, running_steps(mw.home) + dice.randint(2, 7), dice.random() * 0.4)
    assert kills >= 2
    done = mw.json("produce", str(order), code=3)
    kinds = Counter(line["verdict"]["kind"] for line in done["lines"])
    assert kinds == {"released": 7, "refused": 2}
    with Catalog(mw.home / "modelworks.db") as catalog:
        ended = Counter(
            attempt.key
            for attempt in catalog.ledger.attempts()
            if attempt.status == "done" and attempt.step != "engine"
        )
    assert set(ended.values()) == {1}, "a finished step was repeated"
    assert mw.json("doctor", "--strict")["ok"]
