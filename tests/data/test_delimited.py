"""Delimited text: what is written comes back, however it is written; bad rows are set aside, none lost."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, LimitError
from modelworks.data import ReadOptions, TableLimits, ingest, open_table
from modelworks.data.delimited import DelimitedReader, record_end
from modelworks.data.options import MISSING_TOKENS
from modelworks.data.raw import RawSink
from modelworks.data.streams import open_bytes

_plain_text = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="\ufeff"),
    max_size=12,
)
_awkward_text = st.text(st.sampled_from("ab1 ,;\t|\"'\n\r#é中€.-"), max_size=10)
_cells = st.one_of(_plain_text, _awkward_text)


def _tables(cells: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    return st.integers(2, 5).flatmap(
        lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=12)
    )


def _written(rows: list[list[str]], delimiter: str, line_end: str) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    return stream.getvalue()


def _read_back(data: bytes, options: ReadOptions) -> list[list[str | None]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(data)
        report = ingest(path, Path(folder) / "out", options, isolate=False)
        assert report["quarantined"] == 0
        table, _ = open_table(Path(folder) / "out")
        return [list(row) for row in zip(*[column.to_pylist() for column in table.columns], strict=True)]


def _expected(cell: str) -> str | None:
    trimmed = cell.strip()
    return None if cell in MISSING_TOKENS or trimmed in MISSING_TOKENS else trimmed


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=_tables(_cells),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
)
@example([["a", "\n"], ["b", '"']], ",", "\n", "utf-8")
def test_quoted_tables_come_back_cell_by_cell(
    rows: list[list[str]], delimiter: str, line_end: str, encoding: str
) -> None:
    """Every cell of a quoted table survives delimiters, quotes, line ends and encodings inside it."""
    names = tuple(f"name {index}" for index in range(len(rows[0])))
    body = [[cell.replace("\r", "") for cell in row] for row in rows]
    assume(all(any(_expected(cell) for cell in row) for row in body))
    data = _written([list(names), *body], delimiter, line_end).encode(encoding)
    options = ReadOptions(
        delimiter=delimiter,
        encoding=encoding,
        header=True,
        quote='"',
        comment="",
        kinds=dict.fromkeys(names, "category"),
    )
    assert _read_back(data, options) == [[_expected(cell) for cell in row] for row in body]


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(
        st.tuples(
            st.integers(-(10**9), 10**9), st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 2))
        ),
        min_size=4,
        max_size=40,
    ),
    delimiter=st.sampled_from([",", ";", "\t", "|", " "]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]),
)
def test_dialect_of_numbers_is_found_without_help(
    numbers: list[tuple[int, float]], delimiter: str, encoding: str
) -> None:
    lines = [f"größe{delimiter}wert"] + [f"{whole}{delimiter}{part}" for whole, part in numbers]
    data = ("\n".join(lines) + "\n").encode(encoding)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.txt"
        path.write_bytes(data)
        ingest(path, Path(folder) / "out", isolate=False)
        table, schema = open_table(Path(folder) / "out")
        assert schema.names == ("größe", "wert")
        assert table.column("größe").to_pylist() == [whole for whole, _ in numbers]
        assert [float(cell) for cell in table.column("wert").to_pylist()] == [part for _, part in numbers]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 10**6), _awkward_text), min_size=3, max_size=60),
    block=st.integers(40, 400),
)
def test_small_blocks_read_the_same_table_as_one(rows: list[tuple[int, str]], block: int) -> None:
    """Cutting a text into blocks anywhere must not change what is read."""
    body = [[str(number), text.replace("\r", "") + "x"] for number, text in rows]
    data = _written([["n", "text"], *body], ",", "\n").encode()
    options = ReadOptions(delimiter=",", header=True, quote='"', comment="")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(data)
        found = []
        for size in (block, 1 << 22):
            sink = RawSink(Path(folder), TableLimits(), "t")
            reader = DelimitedReader(open_bytes(path, "t", "", TableLimits()), "t", options, sink, size, size)
            reader.read()
            reader.reader.close()
            sink.close()
            with pyarrow.memory_map(str(Path(folder) / "raw.arrow")) as source:
                found.append(pyarrow.ipc.open_file(source).read_all().combine_chunks().to_pylist())
            assert sink.bad_count == 0
        assert found[0] == found[1]
        assert len(found[0]) == len(rows)


@given(st.binary(max_size=300).map(lambda data: data.replace(b"\r", b"")))
def test_record_end_is_after_a_newline_outside_quotes(block: bytes) -> None:
    end = record_end(block, b'"')
    assert end == 0 or block[end - 1 : end] == b"\n"
    assert block[:end].count(b'"') % 2 == 0


@settings(max_examples=120, deadline=None)
@given(
    st.one_of(
        st.binary(min_size=1, max_size=400),
        st.text("a1,;\t\n\"' .-|{}[]:é", min_size=1, max_size=200).map(str.encode),
    )
)
def test_any_bytes_end_in_a_table_or_a_plain_error(data: bytes) -> None:
    """No input may end in anything but a table or an error of our tree."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "anything.csv"
        path.write_bytes(data)
        try:
            report = ingest(path, Path(folder) / "out", isolate=False)
        except (DataError, LimitError):
            return
        table, schema = open_table(Path(folder) / "out")
        assert table.num_rows == schema.rows == report["rows"] > 0
        assert tuple(table.column_names) == schema.names


def test_unclosed_quote_costs_no_other_row(read) -> None:
    lines = ["id,name,score"] + [f'{index},"name {index}",{index % 7}.5' for index in range(100)]
    lines[50] = '49,"never closed,1.5'
    table, _, report = read("\n".join(lines) + "\n")
    assert table.num_rows + report["quarantined"] == 100
    assert table.column("id").to_pylist().count(48) == 1
    assert table.num_rows >= 99


def test_quotes_inside_plain_text_are_text(read) -> None:
    lines = [f"{'ham' if index % 3 else 'spam'}\tmessage number {index} is fine" for index in range(60)]
    lines[10] = 'ham\t"HELLO. he asked'
    table, _, report = read("\n".join(lines) + "\n", name="sms.tsv")
    assert table.num_rows == 60
    assert report["detected"]["lines_with_plain_quotes"] == 1
    assert table.column("c1").to_pylist()[10] == '"HELLO. he asked'


@pytest.mark.parametrize("quote", [r"\"", '""'])
def test_both_ways_to_write_a_quote_inside_quotes(read, quote: str) -> None:
    text = "n,said\n" + "".join(f'{index},"he said {quote}no, {index % 3}{quote}"\n' for index in range(30))
    table, _, _ = read(text)
    assert table.column("said").to_pylist()[4] == 'he said "no, 1"'


def test_wrong_field_counts_are_quarantined_with_their_text(read, tmp_path: Path) -> None:
    lines = ["a,b,c"] + [f"{index},x{index % 3},{index / 2}" for index in range(50)]
    lines[7] = "1,2"
    lines[20] = "1,2,3,4,5"
    table, _, report = read("\n".join(lines) + "\n")
    assert table.num_rows == 48
    assert report["quarantined"] == 2
    assert report["quarantine_reasons"] == {"2 fields instead of 3": 1, "5 fields instead of 3": 1}
    bad = pyarrow.parquet.read_table(tmp_path / "out-1" / "quarantine.parquet").to_pylist()
    assert [row["_text"] for row in bad] == ["1,2", "1,2,3,4,5"]


def test_undecodable_bytes_are_quarantined_not_dropped(read) -> None:
    lines = [f"{index},größe {index % 5}".encode() for index in range(200)]
    lines[100] = b"100,gr\xf6\xdfe"
    table, _, report = read(b"number,word\n" + b"\n".join(lines) + b"\n")
    assert table.num_rows == 199
    assert report["quarantine_reasons"] == {"bytes that are not text": 1}


def test_text_that_turns_out_latin_late_is_read(read) -> None:
    plain = b"".join(b"%d,plain word\n" % index for index in range(40_000))
    late = b"".join(b"%d,caf\xe9\n" % index for index in range(50))
    table, _, report = read(b"number,word\n" + plain + late)
    assert report["detected"]["encoding"] == "cp1252"
    assert table.num_rows == 40_050
    assert table.column("word").to_pylist()[-1] == "café"


def test_mostly_bad_rows_are_refused_with_an_example(read) -> None:
    text = "1,2\n" * 9 + "".join("1," * (3 + index % 5) + "\n" for index in range(40))
    with pytest.raises(DataError, match=r"40 of 49 rows cannot be read .* fields instead of 2") as caught:
        read(text, delimiter=",", header=False)
    assert caught.value.error_code == "MW1132"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n6.2,3.4,virginica\n5.9,3.0,virginica\n", None),
        ("x,y,kind\n5.1,3.5,setosa\n4.9,3.0,virginica\n", ("x", "y", "kind")),
        ("M,0.4,15\nF,0.5,7\nI,0.2,9\nM,0.3,10\n", None),
        ("country,1990,1991,1992\nAT,1.5,1.6,1.7\nDE,2.5,2.6,2.7\n", ("country", "1990", "1991", "1992")),
        ("good,spam\nbad,ham\nbad,spam\ngood,ham\n", None),
        ("mood,kind\nbad,ham\nbad,spam\ngood,ham\ngood,spam\n", ("mood", "kind")),
    ],
)
def test_header_is_found_or_names_are_invented(read, text: str, names: tuple[str, ...] | None) -> None:
    _, schema, report = read(text)
    width = len(schema.columns)
    assert schema.names == (names or tuple(f"c{index}" for index in range(width)))
    assert report["detected"]["dialect"]["header"] is (names is not None)


def test_decimal_comma_groups_and_money(read) -> None:
    rows = "".join(f"{index};1.{200 + index},5;{index},25;$ {index}.00\n" for index in range(30))
    table, schema, _ = read("n;amount;part;price\n" + rows)
    assert table.column("amount").to_pylist()[3] == 1203.5
    assert table.column("part").to_pylist()[3] == 3.25
    assert schema["amount"].kind.value == "number"


def test_thousands_and_percent_in_a_comma_file(read) -> None:
    rows = "".join(f'{index},"{index + 1},{index:03d}",{index}%\n' for index in range(120))
    table, schema, _ = read("n,big,share\n" + rows)
    assert table.column("big").to_pylist()[7] == 8007
    assert table.column("share").to_pylist()[7] == 7
    assert "written like" in schema["big"].reason


def test_comments_and_titles_before_the_table(read) -> None:
    body = "".join(f"{index},{index * 1.5}\n" for index in range(20))
    table, schema, report = read("# made by a sensor\n# second line\ntime,value\n" + body)
    assert schema.names == ("time", "value")
    assert report["detected"]["comment_lines"] == 2
    assert table.num_rows == 20
    table, schema, report = read("Quarterly report\n\na,b,c\n" + "1,2,x\n3,4,y\n5,6,z\n" * 5)
    assert schema.names == ("a", "b", "c")
    assert table.num_rows == 15
    assert report["quarantined"] == 1


def test_whitespace_between_fields_and_blanks_at_line_ends(read) -> None:
    rows = "".join(f"{index} {index / 3:.4f}   {index % 4}  \n" for index in range(40))
    table, schema, _ = read(rows, name="train_FD001.txt")
    assert schema.names == ("c0", "c1", "c2")
    assert table.num_rows == 40


def test_missing_tokens_and_a_few_words_among_numbers(read) -> None:
    cells = [str(index / 7) for index in range(500)]
    cells[3], cells[9], cells[50], cells[77] = "?", "NA", "", "oops"
    other = ["unknown" if index % 5 == 0 else str(index) for index in range(500)]
    text = "x,y\n" + "".join(f"{a},{b}\n" for a, b in zip(cells, other, strict=True))
    table, schema, report = read(text)
    assert schema["x"].kind.value == "number"
    assert table.column("x").null_count == 4
    assert report["misfits"] == {"x": 1}
    assert "oops" in schema["x"].reason
    assert table.column("y").null_count == 100
    assert "unknown" in schema["y"].reason
    kept, _, _ = read("word\nnone\nsome\nnone\nall\n", missing=("",), header=True)
    assert kept.column("word").to_pylist() == ["none", "some", "none", "all"]


def test_duplicate_and_empty_names_become_unique(read) -> None:
    _, schema, report = read("a,a,,b ,a_2\n" + "1,2,3,4,5\n2,3,4,5,6\n")
    assert schema.names == ("a", "a_3", "c2", "b", "a_2")
    assert len(set(schema.names)) == 5
    assert any("more than once" in warning for warning in report["warnings"])


def test_not_finite_numbers_become_missing_with_a_count(read) -> None:
    text = "x,y\n" + "".join(f"{index},{index * 0.5}\n" for index in range(50)) + "51,inf\n52,-Infinity\n"
    table, _, report = read(text)
    assert table.column("y").null_count == 2
    assert any("infinite" in warning for warning in report["warnings"])


def test_codes_with_leading_zeros_stay_text(read) -> None:
    text = "zip,n\n" + "".join(f"{2000 + index % 9:05d},{index}\n" for index in range(60))
    table, schema, _ = read(text)
    assert table.column("zip").to_pylist()[0] == "02000"
    assert schema["zip"].kind.value == "category"
    assert "leading zeros" in schema["zip"].reason
