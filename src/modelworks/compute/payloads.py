"""From one sample's value to its input tensor: characters of a text, pixels of an image, values of a series."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.compute.pixels import decode_image
from modelworks.core.errors import DataError
from modelworks.core.signature import HISTORY, NO_CHARACTER, Tensor


def pack_payload(tensor: Tensor, values: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pack one column of texts, images or series into its tensor.

    Args:
        tensor: A tensor for which ``tensor.payload`` is true.
        values: Texts; images as encoded bytes, their base64 text, or pixels ``[height, width, 3]`` (0 to 255);
            series as ``[channels][values]``, or ``[values]`` for one channel. ``None`` in a series is missing.

    Returns:
        ``INT64 [rows, characters]`` | ``UINT8 [rows, height, width, 3]`` | ``FP32 [rows, channels, length]``.

    Raises:
        DataError: A value does not fit; names the row and the column.
    """
    name = tensor.columns[0]
    pack = _text_codes if tensor.datatype == "INT64" else _pixels if tensor.datatype == "UINT8" else _series
    try:
        return pack(tensor, values)
    except DataError as error:
        raise DataError(f"Column '{name}': {error.message}", code=error.error_code, hint=error.hint) from None


def _text_codes(tensor: Tensor, values: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    rows = []
    for index, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise DataError(f"row {index}: expected a text, got {value!r:.60}.", code="MW1105")
        rows.append(np.frombuffer((value or "").encode("utf-32-le", "surrogatepass"), "<u4"))
    codes = np.full((len(rows), max(1, *(len(row) for row in rows), 1)), NO_CHARACTER, np.int64)
    for index, row in enumerate(rows):
        codes[index, : len(row)] = row
    return codes


def _pixels(tensor: Tensor, values: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    images = [image_pixels(value, index) for index, value in enumerate(values)]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        sizes = ", ".join(sorted(f"{width}x{height}" for height, width, _ in shapes)[:4])
        raise DataError(
            f"the images of one batch have different sizes ({sizes}).",
            code="MW1180",
            hint="send images of one size together, or one image at a time",
        )
    return np.stack(images)


def image_pixels(value: Any, row: int = 0) -> npt.NDArray[np.uint8]:
    """Return ``uint8 [height, width, 3]`` of encoded bytes, their base64 text, or pixels.

    Raises:
        DataError: The value is no image.
    """
    if isinstance(value, str):
        try:
            value = base64.b64decode(value.rpartition(",")[2], validate=True)
        except binascii.Error:
            raise DataError(f"row {row}: the text is not base64.", code="MW1105") from None
    if isinstance(value, bytes | memoryview):
        return decode_image(bytes(value))
    try:
        array = np.asarray(value)
        fits = (
            array.ndim == 3 and array.shape[2] == 3 and array.size and array.min() >= 0 and array.max() <= 255
        )
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise DataError(
            f"row {row}: expected an image (encoded bytes, base64, or pixels [height][width][3] of 0 to 255).",
            code="MW1105",
        )
    return array.astype(np.uint8)


def _series(tensor: Tensor, values: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    _, channels, length = tensor.shape
    packed = np.full((len(values), channels, length), np.nan, np.float32)
    for index, value in enumerate(values):
        try:
            array: npt.NDArray[Any] = np.atleast_2d(np.asarray(value, dtype=np.float32))
        except (ValueError, TypeError):
            array = np.empty((0, 0))
        if tensor.name == HISTORY and array.ndim == 2:
            array = array[:, -length:]
        if array.ndim != 2 or array.shape[0] != channels or not 0 < array.shape[1] <= length:
            raise DataError(
                f"row {index}: expected {channels} channel(s) of at most {length} values, "
                f"got shape {list(array.shape)}.",
                code="MW1105",
            )
        # The newest value of a running series stands at the end of its window.
        start = length - array.shape[1] if tensor.name == HISTORY else 0
        packed[index, :, start : start + array.shape[1]] = array
    return packed
