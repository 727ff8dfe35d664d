"""Lines come out as they went in, however the stream is cut."""

from hypothesis import given
from hypothesis import strategies as st

from modelworks.compute.lines import LineBuffer


@given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b""))), st.lists(st.integers(1, 7)))
def test_any_cut_gives_the_same_lines(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    buffer, found = LineBuffer(), []
    for cut in [*cuts, len(data) or 1]:
        found += buffer.feed(data[:cut])
        data = data[cut:]
    assert found == lines
    assert buffer.feed(b"rest\n") == [b"rest"]
