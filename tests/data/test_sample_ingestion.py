"""Samples of every form become a table folder; lots keep copies and groups together whatever the task."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, TaskError
from modelworks.core.schema import ColumnKind, Schema
from modelworks.core.task import SplitPolicy, TaskKind
from modelworks.data import ReadOptions, open_table, read_target
from modelworks.data.samples.forms import sample_form
from modelworks.data.samples.guarding import guard_samples
from modelworks.data.samples.ingestion import SampleReading, ingest_samples, join_samples
from modelworks.data.samples.parting import MARGIN, draw_lots, part_samples, sample_keys
from modelworks.data.samples.payload import infer_modality, payload_column, payload_values

image_module = pytest.importorskip("PIL.Image")


def _png(value: int) -> bytes:
    buffer = io.BytesIO()
    image_module.new("RGB", (6, 5), (value % 256, value // 256, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _read(source: Path, folder: Path, how: SampleReading | None = None) -> tuple[pa.Table, Schema, dict]:
    report = ingest_samples(source, folder, ReadOptions(), how or SampleReading(), isolate=False)
    table, schema = open_table(folder)
    return table, schema, report


def test_a_zip_of_folders_has_labels_parts_and_bad_files(tmp_path: Path) -> None:
    files = {
        f"{part}/{kind}/{i}.png": _png(i) for part in ("train", "test") for kind in "ab" for i in range(3)
    }
    source = _zip(tmp_path / "x.zip", {**files, "train/a/bad.png": b"nothing", "readme.md": b"hello"})
    assert sample_form(source) == "images"
    table, schema, report = _read(source, tmp_path / "out")
    assert table.num_rows == 12
    assert schema["image"].kind is ColumnKind.IMAGE
    assert report["quarantined"] == 1 and report["format"] == "images"
    assert infer_modality(schema, ["label"])[0] == "image"
    assert payload_values(table, "image", np.array([2]))[0] == files[table.column("file")[2].as_py()]
    keys = sample_keys(tmp_path / "out", table, "image")
    assert len(np.unique(keys)) == 3  # every class and part holds the same three images
    lots = draw_lots(table, schema, keys, SplitPolicy(), 0)
    split = part_samples(lots, read_target(table, schema, "label", TaskKind.BINARY), 0.2, 0)
    parts = np.array(table.column("part").to_pylist())
    assert set(parts[split.test]) == {"test"} and set(parts[split.train]) == {"train"}
    target = read_target(table, schema, "label", TaskKind.BINARY)
    codes = {item["code"] for item in guard_samples(table, schema, keys, target, split, {"label"})}
    assert "duplicates_across" in codes


def test_masks_beside_their_images_are_no_samples(tmp_path: Path) -> None:
    files = {f"{kind}/{i}.jpg": _png(i) for kind in "ab" for i in range(2)}
    masks = {"a/0_mask.png": _png(7), "b/1_SEG.png": _png(8)}
    alone = {"b/white_mask.jpg": _png(9)}
    table, _, report = _read(_zip(tmp_path / "x.zip", {**files, **masks, **alone}), tmp_path / "out")
    assert table.column("file").to_pylist() == sorted({**files, **alone})
    assert report["quarantined"] == 2
    assert "a mask of 'a/0.jpg'" in str(report)


def test_coco_parquet_jsonl_text_folders_and_series(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(4):
        (photos / f"{index}.png").write_bytes(_png(index))
    coco = {
        "images": [{"id": index, "file_name": f"{index}.png"} for index in range(4)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"image_id": image, "category_id": category} for image, category in ((0, 7), (0, 9), (2, 9))
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    table, _, report = _read(tmp_path / "instances.json", tmp_path / "a", SampleReading(files=photos))
    assert report["format"] == "coco"
    assert [str(v) for v in table.column("dog").to_pylist()] == ["1", "0", "1", "0"]

    blobs = [{"bytes": _png(index), "path": None} for index in range(3)]
    pa.parquet.write_table(pa.table({"image": blobs, "label": ["x", "y", "x"]}), tmp_path / "hf.parquet")
    table, schema, _ = _read(tmp_path / "hf.parquet", tmp_path / "b")
    assert table.num_rows == 3 and schema["image"].kind is ColumnKind.IMAGE
    pa.parquet.write_table(pa.table({"a": [1, 2]}), tmp_path / "plain.parquet")
    assert sample_form(tmp_path / "plain.parquet") == ""

    texts = _zip(
        tmp_path / "texts.zip", {f"{kind}/{i}.txt": b"some words here" for kind in "pn" for i in range(3)}
    )
    table, _, report = _read(texts, tmp_path / "c")
    assert report["format"] == "texts" and set(table.column("label").to_pylist()) == {"p", "n"}

    rows = [f"{key},{time},{key * 10 + time},{'ab'[key % 2]}" for key in range(4) for time in range(5)]
    (tmp_path / "long.csv").write_text("\n".join(["unit,cycle,speed,state", *rows]) + "\n")
    how = SampleReading(key="unit", time="cycle", values=("speed",))
    table, schema, _ = _read(tmp_path / "long.csv", tmp_path / "d", how)
    assert schema["series"].kind is ColumnKind.SERIES and table.num_rows == 4
    assert payload_values(table, "series")[1].tolist() == [[10, 11, 12, 13, 14]]


def test_a_long_table_has_names_for_series_and_few_moments(tmp_path: Path) -> None:
    rows = [f"u{key},{time},{key * 100 + time},{time * 2}" for time in range(10, 0, -1) for key in range(30)]
    (tmp_path / "long.csv").write_text("\n".join(["unit,cycle,speed,heat", *rows]) + "\n")
    how = SampleReading(key="unit", time="cycle", values=("speed", "heat"))
    table, _, _ = _read(tmp_path / "long.csv", tmp_path / "a", how)
    place = table.column("unit").to_pylist().index("u7")
    first = [list(range(701, 711)), list(range(2, 21, 2))]
    assert payload_values(table, "series")[place].tolist() == first
    with pytest.raises(DataError, match="changes within a series"):
        _read(
            tmp_path / "long.csv",
            tmp_path / "b",
            SampleReading(key="unit", time="cycle", values=("speed",)),
        )


def test_a_ready_made_test_part_goes_behind(tmp_path: Path) -> None:
    for name, count in (("train", 6), ("test", 4)):
        source = _zip(
            tmp_path / f"{name}.zip", {f"{'ab'[i % 2]}/{name}{i}.png": _png(i) for i in range(count)}
        )
        _read(source, tmp_path / name)
    joined = join_samples(tmp_path / "train", tmp_path / "test", tmp_path / "both")
    table, schema = open_table(tmp_path / "both")
    assert table.num_rows == len(sample_keys(tmp_path / "both", table, "image")) == 10
    assert joined.schema["image"].kind is ColumnKind.IMAGE
    lots = draw_lots(table, schema, sample_keys(tmp_path / "both", table, "image"), SplitPolicy(), 0, 6)
    split = part_samples(lots, read_target(table, schema, "label", TaskKind.BINARY), 0.2, 0)
    assert split.test.tolist() == [6, 7, 8, 9]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match="No column of the table name"):
        _read(tmp_path / "list.csv", tmp_path / "out", SampleReading(files=tmp_path))
    with pytest.raises(DataError, match="orders its rows"):
        _read(tmp_path / "list.csv", tmp_path / "out2", SampleReading(form="long", key="a"))
    with pytest.raises(DataError, match="None of the 1 images"):
        _read(_zip(tmp_path / "broken.zip", {"a/x.png": b"no image"}), tmp_path / "out4")
    (tmp_path / "bad.json").write_text('{"images": 3, "annotations": [], "categories": []}')
    with pytest.raises(DataError, match="COCO"):
        _read(tmp_path / "bad.json", tmp_path / "out3", SampleReading(form="coco"))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(20, 300),
    st.integers(2, 5),
    st.floats(0.1, 0.4),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_no_backbone_sees_a_sealed_sample(
    rows: int, classes: int, share: float, seed: int, shared: bool
) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**63, max(4, rows // 2)).astype(np.uint64)[
        rng.integers(0, max(4, rows // 2), rows)
    ]
    labels = rng.integers(0, classes, rows)
    table = pa.table({"label": [f"c{label}" for label in labels]})
    from modelworks.data.kinds import infer_schema

    schema = infer_schema(table)
    policy = SplitPolicy(test_share=share)
    lots = draw_lots(table, schema, keys, policy, seed)
    assert np.array_equal(lots.learn, lots.lot >= min(1.0, MARGIN * share))
    try:
        split = part_samples(
            lots, read_target(table, schema, "label", TaskKind.MULTICLASS), share, seed, shared=shared
        )
    except TaskError:
        return
    assert not lots.learn[split.test].any()
    assert not set(keys[split.test]) & set(keys[split.train])
    assert sorted([*split.train, *split.test]) == list(range(rows))
    more = draw_lots(pa.concat_tables([table, table]), schema, np.concatenate([keys, keys]), policy, seed)
    assert np.array_equal(more.lot[:rows], lots.lot)


def test_groups_stay_together_and_the_payload_is_found() -> None:
    from modelworks.data.kinds import infer_schema

    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "said": [f"some words number {i} are said here" for i in range(90)],
            "who": [f"p{i % 9}" for i in range(90)],
        }
        | {"label": [["yes", "no"][i] for i in rng.integers(0, 2, 90)]}
    )
    schema = infer_schema(table)
    assert infer_modality(schema, ["label", "who"])[0] == "text"
    assert infer_modality(schema, ["label"])[0] == "table"
    assert payload_column(schema, "text", ["label"], None) == "said"
    with pytest.raises(TaskError, match="holds no image"):
        payload_column(schema, "image", [], "said")
    keys = sample_keys(Path("nowhere"), table, "said")
    lots = draw_lots(table, schema, keys, SplitPolicy(group="who"), 3)
    split = part_samples(lots, read_target(table, schema, "label", TaskKind.BINARY), 0.3, 0)
    who = np.array(table.column("who").to_pylist())
    assert not set(who[split.test]) & set(who[split.train])


def test_value_columns_are_named_or_matched_in_the_order_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text(
        "id,t0,t1,t10,t2,kind\n" + "".join(f"a{i},{i},1,2,3,x\n" for i in range(4))
    )
    how = SampleReading(values=("t*",))
    table, _, _ = _read(tmp_path / "wide.csv", tmp_path / "out", how)
    assert payload_values(table, "series", np.array([2]))[0].tolist() == [[2, 1, 2, 3]]
    with pytest.raises(DataError, match="No column is called 'u\\*'"):
        _read(tmp_path / "wide.csv", tmp_path / "other", SampleReading(values=("u*",)))
