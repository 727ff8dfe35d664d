"""Predict with this package; needs only onnxruntime and numpy.

python predict.py rows.csv   or   python predict.py rows.json   ([{"age": 31, "city": "Bern"}, ...])
"""

import csv
import hashlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOLDER = Path(__file__).resolve().parent
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MISSING = (None, "")


def microseconds(value: Any) -> int:
    """Turn an ISO 8601 text (UTC if it names no zone) into microseconds since 1970; missing -> INT64 minimum."""
    if value in MISSING or isinstance(value, int):
        return -(2**63) if value in MISSING else int(str(value))
    moment = datetime.fromisoformat(str(value))
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // timedelta(microseconds=1)


def number(value: Any) -> float:
    """Turn a number or its text into a float; missing -> NaN."""
    return float("nan") if value in MISSING else float(value)


def text(value: Any) -> str:
    """Turn a value into a text; missing -> the empty text."""
    return "" if value is None else str(value)


CONVERT: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "FP32": (np.float32, number),
    "BYTES": (object, text),
    "INT64": (np.int64, microseconds),
}


def main(source: Path) -> None:
    """Read rows, check the graph's digest, pack the columns the manifest names, print one JSON line a row."""
    manifest = json.loads((FOLDER / "manifest.json").read_bytes())
    graph = (FOLDER / "model.onnx").read_bytes()
    if hashlib.sha256(graph).hexdigest() != manifest["files"]["model.onnx"]["sha256"]:
        sys.exit("model.onnx is not the file the manifest names; fetch the package again")
    with source.open(encoding="utf-8-sig", newline="") as stream:
        rows = json.load(stream) if source.suffix == ".json" else list(csv.DictReader(stream))
    feeds = {}
    for tensor in manifest["signature"]["inputs"]:
        dtype, convert = CONVERT[tensor["datatype"]]
        values = [[convert(row.get(column)) for column in tensor["columns"]] for row in rows]
        feeds[tensor["name"]] = np.array(values, dtype).reshape(len(rows), len(tensor["columns"]))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [tensor["name"] for tensor in manifest["signature"]["outputs"]]
    for answer in zip(*(array.tolist() for array in session.run(names, feeds)), strict=True):
        print(json.dumps(dict(zip(names, answer, strict=True)), ensure_ascii=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
