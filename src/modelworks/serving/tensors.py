"""Open Inference Protocol datatypes: checked conversion between JSON, the binary tensor extension and arrays."""

from __future__ import annotations

import array
import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from modelworks.core.signature import Tensor
from modelworks.packaging.golden import TOLERANCE
from modelworks.serving.errors import BadRequest

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
_LITTLE = {name: dtype.newbyteorder("<") for name, dtype in DTYPES.items()}
_NAMES = {dtype.char: name for name, dtype in DTYPES.items()}
UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What reading JSON of others may raise."""
_MOST_ELEMENTS = 2**48
_LARGEST_AXIS = 2**63
_HUMAN = {"BOOL": "true or false", "BYTES": "a text"} | {
    name: "a whole number" if name.startswith(("INT", "UINT")) else "a number"
    for name in DTYPES
    if name not in {"BOOL", "BYTES"}
}
CODES = {
    "FP32": "f",
    "FP64": "d",
    "INT8": "b",
    "UINT8": "B",
    "INT16": "h",
    "UINT16": "H",
    "INT32": "i",
    "UINT32": "I",
    "INT64": "q",
    "UINT64": "Q",
}
_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(
        list[bool]
        if name == "BOOL"
        else list[str]
        if name == "BYTES"
        else list[int]
        if name.startswith(("INT", "UINT"))
        else list[float | None]
    )
    for name in DTYPES
}


def same_values(one: Array, other: Array, *, relative: float = TOLERANCE["relative"]) -> bool:
    """Say whether two answers agree: floats within the tolerance of golden examples, all else exactly."""
    if one.shape != other.shape:
        return False
    if one.dtype.kind == "f":
        return np.allclose(one, other, rtol=relative, atol=TOLERANCE["absolute"], equal_nan=True)
    # Texts come as objects from one runtime and with a width from another.
    return bool(np.array_equal(one.astype(object), other.astype(object)))


def datatype_of(values: Array) -> str:
    """Return the protocol's name of an array's type."""
    # By letter: the hash of a dtype costs more than all else here.
    name = _NAMES.get(values.dtype.char)
    return name if name is not None else "BYTES" if values.dtype.kind in "OSU" else _names_of(values.dtype)


def _names_of(dtype: np.dtype[Any]) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def fits(tensor: Tensor, shape: Sequence[int]) -> bool:
    """Say whether a shape is one the signature takes (``-1`` is free; axis 0 is the row)."""
    expected = tensor.shape
    if len(shape) != len(expected) or not shape:
        return False
    if shape[0] >= 0 and expected[0] < 0 and expected[1:] == tuple(shape)[1:]:
        return True
    return all(size >= 0 and (axis < 0 or size == axis) for size, axis in zip(shape, expected, strict=True))


def check_shape(tensor: Tensor, shape: Sequence[int]) -> None:
    """Compare a sent shape with the signature's; see ``fits``.

    Raises:
        BadRequest: Rank or a fixed axis differs.
    """
    if fits(tensor, shape):
        return
    wanted = ["rows" if index == 0 and axis < 0 else axis for index, axis in enumerate(tensor.shape)]
    raise BadRequest(
        f"Input '{tensor.name}': expected shape [{', '.join(map(str, wanted))}], got {list(shape)}.",
        code="MW1403",
    )


def elements(shape: Sequence[int]) -> int:
    """Return the number of elements of a shape.

    Raises:
        BadRequest: No array can have it, even one without elements.
    """
    if any(size > _LARGEST_AXIS for size in shape):
        raise BadRequest("The shape is too large.", code="MW1403")
    count = math.prod(shape)
    if not count and math.prod(size or 1 for size in shape) >= _MOST_ELEMENTS:
        raise BadRequest(f"The shape {list(shape)} is too large.", code="MW1403")
    return count


def from_json(name: str, datatype: str, shape: Sequence[int], data: bytes | msgspec.Raw) -> Array:
    """Turn a JSON tensor (flat or nested row-major list) into an array; ``null`` in a float tensor is NaN.

    Raises:
        BadRequest: The list does not hold what ``datatype`` and ``shape`` say; names the position.
    """
    try:
        values: list[Any] = _FLAT[datatype].decode(data)
    except UNREADABLE:
        values = _flatten(name, datatype, data)
    if len(values) != elements(shape):
        raise BadRequest(
            f"Input '{name}': shape {list(shape)} needs {elements(shape)} values, got {len(values)}.",
            code="MW1404",
        )
    code = CODES.get(datatype)
    if code is not None:
        try:
            # Twice as fast as asking numpy, and a number too large for FP32 quietly becomes an infinity.
            return np.ndarray(shape, DTYPES[datatype], array.array(code, values))
        except (TypeError, OverflowError):
            # null stands for NaN; integers out of range are told below.
            pass
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype=DTYPES[datatype]).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise BadRequest(
            f"Input '{name}': a value does not fit into {datatype} ({str(error)[:80]}).", code="MW1405"
        ) from None


def _flatten(name: str, datatype: str, data: bytes | msgspec.Raw) -> list[Any]:
    """Decode a nested list slowly and say exactly which value is wrong."""
    try:
        nested: Any = msgspec.json.decode(data)
    except RecursionError:
        raise BadRequest(f"Input '{name}': the list is nested too deeply.", code="MW1406") from None
    except UNREADABLE as error:
        raise BadRequest(f"Input '{name}': {str(error)[:100]}.", code="MW1405") from None
    if not isinstance(nested, list):
        raise BadRequest(f"Input '{name}': 'data' must be a list.", code="MW1404")
    flat: list[Any] = nested
    while any(isinstance(value, list) for value in flat):
        if not all(isinstance(value, list) for value in flat):
            raise BadRequest(f"Input '{name}': the nested list is ragged.", code="MW1404")
        flat = [value for part in flat for value in part]
    accepts = _accepts(datatype)
    for index, value in enumerate(flat):
        if not accepts(value):
            raise BadRequest(
                f"Input '{name}', value {index}: expected {_HUMAN[datatype]}, got {_shown(value)}.",
                code="MW1405",
            )
    return flat


def _accepts(datatype: str) -> Any:
    if datatype == "BOOL":
        return lambda value: isinstance(value, bool)
    if datatype == "BYTES":
        return lambda value: isinstance(value, str)
    if datatype.startswith(("INT", "UINT")):
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    return lambda value: value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."


def from_binary(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """Turn raw little-endian bytes (BYTES: 4-byte length before each value) into an array without copying.

    Raises:
        BadRequest: The byte count does not fit the shape, or a text is not UTF-8.
    """
    count = elements(shape)
    if datatype == "BYTES":
        return _texts_from_binary(name, count, data).reshape(shape)
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise BadRequest(
            f"Input '{name}': shape {list(shape)} of {datatype} needs {count * dtype.itemsize} bytes, "
            f"got {len(data)}.",
            code="MW1404",
        )
    if datatype == "BOOL":
        return np.not_equal(np.frombuffer(data, dtype=np.uint8), 0).reshape(shape)
    return np.ndarray(shape, _LITTLE[datatype], data)


def _texts_from_binary(name: str, count: int, data: bytes | memoryview) -> Array:
    values = np.empty(count, dtype=object)
    view = memoryview(data)
    offset = 0
    for index in range(count):
        if offset + 4 > len(view):
            raise BadRequest(
                f"Input '{name}': {count} texts announced, the bytes end after {index}.", code="MW1404"
            )
        (length,) = struct.unpack_from("<I", view, offset)
        offset += 4
        if offset + length > len(view):
            raise BadRequest(
                f"Input '{name}', text {index}: announces {length} bytes, {len(view) - offset} are left.",
                code="MW1404",
            )
        try:
            values[index] = str(view[offset : offset + length], "utf-8")
        except UnicodeDecodeError:
            raise BadRequest(f"Input '{name}', text {index} is not UTF-8.", code="MW1405") from None
        offset += length
    if offset != len(view):
        raise BadRequest(f"Input '{name}': {len(view) - offset} bytes follow the last text.", code="MW1404")
    return values


def to_binary(values: Array) -> bytes:
    """Return an array's raw little-endian bytes (BYTES: 4-byte length before each value)."""
    if values.dtype.kind in "OSU":
        parts = []
        for value in values.ravel().tolist():
            encoded = value if isinstance(value, bytes) else str(value).encode()
            parts.append(struct.pack("<I", len(encoded)))
            parts.append(encoded)
        return b"".join(parts)
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("<"))
    return values.tobytes()


def to_list(values: Array) -> list[Any]:
    """Return an array's values as a flat row-major list of plain JSON values."""
    flat: list[Any] = values.ravel().tolist() if values.ndim != 1 else values.tolist()
    if values.dtype.kind in "OS" and flat and isinstance(flat[0], bytes):
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in flat]
    return flat
