"""What reports show of sealed samples: the surest errors first, true neighbours, a map that is always the same."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelworks.core.task import TaskKind
from modelworks.production.sample_showing import Showing, two_components, unit_rows

ROWS = 40


def _png(level: int) -> bytes:
    image = pytest.importorskip("PIL.Image")
    written = io.BytesIO()
    image.new("RGB", (300, 200), (level, level, level)).save(written, "PNG")
    return written.getvalue()


def _showing(kind: TaskKind, column: pa.Array, outputs: dict[str, Any], truth: Any, classes: Any) -> Showing:
    embeddings = np.eye(ROWS, 6, dtype=np.float32) + np.arange(ROWS, dtype=np.float32)[:, None] / ROWS
    return Showing(
        pa.table({"x": column}),
        "x",
        kind,
        classes,
        sealed=np.arange(30, ROWS),
        truth=truth,
        outputs=outputs,
        train=np.arange(30),
        labels=None if kind is TaskKind.MULTILABEL else np.arange(ROWS) % max(1, len(classes)),
        embeddings=embeddings,
    )


def _classified(column: pa.Array) -> dict[str, Any]:
    truth = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    said = np.array([0, 1, 2, 1, 1, 0, 1, 1, 2, 0])
    sure = np.linspace(0.5, 0.95, 10, dtype=np.float32)
    probabilities = np.full((10, 3), 0.02, np.float32)
    probabilities[np.arange(10), said] = sure
    outputs = {"probabilities": probabilities, "label": np.array([f"c{code}" for code in said], object)}
    return _showing(TaskKind.MULTICLASS, column, outputs, truth, ("c0", "c1", "c2")).to_json()


def test_the_surest_errors_come_first_with_neighbours_of_the_training_part() -> None:
    shown = _classified(pa.array([f"text {row}" for row in range(ROWS)]))
    errors, most = shown["groups"][0], shown["groups"][1]
    assert [item["row"] for item in errors["items"]] == [36, 35, 33]
    assert [item["share"] for item in errors["items"]] == pytest.approx([0.8, 0.75, 0.65])
    assert errors["note"].startswith("3 of 10")
    assert most["title"] == "c0 named c1" and [item["row"] for item in most["items"]] == [36, 33]
    for item in errors["items"]:
        texts = [int(other["text"].split()[1]) for other in item["near"]]
        assert len(texts) == 3 and max(texts) < 30
        assert [other["truth"] for other in item["near"]] == [f"c{row % 3}" for row in texts]
    assert len(shown["map"]["x"]) == 10 and shown["map"]["right"].count(False) == 3


def test_images_become_small_pictures_and_what_is_none_is_left_out() -> None:
    column = pa.array([_png(row) if row != 36 else b"broken" for row in range(ROWS)], pa.large_binary())
    items = _classified(column)["groups"][0]["items"]
    assert "picture" not in items[0] and items[0]["row"] == 36
    picture = base64.b64decode(items[1]["picture"]["data"])
    assert items[1]["picture"]["media"] == "image/jpeg" and picture[:2] == b"\xff\xd8" and len(picture) < 4000


def test_labels_are_shown_one_by_one_and_missing_ones_never() -> None:
    truth = np.array(
        [[1, 0], [255, 0], [0, 255], [1, 1], [0, 0], [1, 0], [0, 1], [1, 0], [0, 0], [1, 1]], np.uint8
    )
    probabilities = np.where(truth == 1, 0.9, 0.1).astype(np.float32)
    probabilities[3] = (0.2, 0.9)
    probabilities[4] = (0.1, 0.97)
    outputs = {"probabilities": probabilities, "labels": probabilities > 0.5}
    column = pa.array([f"text {row}" for row in range(ROWS)])
    (group,) = _showing(TaskKind.MULTILABEL, column, outputs, truth, ("hat", "beard")).to_json()["groups"]
    assert [(item["row"], item["truth"], item["said"]) for item in group["items"]] == [
        (34, "not beard", "beard"),
        (33, "hat", "not hat"),
    ]
    assert group["note"].startswith("2 of 18")


def test_regression_shows_the_largest_errors_and_curves() -> None:
    series = pa.array(
        [[[float(row), 1.0, np.nan]] for row in range(ROWS)], pa.large_list(pa.large_list(pa.float32()))
    )
    truth = np.linspace(0, 9, 10)
    outputs = {"prediction": (truth + np.eye(10)[7] * 5).astype(np.float32)}
    (group,) = _showing(TaskKind.REGRESSION, series, outputs, truth, ()).to_json()["groups"]
    first = group["items"][0]
    assert (first["row"], first["truth"], first["said"]) == (37, "7", "12")
    assert first["series"] == [[37.0, 1.0]]


def test_the_map_holds_most_of_the_variance_and_does_not_turn() -> None:
    rng = np.random.default_rng(3)
    flat = rng.standard_normal((50, 2)) @ rng.standard_normal((2, 20))
    points, share = two_components(flat.astype(np.float32))
    again, _ = two_components(flat.astype(np.float32)[:, ::-1])
    assert share > 0.999
    np.testing.assert_allclose(points, again, atol=1e-3)
    one, none = two_components(np.ones((3, 4), np.float32))
    assert not one.any() and none == 0.0
    np.testing.assert_allclose(
        np.linalg.norm(unit_rows(np.array([[3.0, 4.0], [0, 0]], np.float32)), axis=1), [1, 0]
    )


def test_what_was_found_and_missed_is_shown_with_its_heat() -> None:
    truth = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    score = np.array([0.2, 1.5, 0.3, 0.4, 0.1, 1.2, 3.0, 0.9, 0.5, 2.0], np.float32)
    heat = np.zeros((10, 4, 4), np.float32)
    heat[:, 1, 2] = score
    outputs = {"score": score, "anomalous": score > 1, "heat": heat}
    column = pa.array([_png(row) for row in range(ROWS)])
    shown = _showing(TaskKind.ANOMALY, column, outputs, truth, ("normal", "anomalous")).to_json()
    rows = {group["title"]: [item["row"] for item in group["items"]] for group in shown["groups"]}
    assert rows == {"Anomalies found": [36, 39, 35], "Anomalies missed": [38, 37], "False alarms": [31]}
    item = shown["groups"][0]["items"][0]
    assert item["truth"] == item["said"] == "anomalous" and item["score"] == 3.0
    drawn = np.asarray(
        pytest.importorskip("PIL.Image").open(io.BytesIO(base64.b64decode(item["heat"]["data"])))
    )
    red, blue = drawn[36, 60].astype(int), drawn[90, 5].astype(int)
    assert red[0] > red[2] and blue[2] > blue[0], "hot where it is strange, cold elsewhere"
