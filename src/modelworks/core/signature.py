"""What goes into a model graph and what comes out: typed tensors and the columns packed into them.

A table model has up to three input tensors. Columns of one tensor type are packed side by side,
so that one row costs three feeds and not one per column:

    numbers    FP32  [rows, k]  number, integer_category (if exact in FP32), boolean; missing = NaN
    strings    BYTES [rows, m]  category, ordered, text, other integer_category; missing = ""
    datetimes  INT64 [rows, d]  microseconds since 1970-01-01 UTC; missing = INT64 minimum

A model of samples has one payload column in a tensor of its own, told apart by its shape:

    characters INT64 [rows, -1]            Unicode code points of a text, padded with -1
    pixels     UINT8 [rows, -1, -1, 3]     an image of any size, RGB
    series     FP32  [rows, channels, t]   values in order of time; missing = NaN; shorter ones end in NaN
    history    FP32  [rows, channels, t]   the last t values of a running series; shorter ones begin with NaN
    future     FP32  [rows, covariates, h] covariates known for the h steps ahead; missing = NaN

A text may also become tokens before the graph, by a declared ``tokenizer.json``:

    token_ids  INT64 [rows, -1]            tokens of a text; shorter ones end in 0
    attention  INT64 [rows, -1]            1 where there is a token, else 0
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from modelworks.core.digest import digest_bytes
from modelworks.core.errors import TrustError

NUMBERS = "numbers"
STRINGS = "strings"
DATETIMES = "datetimes"
MISSING_DATETIME = -(2**63)
CHARACTERS = "characters"
PIXELS = "pixels"
SERIES = "series"
HISTORY = "history"
FUTURE = "future"
NO_CHARACTER = -1
TOKEN_IDS = "token_ids"  # noqa: S105 - a name in a graph
ATTENTION = "attention"
TOKENIZER = "tokenizer.json"
_TOKENIZERS = "tokenizers"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A named graph input or output.

    Attributes:
        name: Name in the graph.
        datatype: Open Inference Protocol v2 datatype: FP32, INT64, BYTES, UINT8, BOOL, ...
        shape: One entry per axis; ``-1`` marks a free axis. Axis 0 is always the row.
        columns: For a packed table input: the column names along axis 1.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()

    @property
    def payload(self) -> bool:
        """Whether the tensor holds one text, image or series per row, not packed columns."""
        return len(self.shape) > 2 or (len(self.shape) == 2 and self.shape[1] < 0)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "name": self.name,
            "datatype": self.datatype,
            "shape": list(self.shape),
        }
        if self.columns:
            data["columns"] = list(self.columns)
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> Tensor:
        return Tensor(
            name=data["name"],
            datatype=data["datatype"],
            shape=tuple(int(axis) for axis in data["shape"]),
            columns=tuple(data.get("columns", ())),
        )


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """How a text becomes ``token_ids`` and ``attention``: a ``tokenizer.json`` of the library ``tokenizers``.

    Attributes:
        sha256: Digest of the file.
        max_tokens: Tokens above which a text is cut.
        data: Bytes of the file; empty where only the declaration is at hand.
    """

    sha256: str
    max_tokens: int
    data: bytes = field(default=b"", repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the declaration, without the bytes."""
        return {
            "kind": _TOKENIZERS, "file": TOKENIZER, "sha256": self.sha256, "max_tokens": self.max_tokens,
        }  # fmt: skip

    @staticmethod
    def from_json(data: dict[str, Any]) -> Tokenizer:
        """Rebuild a declaration.

        Raises:
            ValueError: It declares something else.
        """
        most = data["max_tokens"]
        if data["kind"] != _TOKENIZERS or data["file"] != TOKENIZER or type(most) is not int:
            raise ValueError("preprocessor")
        if not 2 <= most <= 8192:
            raise ValueError("preprocessor.max_tokens")
        return Tokenizer(sha256=str(data["sha256"]), max_tokens=most)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Typed inputs and outputs of a model graph.

    Output names by task kind (rows first):
        binary, multiclass   ``probabilities`` FP32 [rows, classes] and ``label`` BYTES [rows]
        multilabel           ``probabilities`` FP32 [rows, labels] and ``labels`` BOOL [rows, labels]
        regression           ``prediction`` FP32 [rows]; with intervals also ``quantiles`` FP32 [rows, q]
        anomaly              ``score`` FP32 [rows], higher is stranger, and ``anomalous`` BOOL [rows]
        forecast             ``prediction`` FP32 [rows, horizon] and ``quantiles`` FP32 [rows, horizon, q]

    Attributes:
        inputs: Graph inputs in feed order.
        outputs: Graph outputs.
        classes: Class names along axis 1 of ``probabilities`` (empty for regression).
        quantiles: Levels along axis 1 of ``quantiles``.
        tokenizer: The preprocessor, where a text becomes tokens before the graph.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    tokenizer: Tokenizer | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column the graph reads, in feed order."""
        return tuple(dict.fromkeys(name for tensor in self.inputs for name in tensor.columns))

    def with_tokenizer(self, data: bytes | None) -> Signature:
        """Return the signature with the bytes of its ``tokenizer.json``, where it declares one.

        Raises:
            TrustError: The bytes are not those it declares, or it declares none and there are some.
        """
        declared = self.tokenizer.sha256 if self.tokenizer is not None else None
        if declared != (digest_bytes(data) if data is not None else None):
            raise TrustError(
                f"{TOKENIZER} is not the preprocessor that the signature declares.",
                code="MW3116",
                where=TOKENIZER,
                hint="fetch the package again from where it was made",
            )
        if self.tokenizer is None or data is None:
            return self
        return replace(self, tokenizer=replace(self.tokenizer, data=data))

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            "classes": list(self.classes),
            "quantiles": list(self.quantiles),
        }
        if self.tokenizer is not None:
            data["preprocessor"] = self.tokenizer.to_json()
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> Signature:
        return Signature(
            inputs=tuple(Tensor.from_json(item) for item in data["inputs"]),
            outputs=tuple(Tensor.from_json(item) for item in data["outputs"]),
            classes=tuple(data.get("classes", ())),
            quantiles=tuple(float(level) for level in data.get("quantiles", ())),
            tokenizer=Tokenizer.from_json(data["preprocessor"]) if "preprocessor" in data else None,
        )
