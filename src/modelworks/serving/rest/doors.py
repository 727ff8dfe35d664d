"""What the HTTP door keeps of a version: how plain requests are read in one pass, and the fixed text of answers."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from modelworks.core.signature import Signature
from modelworks.serving.model import Answer
from modelworks.serving.rest.codec import Asked, decode, outputs_of
from modelworks.serving.routing import Target
from modelworks.serving.tensors import CODES, DTYPES, datatype_of, fits, to_binary, to_list

_ENCODE = msgspec.json.Encoder().encode
_REMEMBERED = 256
_STARRED = 65_536
_NONE: frozenset[str] = frozenset()


class _Form:
    """How the list of a tensor of one name, type and shape becomes its bytes.

    Attributes:
        count: Values it must have.
        dtype: Their type.
        pack: Makes the bytes of them: of values one by one if ``starred``, else of the list.
    """

    __slots__ = ("count", "dtype", "pack", "starred")

    def __init__(self, datatype: str, count: int) -> None:
        code = CODES[datatype]
        self.count = count
        self.dtype = DTYPES[datatype]
        self.starred = code != "B" and count <= _STARRED
        self.pack: Callable[..., Any] = bytearray
        if self.starred:
            self.pack = struct.Struct(f"={count}{code}").pack
        elif code != "B":
            self.pack = lambda values: array(code, values)


class BodyReader:
    """Reads the requests of one model.

    Lists of numbers alone, which most requests are, are parsed with the rest of the body and packed without a look at
    each. All else, and whatever is wrong, goes through ``codec.decode``, which tells what it is.

    Args:
        signature: The model's signature.
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._inputs = {tensor.name: tensor for tensor in signature.inputs}
        self._forms: dict[tuple[str, str, tuple[int, ...]], _Form] = {}
        self._decode: Callable[[bytes], Any] | None = None
        kinds = {tensor.datatype.startswith("FP") for tensor in signature.inputs}
        if len(kinds) == 1 and all(tensor.datatype in CODES for tensor in signature.inputs):
            self._decode = _FLOATS.decode if kinds.pop() else _INTEGERS.decode

    def read(self, body: bytes, json_length: str | None) -> Asked:
        """Read a decompressed body; see ``codec.decode``."""
        if json_length is None and self._decode is not None:
            try:
                request = self._decode(body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                return decode(body, json_length, self._signature)
            feeds = self._feeds(request.inputs)
            if feeds is not None:
                parameters = request.parameters
                if not parameters and not request.outputs:
                    return Asked(feeds, None, request.id, _NONE, {}, True)
                outputs, binary = outputs_of(request.outputs, parameters or {}, self._signature)
                return Asked(feeds, outputs, request.id, binary, parameters or {}, True)
        return decode(body, json_length, self._signature)

    def _feeds(self, inputs: list[Any]) -> dict[str, Any] | None:
        """Return the feeds, or ``None`` if they need a closer look."""
        feeds = {}
        for sent in inputs:
            key = (sent.name, sent.datatype, sent.shape)
            form = self._forms.get(key) or self._form(*key)
            data = sent.data
            if form is None or sent.parameters or len(data) != form.count:
                return None
            try:
                packed = form.pack(*data) if form.starred else form.pack(data)
            except (struct.error, OverflowError, ValueError, TypeError):
                return None
            feeds[sent.name] = np.ndarray(sent.shape, form.dtype, packed)
        return feeds if len(feeds) == len(inputs) == len(self._inputs) else None

    def _form(self, name: str, datatype: str, shape: tuple[int, ...]) -> _Form | None:
        tensor = self._inputs.get(name)
        if tensor is None or tensor.datatype != datatype or not fits(tensor, shape) or 0 in shape:
            return None
        if len(self._forms) >= _REMEMBERED:
            self._forms.clear()
        count = 1
        for size in shape:
            count *= size
        form = self._forms[name, datatype, shape] = _Form(datatype, count)
        return form


class _Sent(msgspec.Struct, gc=False):
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: dict[str, Any] | None = None


class _SentFloats(_Sent, gc=False):
    data: list[float | None] = []


class _SentIntegers(_Sent, gc=False):
    data: list[int] = []


class _AskedOutput(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Body(msgspec.Struct, gc=False):
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[_AskedOutput] | None = None


class _FloatBody(_Body, gc=False, kw_only=True):
    inputs: list[_SentFloats]


class _IntegerBody(_Body, gc=False, kw_only=True):
    inputs: list[_SentIntegers]


_FLOATS = msgspec.json.Decoder(_FloatBody)
_INTEGERS = msgspec.json.Decoder(_IntegerBody)


class AnswerWriter:
    """Writes the answers of one version; what does not change from one to the next is encoded once.

    Args:
        target: The version.
    """

    def __init__(self, target: Target) -> None:
        self._names = tuple(tensor.name for tensor in target.signature.outputs)
        names = {"model_name": target.endpoint, "model_version": target.number}
        self._opening = _ENCODE(names)[:-1] + b","
        self._plain = self._opening + b'"outputs":['
        self._only = self._names[0] if len(self._names) == 1 else None
        self._heads: dict[tuple[str, str, tuple[int, ...]], bytes] = {}

    def write(self, asked: Asked, answer: Answer) -> tuple[bytes, int | None]:
        """Encode an answer; returns the body and, if it holds binary tensors, the length of its JSON part."""
        opening = self._opening + b'"id":' + _ENCODE(asked.id) + b',"outputs":[' if asked.id else self._plain
        if self._only is not None and not asked.binary:
            values = answer[self._only]
            key = (self._only, values.dtype.char, values.shape)
            head = self._heads.get(key) or self._head(key, datatype_of(values))
            return b'%b%b"data":%b}]}' % (opening, head, _ENCODE(to_list(values))), None
        parts = [opening]
        tail: list[bytes] = []
        for name in self._names:
            if asked.outputs is not None and name not in asked.outputs:
                continue
            values = answer[name]
            key = (name, values.dtype.char, values.shape)
            parts.append(self._heads.get(key) or self._head(key, datatype_of(values)))
            if name in asked.binary:
                raw = to_binary(values)
                parts.append(b'"parameters":{"binary_data_size":%d}},' % len(raw))
                tail.append(raw)
            else:
                parts.append(b'"data":')
                parts.append(_ENCODE(to_list(values)))
                parts.append(b"},")
        # The comma after the last output goes.
        parts[-1] = parts[-1][:-1]
        parts.append(b"]}")
        body = b"".join(parts)
        if not asked.binary:
            return body, None
        return b"".join((body, *tail)), len(body)

    def _head(self, key: tuple[str, str, tuple[int, ...]], datatype: str) -> bytes:
        name, _, shape = key
        if len(self._heads) >= _REMEMBERED:
            self._heads.clear()
        found = _ENCODE({"name": name, "datatype": datatype, "shape": shape})[:-1] + b","
        self._heads[key] = found
        return found


class Door:
    """What is kept of one version.

    Attributes:
        target: The version.
        read: Reads a body.
        write: Writes an answer.
    """

    __slots__ = ("read", "target", "write")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.read = BodyReader(target.signature).read
        self.write = AnswerWriter(target).write
