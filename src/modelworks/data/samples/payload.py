"""Which column holds the samples, what modality they are of, and their values as the graphs take them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.errors import TaskError, close_matches
from modelworks.core.schema import FEATURE_KINDS, ColumnKind, Schema
from modelworks.core.task import Modality

_KIND_OF: dict[Modality, ColumnKind] = {
    "image": ColumnKind.IMAGE,
    "series": ColumnKind.SERIES,
    "text": ColumnKind.TEXT,
}


def infer_modality(schema: Schema, barred: Iterable[str]) -> tuple[Modality, str]:
    """Return the modality of a task and why: images and series win; text if it is all there is to learn from.

    Args:
        schema: Schema of the table.
        barred: Columns the model may not read: targets, weight, group and those that are excluded.
    """
    kinds = {column.kind for column in schema.columns}
    if ColumnKind.IMAGE in kinds:
        return "image", "the samples are images"
    if ColumnKind.SERIES in kinds:
        return "series", "the samples are series"
    unread = set(barred)
    features = [
        column for column in schema.columns if column.kind in FEATURE_KINDS and column.name not in unread
    ]
    if [column.kind for column in features] == [ColumnKind.TEXT]:
        return "text", f"the text '{features[0].name}' is all there is to learn from"
    return "table", "rows of columns"


def payload_column(schema: Schema, modality: Modality, barred: Iterable[str], wanted: str | None) -> str:
    """Return the column that holds the samples of a modality.

    Args:
        schema: Schema of the table.
        modality: ``image``, ``text`` or ``series``.
        barred: Columns the model may not read.
        wanted: The column the user named, if any.

    Raises:
        DataError: There is no column of that name.
        TaskError: No column, or more than one, holds such samples.
    """
    kind = _KIND_OF[modality]
    if wanted is not None:
        column = schema[wanted]
        fits = column.kind is kind or (
            modality == "text"
            and column.kind in {ColumnKind.CATEGORY, ColumnKind.IDENTIFIER, ColumnKind.ORDERED}
        )
        if not fits:
            raise TaskError(
                f"Column '{wanted}' is {column.kind.value}; it holds no {modality} samples.",
                code="MW1232",
                where=wanted,
                hint=f"--as {wanted}=text" if modality == "text" else "mw data show FILE",
            )
        return wanted
    unread = set(barred)
    found = [column.name for column in schema.columns if column.kind is kind and column.name not in unread]
    if len(found) == 1:
        return found[0]
    what = f"no column with {modality} samples" if not found else f"{len(found)} columns: {', '.join(found)}"
    raise TaskError(
        f"There is {what}.{close_matches(modality, schema.names)}",
        code="MW1232",
        hint="options: {payload: COLUMN}  (--option payload=COLUMN)",
    )


def payload_values(
    table: pa.Table, column: str, rows: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.object_]:
    """Return samples as objects: encoded image bytes, texts, or series ``float32 [channels, length]``."""
    cells = table.column(column)
    if rows is not None:
        cells = cells.take(pa.array(rows))
    found = np.empty(len(cells), object)
    if pa.types.is_nested(cells.type):
        for row, cell in enumerate(cells):
            found[row] = np.stack([channel.values.to_numpy() for channel in cell.values])
        return found
    binary = pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type)
    for row, cell in enumerate(cells.to_pylist()):
        found[row] = cell if binary else str(cell or "")
    return found
