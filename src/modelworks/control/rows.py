"""Rows for a server from the words of a command: JSON texts, a JSON or CSV file, standard input."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from modelworks.core.errors import DataError, UsageError

MOST_BYTES = 64 * 2**20
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
SAMPLE = ""
"""Column of a row that is one sample, whatever the model calls it."""


def read_rows(texts: Sequence[str], file: str, stdin: TextIO) -> list[dict[str, Any]]:
    """Return the rows of ``--row`` texts and of ``--file``.

    Args:
        texts: JSON objects.
        file: ``.json`` (an object or a list), ``.jsonl``, ``.csv`` or an image; ``-`` reads JSON from ``stdin``.
        stdin: Standard input.

    Raises:
        UsageError: There are no rows, or a text is not JSON.
        DataError: The file cannot be read.
    """
    rows: list[dict[str, Any]] = []
    for text in texts:
        rows.extend(_of_json(text, "--row"))
    if file == "-":
        rows.extend(_of_json(stdin.read(MOST_BYTES), "standard input"))
    elif file:
        rows.extend(_of_file(Path(file).expanduser()))
    if not rows:
        raise UsageError("There are no rows.", code="MW1335", hint="--row '{\"age\": 31}' or --file rows.csv")
    return rows


def rows_of_samples(
    rows: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return rows in which a sample stands under the model's own name for it.

    Raises:
        UsageError: A sample is sent and the model reads more than one column.
    """
    names = [name for tensor in inputs for name in tensor.get("columns") or ()]
    if any(SAMPLE in row for row in rows) and len(set(names)) != 1:
        raise UsageError(
            f"An image was given; the model reads {', '.join(names) or 'tensors'}.",
            code="MW1335",
            hint="--row '{\"age\": 31}' or --file rows.csv",
        )
    return [{names[0] if name == SAMPLE else name: value for name, value in row.items()} for row in rows]


def rows_of_texts(
    rows: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return rows of the columns a model reads; number columns hold numbers where the text is one.

    Args:
        rows: Column name -> text or ``None``.
        inputs: Tensors of the model: ``datatype``, ``columns``.
    """
    kinds = {name: tensor["datatype"] for tensor in inputs for name in tensor.get("columns") or ()}
    return [
        {
            name: _number(value) if kinds[name] == "FP32" else value
            for name, value in row.items()
            if name in kinds
        }
        for row in rows
    ]


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _of_file(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{path.name} has more than {MOST_BYTES // 2**20} MB.",
                code="MW1194",
                hint="mw predict PACKAGE FILE answers large tables without a server",
            )
        if path.suffix.lower() in IMAGES:
            return [{SAMPLE: base64.b64encode(path.read_bytes()).decode()}]
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.", code="MW1199") from None
    if path.suffix == ".jsonl":
        return [row for line in text.splitlines() if line.strip() for row in _of_json(line, path.name)]
    if path.suffix == ".json":
        return _of_json(text, path.name)
    return [
        {name: _cell(value) for name, value in row.items() if name is not None}
        for row in csv.DictReader(io.StringIO(text))
    ]


def _of_json(text: str, where: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{where} is not JSON: {error}.", code="MW1335", hint="--row '{\"age\": 31}'"
        ) from None
    if isinstance(found, dict) and isinstance(found.get("rows"), list):
        found = found["rows"]
    rows = found if isinstance(found, list) else [found]
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{where} must hold JSON objects.", code="MW1335", hint="--row '{\"age\": 31}'")
    return rows


def _cell(text: str | None) -> Any:
    return None if text is None or text == "" else text
