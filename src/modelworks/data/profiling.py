"""Statistics of every column as plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.schema import ColumnKind, Schema
from modelworks.data.typed import as_doubles, codes_and_levels


def profile(table: pa.Table, schema: Schema, targets: Sequence[str] = ()) -> dict[str, Any]:
    """Return ``{"rows", "columns": [...]}`` with statistics per column."""
    columns = []
    for column in schema.columns:
        entry: dict[str, Any] = column.to_json()
        if column.kind is ColumnKind.NUMBER:
            values = as_doubles(table.column(column.name))
            values = values[np.isfinite(values)]
            if len(values):
                entry |= {
                    "mean": float(values.mean()),
                    "sd": float(values.std()),
                    "quantiles": [float(q) for q in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])],
                }
        else:
            codes, levels = codes_and_levels(table.column(column.name))
            counts = np.bincount(codes[codes >= 0], minlength=len(levels))
            top = np.argsort(-counts, kind="stable")[:20]
            entry["top"] = [[levels[index], int(counts[index])] for index in top]
        columns.append(entry)
    return {"rows": table.num_rows, "columns": columns}
