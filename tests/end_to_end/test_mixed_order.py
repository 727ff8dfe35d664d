"""An order of tables, images, text and series: every line to a verdict, packages that hold, killed and resumed."""

from __future__ import annotations

import base64
import json
import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from sample_sources import write_images, write_listed, write_reviews, write_waves
from test_kill import kill_after, running_steps
from test_serving import ROW, serving

import modelworks as mw_api
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


def test_a_mixed_order_is_killed_resumed_and_served(mw: CommandLine, order: Path, tmp_path: Path) -> None:
    plan = mw.json("produce", str(order), "--dry-run")
    modality = {task["task"]: task["modality"] for task in plan["tasks"]}
    assert modality["stripes"] == modality["both"] == "image"
    assert (modality["reviews"], modality["waves"], modality["penguins"]) == ("text", "series", "table")

    dice = random.Random(11)
    kills = 0
    for _ in range(3):
        kills += kill_after(mw, order, running_steps(mw.home) + dice.randint(2, 7), dice.random() * 0.4)
    assert kills >= 2
    ended = mw.run("produce", str(order), "--json", timeout=600)
    assert ended.returncode == 3, ended.stderr
    done = json.loads(ended.stdout)
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

    _nothing_was_repeated(mw.home)
    assert mw.json("doctor", "--strict")["ok"]
    asked = {
        name: mw.json("predict", name, str(tmp_path / source))
        for name, source in (
            ("stripes", "stripes.zip"),
            ("reviews", "reviews.jsonl"),
            ("photo-dark", "photos"),
        )
    }
    assert [len(answers) for answers in asked.values()] == [120, 200, 120]
    _served_together(mw, tmp_path, asked)


def _nothing_was_repeated(home: Path) -> None:
    with Catalog(home / "modelworks.db") as catalog:
        attempts = [
            item for item in catalog.ledger.attempts() if item.status == "done" and item.step != "engine"
        ]
    assert set(Counter(attempt.key for attempt in attempts).values()) == {1}, "a finished step was repeated"
    steps = Counter(attempt.step for attempt in attempts)
    # Stripes and photos for three backbones each, once for all of their tasks; texts for two, waves for three.
    assert steps["embed"] == 11
    assert steps["heads"] == 5


def _served_together(mw: CommandLine, folder: Path, asked: dict[str, Any]) -> None:
    """Every package behind one engine; rows in, the answers of ``mw predict`` out."""
    with zipfile.ZipFile(folder / "stripes.zip") as archive:
        names = sorted(name for name in archive.namelist() if "broken" not in name)[:4]
        stripes = [archive.read(name) for name in names]
    photos = [path.read_bytes() for path in sorted((folder / "photos").iterdir())[:4]]
    reviews = [json.loads(line) for line in (folder / "reviews.jsonl").read_text().splitlines()[:4]]
    wave = (folder / "waves" / "waves_TEST.ts").read_text().splitlines()[3:5]
    with serving(mw, "--keep-ready") as server:
        assert set(server["endpoints"]) == TASKS - {"strict", "absent"}
        token = Path(server["token_file"]).read_text().strip()
        with mw_api.Client(server["url"], token=token) as client:
            rows = {
                "stripes": [{"image": base64.b64encode(data).decode()} for data in stripes],
                "photo-dark": [{"image": base64.b64encode(data).decode()} for data in photos],
                "reviews": [{"text": item["text"]} for item in reviews],
            }
            for name, sent in rows.items():
                answers = [client.predict(name, [row])[0] for row in sent]
                assert [answer["label"] for answer in answers] == [row["label"] for row in asked[name][:4]]
            assert client.predict("penguins", [ROW])[0]["label"] == "Adelie"
            both = [client.predict("both", [row])[0] for row in rows["photo-dark"]]
            assert [set(answer["probabilities"]) for answer in both] == [{"across", "dark"}] * 4
            series = [{"series": [float(value) for value in line.split(":")[0].split(",")]} for line in wave]
            found = client.predict("waves", series)
            assert [answer["label"] for answer in found] == [line.rpartition(":")[2] for line in wave]
