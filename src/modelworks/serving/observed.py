"""Observed requests as rows: cut down while they wait, as columns of a Parquet file in the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.digest import digest_bytes
from modelworks.core.errors import ModelworksError
from modelworks.core.signature import CHARACTERS, NO_CHARACTER, Signature, Tensor
from modelworks.serving.arrow_columns import lists, numbers, structs, texts
from modelworks.serving.model import Answer
from modelworks.serving.routing import Target
from modelworks.serving.tensors import DTYPES, Array, to_list

_SEEN_BYTES = 1000


@dataclass(frozen=True, kw_only=True)
class ObservationLimits:
    """Limits of the log.

    Attributes:
        waiting: Requests that may wait to be written; more are dropped and counted.
        waiting_bytes: Bytes of their inputs that may wait, beyond the first; more are dropped and counted.
        rows: Rows of one request that are kept.
        values: Values of one row of a tensor that are kept; larger tensors are kept as their digest.
        flush_s: Longest time a request waits to be written.
        file_rows: Rows after which a file is closed.
        held_bytes: Bytes that wait to be written, over all files; beyond, requests wait and are dropped.
        busy_share: Share of its time the writer may take; with very many files it falls behind ``flush_s`` instead.
        retention_days: Days a file is kept.
        most_bytes: Bytes of the whole log; the oldest files go first.
    """

    waiting: int = 2048
    waiting_bytes: int = 64 * 2**20
    rows: int = 256
    values: int = 1024
    flush_s: float = 2.0
    file_rows: int = 50_000
    held_bytes: int = 4 * 2**20
    busy_share: float = 0.1
    retention_days: float = 90.0
    most_bytes: int = 5 * 2**30


@dataclass(slots=True)
class Drawn:
    """What was drawn of one request, for as long as it waits for the writer.

    Attributes:
        chosen: Of each: what answered, where its answer stands, and whether it is of the audit share.
        answers: The answers of the request; some make one only when it is looked at.
        size: Bytes its inputs keep in memory.
    """

    chosen: list[tuple[Target, int, bool]]
    feeds: dict[str, Array]
    answers: Sequence[Answer | ModelworksError]
    key: str | None
    wall: float
    latency_s: float
    size: int = 0


@dataclass(slots=True)
class Seen:
    """One observed request of one version."""

    endpoint: str
    version: str
    digest: str
    signature: Signature
    key: str | None
    audit: bool
    wall: float
    latency_s: float
    feeds: dict[str, Array]
    answer: Answer
    redact: frozenset[str]


@dataclass(slots=True)
class Open:
    """A file that is being collected."""

    signature: Signature
    since: float
    rows: int = 0
    bytes: int = 0
    parts: list[Seen] = field(default_factory=list)


def weight(feeds: Mapping[str, Array]) -> int:
    """Return about how many bytes a request's inputs keep in memory."""
    total = 0
    for array in feeds.values():
        total += array.nbytes
        if array.dtype == object:
            total += sum(
                item.nbytes if isinstance(item, np.ndarray) else len(item) for item in array.ravel().tolist()
            )
    return total


def schema_of(signature: Signature) -> Any:
    """Return the Arrow schema of a package's log files: the same for every file of one signature."""
    fields = [
        pa.field("wall", pa.float64()),
        pa.field("endpoint", pa.string()),
        pa.field("version", pa.string()),
        pa.field("digest", pa.string()),
        pa.field("key", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("audit", pa.bool_()),
        pa.field("latency_ms", pa.float64()),
    ]
    for tensor in signature.inputs:
        plain = pa.string() if _is_text(tensor) else _arrow_type(tensor, packed=_is_packed(tensor))
        fields += [pa.field(f"in.{name}", plain) for name in tensor.columns or (tensor.name,)]
    fields += [
        pa.field(f"out.{tensor.name}", _arrow_type(tensor, packed=False)) for tensor in signature.outputs
    ]
    return pa.schema(fields)


def _arrow_type(tensor: Tensor, *, packed: bool) -> Any:
    plain = pa.string() if tensor.datatype == "BYTES" else pa.from_numpy_dtype(DTYPES[tensor.datatype])
    if packed or len(tensor.shape) == 1:
        return plain
    return pa.struct([("sha256", pa.string()), ("shape", pa.list_(pa.int64())), ("values", pa.list_(plain))])


def make_small(seen: Seen, limits: ObservationLimits, known: dict[str, Array] | None) -> int:
    """Cut a request down to the rows and values that are kept, in copies: views would keep whole bodies in memory.

    ``known`` is what its inputs were cut down to before. Returns about how many bytes it takes then.
    """
    seen.answer = {name: _small(np.asarray(array), limits) for name, array in seen.answer.items()}
    size = _SEEN_BYTES + sum(int(array.nbytes) for array in seen.answer.values())
    if known is not None:
        seen.feeds = known
        return size
    # Texts and the columns of a table are columns of the file, however many values a row has.
    whole = {tensor.name for tensor in seen.signature.inputs if _is_text(tensor) or _is_packed(tensor)}
    seen.feeds = {
        name: array[: limits.rows].copy() if name in whole else _small(array, limits)
        for name, array in seen.feeds.items()
    }
    return size + sum(int(array.nbytes) for array in seen.feeds.values())


def _small(array: Array, limits: ObservationLimits) -> Array:
    """Return the rows that are kept: as they are, or each as ``(digest, shape, values)`` without one or the other."""
    rows = array[: limits.rows]
    mixed = rows.dtype == object and isinstance(rows.flat[0], np.ndarray)
    if not mixed and (rows.ndim == 1 or rows[0].size <= limits.values):
        return rows.copy()
    found = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        if row.size <= limits.values:
            found[index] = (None, row.shape, row.ravel().copy())
            continue
        data = json.dumps(to_list(row)).encode() if row.dtype == object else row.tobytes()
        found[index] = (digest_bytes(data), row.shape, None)
    return found


def columns_of(item: Open) -> dict[str, Any]:
    """Return the Arrow columns of a file: identity, inputs by column or tensor, outputs."""
    parts = item.parts
    rows = np.array([len(next(iter(seen.feeds.values()))) for seen in parts])
    every = int(rows.sum())

    def spread(values: list[Any], dtype: Any) -> Any:
        return numbers(np.repeat(np.array(values, dtype), rows))

    def words(values: list[str | None]) -> Any:
        return texts([value for value, count in zip(values, rows, strict=True) for _ in range(count)])

    redacted = frozenset().union(*(seen.redact for seen in parts))
    shown = np.zeros(every, np.bool_)

    def hidden(name: str) -> Array:
        if name not in redacted:
            return shown
        return np.repeat(np.array([name in seen.redact for seen in parts], np.bool_), rows)

    columns = {
        "wall": spread([seen.wall for seen in parts], np.float64),
        "endpoint": words([seen.endpoint for seen in parts]),
        "version": words([seen.version for seen in parts]),
        "digest": words([seen.digest for seen in parts]),
        "key": words([seen.key for seen in parts]),
        "row": numbers(
            np.arange(every, dtype=np.int32) - np.repeat(np.cumsum(rows) - rows, rows).astype(np.int32)
        ),
        "audit": spread([seen.audit for seen in parts], np.bool_),
        "latency_ms": spread([seen.latency_s * 1e3 for seen in parts], np.float64),
    }
    for tensor in item.signature.inputs:
        sent = [seen.feeds[tensor.name] for seen in parts]
        if _is_packed(tensor):
            matrix = np.concatenate(sent)
            for index, name in enumerate(tensor.columns):
                columns[f"in.{name}"] = _plain(tensor, matrix[:, index], hidden(name))
        elif _is_text(tensor):
            name = tensor.columns[0]
            read = [text for array in sent for text in _texts_of(array)]
            columns[f"in.{name}"] = _plain(tensor, np.array(read, object), hidden(name), datatype="BYTES")
        else:
            name = (tensor.columns or (tensor.name,))[0]
            columns[f"in.{name}"] = _column(tensor, sent, hidden(name))
    for tensor in item.signature.outputs:
        asked = [tensor.name in seen.answer for seen in parts]
        absent = np.repeat(~np.array(asked, np.bool_), rows)
        given = [
            seen.answer[tensor.name] if has else _absent(tensor, count)
            for seen, has, count in zip(parts, asked, rows.tolist(), strict=True)
        ]
        columns[f"out.{tensor.name}"] = _column(tensor, given, hidden(tensor.name) | absent)
    return columns


def _absent(tensor: Tensor, count: int) -> Array:
    """Return as many rows as were not answered, of no values."""
    return np.zeros((count,) if len(tensor.shape) == 1 else (count, 0), DTYPES[tensor.datatype])


def _column(tensor: Tensor, parts: list[Array], hidden: Array) -> Any:
    """Return the column of a tensor: its values, or structs of their digest or shape and values."""
    if len(tensor.shape) == 1:
        return _plain(tensor, np.concatenate(parts), hidden)
    digests: list[str | None] = []
    shapes: list[tuple[int, ...]] = []
    sizes: list[int] = []
    flat: list[Array] = [np.empty(0, DTYPES[tensor.datatype])]
    for array in parts:
        if array.ndim > 1:
            digests += [None] * len(array)
            shapes += [array.shape[1:]] * len(array)
            sizes += [array[0].size if len(array) else 0] * len(array)
            flat.append(array.reshape(-1))
            continue
        for digest, shape, kept in array:
            digests.append(digest)
            shapes.append(shape)
            sizes.append(0 if kept is None else len(kept))
            if kept is not None:
                flat.append(kept)
    values = _plain(tensor, np.concatenate(flat), None)
    cut = np.array([digest is not None for digest in digests], np.bool_)
    axes = np.array([axis for shape in shapes for axis in shape], np.int64)
    fields = {
        "sha256": texts(digests),
        "shape": lists([len(shape) for shape in shapes], numbers(axes)),
        "values": lists(sizes, values, cut),
    }
    return structs(fields, hidden)


def _plain(tensor: Tensor, values: Array, hidden: Array | None, datatype: str = "") -> Any:
    if (datatype or tensor.datatype) == "BYTES":
        found: list[str | None] = [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for value in values.tolist()
        ]
        if hidden is not None:
            found = [None if out else value for value, out in zip(found, hidden.tolist(), strict=True)]
        return texts(found)
    return numbers(values.astype(DTYPES[tensor.datatype], copy=False), hidden)


def _is_packed(tensor: Tensor) -> bool:
    return bool(tensor.columns) and not tensor.payload


def _is_text(tensor: Tensor) -> bool:
    return tensor.payload and tensor.name == CHARACTERS and len(tensor.columns) == 1


def _texts_of(array: Array) -> list[str]:
    """Return the texts that code points spell."""
    return [
        codes[codes != NO_CHARACTER].astype("<u4").tobytes().decode("utf-32-le", "replace") for codes in array
    ]
