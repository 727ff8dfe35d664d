"""The protobuf reader against protobuf itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto

from modelworks.packaging import wire
from modelworks.packaging.inspection import ATTRIBUTE_FIELDS, TENSOR_FIELDS
from modelworks.packaging.wire import BYTES, Field, WireError, read_message

INT64 = st.integers(-(2**63), 2**63 - 1)
SIZES = st.sampled_from([0, 1, 3, 16, 17, 18, 40, 300])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_attributes_are_read_as_protobuf_wrote_them(data: st.DataObject) -> None:
    written = AttributeProto(name=data.draw(st.text(max_size=20)))
    written.ints.extend(data.draw(st.lists(INT64, min_size=(size := data.draw(SIZES)), max_size=size)))
    written.floats.extend(data.draw(st.lists(st.floats(width=32, allow_nan=False), max_size=40)))
    written.strings.extend(data.draw(st.lists(st.binary(max_size=200), max_size=40)))
    found = read_message(memoryview(written.SerializeToString()), ATTRIBUTE_FIELDS)
    assert wire.text(found["name"][0]) == written.name if written.name else "name" in found
    assert wire.numbers(found.get("ints", []), "int64").tolist() == list(written.ints)
    assert wire.numbers(found.get("floats", []), "float32").tolist() == list(written.floats)
    texts = found.get("strings", [])
    assert wire.count_texts(texts) == len(written.strings)
    assert wire.text_bytes(texts) == sum(map(len, written.strings))
    for wanted in {*written.strings[:5], b"LEAF", b""}:
        assert wire.texts_equal(texts, wanted).tolist() == [item == wanted for item in written.strings]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"LEAF", b"BRANCH_LEQ", b"J", b"JJJJ", b"J\x04LEAF", b"", b"x" * 127, b"x" * 128]),
        max_size=60,
    )
)
def test_texts_that_look_like_tags_are_told_apart(texts: list[bytes]) -> None:
    written = AttributeProto(name="modes", strings=texts)
    found = read_message(memoryview(written.SerializeToString()), ATTRIBUTE_FIELDS).get("strings", [])
    assert wire.texts_equal(found, b"LEAF").tolist() == [item == b"LEAF" for item in texts]


@settings(max_examples=100, deadline=None)
@given(st.lists(INT64, max_size=200), st.lists(st.floats(allow_nan=False), max_size=200))
def test_packed_numbers_are_read(ints: list[int], doubles: list[float]) -> None:
    written = TensorProto(dims=[len(ints)], int64_data=ints, double_data=doubles)
    found = read_message(memoryview(written.SerializeToString()), TENSOR_FIELDS)
    assert wire.numbers(found.get("int64_data", []), "int64").tolist() == ints
    assert wire.numbers(found.get("double_data", []), "float64").tolist() == doubles


def test_long_runs_cross_the_reading_window() -> None:
    written = AttributeProto(name="ids", ints=range(100_000), floats=np.arange(100_000, dtype=np.float32))
    found = read_message(memoryview(written.SerializeToString()), ATTRIBUTE_FIELDS)
    assert (wire.numbers(found["ints"], "int64") == np.arange(100_000)).all()
    assert (wire.numbers(found["floats"], "float32") == np.arange(100_000, dtype=np.float32)).all()
    assert len(found["ints"]) < 40, "a run is one array, not a hundred thousand numbers"


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0b",
        b"\x0c",
        b"\x90\x03\x01",
        b"\x0a\x01a\x0a\x01b",
        b"\x08\x01",
        b"\x18" + b"\xff" * 10 + b"\x01",
        b"\x18" + b"\x80" * 11,
        b"\x15\x00\x00",
    ],
)
def test_what_is_no_plain_message_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_message(memoryview(data), ATTRIBUTE_FIELDS)


def test_an_overlong_number_in_a_run_is_refused() -> None:
    run = b"\x40\x01" * 40 + b"\x40" + b"\xff" * 12 + b"\x01"
    with pytest.raises(WireError):
        wire.numbers(read_message(memoryview(run), ATTRIBUTE_FIELDS)["ints"], "int64")


def test_a_padded_tag_is_refused_and_not_read_for_ever() -> None:
    texts = {9: Field("strings", BYTES, many=True, texts=True)}
    padded = bytes([(9 << 3 | 2) | 0x80, 0, 1, 65])
    with pytest.raises(WireError, match="longer than it needs"):
        read_message(memoryview(padded), texts)


def test_a_text_of_another_wire_type_is_refused() -> None:
    texts = {9: Field("strings", BYTES, many=True, texts=True)}
    with pytest.raises(WireError, match="wire type 0"):
        read_message(memoryview(bytes([9 << 3, 1, 65])), texts)
