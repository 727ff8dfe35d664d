"""Tasks over samples with a recipe of their own: names say what is normal, and nothing else is learned from."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelworks.core.errors import TaskError
from modelworks.core.task import Limits, Task, TaskKind
from modelworks.data import open_table
from modelworks.data.samples.normal import normal_class, sample_target
from modelworks.production.reading import read_table
from modelworks.production.sample_fitting import fit_samples
from modelworks.production.sample_judging import Files, judge_samples

Image = pytest.importorskip("PIL.Image")
DRAWN = {
    "policy": {"kind": "auto", "group": None, "time": None, "test_share": 0.2},
    "seed": 0,
    "sealed_from": None,
}


def _task(**options: Any) -> Task:
    small = {"atoms": 8, "memory": 60, "images": 30, **options}
    return Task(
        name="t", data="t.zip", target="label", modality="image", kind=TaskKind.ANOMALY, options=small,
        limits=Limits(latency_ms=1000),
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 40 flat noisy pictures, and 20 with a bright square."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("normal")
    with zipfile.ZipFile(folder / "t.zip", "w") as archive:
        for index in range(60):
            image = rng.integers(90, 130, (24, 24, 3))
            if index >= 40:
                image[8:14, 8:14] = 250
            held = io.BytesIO()
            Image.fromarray(image.astype(np.uint8)).save(held, format="PNG")
            archive.writestr(f"{'part_ok' if index < 40 else 'dent'}/{index}.png", held.getvalue())
    (folder / "table").mkdir()
    read_table(folder / "t.zip", None, {}, folder / "table", isolate=False)
    return folder / "table"


def test_a_task_on_normal_images_is_fitted_and_judged(table: Path, tmp_path: Path) -> None:
    value = fit_samples(table, _task(), "image", DRAWN, tmp_path)
    rows = np.load(tmp_path / "rows.npy")
    labels = np.array(open_table(table)[0].column("label").to_pylist())
    assert set(labels[rows == 1]) == {"part_ok"}
    assert set(labels[rows == 2]) == {"part_ok", "dent"}
    assert value["rows"] == {"train": int((rows == 1).sum()), "test": int((rows == 2).sum())}
    files = Files(
        table=table, record=tmp_path / "fit.json", rows=tmp_path / "rows.npy", model=tmp_path / "model.onnx",
        constant=tmp_path / "constant.onnx", reference=tmp_path / "reference.onnx",
    )  # fmt: skip
    judged = judge_samples(files, _task(), 1, tmp_path)
    evaluation = judged.findings["evaluation"]
    assert evaluation["kind"] == "anomaly" and evaluation["units"] is None
    assert evaluation["measures"][0]["value"] > 0.9
    assert judged.findings["baselines"]["constant"]["other"] == 0.5
    assert judged.findings["baselines"]["reference"]["other"] > 0.5
    assert json.loads((tmp_path / "judged.json").read_text())["verdict"]["kind"] in {"released", "refused"}


def test_the_normal_class_is_named_or_names_itself(table: Path) -> None:
    opened, schema = open_table(table)
    found = sample_target(opened, schema, _task(), TaskKind.ANOMALY)
    assert found.values.tolist().count(0) == 40 and found.classes == ("normal", "anomalous")
    turned = sample_target(opened, schema, _task(normal="dent"), TaskKind.ANOMALY)
    assert turned.values.tolist().count(0) == 20
    assert normal_class(_task(), ["a", "b_Free"]) == "b_Free"


@pytest.mark.parametrize(
    ("options", "levels"), [({}, ["a", "b"]), ({}, ["ok", "good"]), ({"normal": "c"}, ["a", "ok"])]
)
def test_a_normal_class_that_is_not_clear_is_asked_for(options: dict[str, str], levels: list[str]) -> None:
    with pytest.raises(TaskError) as caught:
        normal_class(_task(**options), levels)
    assert caught.value.error_code == "MW1251"


def test_without_an_anomalous_sample_nothing_can_be_judged(table: Path) -> None:
    opened, schema = open_table(table)
    normal = opened.filter(np.array(opened.column("label").to_pylist()) == "part_ok")
    with pytest.raises(TaskError) as caught:
        sample_target(normal, schema, _task(), TaskKind.ANOMALY)
    assert caught.value.error_code == "MW1252"
