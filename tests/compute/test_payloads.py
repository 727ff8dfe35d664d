"""Texts, images and series as input tensors: shapes, batches, and errors a person understands."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworks.compute.feeds import batches, pack_columns, pack_rows
from modelworks.core.errors import DataError
from modelworks.core.signature import Signature, Tensor

TEXT = Signature(
    inputs=(Tensor(name="characters", datatype="INT64", shape=(-1, -1), columns=("note",)),), outputs=()
)
IMAGE = Signature(
    inputs=(Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3), columns=("photo",)),), outputs=()
)
SERIES = Signature(
    inputs=(Tensor(name="series", datatype="FP32", shape=(-1, 2, 4), columns=("wave",)),), outputs=()
)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_texts_are_their_code_points(texts: list[str]) -> None:
    codes = pack_rows(TEXT, [{"note": text} for text in texts])["characters"]
    assert [[chr(code) for code in row if code >= 0] for row in codes] == [list(text) for text in texts]
    np.testing.assert_array_equal(
        pack_columns(TEXT, {"note": np.array(texts, object)}, len(texts))["characters"], codes
    )


def test_an_image_is_pixels_bytes_or_base64() -> None:
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    buffer = io.BytesIO()
    image_module.fromarray(pixels).save(buffer, "PNG")
    for value in (pixels.tolist(), buffer.getvalue(), base64.b64encode(buffer.getvalue()).decode()):
        np.testing.assert_array_equal(pack_rows(IMAGE, [{"photo": value}])["pixels"][0], pixels)


def test_images_of_one_size_go_together() -> None:
    sizes = [(2, 3), (4, 4), (2, 3), (4, 4), (2, 3)]
    photos = np.empty(5, object)
    for index, size in enumerate(sizes):
        photos[index] = np.full((*size, 3), index, np.uint8)
    found = {tuple(rows.tolist()): feeds["pixels"] for rows, feeds in batches(IMAGE, {"photo": photos}, 5)}
    assert set(found) == {(0, 2, 4), (1, 3)}
    assert found[(0, 2, 4)][:, 0, 0, 0].tolist() == [0, 2, 4]
    with pytest.raises(DataError, match="different sizes"):
        pack_columns(IMAGE, {"photo": photos}, 5)


def test_short_series_end_in_missing_values() -> None:
    packed = pack_rows(SERIES, [{"wave": [[1, 2], [3, 4]]}, {"wave": [[1, 2, 3, 4], [5, 6, 7, None]]}])[
        "series"
    ]
    np.testing.assert_array_equal(packed[0], [[1, 2, np.nan, np.nan], [3, 4, np.nan, np.nan]])
    assert np.isnan(packed[1, 1, 3])


@pytest.mark.parametrize(
    ("signature", "row", "text"),
    [
        (TEXT, {"note": 3}, "Column 'note': row 0: expected a text, got 3"),
        (IMAGE, {"photo": "%%%"}, "Column 'photo': row 0: the text is not base64"),
        (IMAGE, {"photo": [[1, 2], [3]]}, "expected an image"),
        (IMAGE, {"photo": [[[1, 2, 300]]]}, "expected an image"),
        (IMAGE, {"photo": b"GIF89a"}, "not a readable image"),
        (SERIES, {"wave": [[1, 2]]}, "expected 2 channel"),
        (SERIES, {"wave": "abc"}, "expected 2 channel"),
        (SERIES, {}, "expected 2 channel"),
    ],
)
def test_what_does_not_fit_is_said(signature: Signature, row: dict, text: str) -> None:
    with pytest.raises(DataError, match=text.replace("(", r"\(")):
        pack_rows(signature, [row])
