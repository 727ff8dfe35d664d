"""What the guard found: one shape for every kind of warning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding.

    Attributes:
        code: Stable name, e.g. ``leak_copy``.
        severity: ``error`` (the result would be wrong), ``warning`` (may be), ``info``.
        column: Column it is about, or ``None`` for the table.
        message: What was seen, with numbers.
        exclude: Whether the column is barred from the model.
        detail: Numbers for the report.
    """

    code: str
    severity: str
    message: str
    column: str | None = None
    exclude: bool = False
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "column": self.column,
            "message": self.message,
            "exclude": self.exclude,
            "detail": self.detail,
        }
