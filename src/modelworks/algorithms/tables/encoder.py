"""From raw columns to one float table, inside the graph; training rows go through that same graph.

Because the training table is computed by the operators that ship, training and serving cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import ML, Graph
from modelworks.algorithms.tables.dates import PARTS, write_date_parts
from modelworks.algorithms.tables.texts import TextTerms, fit_terms
from modelworks.compute.feeds import pack_columns
from modelworks.compute.runtime import GraphSession
from modelworks.core.schema import Column, ColumnKind
from modelworks.core.signature import DATETIMES, MISSING_DATETIME, NUMBERS, STRINGS, Signature, Tensor
from modelworks.data import TrainingTable, input_tensors

MAX_LEVELS = 2000
_BATCH = 20_000


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column of the encoded table.

    Attributes:
        name: Column name, for a date with its part (``opened:month``).
        kind: ``number``, ``rank`` (ordered), ``date``, ``code`` (category, 0 = most frequent level) or ``term``
            (weight of a word or word pair in a text).
        levels: For ``code``: number of codes; for a number with few whole values: their count; else 0.
        missing: Whether training rows had no value here.
    """

    name: str
    kind: str
    levels: int = 0
    missing: bool = False


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What is needed to turn raw columns into the encoded table.

    Attributes:
        tensors: Packed graph inputs.
        fill: float32 per number column: its median if no training row missed it, else NaN.
        codes: Per string column: value -> code or rank (values not listed are NaN); empty for a text.
        texts: Per string column: its terms, or ``None``.
        origin: int64 per date column: its earliest training moment.
        parts: Per date column: the calendar parts that vary in training.
        features: The encoded columns, in order: numbers, codes and ranks, terms, date parts.
    """

    tensors: tuple[Tensor, ...]
    fill: npt.NDArray[np.float32]
    codes: tuple[dict[str, int], ...]
    texts: tuple[TextTerms | None, ...]
    origin: npt.NDArray[np.int64]
    parts: tuple[tuple[str, ...], ...]
    features: tuple[Feature, ...]

    def write(self, graph: Graph) -> str:
        """Add the encoding to a graph; returns the float32 tensor ``[rows, features]``."""
        names = {tensor.name for tensor in self.tensors}
        pieces = []
        if NUMBERS in names:
            pieces.append(self._write_numbers(graph))
        if STRINGS in names:
            pieces += self._write_strings(graph)
        if DATETIMES in names:
            pieces += self._write_dates(graph)
        return graph.concat(pieces)

    def _write_numbers(self, graph: Graph) -> str:
        if np.isnan(self.fill).all():
            return NUMBERS
        return graph.op(
            "Where", graph.op("IsNaN", NUMBERS), graph.constant(self.fill[None, :], np.float32), NUMBERS
        )

    def _write_strings(self, graph: Graph) -> list[str]:
        pieces = []
        coded = [index for index, codes in enumerate(self.codes) if codes]
        if coded:
            strings = STRINGS if len(coded) == len(self.codes) else graph.columns(STRINGS, coded)
            pieces.append(self._write_codes(graph, strings, [self.codes[index] for index in coded]))
        for index, terms in enumerate(self.texts):
            if terms is not None:
                pieces.append(terms.write(graph, graph.columns(STRINGS, [index])))
        return pieces

    @staticmethod
    def _write_codes(graph: Graph, strings: str, codes: list[dict[str, int]]) -> str:
        """Look all columns up in one table: every value carries its column's number in front."""
        prefixes = [f"{index}\x1f" for index in range(len(codes))]
        keyed = graph.op("StringConcat", graph.strings(prefixes, (1, len(codes))), strings)
        pairs = [
            (prefix + value, float(code))
            for prefix, column in zip(prefixes, codes, strict=True)
            for value, code in column.items()
        ]
        return graph.op(
            "LabelEncoder",
            keyed,
            domain=ML,
            keys_strings=[key for key, _ in pairs],
            values_floats=[value for _, value in pairs],
            default_float=float("nan"),
        )

    def _write_dates(self, graph: Graph) -> list[str]:
        written = write_date_parts(graph, DATETIMES, self.origin)
        pieces = []
        for part in PARTS:
            columns = [index for index, parts in enumerate(self.parts) if part in parts]
            if columns:
                pieces.append(graph.columns(written[part], columns))
        return pieces

    def transform(self, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> npt.NDArray[np.float32]:
        """Return the encoded table of raw columns, computed by the graph."""
        graph = Graph()
        table = graph.rename(self.write(graph), "table")
        output = Tensor(name=table, datatype="FP32", shape=(-1, len(self.features)))
        signature = Signature(inputs=self.tensors, outputs=(output,))
        session = GraphSession(graph.finish(signature))
        feeds = pack_columns(signature, columns, rows)
        return np.ascontiguousarray(session.run_batched(feeds, rows=_BATCH)["table"])


def fit_encoder(table: TrainingTable) -> Encoder:
    """Learn an encoding from the training columns (labels are not looked at)."""
    tensors = input_tensors(table.schema, table.schema.names)
    by_name = {tensor.name: tensor.columns for tensor in tensors}
    features: list[Feature] = []
    fill = []
    for name in by_name.get(NUMBERS, ()):
        values = table.columns[name]
        missing = bool(np.isnan(values).any())
        fill.append(np.nan if missing else np.median(values))
        features.append(Feature(name=name, kind="number", missing=missing, levels=_few_levels(values)))
    codes: list[dict[str, int]] = []
    texts: list[TextTerms | None] = []
    term_features: list[Feature] = []
    for name in by_name.get(STRINGS, ()):
        column, values = table.schema[name], table.columns[name]
        terms = fit_terms(values.tolist()) if column.kind is ColumnKind.TEXT else None
        texts.append(terms)
        if terms is not None:
            codes.append({})
            term_features += [
                Feature(name=f"{name}:{number}", kind="term") for number in range(len(terms.terms))
            ]
            continue
        column_codes, feature = _string_codes(column, values)
        codes.append(column_codes)
        features.append(feature)
    features += term_features
    dates = by_name.get(DATETIMES, ())
    origin, parts = _date_parts([table.columns[name] for name in dates])
    for part in PARTS:
        for name, kept in zip(dates, parts, strict=True):
            if part in kept:
                missing = bool((table.columns[name] == MISSING_DATETIME).any())
                features.append(Feature(name=f"{name}:{part}", kind="date", missing=missing))
    return Encoder(
        tensors=tensors,
        fill=np.array(fill, dtype=np.float32),
        codes=tuple(codes),
        texts=tuple(texts),
        origin=origin,
        parts=parts,
        features=tuple(features),
    )


def _few_levels(values: npt.NDArray[np.float32]) -> int:
    """Return how many different whole numbers a column holds if they are at most 32, else 0."""
    present = values[~np.isnan(values)]
    if not len(present) or np.any(present[:200] != np.round(present[:200])):
        return 0
    if len(np.unique(present[:2000])) > 32:
        return 0
    levels = np.unique(present)
    whole = bool(np.all(levels == np.round(levels)))
    return len(levels) if whole and len(levels) <= 32 else 0


def _string_codes(column: Column, values: npt.NDArray[Any]) -> tuple[dict[str, int], Feature]:
    counts = Counter(values.tolist())
    missing = "" in counts
    if column.kind is ColumnKind.ORDERED and column.levels is not None:
        ranks = {level: rank for rank, level in enumerate(column.levels)}
        return ranks, Feature(name=column.name, kind="rank", missing=missing)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = [value for value, count in ordered[:MAX_LEVELS] if count > 1] or [ordered[0][0]]
    codes = {value: code for code, value in enumerate(kept)}
    return codes, Feature(name=column.name, kind="code", levels=len(codes), missing=len(kept) < len(ordered))


def _date_parts(
    columns: list[npt.NDArray[np.int64]],
) -> tuple[npt.NDArray[np.int64], tuple[tuple[str, ...], ...]]:
    origin, parts = [], []
    for values in columns:
        present = values[values != MISSING_DATETIME]
        origin.append(int(present.min()) if len(present) else 0)
        kept = ["elapsed_days", "month", "day", "weekday"]
        if np.any(present % 86_400_000_000):
            kept.append("hour")
        parts.append(tuple(kept))
    return np.array(origin, dtype=np.int64), tuple(parts)
