"""From columns of plain values to the packed input tensors of a table graph (see ``core/signature.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelworks.compute.payloads import image_pixels, pack_payload
from modelworks.compute.tokens import token_feeds
from modelworks.core.errors import DataError, close_matches
from modelworks.core.signature import ATTENTION, MISSING_DATETIME, TOKEN_IDS, Signature, Tensor

if TYPE_CHECKING:
    from modelworks.compute.runtime import GraphSession


IMAGE_VALUES, SERIES_VALUES = 2**23, 2**17
"""Values of images, or of series, that go through a graph together."""


def pack_columns(
    signature: Signature, columns: Mapping[str, npt.NDArray[Any]], rows: int
) -> dict[str, npt.NDArray[Any]]:
    """Pack typed column arrays into feeds.

    Args:
        signature: The graph's signature.
        columns: Column name -> array of length ``rows``: floats (NaN = missing) for ``numbers``,
            objects of ``str`` ("" = missing) for ``strings``, int64 microseconds for ``datetimes``.
        rows: Number of rows.

    Returns:
        Input name -> array ``[rows, columns]``.

    Raises:
        DataError: A column the graph reads is absent.
    """
    feeds: dict[str, npt.NDArray[Any]] = {}
    for tensor in signature.inputs:
        for name in tensor.columns:
            if name not in columns:
                raise DataError(f"Column '{name}' is missing.{close_matches(name, columns)}", code="MW1103")
        if tensor.payload:
            if tensor.name not in feeds:
                feeds |= _payload_feeds(signature, tensor, columns[tensor.columns[0]])
            continue
        packed = np.empty((rows, len(tensor.columns)), dtype=_numpy_type(tensor))
        for index, name in enumerate(tensor.columns):
            packed[:, index] = columns[name]
        feeds[tensor.name] = packed
    return feeds


def batches(
    signature: Signature, columns: Mapping[str, npt.NDArray[Any]], rows: int, *, size: int = 4096
) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[Any]]]]:
    """Yield feeds of at most ``size`` rows with their row numbers; images of one size go together.

    Args:
        signature, columns, rows: As for ``pack_columns``.
        size: Rows of a table batch; samples go in batches of at most 32.
    """
    payload = next((tensor for tensor in signature.inputs if tensor.payload), None)
    groups: dict[Any, list[int]] = {}
    if payload is None:
        groups[None] = list(range(rows))
    else:
        size = min(size, 32)
        values = columns[payload.columns[0]]
        if payload.datatype == "UINT8":
            columns = {
                **columns,
                payload.columns[0]: _objects([image_pixels(v, i) for i, v in enumerate(values)]),
            }
            for row, image in enumerate(columns[payload.columns[0]]):
                groups.setdefault(image.shape, []).append(row)
        elif payload.datatype == "INT64":
            groups[None] = sorted(range(rows), key=lambda row: len(values[row] or ""))
        else:
            groups[None] = list(range(rows))
    for shape, members in groups.items():
        step = min(size, _most_rows(payload, shape))
        for start in range(0, len(members), step):
            part = np.array(members[start : start + step], np.int64)
            yield (
                part,
                pack_columns(signature, {name: value[part] for name, value in columns.items()}, len(part)),
            )


def _most_rows(payload: Tensor | None, shape: Any) -> int:
    """Return how many samples may go together, so that large images and long series do not fill the memory."""
    if payload is None or payload.datatype == "INT64":
        return 10**9
    values = int(np.prod(shape)) if shape is not None else max(1, int(np.prod(payload.shape[1:])))
    return max(1, (IMAGE_VALUES if shape is not None else SERIES_VALUES) // values)


def answer(
    session: GraphSession, signature: Signature, columns: Mapping[str, npt.NDArray[Any]], rows: int
) -> dict[str, npt.NDArray[Any]]:
    """Run a graph over typed columns of any number of rows; returns output name -> array in the order of the rows."""
    found: dict[str, npt.NDArray[Any]] = {}
    for part, feeds in batches(signature, columns, rows):
        for name, values in session.run(feeds).items():
            if name not in found:
                found[name] = np.empty((rows, *values.shape[1:]), values.dtype)
            found[name][part] = values
    return found


def _objects(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def pack_rows(signature: Signature, rows: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """Pack row-wise JSON values (``[{"age": 31, "city": "Bern"}, ...]``) into feeds.

    ``None``, an absent key and an empty text are missing. Datetimes are ISO 8601 texts (UTC if no zone is given)
    or integer microseconds since 1970-01-01 UTC.

    Raises:
        DataError: A value has the wrong type (names row and column), or a key is unknown.
    """
    check_columns(signature, rows)
    feeds: dict[str, npt.NDArray[Any]] = {}
    for tensor in signature.inputs:
        if tensor.payload:
            if tensor.name not in feeds:
                feeds |= _payload_feeds(signature, tensor, [row.get(tensor.columns[0]) for row in rows])
            continue
        convert = _CONVERTERS[tensor.datatype]
        packed = np.empty((len(rows), len(tensor.columns)), dtype=_numpy_type(tensor))
        for column, name in enumerate(tensor.columns):
            for index, row in enumerate(rows):
                try:
                    packed[index, column] = convert(row.get(name))
                except (ValueError, TypeError, OverflowError):
                    raise DataError(
                        f"Row {index}, column '{name}': expected {_EXPECTED[tensor.datatype]}, "
                        f"got {row.get(name)!r:.80}.",
                        code="MW1105",
                    ) from None
        feeds[tensor.name] = packed
    return feeds


def check_columns(signature: Signature, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``DataError`` if a row names a column that the graph does not read."""
    known = set(signature.columns)
    for index, row in enumerate(rows):
        for key in row:
            if key not in known:
                raise DataError(
                    f"Row {index}: the model has no column '{key}'.{close_matches(key, known)}", code="MW1104"
                )


def sample_columns(
    signature: Signature, rows: Sequence[Mapping[str, Any]]
) -> dict[str, npt.NDArray[np.object_]]:
    """Return rows of samples as columns for ``answer``.

    Raises:
        DataError: A key is unknown.
    """
    check_columns(signature, rows)
    return {name: _objects([row.get(name) for row in rows]) for name in signature.columns}


def _payload_feeds(
    signature: Signature, tensor: Tensor, values: Sequence[Any] | npt.NDArray[Any]
) -> dict[str, npt.NDArray[Any]]:
    if tensor.name not in (TOKEN_IDS, ATTENTION):
        return {tensor.name: pack_payload(tensor, values)}
    if signature.tokenizer is None:
        raise DataError(
            f"Column '{tensor.columns[0]}': the graph reads tokens and no tokenizer is declared.",
            code="MW1107",
            hint="send token_ids and attention, or make the package again with its tokenizer",
        )
    try:
        return token_feeds(signature.tokenizer, values)
    except DataError as error:
        raise DataError(f"Column '{tensor.columns[0]}': {error.message}", code=error.error_code) from None


def _numpy_type(tensor: Tensor) -> Any:
    return {"FP32": np.float32, "BYTES": object, "INT64": np.int64}[tensor.datatype]


def _number(value: Any) -> float:
    if value is None or value == "":
        return float("nan")
    if isinstance(value, str):
        raise TypeError("text")
    return float(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (str, int, float)):
        return str(value)
    raise TypeError("not a text")


def _datetime(value: Any) -> int:
    if value is None or value == "":
        return MISSING_DATETIME
    if isinstance(value, bool):
        raise TypeError("boolean")
    if isinstance(value, int):
        return value
    return datetime_microseconds(value)


def datetime_microseconds(text: str) -> int:
    """Return microseconds since 1970-01-01 UTC of an ISO 8601 text.

    Raises:
        ValueError: The text is not ISO 8601.
    """
    from datetime import UTC, datetime, timedelta

    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


_CONVERTERS: dict[str, Any] = {"FP32": _number, "BYTES": _text, "INT64": _datetime}
_EXPECTED = {
    "FP32": "a number",
    "BYTES": "a text",
    "INT64": "an ISO 8601 date-time",
}
