"""Reading date-times in the many ways people write them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Moments:
    """Date-times read from text: ``values`` timestamp[us] in UTC, and the pattern that was used."""

    values: pa.Array
    pattern: str


def parse_moments(texts: pa.Array) -> Moments:
    """Read ISO 8601 texts; what cannot be read is null."""
    padded = pc.if_else(pc.match_substring_regex(texts, r"^\d{4}-\d{2}-\d{2}"), texts, None)
    try:
        return Moments(pc.cast(padded, pa.timestamp("us")), "ISO 8601")
    except pa.ArrowInvalid:
        return Moments(pa.nulls(len(texts), pa.timestamp("us")), "none")
