"""The columns of the observation log, read back from Parquet."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelworks.core.signature import CHARACTERS, NO_CHARACTER, Signature, Tensor
from modelworks.serving.observed import ObservationLimits, Open, Seen, columns_of, make_small, schema_of

PACKED = Tensor(name="numbers", datatype="FP32", shape=(-1, 2), columns=("age", "income"))
WORDS = Tensor(name="words", datatype="BYTES", shape=(-1, 1), columns=("town",))
IMAGE = Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3), columns=("photo",))
TEXT = Tensor(name=CHARACTERS, datatype="INT32", shape=(-1, -1), columns=("review",))
SCORES = Tensor(name="scores", datatype="FP32", shape=(-1, 2))
LABEL = Tensor(name="label", datatype="BYTES", shape=(-1,))
FLAG = Tensor(name="flag", datatype="BOOL", shape=(-1,))


def seen(signature: Signature, feeds: dict[str, Any], answer: dict[str, Any], **more: Any) -> Seen:
    made = Seen("e", "1", "d" * 64, signature, None, False, 5.0, 0.25, feeds, answer, frozenset())
    for name, value in more.items():
        setattr(made, name, value)
    return made


def write(path: Path, signature: Signature, parts: list[Seen], limits: ObservationLimits) -> None:
    for part in parts:
        make_small(part, limits, None)
    columns = columns_of(Open(signature, since=0.0, parts=parts))
    schema = schema_of(signature)
    table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    table.validate(full=True)
    pq.write_table(table, path)


def written(
    tmp_path: Path, signature: Signature, parts: list[Seen], limits: ObservationLimits
) -> list[dict[str, Any]]:
    path = tmp_path / "seen.parquet"
    write(path, signature, parts, limits)
    return list(pq.read_table(path).to_pylist())


def test_rows_texts_images_and_answers_come_back(tmp_path: Path) -> None:
    signature = Signature(inputs=(PACKED, WORDS, IMAGE, TEXT), outputs=(SCORES, LABEL, FLAG))
    random = np.random.default_rng(0)

    def feeds(rows: int, side: int) -> dict[str, Any]:
        codes = np.full((rows, 4), NO_CHARACTER, np.int32)
        codes[:, :2] = [0x48, 0x1F600]
        return {
            "numbers": np.arange(rows * 2, dtype=np.float32).reshape(rows, 2),
            "words": np.array([["é"]] * rows, object),
            "pixels": random.integers(0, 255, (rows, side, side, 3), dtype=np.uint8),
            CHARACTERS: codes,
        }

    def answer(rows: int) -> dict[str, Any]:
        return {
            "scores": np.full((rows, 2), 0.5, np.float32),
            "label": np.array([b"yes", "no", "yes"][:rows], object),
            "flag": np.array([True, False, True][:rows]),
        }

    small, large = feeds(3, 2), feeds(1, 40)
    mixed = feeds(2, 2)
    images = mixed["pixels"] = np.empty(2, object)
    images[0], images[1] = small["pixels"][0], large["pixels"][0]
    partly = {name: value for name, value in answer(1).items() if name != "scores"}
    parts = [
        seen(signature, small, answer(3), key="k", audit=True),
        seen(signature, large, partly, version="2"),
        seen(signature, mixed, answer(2)),
    ]
    rows = written(tmp_path, signature, parts, ObservationLimits())
    assert [row["row"] for row in rows] == [0, 1, 2, 0, 0, 1]
    assert [row["key"] for row in rows] == ["k", "k", "k", None, None, None]
    assert [row["audit"] for row in rows] == [True] * 3 + [False] * 3
    assert [row["version"] for row in rows] == ["1", "1", "1", "2", "1", "1"]
    assert [row["latency_ms"] for row in rows] == [250.0] * 6
    assert [(row["in.age"], row["in.income"]) for row in rows] == [
        (0, 1),
        (2, 3),
        (4, 5),
        (0, 1),
        (0, 1),
        (2, 3),
    ]
    assert [row["in.town"] for row in rows] == ["é"] * 6
    assert [row["in.review"] for row in rows] == ["H😀"] * 6
    pixels = small["pixels"][2]
    assert rows[2]["in.photo"] == {"sha256": None, "shape": [2, 2, 3], "values": pixels.ravel().tolist()}
    digest = hashlib.sha256(large["pixels"][0].tobytes()).hexdigest()
    assert rows[3]["in.photo"] == {"sha256": digest, "shape": [40, 40, 3], "values": None}
    assert rows[4]["in.photo"]["values"] == small["pixels"][0].ravel().tolist()
    assert rows[5]["in.photo"] == rows[3]["in.photo"]
    assert rows[0]["out.scores"] == {"sha256": None, "shape": [2], "values": [0.5, 0.5]}
    assert rows[3]["out.scores"] is None
    assert [row["out.label"] for row in rows] == ["yes", "no", "yes", "yes", "yes", "no"]
    assert [row["out.flag"] for row in rows] == [True, False, True, True, True, False]


def test_what_is_redacted_is_not_in_the_file(tmp_path: Path) -> None:
    signature = Signature(inputs=(WORDS, IMAGE), outputs=(SCORES,))
    secret = np.frombuffer(b"hidden pixels 12", np.uint8)
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    pixels[0, :, :, 0] = secret.reshape(4, 4)
    feeds = {"words": np.array([["hidden town"]], object), "pixels": pixels}
    answer = {"scores": np.array([[0.125, 0.0625]], np.float32)}
    hidden = frozenset({"town", "photo", "scores"})
    rows = written(
        tmp_path,
        signature,
        [
            seen(signature, dict(feeds), dict(answer), redact=hidden),
            seen(signature, dict(feeds), dict(answer)),
        ],
        ObservationLimits(),
    )
    assert [row["in.town"] for row in rows] == [None, "hidden town"]
    assert rows[0]["in.photo"] is None and rows[1]["in.photo"]["values"][0] == secret[0]
    assert rows[0]["out.scores"] is None
    alone = tmp_path / "alone"
    alone.mkdir()
    written(alone, signature, [seen(signature, feeds, answer, redact=hidden)], ObservationLimits())
    content = (alone / "seen.parquet").read_bytes()
    assert b"hidden town" not in content and pixels.tobytes() not in content
    assert answer["scores"].tobytes() not in content


def test_a_table_of_many_columns_is_kept_whole(tmp_path: Path) -> None:
    names = tuple(f"c{index}" for index in range(40))
    wide = Tensor(name="numbers", datatype="FP64", shape=(-1, 40), columns=names)
    signature = Signature(inputs=(wide,), outputs=(FLAG,))
    values = np.arange(80.0).reshape(2, 40)
    part = seen(signature, {"numbers": values}, {"flag": np.array([True, False])})
    rows = written(tmp_path, signature, [part], ObservationLimits(values=10))
    assert [row["in.c39"] for row in rows] == [39.0, 79.0]


def test_writing_does_not_import_pandas(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; sys.path.insert(0, sys.argv[1]);"
        "import test_observed_columns as t; np = t.np;"
        "part = t.seen(t.Signature(inputs=(t.PACKED, t.IMAGE), outputs=(t.SCORES,)),"
        " {'numbers': np.zeros((1, 2), 'f'), 'pixels': np.zeros((1, 2, 2, 3), 'B')},"
        " {'scores': np.zeros((1, 2), 'f')});"
        "t.write(pathlib.Path(sys.argv[2]), part.signature, [part], t.ObservationLimits());"
        "sys.exit('pandas' in sys.modules)"
    )
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", code, here, str(tmp_path / "seen.parquet")]
    assert subprocess.run(command, check=False).returncode == 0
