"""What parsing leaves behind: batches as they were read, and the rows that could not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from modelworks.core.errors import LimitError
from modelworks.data.options import TableLimits

RAW = "raw.arrow"


class RawSink:
    """Writes batches to an Arrow IPC file and keeps bad rows, under the limits.

    Args:
        folder: Where ``raw.arrow`` goes.
        limits: Sizes that are refused.
        name: Source name for messages.
    """

    def __init__(self, folder: Path, limits: TableLimits, name: str) -> None:
        self._path = folder / RAW
        self._limits = limits
        self._name = name
        self._file: Any = None
        self._writer: Any = None
        self.names: list[str] = []
        self.rows = 0
        self.bad_rows: list[dict[str, Any]] = []
        self.bad_count = 0

    def open(self, layout: pa.Schema, names: list[str]) -> None:
        """Begin a table.

        Raises:
            LimitError: Too many columns.
        """
        if len(names) > self._limits.columns:
            raise LimitError(
                f"'{self._name}' has {len(names):,} columns; at most {self._limits.columns:,} are read.",
                code="MW2011",
                where=self._name,
                hint="drop columns that are not needed, or raise the limit 'columns'",
            )
        self.names = names
        self._file = pa.OSFile(str(self._path), "wb")
        self._writer = pa.ipc.new_file(self._file, layout)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch.

        Raises:
            LimitError: Too many rows, or a cell is too large.
        """
        self.rows += batch.num_rows
        if self.rows > self._limits.rows:
            raise LimitError(
                f"'{self._name}' has more than {self._limits.rows:,} rows.",
                code="MW2013",
                where=self._name,
                hint="take a sample, or raise the limit 'rows'",
            )
        for index, column in enumerate(batch.columns):
            self._check_cells(column, self.names[index])
        if batch.num_rows:
            self._writer.write_batch(batch)

    def _check_cells(self, column: pa.Array, name: str) -> None:
        if not (pa.types.is_large_string(column.type) or pa.types.is_string(column.type)):
            return
        data = column.buffers()[2]
        if data is None or data.size <= self._limits.cell_bytes:
            return
        import pyarrow.compute as pc

        longest = pc.max(pc.binary_length(column)).as_py() or 0
        if longest > self._limits.cell_bytes:
            raise LimitError(
                f"'{self._name}', column '{name}': a cell has {longest:,} bytes; "
                f"at most {self._limits.cell_bytes:,} are read.",
                code="MW2014",
                where=self._name,
                hint="check the quotes of the file, or raise the limit 'cell_bytes'",
            )

    def bad_row(self, record: int, reason: str, text: str) -> None:
        """Set a row aside; its text is kept up to 2,000 characters and the limit of rows."""
        self.bad_count += 1
        if len(self.bad_rows) < self._limits.quarantine_rows:
            self.bad_rows.append({"_record": record, "_reason": reason, "_text": text[:2000]})

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._file.close()
            self._writer = None
