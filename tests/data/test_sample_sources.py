"""Image and series sources: labels, parts, bad samples set aside, bombs refused, public sets read whole."""

from __future__ import annotations

import io
import os
import struct
import wave
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworks.compute.pixels import ImageLimits, decode_image
from modelworks.core.errors import DataError, LimitError
from modelworks.data.samples.archive import open_files
from modelworks.data.samples.images import read_image_folder, read_listed_images
from modelworks.data.samples.series import (
    decode_wav,
    read_listed_sounds,
    read_long,
    read_ts,
    read_wav_folder,
    read_wide,
    series_column,
    stack_series,
)

image_module = pytest.importorskip("PIL.Image")
SHARED = Path(os.environ.get("MODELWORKS_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"
shared = pytest.mark.skipif(
    not SHARED.exists(), reason="the shared public datasets are not beside the project"
)


def _encoded(kind: str = "PNG", size: tuple[int, int] = (8, 6), mode: str = "RGB", value: int = 90) -> bytes:
    buffer = io.BytesIO()
    image_module.new(mode, size, value if mode in ("L", "I;16") else (value,) * len(mode)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("BMP", "RGB"), ("PNG", "L")]
)
def test_formats_decode_to_rgb(kind: str, mode: str) -> None:
    pixels = decode_image(_encoded(kind, mode=mode))
    assert pixels.shape == (6, 8, 3)
    assert abs(int(pixels.mean()) - 90) <= 2


def test_transparent_pixels_are_white_and_sixteen_bits_are_scaled() -> None:
    buffer = io.BytesIO()
    image_module.new("RGBA", (2, 2), (0, 0, 0, 0)).save(buffer, "PNG")
    assert decode_image(buffer.getvalue()).min() == 255
    buffer = io.BytesIO()
    image_module.fromarray(np.array([[0, 4000]], np.uint16)).save(buffer, "PNG")
    assert decode_image(buffer.getvalue())[0, :, 0].tolist() == [0, 255]


def _bomb() -> bytes:
    """A PNG header that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_bombs_are_refused_before_decoding() -> None:
    with pytest.raises(LimitError):
        decode_image(_bomb())
    with pytest.raises(LimitError, match="bytes"):
        decode_image(b"x" * 100, ImageLimits(bytes=99))


@given(st.binary(max_size=200))
def test_any_bytes_give_pixels_or_a_clear_error(data: bytes) -> None:
    for prefix in (b"", _encoded()[:40], _encoded("JPEG")[:60]):
        try:
            assert decode_image(prefix + data).ndim == 3
        except (DataError, LimitError) as error:
            assert error.error_code.startswith("MW")


def test_a_folder_per_class_and_a_zip_read_the_same(tmp_path: Path) -> None:
    for name in ("train/crack/1.png", "train/fine/2.png", "test/fine/3.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(_encoded())
    (tmp_path / "set/train/fine/broken.jpg").write_bytes(_encoded("JPEG")[:-200])
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted((tmp_path / "set").rglob("*.*")):
            archive.write(file, file.relative_to(tmp_path / "set"))
    folder, packed = read_image_folder(tmp_path / "set"), read_image_folder(tmp_path / "set.zip")
    assert folder.table.equals(packed.table)
    assert folder.table.column("label").to_pylist() == ["fine", "crack", "fine"]
    assert folder.table.column("part").to_pylist() == ["test", "train", "train"]
    assert [item["_text"] for item in folder.bad] == ["train/fine/broken.jpg"]


def test_listed_images_keep_their_rows(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").write_bytes(_encoded(value=10))
    (tmp_path / "sub" / "b.png").write_bytes(_encoded(value=200))
    (tmp_path / "bad.png").write_bytes(b"no image")
    table = pa.table({"photo": ["b.png", "absent.png", "a.png", "bad.png"], "y": [1, 2, 3, 4]})
    found = read_listed_images(table, "photo", tmp_path)
    assert found.table.column("y").to_pylist() == [1, 3]
    assert [int(decode_image(item).mean()) for item in found.table.column("image").to_pylist()] == [200, 10]
    assert {item["_text"] for item in found.bad} == {"absent.png", "bad.png"}


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/zeros.png", b"\0" * 20_000_000)
    with pytest.raises(LimitError, match="unpacks"), open_files(tmp_path / "bomb.zip"):
        pass
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match="readable zip"), open_files(tmp_path / "no.zip"):
        pass


def test_series_of_different_lengths_stack_with_missing_ends() -> None:
    column = series_column([np.array([[1, 2, 3]], np.float32), np.array([[4]], np.float32)])
    stacked = stack_series(column)
    np.testing.assert_array_equal(stacked[0], [[1, 2, 3]])
    assert np.isnan(stacked[1, 0, 1:]).all()
    assert stack_series(column, 2).shape == (2, 1, 2)
    np.testing.assert_array_equal(stack_series(column.slice(1)), [[[4.0]]])


def test_wav_bytes_decode_by_width() -> None:
    for width, kind in ((1, np.uint8), (2, np.int16), (4, np.int32)):
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as writer:
            writer.setnchannels(2)
            writer.setsampwidth(width)
            writer.setframerate(8000)
            middle = 128 if width == 1 else 0
            half = 192 if width == 1 else 2 ** (8 * width - 2)
            writer.writeframes(np.array([middle, half] * 5, kind).tobytes())
        values, rate = decode_wav(buffer.getvalue())
        assert (values.shape, rate) == ((2, 5), 8000)
        np.testing.assert_allclose(values[1], 0.5, atol=1e-6)
    with pytest.raises(DataError, match="wav"):
        decode_wav(b"RIFF....")


def test_long_and_wide_tables_give_the_same_series() -> None:
    long = pa.table(
        {
            "unit": [2, 1, 1, 2],
            "cycle": [2, 1, 2, 1],
            "a": [4.0, 1.0, 2.0, 3.0],
            "b": [40.0, 10.0, None, 30.0],
            "kind": ["y", "x", "x", "y"],
        }
    )
    found = read_long(long, "unit", "cycle", ["a", "b"])
    assert found.table.column("kind").to_pylist() == ["x", "y"]
    stacked = stack_series(found.table.column("series"))
    np.testing.assert_array_equal(stacked[1], [[3, 4], [30, 40]])
    assert np.isnan(stacked[0, 1, 1])
    wide = read_wide(pa.table({"t0": [1, 3], "t1": [2, 4], "kind": ["x", "y"]}), ["t0", "t1"])
    np.testing.assert_array_equal(stack_series(wide.table.column("series"))[:, 0], stacked[:, 0])
    with pytest.raises(DataError, match="changes within"):
        read_long(long.set_column(4, "kind", pa.array(["y", "x", "z", "y"])), "unit", "cycle", ["a"])


@shared
def test_public_sets_are_read_whole() -> None:
    tiles = read_image_folder(SHARED / "magnetic_tile" / "magnetic_tile.zip", skip=("_mask",))
    assert (tiles.table.num_rows, len(set(tiles.table.column("label").to_pylist())), tiles.bad) == (
        892,
        6,
        [],
    )
    motions = read_ts(SHARED / "ucr_tsc_a" / "BasicMotions_TRAIN.ts")
    assert stack_series(motions.table.column("series")).shape == (40, 6, 100)


@shared
def test_spoken_digits_are_read() -> None:
    folder = SHARED / "fsdd"
    source = next(iter(folder.glob("*.zip")), folder)
    found = read_wav_folder(source)
    assert found.table.num_rows == 1080
    assert sorted(set(found.table.column("label").to_pylist())) == [str(digit) for digit in range(10)]


def _wav(value: int = 0, length: int = 40) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(np.full(length, value, "<i2").tobytes())
    return buffer.getvalue()


def test_sounds_of_two_parts_keep_their_labels(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for kind in ("hum", "hiss"):
            (tmp_path / "named" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "named" / part / f"{kind}_1.wav").write_bytes(_wav(3))
            (tmp_path / "foldered" / part / kind).mkdir(parents=True)
            (tmp_path / "foldered" / part / kind / "1.wav").write_bytes(_wav(3))
    for form in ("named", "foldered"):
        table = read_wav_folder(tmp_path / form).table
        assert sorted(table.column("label").to_pylist()) == ["hiss", "hiss", "hum", "hum"]
        assert sorted(table.column("part").to_pylist()) == ["test", "test", "train", "train"]


def test_listed_sounds_keep_their_rows(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for index in range(3):
        (tmp_path / "clips" / f"{index}.wav").write_bytes(_wav(index) if index < 2 else b"no sound")
    labels = pa.table({"clip": ["1.wav", "gone.wav", "./0.wav", "2.wav"], "fault": ["b", "x", "a", "y"]})
    read = read_listed_sounds(labels, "clip", tmp_path / "clips")
    assert read.table.column("fault").to_pylist() == ["b", "a"]
    assert stack_series(read.table.column("series"))[:, 0, 0].tolist() == [1 / 32768, 0.0]
    assert [item["_text"] for item in read.bad] == ["gone.wav", "2.wav"]
    with pytest.raises(DataError, match="names a readable wav file"):
        read_listed_sounds(labels.slice(1, 1), "clip", tmp_path / "clips")


def test_windows_of_a_long_table_end_at_the_last_moment_and_carry_its_columns() -> None:
    rows = [
        {"unit": unit, "cycle": cycle, "heat": 10.0 * unit + cycle, "life": size - cycle}
        for unit, size in ((1, 7), (2, 2))
        for cycle in range(size, 0, -1)
    ]
    read = read_long(pa.Table.from_pylist(rows), "unit", "cycle", ["heat"], window=3, stride=2)
    assert read.table.column("unit").to_pylist() == [1, 1, 1, 2]
    assert read.table.column("cycle").to_pylist() == [3, 5, 7, 2]
    assert read.table.column("life").to_pylist() == [4, 2, 0, 0]
    values = stack_series(read.table.column("series"))[:, 0]
    assert values[:3].tolist() == [[11, 12, 13], [13, 14, 15], [15, 16, 17]]
    assert np.isnan(values[3, 0]) and values[3, 1:].tolist() == [21, 22]
