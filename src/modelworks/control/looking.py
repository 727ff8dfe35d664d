"""How a source is read, before anything is made of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelworks.core.errors import UsageError
from modelworks.core.schema import SAMPLE_KINDS, ColumnKind

LABEL = "label"
NAMED = 12


def look_at(source: Any, reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns, kinds with reasons, warnings, rows set aside and statistics.

    Args:
        source: File, folder, URL or table.
        reading: How it is read, in the words of an order file.
    """
    from modelworks.data import open_table, profile
    from modelworks.production.fitting import finite

    with tempfile.TemporaryDirectory(prefix="modelworks-") as name:
        report = _read(source, Path(name), reading)
        table, schema = open_table(Path(name))
        described: dict[str, Any] = finite(profile(table, schema, ()))
    return {"source": str(source), "report": finite(report), **schema.to_json(), "profile": described}


def only_target(source: Any, reading: Mapping[str, Any]) -> str:
    """Return ``label`` if that stands beside images, series or texts: there it is the one thing to be asked.

    Args:
        source: File, folder, URL or table.
        reading: How it is read, in the words of an order file.

    Raises:
        UsageError: There are columns to choose from; the message names them.
    """
    from modelworks.data import open_table

    with tempfile.TemporaryDirectory(prefix="modelworks-") as name:
        _read(source, Path(name), reading)
        kinds = {column.name: column.kind for column in open_table(Path(name))[1].columns}
    if LABEL in kinds and {*SAMPLE_KINDS, ColumnKind.TEXT} & set(kinds.values()):
        return LABEL
    more = f" and {len(kinds) - NAMED} more" if len(kinds) > NAMED else ""
    raise UsageError(
        f"Which column of '{source}' shall be predicted? There are {', '.join(list(kinds)[:NAMED])}{more}.",
        code="MW1304",
        hint=f"mw produce {source} --target COLUMN (mw data show {source} says what is in them)",
    )


def _read(source: Any, folder: Path, reading: Mapping[str, Any]) -> dict[str, Any]:
    from modelworks.data import ingest
    from modelworks.production.reading import read_options, read_source

    options = {
        **reading.get("reading", {}),
        **{k: reading[k] for k in ("kinds", "query", "file_column") if k in reading},
    }
    if not isinstance(source, str | Path):
        return dict(ingest(source, folder, read_options(options)))
    files = Path(reading["files"]).expanduser() if reading.get("files") else None
    return read_source(source, folder, options, files=files)
