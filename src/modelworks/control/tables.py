"""Tables handed over as objects, kept as Arrow files named by their content."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modelworks.core.digest import digest_file
from modelworks.core.errors import DataError


def keep_table(data: Any, folder: Path) -> Path:
    """Write a pandas, polars or Arrow table to ``folder`` and return its file; equal tables share one.

    Raises:
        DataError: It is no table, or a column holds values that have no common type.
    """
    import pyarrow as pa
    import pyarrow.ipc

    table = _as_arrow(data)
    temporary = folder / f".{os.getpid()}.{os.urandom(4).hex()}"
    with pa.OSFile(str(temporary), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    target = folder / f"{digest_file(temporary)}.arrow"
    temporary.replace(target)
    return target


def _as_arrow(data: Any) -> Any:
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data.replace_schema_metadata(None)
    try:
        if type(data).__module__.partition(".")[0] == "pandas":
            return pa.Table.from_pandas(data, preserve_index=False).replace_schema_metadata(None)
        if hasattr(data, "__arrow_c_stream__"):
            return pa.table(data).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"The table cannot be read as columns of one type each: {error}.", code="MW1196"
        ) from None
    raise DataError(
        f"A {type(data).__name__} is no table.",
        code="MW1197",
        hint="hand over a path, a URL, or a pandas, polars or Arrow table",
    )
