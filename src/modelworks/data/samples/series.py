"""Series and their labels: UCR ``.ts`` files, a folder of wav files, wide tables (a row is a series), long tables."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.errors import DataError
from modelworks.data.samples.archive import open_files
from modelworks.data.samples.images import FILE, LABEL, PARTS, ReadSamples, part_of, places_of

SERIES, RATE = "series", "rate"
Floats = npt.NDArray[np.float32]


def series_column(values: Sequence[Floats]) -> pa.Array:
    """Pack series ``[channels, length]`` as a list (channels) of lists (values, missing = NaN)."""
    return pa.array([[list(map(float, channel)) for channel in item] for item in values], _TYPE)


_TYPE = pa.large_list(pa.large_list(pa.float32()))


def stack_series(column: pa.ChunkedArray | pa.Array, length: int = 0) -> Floats:
    """Return ``[n, channels, length]``; shorter series end in NaN, longer ones are cut.

    Args:
        column: A payload column.
        length: Values per series; 0 takes the longest.

    Raises:
        DataError: The series do not have the same number of channels.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    channels = pc.list_value_length(array).to_numpy(zero_copy_only=False)
    if len(np.unique(channels)) != 1:
        raise DataError(f"Series have {channels.min()} to {channels.max()} channels.", code="MW1170")
    inner = array.flatten()
    lengths = pc.list_value_length(inner).to_numpy(zero_copy_only=False)
    flat = inner.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    width = length or int(lengths.max())
    rows = np.full((len(inner), width), np.nan, np.float32)
    ends = np.cumsum(lengths)
    for row, (end, count) in enumerate(zip(ends, lengths, strict=True)):
        taken = min(int(count), width)
        rows[row, :taken] = flat[end - count : end - count + taken]
    return rows.reshape(len(array), int(channels[0]), width)


def read_ts(path: Path) -> ReadSamples:
    """Read a UCR/UEA ``.ts`` file: channels parted by ``:``, the label last.

    Raises:
        DataError: The file holds no series.

    Source: aeon/sktime ``.ts`` format, Bagnall et al. (2018), The UEA multivariate time series archive.
    """
    series: list[Floats] = []
    labels: list[str | None] = []
    bad: list[dict[str, Any]] = []
    labelled = True
    for record, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("@"):
            if text.lower().startswith(("@classlabel false", "@targetlabel false")):
                labelled = False
            continue
        parts = text.split(":")
        channels, label = (parts[:-1], parts[-1]) if labelled else (parts, None)
        try:
            rows = [
                [float("nan") if v.strip() in ("?", "") else float(v) for v in part.split(",")]
                for part in channels
            ]
            if not rows or len({len(row) for row in rows}) != 1:
                raise ValueError("channels of different lengths")
        except ValueError as error:
            bad.append({"_record": record, "_reason": str(error), "_text": text[:200]})
            continue
        series.append(np.array(rows, np.float32))
        labels.append(label)
    return _table(series, {LABEL: pa.array(labels, pa.string())}, bad, path.name)


def _value(cell: str) -> float:
    return float("nan") if cell.strip() in ("?", "") else float(cell)


def read_wav_folder(source: Path) -> ReadSamples:
    """Read PCM wav files from a folder or zip file; the label is the folder, or the name's part before ``_``.

    Returns:
        Columns ``series`` (values in [-1, 1], one channel per audio channel), ``file``, ``label``, ``rate`` (Hz) and,
        where the folders are named so (``train/``, ``test/``), ``part``.
    """
    series: list[Floats] = []
    names: list[str] = []
    rates: list[int] = []
    bad: list[dict[str, Any]] = []
    with open_files(source) as files:
        for record, name in enumerate(item for item in files.names if item.lower().endswith(".wav")):
            try:
                values, rate = decode_wav(files.read(name))
            except DataError as error:
                bad.append({"_record": record, "_reason": error.message, "_text": name})
                continue
            series.append(values)
            names.append(name)
            rates.append(rate)
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    parts = [next((found for part in path if (found := part_of(part))), None) for path in folders]
    parted = all(parts) and len(set(parts)) > 1
    classes = [tuple(part for part in path if not (parted and part_of(part))) for path in folders]
    foldered = len(set(classes)) > 1
    labels = [
        (path[-1] if path else "") if foldered else PurePosixPath(name).name.partition("_")[0]
        for path, name in zip(classes, names, strict=True)
    ]
    columns = {FILE: pa.array(names), LABEL: pa.array(labels), RATE: pa.array(rates, pa.int64())}
    if parted:
        columns[PARTS] = pa.array(parts)
    return _table(series, columns, bad, source.name)


def read_listed_sounds(labels: pa.Table, column: str, source: Path) -> ReadSamples:
    """Read PCM wav files that a column of a table names, relative to a folder or inside a zip file.

    Args:
        labels: Table with one row per sound.
        column: Column with file names; a name without a folder finds its file in any folder.
        source: Folder or zip file of the sounds.

    Returns:
        The table's columns, ``series`` and ``rate`` (Hz). Rows whose sound is absent or unreadable are set aside.

    Raises:
        DataError: There is no such column, or no row has a sound.
    """
    if column not in labels.column_names:
        raise DataError(f"The table has no column '{column}' with wav files.", code="MW1163")
    wanted = [str(value) for value in labels.column(column).to_pylist()]
    kept, series, rates, bad = [], [], [], []
    with open_files(source) as files:
        for row, place in enumerate(places_of(wanted, files.names)):
            try:
                if place is None:
                    raise DataError("there is no such wav file", code="MW1171")
                values, rate = decode_wav(files.read(place))
            except DataError as error:
                bad.append({"_record": row, "_reason": error.message, "_text": wanted[row]})
                continue
            kept.append(row)
            series.append(values)
            rates.append(rate)
    if not kept:
        raise DataError(
            f"No value of '{column}' names a readable wav file in '{source.name}'.", code="MW1164"
        )
    table = labels.take(pa.array(kept, pa.int64()))
    columns = {name: table.column(name) for name in table.column_names}
    if RATE not in columns:
        columns[RATE] = pa.array(rates, pa.int64())
    return _table(series, columns, bad, source.name)


def decode_wav(data: bytes) -> tuple[Floats, int]:
    """Decode PCM wav bytes to ``[channels, samples]`` in [-1, 1] and the sample rate in Hz.

    Raises:
        DataError: The bytes are no PCM wav file of 8, 16 or 32 bits.
    """
    try:
        with wave.open(io.BytesIO(data)) as reader:
            width, channels, rate = reader.getsampwidth(), reader.getnchannels(), reader.getframerate()
            raw = reader.readframes(reader.getnframes())
    except (wave.Error, EOFError, ValueError) as error:
        raise DataError(f"The bytes are not a readable wav file: {error}.", code="MW1171") from error
    values: npt.NDArray[Any]
    if width == 1:
        values = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    elif width in (2, 4):
        values = np.frombuffer(raw, f"<i{width}").astype(np.float32) / np.float32(2 ** (8 * width - 1))
    else:
        raise DataError(f"The wav file has {8 * width} bits a value; 8, 16 and 32 are read.", code="MW1171")
    return np.ascontiguousarray(values.reshape(-1, channels).T), rate


def read_wide(table: pa.Table, values: Sequence[str]) -> ReadSamples:
    """Read a table whose rows are series: the ``values`` columns are the values in order of time."""
    matrix = np.stack([_numbers(table, name) for name in values], axis=1)
    columns = {name: table.column(name) for name in table.column_names if name not in set(values)}
    return _table(list(matrix[:, None, :]), columns, [], "table")


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float32]:
    """Return a column of values as float32.

    Raises:
        DataError: A cell is not a number.
    """
    column = table.column(name)
    try:
        return np.asarray(pc.cast(column, pa.float32()).to_numpy())
    except pa.ArrowInvalid:
        shown = next((str(cell) for cell in column.to_pylist() if not _is_number(cell)), "?")
        raise DataError(
            f"Column '{name}' is listed as values of a series and holds {shown!r:.60}.",
            code="MW1167",
            hint="leave it out of series_values (names, or patterns like 't*'); any other column is a label or a name",
        ) from None


def _is_number(cell: Any) -> bool:
    try:
        float(0 if cell is None else cell)
    except (TypeError, ValueError):
        return False
    return True


def read_long(
    table: pa.Table, key: str, time: str, values: Sequence[str], *, window: int = 0, stride: int = 1
) -> ReadSamples:
    """Read a table with one row per moment: rows of one ``key`` are a series in order of ``time``.

    Args:
        table: Rows are moments.
        key, time: Columns that tell series apart and order their rows.
        values: Columns that hold values, one channel each.
        window: 0 makes one sample of each series; every other column must be constant within it and becomes a column
            of its own (labels, groups). Otherwise that many rows up to a moment are a sample, with the other columns
            (and the time) of that moment; a series that is shorter is one sample that begins with missing values.
        stride: Moments from one window to the next, counted back from the last moment of a series.

    Raises:
        DataError: A further column changes within a series.
    """
    for name in (key, time):
        table = table.set_column(table.column_names.index(name), name, _sortable(table.column(name)))
    ordered = table.sort_by([(key, "ascending"), (time, "ascending")])
    keys = pc.dictionary_encode(ordered.column(key).combine_chunks()).indices.to_numpy()
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    matrix = np.stack([_numbers(ordered, name) for name in values])
    if window:
        return _windows(ordered, matrix, starts, values, window, stride)
    series = np.split(matrix, starts[1:], axis=1)
    columns: dict[str, Any] = {key: ordered.column(key).take(pa.array(starts))}
    for name in ordered.column_names:
        if name in {key, time, *values}:
            continue
        distinct = (
            ordered.group_by(key).aggregate([(name, "count_distinct")]).column(f"{name}_count_distinct")
        )
        if pc.max(distinct).as_py() > 1:
            raise DataError(
                f"Column '{name}' changes within a series of '{key}'.",
                code="MW1172",
                hint="reading: {series_values: [COLUMN, ...]} lists the columns of values; any other column is one "
                "value for the whole series",
            )
        columns[name] = ordered.column(name).take(pa.array(starts))
    return _table(series, columns, [], "table")


def _windows(
    ordered: pa.Table,
    matrix: Floats,
    starts: npt.NDArray[Any],
    values: Sequence[str],
    window: int,
    stride: int,
) -> ReadSamples:
    """Return a sample per window, and the other columns of its last row."""
    series: list[Floats] = []
    ends: list[int] = []
    for first, behind in zip(starts.tolist(), [*starts[1:].tolist(), matrix.shape[1]], strict=True):
        least = min(first + window, behind)
        for end in range(behind - (behind - least) // stride * stride, behind + 1, stride):
            part = matrix[:, max(first, end - window) : end]
            series.append(np.pad(part, ((0, 0), (window - part.shape[1], 0)), constant_values=np.nan))
            ends.append(end - 1)
    columns = {
        name: ordered.column(name).take(pa.array(ends))
        for name in ordered.column_names
        if name not in set(values)
    }
    return _table(series, columns, [], "table")


def _sortable(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return levels as plain values, as numbers where all of them are, so that 9 comes before 10."""
    if not pa.types.is_dictionary(cells.type):
        return cells
    plain = pc.cast(cells, pa.string())
    try:
        return pc.cast(plain, pa.float64())
    except pa.ArrowInvalid:
        return plain


def _table(
    series: list[Floats], columns: dict[str, Any], bad: list[dict[str, Any]], name: str
) -> ReadSamples:
    if not series:
        raise DataError(f"'{name}' holds no series.", code="MW1173")
    return ReadSamples(pa.table({SERIES: series_column(series), **columns}), bad)
