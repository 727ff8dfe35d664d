"""The row-wise form: ``{"age": 31, "city": "Bern"}`` to feeds and answers to plain words, for any door."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from modelworks.compute.feeds import check_columns, pack_rows
from modelworks.core.errors import close_matches
from modelworks.core.signature import Signature, Tensor
from modelworks.serving.errors import BadRequest, RequestTooLarge
from modelworks.serving.images import ImageDecoder, images_of
from modelworks.serving.mixed import MixedFeeds
from modelworks.serving.model import Answer
from modelworks.serving.tensors import DTYPES, UNREADABLE, Array, check_shape, to_list

Rows = Sequence[Mapping[str, Any]]
REQUEST_PIXELS = 128 * 10**6
"""Most pixels of all images of a request: what is small as a file may be large in memory."""


class RowReader:
    """Reads the rows of one signature.

    Args:
        signature: The model's signature.
        images: Decodes encoded images; without it images have one size.
        rows: Most rows of a request.
    """

    def __init__(
        self, signature: Signature, images: ImageDecoder | None = None, *, rows: int = 10_000
    ) -> None:
        self._signature = signature
        self._images = images
        self._rows = rows
        self._image = next(
            (
                tensor
                for tensor in signature.inputs
                if tensor.payload and tensor.columns and tensor.datatype == "UINT8"
            ),
            None,
        )
        self._packed = bool(signature.inputs) and all(tensor.columns for tensor in signature.inputs)
        plain = self._packed and not any(tensor.payload for tensor in signature.inputs)
        self._quick = _quick_decoder(signature) if plain else None

    @property
    def slow(self) -> bool:
        """Whether reading may take long (images are decoded): then read in a thread."""
        return self._image is not None and self._images is not None

    def read(self, raw: bytes | msgspec.Raw, until: float = float("inf")) -> dict[str, Array]:
        """Turn a JSON list of row objects into feeds; ``MixedFeeds`` if its images are of several sizes.

        Args:
            raw: The text.
            until: ``time.monotonic()`` at which nobody waits any more.

        Raises:
            BadRequest: The text is not a list of objects.
            DataError: A value does not fit its column; names row and column.
            RequestTooLarge: There are too many images, or of too many sizes.
            DeadlinePassed: Decoding its images takes too long.
        """
        if self._quick is not None:
            try:
                return self._quick(raw)
            except (*UNREADABLE, OverflowError):
                # The slow way accepts a little more (texts as date-times, "" as missing) and explains the rest.
                pass
        try:
            rows = msgspec.json.decode(raw, type=list[dict[str, Any]])
        except UNREADABLE as error:
            raise BadRequest(f"'rows' is not a list of objects: {str(error)[:150]}.", code="MW1402") from None
        return self.pack(rows, until)

    def pack(self, rows: Rows, until: float = float("inf")) -> dict[str, Array]:
        """Turn rows into feeds; see ``read``."""
        if not rows:
            raise BadRequest("The request has no rows.", code="MW1409")
        if self._image is not None and self._images is not None:
            return self._pack_images(self._image, self._images, rows, until)
        # A number too large for its type becomes an infinity, which the plane refuses with its place.
        with np.errstate(over="ignore"):
            if self._packed:
                return pack_rows(self._signature, rows)
            return {tensor.name: self._stack(tensor, rows) for tensor in self._signature.inputs}

    def _pack_images(
        self, tensor: Tensor, decoder: ImageDecoder, rows: Rows, until: float
    ) -> dict[str, Array]:
        if len(rows) > self._rows:
            raise RequestTooLarge(
                f"The request has {len(rows)} rows; at most {self._rows} are taken at once."
            )
        check_columns(self._signature, rows)
        column = tensor.columns[0]
        values = [row.get(column) for row in rows]
        images = images_of(decoder, tensor, values, pixels=REQUEST_PIXELS, until=until)
        plain = tuple(item for item in self._signature.inputs if item is not tensor)
        others: dict[str, Array] = {}
        if plain:
            others = pack_rows(
                replace(self._signature, inputs=plain),
                [{name: value for name, value in row.items() if name != column} for row in rows],
            )
        if len({image.shape for image in images}) > 1:
            return MixedFeeds(tensor.name, images, others)
        return {**others, tensor.name: np.stack(images)}

    def _stack(self, tensor: Tensor, rows: Rows) -> Array:
        known = {item.name for item in self._signature.inputs}
        values = []
        for index, row in enumerate(rows):
            for name in row:
                if name not in known:
                    raise BadRequest(
                        f"Row {index}: the model has no input '{name[:100]}'.{close_matches(name, known)}",
                        code="MW1104",
                    )
            if tensor.name not in row:
                raise BadRequest(f"Row {index}: the input '{tensor.name}' is missing.", code="MW1414")
            values.append(row[tensor.name])
        try:
            array = np.array(values, dtype=DTYPES[tensor.datatype])
        except (ValueError, TypeError, OverflowError):
            raise BadRequest(
                f"Input '{tensor.name}': expected nested lists of {tensor.datatype} of the shape "
                f"{list(tensor.shape[1:])} in every row.",
                code="MW1405",
            ) from None
        check_shape(tensor, array.shape)
        return array


def _quick_decoder(signature: Signature) -> Callable[[bytes | msgspec.Raw], dict[str, Array]]:
    """Compile a decoder that checks the types of all columns while it parses."""
    kinds: dict[str, Any] = {"FP32": float | None, "BYTES": str | None, "INT64": int | None}
    names = [f"c{index}" for index in range(len(signature.columns))]
    fields: list[tuple[str, Any, Any]] = []
    for tensor in signature.inputs:
        fields += [
            (names[len(fields) + offset], kinds[tensor.datatype], None)
            for offset in range(len(tensor.columns))
        ]
    row = msgspec.defstruct(
        "Row", fields, rename=dict(zip(names, signature.columns, strict=True)), forbid_unknown_fields=True
    )
    decoder = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
    missing: dict[str, Any] = {"FP32": None, "BYTES": "", "INT64": -(2**63)}
    spans: list[tuple[Tensor, list[str]]] = []
    start = 0
    for tensor in signature.inputs:
        spans.append((tensor, names[start : start + len(tensor.columns)]))
        start += len(tensor.columns)

    def decode(raw: bytes | msgspec.Raw) -> dict[str, Array]:
        rows = decoder.decode(raw)
        if not rows:
            raise BadRequest("The request has no rows.", code="MW1409")
        feeds: dict[str, Array] = {}
        for tensor, columns in spans:
            empty = missing[tensor.datatype]
            if empty is None:
                values = [[getattr(item, column) for column in columns] for item in rows]
            else:
                values = [
                    [empty if (value := getattr(item, column)) is None else value for column in columns]
                    for item in rows
                ]
            with np.errstate(over="ignore"):
                feeds[tensor.name] = np.array(values, dtype=DTYPES[tensor.datatype])
        return feeds

    return decode


def predictions(signature: Signature, answer: Answer) -> list[dict[str, Any]]:
    """Return one plain object per row: label and probabilities by class, labels, prediction and quantiles, or all
    outputs by name."""
    names = {tensor.name for tensor in signature.outputs}
    rows = len(next(iter(answer.values())))
    found: list[dict[str, Any]] = [{} for _ in range(rows)]
    for tensor in signature.outputs:
        if tensor.name not in answer:
            continue
        array = answer[tensor.name]
        for item, value in zip(found, array, strict=True):
            item[tensor.name] = _value(signature, names, tensor, value)
    return found


def _value(signature: Signature, names: set[str], tensor: Tensor, value: Any) -> Any:
    classes = signature.classes
    if tensor.name == "probabilities" and len(classes) == np.size(value):
        return dict(zip(classes, to_list(np.asarray(value)), strict=True))
    if tensor.name == "labels" and "probabilities" in names and len(classes) == np.size(value):
        return [name for name, on in zip(classes, np.ravel(value), strict=True) if on]
    if tensor.name == "quantiles" and len(signature.quantiles) == np.size(value):
        return {
            f"{level:g}": item
            for level, item in zip(signature.quantiles, to_list(np.asarray(value)), strict=True)
        }
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
