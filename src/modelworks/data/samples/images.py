"""Images and their labels from a folder per class, a zip file, or a table that names the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from modelworks.compute.pixels import ImageLimits, decode_image
from modelworks.core.errors import DataError, LimitError
from modelworks.data.samples.archive import Files, open_files

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
IMAGE = "image"
FILE = "file"
LABEL = "label"
PARTS = "part"
_MASK_ENDINGS = ("_mask", "-mask", "_masks", "_seg", "_segmentation")
_PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
}


def part_of(name: str) -> str | None:
    """Return which part a folder's name says: ``train``, ``valid`` or ``test``; ``None`` for any other name."""
    return _PARTS.get(name.lower())


@dataclass(frozen=True)
class ReadSamples:
    """Samples as a table and those that were set aside.

    Attributes:
        table: One row per sample; payload, file and label columns.
        bad: Set-aside samples: ``_record``, ``_reason``, ``_text``.
    """

    table: pa.Table
    bad: list[dict[str, Any]]


def read_image_folder(
    source: Path, *, skip: Sequence[str] = (), limits: ImageLimits | None = None
) -> ReadSamples:
    """Read images whose class is the name of their folder (``[part/]class/file``), from a folder or a zip file.

    Args:
        source: Folder or zip file.
        skip: Files whose name contains one of these texts are no samples (masks, say).
        limits: What an image may be.

    Returns:
        Columns ``image`` (encoded bytes), ``file``, ``label`` and, where the top folders are named train, valid or
        test, ``part``. Unreadable images, and masks beside the images they belong to, are set aside with a reason.

    Raises:
        DataError: There is no image.
    """
    with open_files(source) as files:
        names = [
            name
            for name in files.names
            if name.lower().endswith(ENDINGS) and not any(text in name for text in skip)
        ]
        if not names:
            raise DataError(f"'{source.name}' holds no image ({', '.join(ENDINGS)}).", code="MW1162")
        masked = masks_among(names)
        good, blobs, bad = _read(files, [name for name in names if name not in masked], limits)
        bad += [
            {"_record": row, "_reason": f"a mask of '{masked[name]}'", "_text": name}
            for row, name in enumerate(names)
            if name in masked
        ]
    if not good:
        raise DataError(
            f"None of the {len(names):,} images in '{source.name}' can be read: {bad[0]['_text']}: {bad[0]['_reason']}",
            code="MW1164",
        )
    folders = [PurePosixPath(name).parts[:-1] for name in good]
    parts = [next((found for part in path if (found := part_of(part))), None) for path in folders]
    columns: dict[str, Any] = {
        IMAGE: pa.array(blobs, pa.large_binary()),
        FILE: pa.array(good, pa.string()),
        LABEL: pa.array([path[-1] if path else None for path in folders], pa.string()),
    }
    if all(parts) and len(set(parts)) > 1:
        columns[PARTS] = pa.array(parts, pa.string())
    return ReadSamples(pa.table(columns), bad)


def masks_among(names: Sequence[str]) -> dict[str, str]:
    """Return masks among image files and the image each belongs to: ``a_mask.png`` beside ``a.jpg``.

    Taken for samples they would tell the classes apart by being masks.
    """
    images = {PurePosixPath(name).with_suffix("").as_posix(): name for name in names}
    found = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("").as_posix()
        owner = next(
            (images.get(stem[: -len(end)]) for end in _MASK_ENDINGS if stem.lower().endswith(end)), None
        )
        if owner is not None:
            found[name] = owner
    return found


def read_image_bytes(path: Path, column: str, *, limits: ImageLimits | None = None) -> ReadSamples:
    """Read a Parquet file with a column of encoded images (bytes, or ``{bytes, path}`` as Hugging Face writes them).

    Returns:
        The file's other columns and ``image``. Rows whose image is absent or unreadable are set aside.

    Raises:
        DataError: No row has an image.
    """
    from pyarrow import parquet

    table = parquet.read_table(path)
    cells = table.column(column).to_pylist()
    kept, blobs, bad = [], [], []
    for record, cell in enumerate(cells):
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        try:
            if data is None:
                raise DataError("there is no image", code="MW1160")
            decode_image(data, limits)
        except (DataError, LimitError) as error:
            bad.append({"_record": record, "_reason": error.message, "_text": f"row {record}"})
            continue
        kept.append(record)
        blobs.append(data)
    if not kept:
        raise DataError(f"No row of '{path.name}' has a readable image in '{column}'.", code="MW1164")
    labels = table.drop_columns([column]).take(pa.array(kept, pa.int64()))
    return ReadSamples(labels.append_column(IMAGE, pa.array(blobs, pa.large_binary())), bad)


def read_listed_images(
    labels: pa.Table, column: str, source: Path, *, limits: ImageLimits | None = None
) -> ReadSamples:
    """Read images that a column of a table names, relative to a folder or inside a zip file.

    Args:
        labels: Table with one row per image.
        column: Column with file names; a name without a folder finds its file in any folder.
        source: Folder or zip file of the images.
        limits: What an image may be.

    Returns:
        The table's columns and ``image`` (encoded bytes). Rows whose image is absent or unreadable are set aside.

    Raises:
        DataError: There is no such column, or no row has an image.
    """
    if column not in labels.column_names:
        raise DataError(f"The table has no column '{column}' with image files.", code="MW1163")
    wanted = [str(value) for value in labels.column(column).to_pylist()]
    with open_files(source) as files:
        places = places_of(wanted, files.names)
        present = [row for row, place in enumerate(places) if place is not None]
        good, blobs, bad = _read(files, [str(places[row]) for row in present], limits)
    if not good:
        raise DataError(f"No value of '{column}' names a readable image in '{source.name}'.", code="MW1164")
    lost = {item["_text"] for item in bad}
    kept = [row for row in present if places[row] not in lost]
    bad += [
        {"_record": row, "_reason": "there is no such image", "_text": wanted[row]}
        for row, place in enumerate(places)
        if place is None
    ]
    table = labels.take(pa.array(kept, pa.int64()))
    return ReadSamples(table.append_column(IMAGE, pa.array(blobs, pa.large_binary())), bad)


def places_of(wanted: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Return the file that each cell of a table names, ``None`` where there is no such file."""
    known = {name: name for name in names} | _by_last_part(names)
    return [known.get(name.removeprefix("./").lstrip("/")) for name in wanted]


def _by_last_part(names: Sequence[str]) -> dict[str, str]:
    """Map file names without folders to full names, where only one file has that name."""
    found: dict[str, str] = {}
    twice = set()
    for name in names:
        last = PurePosixPath(name).name
        if last in found:
            twice.add(last)
        found[last] = name
    return {last: name for last, name in found.items() if last not in twice}


def _read(
    files: Files, names: Sequence[str], limits: ImageLimits | None
) -> tuple[list[str], list[bytes], list[dict[str, Any]]]:
    good, blobs, bad = [], [], []
    for record, name in enumerate(names):
        try:
            data = files.read(name)
            decode_image(data, limits)
        except (DataError, LimitError) as error:
            bad.append({"_record": record, "_reason": error.message, "_text": name})
            continue
        good.append(name)
        blobs.append(data)
    return good, blobs, bad
