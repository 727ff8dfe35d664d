"""The manifest of a package: which files it holds, what the model reads and answers, and on which evidence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelworks.core.digest import canonical_json
from modelworks.core.errors import TrustError
from modelworks.core.signature import TOKENIZER, Signature

FORMAT = "modelworks-package"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
MODEL = "model.onnx"
EXAMPLES = "examples.json"
PROFILE = "profile.json"
CARD = "card.md"
REPORT = "report.html"
MLBOM = "mlbom.cdx.json"
PREDICT = "predict.py"

MEGABYTE = 2**20
LISTED_FILES: dict[str, int] = {
    MODEL: 512 * MEGABYTE,
    EXAMPLES: 8 * MEGABYTE,
    PROFILE: 32 * MEGABYTE,
    CARD: 4 * MEGABYTE,
    REPORT: 32 * MEGABYTE,
    MLBOM: 8 * MEGABYTE,
    PREDICT: MEGABYTE,
}
"""Every file the manifest lists, with the most bytes it may have."""

OPTIONAL_FILES: dict[str, int] = {TOKENIZER: 16 * MEGABYTE}
"""What the manifest lists besides where its signature declares a preprocessor."""

FILE_KINDS: dict[str, int] = {**LISTED_FILES, **OPTIONAL_FILES, MANIFEST: 16 * MEGABYTE, SIGNATURE: 4096}
"""Every file a package may have; nothing else may be in it."""

NEEDED = frozenset(FILE_KINDS) - frozenset(OPTIONAL_FILES)
"""Files that every package has."""

_MAX_DEPTH = 32
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of the package.

    Attributes:
        sha256: 64 lower-case hex digits of its bytes.
        size: Bytes.
    """

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What ``manifest.json`` says.

    Attributes:
        name: Task name.
        created: ISO 8601 UTC.
        task: ``core.Task`` as plain data.
        signature: Typed inputs and outputs of the graph.
        columns: ``core.Column`` data of every column the graph reads, for row-wise use.
        dataset: At least ``digest``; also ``name``, ``rows``, ``licence`` where known.
        recipe: Which algorithm with which settings made the model.
        code: ``name`` and ``version`` of the program that made it.
        metrics: ``core.Measure`` data, each value with its interval.
        verdict: ``core.Verdict`` data: the gate, condition by condition.
        lineage: Digests of the steps and artifacts it was made from.
        licences: SPDX identifiers by part (``model``, ``data``, ``code``).
        measured: ``latency_ms`` ``{p50, p99}`` of one row, ``size_bytes`` of the graph.
        cost: Ledger figures of this model.
        files: File name -> digest and size.
        digest: SHA-256 of the manifest's bytes: the package's identity.
    """

    name: str
    created: str
    task: dict[str, Any]
    signature: Signature
    columns: tuple[dict[str, Any], ...]
    dataset: dict[str, Any]
    recipe: dict[str, Any]
    code: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]
    verdict: dict[str, Any]
    lineage: dict[str, Any]
    licences: dict[str, Any]
    measured: dict[str, Any]
    cost: dict[str, Any]
    files: dict[str, FileEntry]
    digest: str = field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain data, without its own digest."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "created": self.created,
            "task": self.task,
            "signature": self.signature.to_json(),
            "columns": list(self.columns),
            "dataset": self.dataset,
            "recipe": self.recipe,
            "code": self.code,
            "metrics": list(self.metrics),
            "verdict": self.verdict,
            "lineage": self.lineage,
            "licences": self.licences,
            "measured": self.measured,
            "cost": self.cost,
            "files": {
                name: {"sha256": entry.sha256, "size": entry.size}
                for name, entry in sorted(self.files.items())
            },
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of ``manifest.json``: canonical JSON and a line end."""
        return canonical_json(self.to_json()) + b"\n"


def parse_manifest(data: bytes, digest: str) -> Manifest:
    """Read a manifest whose signature was verified before.

    Raises:
        TrustError: It is not a manifest of a format this version knows.
    """
    value = strict_json(data, MANIFEST)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise TrustError(f"{MANIFEST} is not the manifest of a {FORMAT}.", code="MW3110", where=MANIFEST)
    if value.get("format_version") != FORMAT_VERSION:
        raise TrustError(
            f"{MANIFEST} has format version {value.get('format_version')!r:.20}; this program reads {FORMAT_VERSION}.",
            code="MW3111",
            where=MANIFEST,
            hint="pip install --upgrade modelworks",
        )
    try:
        manifest = _build(value, digest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrustError(
            f"{MANIFEST} lacks a field or has one of the wrong type: {type(error).__name__} {error}"[:200],
            code="MW3112",
            where=MANIFEST,
        ) from None
    expected = {*LISTED_FILES, *([TOKENIZER] if manifest.signature.tokenizer is not None else [])}
    if set(manifest.files) != expected:
        raise TrustError(
            f"{MANIFEST} lists {sorted(set(manifest.files) ^ expected)!r:.200} more or fewer "
            "than the files of a package.",
            code="MW3113",
            where=MANIFEST,
        )
    return manifest


def strict_json(data: bytes, where: str) -> Any:
    """Parse JSON without duplicate keys, NaN, or more than 32 levels.

    Raises:
        TrustError: It is not such a text.
    """
    try:
        _check_depth(data)
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise TrustError(f"{where} is not valid JSON: {error}"[:200], code="MW3114", where=where) from None


def _build(value: Mapping[str, Any], digest: str) -> Manifest:
    files = {}
    for name, entry in value["files"].items():
        if not _HEX.fullmatch(entry["sha256"]) or type(entry["size"]) is not int or entry["size"] < 0:
            raise ValueError(f"files.{name}")
        files[str(name)] = FileEntry(sha256=entry["sha256"], size=entry["size"])
    parts = {
        name: _dictionary(value, name)
        for name in (
            "task", "dataset", "recipe", "code", "verdict", "lineage", "licences", "measured", "cost",
        )
    }  # fmt: skip
    return Manifest(
        name=_text(value, "name"),
        created=_text(value, "created"),
        signature=Signature.from_json(value["signature"]),
        columns=_dictionaries(value, "columns"),
        metrics=_dictionaries(value, "metrics"),
        files=files,
        digest=digest,
        **parts,
    )


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value[name]
    if not isinstance(found, str):
        raise TypeError(name)
    return found


def _dictionary(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = value[name]
    if not isinstance(found, dict):
        raise TypeError(name)
    return found


def _dictionaries(value: Mapping[str, Any], name: str) -> tuple[dict[str, Any], ...]:
    found = value[name]
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TypeError(name)
    return tuple(found)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large a number")
    return value


def _check_depth(data: bytes) -> None:
    """Bound nesting before the recursive parser sees the text; brackets inside strings are skipped."""
    depth = deepest = 0
    for mark in _STRINGS.sub(b"", data).translate(None, _NO_BRACKETS):
        depth += 1 if mark in b"{[" else -1
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise ValueError(f"nested {deepest} levels deep, {_MAX_DEPTH} are allowed")


_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")
