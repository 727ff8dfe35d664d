"""What a table's columns mean: the kinds Modelworks infers, shows and accepts as overrides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from modelworks.core.errors import DataError, close_matches


class ColumnKind(StrEnum):
    """The meaning of a column, as shown to the user and used by every later step."""

    NUMBER = "number"
    INTEGER_CATEGORY = "integer_category"
    CATEGORY = "category"
    ORDERED = "ordered"
    DATETIME = "datetime"
    BOOLEAN = "boolean"
    TEXT = "text"
    IDENTIFIER = "identifier"
    CONSTANT = "constant"
    IMAGE = "image"
    SERIES = "series"


SAMPLE_KINDS = frozenset({ColumnKind.IMAGE, ColumnKind.SERIES})
"""Kinds of a payload column: encoded image bytes, or a list of values per channel."""

FEATURE_KINDS = frozenset(ColumnKind) - {ColumnKind.IDENTIFIER, ColumnKind.CONSTANT} - SAMPLE_KINDS


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        name: Column name as in the source, unique in the table.
        kind: Its meaning.
        levels: For ``ordered``, ``boolean`` and small categories: the values, in order.
        missing: Number of missing cells seen.
        distinct: Number of distinct present values seen (may be estimated above 100,000).
        reason: One short sentence: why this kind was chosen.
    """

    name: str
    kind: ColumnKind
    levels: tuple[str, ...] | None = None
    missing: int = 0
    distinct: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind.value,
            "levels": list(self.levels) if self.levels is not None else None,
            "missing": self.missing,
            "distinct": self.distinct,
            "reason": self.reason,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Column:
        levels = data.get("levels")
        return Column(
            name=data["name"],
            kind=ColumnKind(data["kind"]),
            levels=tuple(levels) if levels is not None else None,
            missing=int(data.get("missing", 0)),
            distinct=int(data.get("distinct", 0)),
            reason=data.get("reason", ""),
        )


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order."""

    columns: tuple[Column, ...]
    rows: int = 0

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(
            f"There is no column '{name}'.{close_matches(name, self.names)}",
            code="MW1101",
            hint="mw data show FILE lists the columns",
        )

    def __contains__(self, name: object) -> bool:
        return any(column.name == name for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def with_kinds(self, kinds: dict[str, str]) -> Schema:
        """Return a schema with some kinds overridden by the user (name -> kind)."""
        for name, kind in kinds.items():
            _ = self[name]
            if kind not in set(ColumnKind):
                raise DataError(
                    f"Column '{name}': there is no kind '{kind}'.{close_matches(kind, ColumnKind)}",
                    code="MW1102",
                    hint="kinds: " + ", ".join(ColumnKind),
                )
        return replace(
            self,
            columns=tuple(
                replace(column, kind=ColumnKind(kinds[column.name]), reason="set by the user")
                if column.name in kinds
                else column
                for column in self.columns
            ),
        )

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "columns": [column.to_json() for column in self.columns]}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Schema:
        return Schema(
            columns=tuple(Column.from_json(item) for item in data["columns"]),
            rows=int(data.get("rows", 0)),
        )
