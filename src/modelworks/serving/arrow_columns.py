"""Arrow columns from the buffers of NumPy arrays.

``pyarrow.array`` looks at every value in the interpreter, and where pandas is installed its first call imports it: both
hold up the requests of the same process for longer than they take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.serving.tensors import Array


def numbers(values: Array, missing: Array | None = None) -> Any:
    """Return a column of numbers or truth values.

    Args:
        values: One value a row.
        missing: Whether a row is null.
    """
    kind = pa.from_numpy_dtype(values.dtype)
    data = (
        np.packbits(values, bitorder="little") if values.dtype == np.bool_ else np.ascontiguousarray(values)
    )
    return pa.Array.from_buffers(kind, len(values), [_validity(missing), pa.py_buffer(data)])


def texts(values: Sequence[str | None]) -> Any:
    """Return a column of texts."""
    encoded = [b"" if value is None else value.encode("utf-8", "replace") for value in values]
    missing = np.array([value is None for value in values], np.bool_)
    buffers = [_validity(missing), _offsets([len(item) for item in encoded]), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def lists(lengths: Sequence[int], values: Any, missing: Array | None = None) -> Any:
    """Return a column of lists: the first ``lengths[0]`` of ``values`` in the first row, and so on."""
    kind = pa.list_(values.type)
    buffers = [_validity(missing), _offsets(lengths)]
    return pa.Array.from_buffers(kind, len(lengths), buffers, children=[values])


def structs(fields: dict[str, Any], missing: Array) -> Any:
    """Return a column of structs from the columns of their fields."""
    kind = pa.struct([(name, column.type) for name, column in fields.items()])
    return pa.Array.from_buffers(kind, len(missing), [_validity(missing)], children=list(fields.values()))


def _validity(missing: Array | None) -> Any:
    if missing is None or not missing.any():
        return None
    return pa.py_buffer(np.packbits(~missing, bitorder="little"))


def _offsets(lengths: Sequence[int]) -> Any:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    offsets[1:] = np.cumsum(lengths)
    return pa.py_buffer(offsets)
