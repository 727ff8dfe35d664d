"""Reading any source into a folder that later steps map into memory."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from modelworks.core.errors import DataError
from modelworks.core.schema import Schema
from modelworks.data.isolation import parse_in_child
from modelworks.data.kinds import infer_schema
from modelworks.data.options import ReadOptions
from modelworks.data.overrides import with_kinds
from modelworks.data.parsing import parse_file
from modelworks.data.raw import RAW
from modelworks.data.sources import is_database, is_url, local_file, write_object
from modelworks.data.store import REPORT, write_quarantine, write_table
from modelworks.data.typing_columns import TypedTable, type_raw

BAD_SHARE = 0.5


def ingest(
    source: Any, folder: Path | str, options: ReadOptions | None = None, *, isolate: bool = True
) -> dict[str, Any]:
    """Read a source into ``folder``.

    Args:
        source: Path, URL, SQL connection URL (with ``options.query``) or a pandas, polars or Arrow object.
        folder: Where ``table.arrow``, ``schema.json``, ``quarantine.parquet`` and ``ingest.json`` go.
        options: Overrides of what is found out.
        isolate: Parse a file's bytes in a limited child process; ``False`` where the caller is one already.

    Returns:
        The content of ``ingest.json``: ``source``, ``format``, ``rows``, ``columns``, ``quarantined``,
        ``quarantine_reasons``, ``misfits``, ``missing_tokens``, ``detected`` and ``warnings``.

    Raises:
        DataError: The source cannot be read.
        LimitError: A limit of ``options.limits`` was reached.
        MissingExtra: The source needs a part that is not installed.
    """
    options = options or ReadOptions()
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".reading-") as work:
        found, trusted = _parse(source, options, Path(work), isolate)
        _refuse_mostly_bad(found)
        decimal = found.get("dialect", {}).get("decimal", ".")
        typed = type_raw(Path(work) / RAW, found["names"], options, decimal, checked=trusted)
        schema = with_kinds(typed.table, infer_schema(typed.table, typed.notes), options.kinds)
        write_table(place, typed.table, schema)
    write_quarantine(place, found["bad_rows"])
    report = _report(source, found, typed, schema, options)
    (place / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    return report


def _parse(source: Any, options: ReadOptions, work: Path, isolate: bool) -> tuple[dict[str, Any], bool]:
    """Return what the parser found, and whether ``raw.arrow`` was written by this process."""
    if is_database(source, options):
        from modelworks.data.sql import read_sql

        return read_sql(source, options, work), True
    if is_url(source):
        from modelworks.data.remote import fetch_url

        path, name = fetch_url(source, options, work), source.split("?")[0].rsplit("/", 1)[-1]
    elif isinstance(source, (str, Path)):
        file = local_file(source, options)
        path, name = file.path, file.name
    else:
        return write_object(source, options, work), True
    if isolate:
        return parse_in_child(path, name, options, work), False
    return parse_file(path, name, options, work), True


def _refuse_mostly_bad(found: dict[str, Any]) -> None:
    bad, rows = found["bad_count"], found["rows"]
    if bad <= BAD_SHARE * (bad + rows):
        return
    example = found["bad_rows"][0] if found["bad_rows"] else {"_reason": "", "_text": ""}
    raise DataError(
        f"{bad:,} of {bad + rows:,} rows cannot be read ({example['_reason']}), such as: {example['_text'][:80]!r}.",
        code="MW1132",
        hint="set the delimiter, quote or encoding",
    )


def _report(
    source: Any, found: dict[str, Any], typed: TypedTable, schema: Schema, options: ReadOptions
) -> dict[str, Any]:
    reasons: dict[str, int] = {}
    for row in found["bad_rows"]:
        reasons[row["_reason"]] = reasons.get(row["_reason"], 0) + 1
    warnings = list(typed.warnings)
    if found["bad_count"]:
        warnings.append(f"{found['bad_count']:,} bad rows were set aside (quarantine.parquet)")
    if found.get("lines_with_plain_quotes"):
        warnings.append(
            f"{found['lines_with_plain_quotes']:,} lines with an open quote were read as plain text"
        )
    for name, count in typed.misfits.items():
        warnings.append(f"column '{name}': {count} cells do not fit and are kept as missing")
    hidden = {"names", "rows", "bad_rows", "bad_count", "format", "compression", "source"}
    return {
        "source": found.get("source") or _source_name(source),
        "format": found["format"],
        "compression": found["compression"],
        "rows": schema.rows,
        "columns": len(schema.columns),
        "quarantined": found["bad_count"],
        "quarantine_reasons": reasons,
        "misfits": typed.misfits,
        "missing_tokens": [token for token in options.missing if token],
        "detected": {key: value for key, value in found.items() if key not in hidden},
        "warnings": warnings,
    }


def _source_name(source: Any) -> str:
    if isinstance(source, (str, Path)):
        from modelworks.data.remote import hide_secrets

        return hide_secrets(str(source)) if is_url(source) else Path(source).name
    return type(source).__name__
