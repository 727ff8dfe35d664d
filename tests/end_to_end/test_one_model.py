"""One model from a file, and everything a person does with it afterwards."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from command_line import CommandLine

import modelworks as mw_api
from modelworks.core.errors import NotFound, TaskError

pytestmark = pytest.mark.slow


def test_produce_verify_ask_explain_export(mw: CommandLine, tables: Path, tmp_path: Path) -> None:
    source = tables / "heart_cleveland.tsv"
    made = mw.json(
        "produce", str(source), "--target", "target", "--name", "heart", "--gate", "roc_auc=>= 0.6"
    )
    (line,) = made["lines"]
    assert line["verdict"]["kind"] == "released"
    assert "roc_auc >= 0.6" in [check["name"] for check in line["verdict"]["checks"]]

    verified = mw.json("package", "verify", "heart")
    assert verified["replayed"] >= 8
    assert verified["package"] == line["package"]
    shown = mw.json("package", "show", "heart")
    assert shown["lineage"]["split"]["looks"] == 1
    assert shown["cost"]["cpu_s"] > 0

    answers = mw.run("predict", "heart", str(source))
    rows = list(csv.DictReader(io.StringIO(answers.stdout)))
    assert len(rows) == 303
    assert set(rows[0]) == {"label", "p(0)", "p(1)"}
    (tmp_path / "less.csv").write_text("Age,Sex\n60,1\n")
    short = mw.run("predict", "heart", str(tmp_path / "less.csv"))
    assert short.returncode == 6
    assert "is missing" in short.stderr

    explained = mw.json("explain", "heart", "--row", "0")
    moved = sum(item["contribution"] for item in explained["contributions"])
    assert explained["base"] + moved == pytest.approx(explained["prediction"], abs=1e-6)

    for kind in ("triton", "mlflow", "docker", "predict", "mwpkg"):
        path = Path(
            mw.json("package", "export", "heart", "--to", kind, "--out", str(tmp_path / kind))["path"]
        )
        assert path.exists()
    assert mw.json("package", "verify", str(tmp_path / "mwpkg"))["package"] == line["package"]
    (tmp_path / "row.json").write_text(json.dumps([explained["row"]]))
    script = subprocess.run(
        [sys.executable, str(Path(line["path"]) / "predict.py"), str(tmp_path / "row.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(script.stdout)["label"] == explained["class"]

    stranger = CommandLine(tmp_path / "stranger")
    refused = stranger.run("package", "verify", line["path"])
    assert refused.returncode == 8
    assert "mw package trust" in refused.stderr
    (key,) = (mw.home / "keys" / "trusted").glob("*.pub")
    stranger.json("package", "trust", str(key))
    assert stranger.run("package", "verify", line["path"]).returncode == 0

    damaged = Path(line["path"]) / "model.onnx"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(data))
    assert mw.run("package", "verify", "heart").returncode == 8
    assert mw.run("doctor").returncode != 0


def test_the_python_api_from_frame_to_prediction(tables: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(tables / "penguins.csv")
    home = tmp_path / "home"
    result = mw_api.produce(frame, target="species", name="species", home=home, explain=False)
    assert result.verdict.kind == "released", result.verdict.cause
    assert result.measures["accuracy"].value > 0.9
    assert result.report().exists()
    assert "<table" in result._repr_html_()
    answers = result.predict(frame.iloc[5:9])
    assert list(answers.index) == [5, 6, 7, 8]
    assert isinstance(result.predict(pl.DataFrame(frame)), pl.DataFrame)
    assert isinstance(result.predict(pa.Table.from_pandas(frame)), pa.Table)
    row = frame.drop(columns=["species"]).iloc[0].where(frame.iloc[0].notna(), None).to_dict()
    assert result.predict(row)["label"] == answers["label"].iloc[0] == "Adelie"

    model = mw_api.load("species", home=home)
    assert model.verify()["rows"] >= 8
    assert model.explain(row)["class"] == "Adelie"
    assert set(model.columns) == set(frame.columns) - {"species"}

    strict = mw_api.produce(
        frame, target="sex", name="sex", home=home, explain=False, gate={"roc_auc": ">= 0.9999"}
    )
    assert strict.verdict.kind == "refused"
    with pytest.raises(NotFound, match="has no package"):
        _ = strict.package
    with pytest.raises(TaskError, match="Did you mean 'species'"):
        mw_api.produce(frame, target="specis", home=home)


def test_settings_refit_only_what_they_change(tables: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = tables / "auto_mpg.csv"

    def steps(**settings: object) -> dict[str, int]:
        result = mw_api.produce(path, target="mpg", home=home, explain=False, **settings)
        service = mw_api.Service.open(home=home)
        (row, *_) = service.workspace.catalog.runs.find(kind="order")
        attempts = service.workspace.catalog.ledger.attempts(run=row.id)
        service.close()
        assert result.line.task == "auto_mpg"
        counted = {"ingest": 0, "fit": 0, "judge": 0, "engine": 0}
        for attempt in attempts:
            counted[attempt.step] += 1
        return counted

    assert steps() == {"ingest": 1, "fit": 1, "judge": 1, "engine": 1}
    assert steps(gate={"r2": ">= 0.1"}) == {"ingest": 0, "fit": 0, "judge": 1, "engine": 1}
    assert steps(seed=1) == {"ingest": 0, "fit": 1, "judge": 1, "engine": 1}
