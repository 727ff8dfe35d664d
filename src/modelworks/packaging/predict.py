"""Predict with this package; needs only onnxruntime and numpy, and tokenizers where it holds a tokenizer.json.

python predict.py rows.csv   or   python predict.py rows.json   ([{"age": 31, "city": "Bern"}, ...])
"""

import csv
import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOLDER = Path(__file__).resolve().parent
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MISSING = (None, "")


def number(value: Any) -> float:
    """Turn a number or its text into a float; missing -> NaN."""
    return float("nan") if value in MISSING else float(value)


def text(value: Any) -> str:
    """Turn a value into a text; missing -> the empty text."""
    return "" if value is None else str(value)


def microseconds(value: Any) -> int:
    """Turn an ISO 8601 text (UTC if it names no zone) into microseconds since 1970; missing -> INT64 minimum."""
    if value in MISSING:
        return -(2**63)
    if str(value).lstrip("-").isdigit():
        return int(value)
    moment = datetime.fromisoformat(str(value))
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // timedelta(microseconds=1)


COLUMNS: dict[str, Any] = {
    "FP32": (np.float32, number),
    "BYTES": (object, text),
    "INT64": (np.int64, microseconds),
}


def pack(tensor: dict[str, Any], row: dict[str, Any], encode: Any = None) -> Any:
    """Turn the columns of one row into one input: columns side by side, or one text, image or series."""
    shape, kind = tensor["shape"], tensor["datatype"]
    if len(shape) == 2 and shape[1] > 0:
        dtype, convert = COLUMNS[kind]
        return np.array([[convert(row.get(column)) for column in tensor["columns"]]], dtype)
    value = row.get(tensor["columns"][0])
    if encode and (ids := encode(value or "").ids) is not None:
        return np.array([(ids if tensor["name"] == "token_ids" else [1] * len(ids)) or [0]], np.int64)
    if kind == "INT64":
        return np.array([[ord(mark) for mark in value or ""] or [-1]], np.int64)
    if kind == "UINT8":
        return np.array([value], np.uint8)
    packed, series = np.full((1, *shape[1:]), np.nan, np.float32), np.atleast_2d(np.array(value, np.float32))
    spot = slice(-series.shape[1], None) if tensor["name"] == "history" else slice(series.shape[1])
    packed[0, :, spot] = series[:, -shape[2] :]
    return packed


def encoder(declared: dict[str, Any]) -> Any:
    """Return what turns a text into tokens, after its file was checked."""
    from tokenizers import Tokenizer

    data = (FOLDER / declared["file"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != declared["sha256"]:
        sys.exit("tokenizer.json is not the file the manifest names; fetch the package again")
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(declared["max_tokens"])
    return tokenizer.encode


def main(source: Path) -> None:
    """Read rows, check the graph's digest, pack what the manifest names, print one JSON line a row."""
    manifest = json.loads((FOLDER / "manifest.json").read_bytes())
    graph = (FOLDER / "model.onnx").read_bytes()
    if hashlib.sha256(graph).hexdigest() != manifest["files"]["model.onnx"]["sha256"]:
        sys.exit("model.onnx is not the file the manifest names; fetch the package again")
    with source.open(encoding="utf-8-sig", newline="") as stream:
        rows = json.load(stream) if source.suffix == ".json" else csv.DictReader(stream)
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        names = [tensor["name"] for tensor in manifest["signature"]["outputs"]]
        declared = manifest["signature"].get("preprocessor")
        encode = encoder(declared) if declared else None
        for row in rows:
            feeds = {tensor["name"]: pack(tensor, row, encode) for tensor in manifest["signature"]["inputs"]}
            answer = [array.tolist()[0] for array in session.run(names, feeds)]
            print(json.dumps(dict(zip(names, answer, strict=True)), ensure_ascii=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
