"""The guard's look at samples: copies across the parts, scarce classes, too little data, groups that are torn apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.schema import ColumnKind, Schema
from modelworks.data.duplicates import find_copies
from modelworks.data.findings import Finding
from modelworks.data.guards import amount_findings, balance_findings, in_order_of_gravity
from modelworks.data.kinds import is_id_name
from modelworks.data.parts import Split
from modelworks.data.rowkeys import Keys
from modelworks.data.samples.images import FILE
from modelworks.data.target import Target
from modelworks.data.typed import codes_and_levels


def guard_samples(
    table: pa.Table, schema: Schema, keys: Keys, target: Target, split: Split, barred: set[str]
) -> list[dict[str, Any]]:
    """Return findings as ``data.guard`` does.

    Args:
        table, schema: The whole table.
        keys: One key per row, of its payload.
        target: The task's target, over all rows.
        split: The parts.
        barred: Targets and other columns that are no groups.
    """
    findings: list[Finding] = [
        *find_copies(keys, target, split.train, split.test),
        *balance_findings(target, split),
        *amount_findings(target, split, 1),
    ]
    for column in schema.columns if split.policy == "random" else ():
        if column.name in barred or column.name == FILE or not is_id_name(column.name):
            continue
        present = schema.rows - column.missing
        if column.kind in {ColumnKind.IMAGE, ColumnKind.SERIES, ColumnKind.TEXT, ColumnKind.BOOLEAN}:
            continue
        if not 10 <= column.distinct <= present / 2:
            continue
        codes = codes_and_levels(table.column(column.name))[0]
        shared = float(np.isin(codes[split.test], codes[split.train]).mean())
        message = (
            f"{shared:.0%} of sealed samples share their '{column.name}' with training samples. If new samples come "
            f"with new ones, use split: {{group: {column.name}}}."
        )
        findings.append(
            Finding(
                code="groups_across",
                severity="warning",
                column=column.name,
                message=message,
                detail={"share": shared},
            )
        )
    return in_order_of_gravity(findings)
