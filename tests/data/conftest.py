"""Fixtures of the data room: the shared public tables, and reading a text or file in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelworks.core.schema import Schema
from modelworks.data import ReadOptions, ingest, open_table

SHARED = Path(os.environ.get("MODELWORKS_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"

Read = Callable[..., tuple[pa.Table, Schema, dict[str, Any]]]


@pytest.fixture
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the shared public datasets are not beside the project (MODELWORKS_SHARED)")
    return SHARED


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Ingest text, bytes, a path or an object in this process; returns table, schema and report."""
    count = 0

    def ingest_here(
        source: Any, *, name: str = "table.csv", **options: Any
    ) -> tuple[pa.Table, Schema, dict[str, Any]]:
        nonlocal count
        count += 1
        if isinstance(source, str) and "\n" in source:
            source = source.encode()
        if isinstance(source, bytes):
            path = tmp_path / f"{count}-{name}"
            path.write_bytes(source)
            source = path
        folder = tmp_path / f"out-{count}"
        report = ingest(source, folder, ReadOptions(**options), isolate=False)
        table, schema = open_table(folder)
        return table, schema, report

    return ingest_here
