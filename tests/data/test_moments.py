"""Date-times in many spellings, checked against Python's own calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.data.moments import compact_dates, find_pattern, read_moments

EPOCH = datetime(1970, 1, 1)
_moments = st.lists(
    st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31)).map(
        lambda moment: moment.replace(microsecond=0)
    ),
    min_size=3,
    max_size=30,
)
FORMATS = [
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M:%S", "%d-%b-%Y %H:%M",
    "%b %d, %Y %H:%M:%S", "%B %d, %Y", "%Y-%m-%d", "%a, %d %b %Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%Y-%m",
    "%b %Y", "%Y.%m.%d",
]  # fmt: skip


def _micros(values: pa.Array) -> list[int | None]:
    return values.cast(pa.int64()).to_pylist()


@settings(max_examples=150, deadline=None)
@given(moments=_moments, form=st.sampled_from(FORMATS))
def test_written_moments_are_read_back(moments: list[datetime], form: str) -> None:
    texts = [moment.strftime(form) for moment in moments]
    pattern = find_pattern(texts, day_first=form.startswith("%d."))
    assert pattern is not None
    expected = [(datetime.strptime(text, form) - EPOCH) // timedelta(microseconds=1) for text in texts]
    assert _micros(read_moments(pa.array(texts), pattern)) == expected


@settings(max_examples=60, deadline=None)
@given(moments=_moments, hours=st.integers(-12, 14), colon=st.booleans())
def test_zones_are_brought_to_utc(moments: list[datetime], hours: int, colon: bool) -> None:
    zone = timezone(timedelta(hours=hours))
    texts = [moment.replace(tzinfo=zone).strftime("%Y-%m-%d %H:%M:%S %z") for moment in moments]
    if colon:
        texts = [text[:-2] + ":" + text[-2:] for text in texts]
    pattern = find_pattern(texts)
    assert pattern is not None
    expected = [
        (moment.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None) - EPOCH)
        // timedelta(microseconds=1)
        for moment in moments
    ]
    assert _micros(read_moments(pa.array(texts), pattern)) == expected


def test_day_or_month_first_is_decided_by_all_cells() -> None:
    assert find_pattern(["01/02/2024", "13/02/2024"]).day_first is True
    assert find_pattern(["01/02/2024", "02/13/2024"]).day_first is False
    ambiguous = find_pattern(["01/02/2024", "03/04/2024"])
    assert ambiguous.day_first is False
    assert "two ways" in ambiguous.note
    assert find_pattern(["01/02/2024", "03/04/2024"], day_first=True).day_first is True
    assert find_pattern(["13/02/2024", "02/13/2024"]) is None


def test_days_that_do_not_exist_are_missing() -> None:
    texts = ["2023-02-28 00:00", "2023-02-29 00:00", "2024-02-29 00:00", "2023-04-31 00:00", None]
    pattern = find_pattern([text for text in texts if text])
    micros = _micros(read_moments(pa.array(texts), pattern))
    assert [value is None for value in micros] == [False, True, False, True, True]


@pytest.mark.parametrize(
    "texts", [["1.2.3", "2.0.1"], ["12-34", "56-78"], ["a", "b"], ["2024", "2023"], ["3:45", "4:50"]]
)
def test_other_things_are_no_moments(texts: list[str]) -> None:
    assert find_pattern(texts) is None


def test_compact_dates() -> None:
    assert compact_dates(np.array([20240131, 19991231]))
    assert not compact_dates(np.array([20240131, 20241301]))
    assert not compact_dates(np.array([20240132]))
    assert not compact_dates(np.array([12, 40]))


def test_columns_of_dates_and_counts_since_1970(read) -> None:
    lines = ["created_at,day,stamp,number,when"]
    for index in range(60):
        lines.append(
            f"{1_600_000_000 + index * 3600},{20240101 + index % 28},2015-02-24 11:{index:02d}:52 -0800,"
            f"{1_600_000_000 + index},{index % 12 + 1}/{index % 28 + 1}/2024 {index % 12 + 1}:30 PM"
        )
    table, schema, _ = read("\n".join(lines) + "\n")
    kinds = {column.name: column.kind.value for column in schema.columns}
    assert kinds["created_at"] == kinds["day"] == kinds["stamp"] == kinds["when"] == "datetime"
    assert kinds["number"] != "datetime"
    assert table.column("created_at").cast(pa.int64())[1].as_py() == (1_600_000_000 + 3600) * 10**6
    assert str(table.column("stamp")[5].as_py()) == "2015-02-24 19:05:52"
    assert str(table.column("when")[11].as_py()) == "2024-12-12 12:30:00"
