"""Telling what a source of samples is by its names and first bytes: images, sounds, texts, series, or a table."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

from modelworks.core.task import Modality
from modelworks.data.samples.images import ENDINGS

Form = Literal[
    "", "images", "listed", "listed_sounds", "image_bytes", "coco", "sounds", "texts", "ts", "long", "wide"
]
"""``images``, ``sounds``, ``texts``: a folder or zip file whose folders are classes; ``listed``, ``listed_sounds``: a
table and its image or wav files; ``image_bytes``: a Parquet file with encoded images; ``ts``: a UCR/UEA file, or a
folder with its two parts; ``long`` and ``wide``: tables of series; empty: a table."""

MODALITY: dict[Form, Modality] = {
    "": "table", "images": "image", "listed": "image", "image_bytes": "image", "coco": "image", "sounds": "series",
    "listed_sounds": "series",
    "texts": "text", "ts": "series", "long": "series", "wide": "series",
}  # fmt: skip
_LOOKED_AT = 5000
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".xlsx", ".xls", ".arrow", ".feather")


def sample_form(path: Path) -> Form:
    """Return what kind of samples a file or folder holds; empty for a table or anything unknown."""
    if path.is_dir():
        return _form_of_names(path.name, _folder_names(path))
    name = path.name.lower()
    if name.endswith(".ts"):
        return "ts"
    if name.endswith(ENDINGS):
        return "images"
    if name.endswith(".wav"):
        return "sounds"
    if name.endswith((".parquet", ".pq")):
        return "image_bytes" if image_bytes_column(path) else ""
    if name.endswith(".json"):
        return "coco" if _is_coco(path) else ""
    if zipfile.is_zipfile(path):
        return _form_of_names(path.name, _zip_names(path))
    return ""


def _folder_names(path: Path) -> list[str]:
    found = (item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
    return list(islice(found, _LOOKED_AT))


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [item.filename for item in archive.infolist()[:_LOOKED_AT] if not item.is_dir()]
    except (zipfile.BadZipFile, OSError):
        return []


def _form_of_names(name: str, names: list[str]) -> Form:
    shown = [
        item for item in names if not any(part.startswith((".", "__MACOSX")) for part in item.split("/"))
    ]
    count = Counter(_kind_of(item) for item in shown)
    if not count:
        return ""
    best, most = count.most_common(1)[0]
    if best == "texts" and (
        any("/" not in item for item in shown if item.endswith(".txt")) or most < len(shown) / 2
    ):
        return ""
    if best == "ts" and name and most > 2:
        return ""
    return best


def _kind_of(name: str) -> Form:
    low = name.lower()
    if low.endswith(ENDINGS):
        return "images"
    if low.endswith(".wav"):
        return "sounds"
    if low.endswith(".ts"):
        return "ts"
    return "texts" if low.endswith(".txt") and len(PurePosixPath(low).parts) > 1 else ""


def image_bytes_column(path: Path) -> str:
    """Return the column of a Parquet file that holds encoded images (bytes, or ``{bytes, path}``), or nothing."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        layout = parquet.read_schema(path)
    except (pa.ArrowException, OSError):
        return ""
    for column in layout:
        if _holds_bytes(column.type) or (
            _is_record(column.type)
            and "bytes" in {item.name for item in column.type}
            and _holds_bytes(column.type.field("bytes").type)
        ):
            return str(column.name)
    return ""


def _holds_bytes(kind: object) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_record(kind: object) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind))


def _is_coco(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(1 << 20)
    if b'"images"' not in head and b'"annotations"' not in head and b'"categories"' not in head:
        return False
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(found, dict) and {"images", "annotations", "categories"} <= set(found)
