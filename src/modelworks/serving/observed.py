"""Observed requests as rows: cut down while they wait, as columns of a Parquet file in the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelworks.core.errors import ModelworksError
from modelworks.core.signature import CHARACTERS, NO_CHARACTER, Signature, Tensor
from modelworks.serving.model import Answer
from modelworks.serving.routing import Target
from modelworks.serving.tensors import DTYPES, Array, to_list

_SEEN_BYTES = 1000


@dataclass(frozen=True, kw_only=True)
class ObservationLimits:
    """Limits of the log.

    Attributes:
        waiting: Requests that may wait to be written; more are dropped and counted.
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
    rows: int = 256
    values: int = 1024
    flush_s: float = 2.0
    file_rows: int = 50_000
    held_bytes: int = 16 * 2**20
    busy_share: float = 0.1
    retention_days: float = 90.0
    most_bytes: int = 5 * 2**30


@dataclass(slots=True)
class Drawn:
    """What was drawn of one request, for as long as it waits for the writer.

    Attributes:
        chosen: Of each: what answered, where its answer stands, and whether it is of the audit share.
        answers: The answers of the request; some make one only when it is looked at.
    """

    chosen: list[tuple[Target, int, bool]]
    feeds: dict[str, Array]
    answers: Sequence[Answer | ModelworksError]
    key: str | None
    wall: float
    latency_s: float


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


def schema_of(signature: Signature) -> Any:
    """Return the Arrow schema of a package's log files: the same for every file of one signature."""
    import pyarrow as pa

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
    import pyarrow as pa

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
    texts = {tensor.name for tensor in seen.signature.inputs if _is_text(tensor)}
    seen.feeds = {
        name: array[: limits.rows].copy() if name in texts else _small(array, limits)
        for name, array in seen.feeds.items()
    }
    return size + sum(int(array.nbytes) for array in seen.feeds.values())


def _small(array: Array, limits: ObservationLimits) -> Array:
    rows = array[: limits.rows]
    mixed = rows.dtype == object and isinstance(rows.flat[0], np.ndarray)
    if not mixed and (rows.ndim == 1 or rows[0].size <= limits.values):
        return rows.copy()
    digests = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        digests[index] = _kept(row, limits)
    return digests


def columns_of(item: Open, limits: ObservationLimits) -> dict[str, list[Any]]:
    """Return the columns of a file: identity, inputs by column or tensor, outputs."""
    found: dict[str, list[Any]] = {}
    for seen in item.parts:
        count = len(next(iter(seen.feeds.values())))
        columns: dict[str, list[Any]] = {
            "wall": [seen.wall] * count,
            "endpoint": [seen.endpoint] * count,
            "version": [seen.version] * count,
            "digest": [seen.digest] * count,
            "key": [seen.key] * count,
            "row": list(range(count)),
            "audit": [seen.audit] * count,
            "latency_ms": [seen.latency_s * 1e3] * count,
        }
        for tensor in seen.signature.inputs:
            for name, array in _named(tensor, seen.feeds[tensor.name]):
                columns[f"in.{name}"] = _kept_column(array, name in seen.redact, limits)
        for tensor in seen.signature.outputs:
            values = seen.answer.get(tensor.name, np.empty(count, object))
            columns[f"out.{tensor.name}"] = _kept_column(values, tensor.name in seen.redact, limits)
        for name, kept in columns.items():
            found.setdefault(name, []).extend(kept)
    return found


def _kept_column(array: Array, hidden: bool, limits: ObservationLimits) -> list[Any]:
    if hidden:
        return [None] * len(array)
    if array.ndim == 1 and array.dtype != object:
        return list(array.tolist())
    return [_kept(value, limits) for value in array]


def _is_packed(tensor: Tensor) -> bool:
    return bool(tensor.columns) and not tensor.payload


def _is_text(tensor: Tensor) -> bool:
    return tensor.payload and tensor.name == CHARACTERS and len(tensor.columns) == 1


def _named(tensor: Tensor, array: Array) -> list[tuple[str, Array]]:
    """Return the columns of an input; the code points of a text become the text again."""
    if _is_text(tensor):
        texts = np.empty(len(array), object)
        for index, codes in enumerate(array):
            kept = codes[codes != NO_CHARACTER].astype("<u4").tobytes()
            texts[index] = kept.decode("utf-32-le", "replace")
        return [(tensor.columns[0], texts)]
    if _is_packed(tensor):
        return [(name, array[:, index]) for index, name in enumerate(tensor.columns)]
    return [((tensor.columns or (tensor.name,))[0], array)]


def _kept(value: Any, limits: ObservationLimits) -> Any:
    if isinstance(value, np.ndarray):
        if value.size > limits.values:
            from modelworks.core.digest import digest_bytes

            data = json.dumps(to_list(value)).encode() if value.dtype == object else value.tobytes()
            return {"sha256": digest_bytes(data), "shape": list(value.shape), "values": None}
        return {"sha256": None, "shape": list(value.shape), "values": to_list(value)}
    if isinstance(value, np.generic):
        return value.item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
