"""Encoded images at the door: a closed list of formats, one frame, limits of size, a child that may die (S13)."""

from __future__ import annotations

import base64
import io
import os
import signal
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from serving_kit import graph, running, source

from modelworks.core.errors import DataError
from modelworks.core.signature import Tensor
from modelworks.serving.errors import Busy, RequestTooLarge
from modelworks.serving.images import ImageDecoder
from modelworks.serving.model import MemorySource

Image = pytest.importorskip("PIL.Image", reason="the extra [image] is not installed")


def brightness() -> MemorySource:
    """``prediction`` = mean of all pixel values of an image of any size."""
    inputs = [Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3), columns=("photo",))]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=1),
        helper.make_node("ReduceMean", ["floats"], ["prediction"], axes=[1, 2, 3], keepdims=0),
    ]
    return source("brightness", graph(nodes, inputs, outputs, {}), inputs, outputs)


def encoded(form: str, size: tuple[int, int] = (8, 6), colour: tuple[int, int, int] = (30, 60, 90)) -> bytes:
    stream = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {}
    Image.new("RGB", size, colour).save(stream, form, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running(tmp_path_factory.mktemp("home"), [brightness()]) as server:
        yield server


@pytest.fixture
def decoder() -> Iterator[ImageDecoder]:
    made = ImageDecoder(pixels=10_000)
    yield made
    made.close()


def predict(served: Any, value: Any) -> tuple[int, Any]:
    status, answer, _ = served.request("POST", "/v1/models/brightness/predict", {"rows": [{"photo": value}]})
    return status, answer


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_encoded_images_pixels_and_data_urls_are_answered_alike(served: Any, form: str) -> None:
    text = base64.b64encode(encoded(form)).decode()
    for value in (text, f"data:image/{form.lower()};base64,{text}", [[[30, 60, 90]] * 8] * 6):
        status, answer = predict(served, value)
        assert status == 200, answer
        assert answer["predictions"][0]["prediction"] == pytest.approx(60, abs=1)


def test_an_image_is_explained_by_its_fields(served: Any) -> None:
    pixels = [[[240, 240, 240] if row < 3 else [0, 0, 0]] * 8 for row in range(6)]
    status, answer, _ = served.request(
        "POST", "/v1/models/brightness/predict", {"rows": [{"photo": pixels}], "explain": True}
    )
    assert status == 200, answer
    found = answer["explanations"][0]
    assert found["prediction"] == found["base"] == 120
    for item in found["contributions"]:
        assert item["contribution"] * (1 if item["box"][1] < 0.49 else -1) > 0, item


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("not base64!", "MW1105: Row 0, column 'photo': the text is not base64."),
        (
            base64.b64encode(b"<svg/>").decode(),
            "MW1160: Row 0, column 'photo': The bytes are not a readable image",
        ),
        (base64.b64encode(b"SIMPLE  =                    T").decode(), "MW1160"),
        (base64.b64encode(encoded("PNG")[:40]).decode(), "MW1160"),
        (None, "MW1105"),
        (7, "MW1105"),
    ],
)
def test_what_is_no_image_gets_a_cause(served: Any, value: Any, text: str) -> None:
    status, answer = predict(served, value)
    assert status == 400
    assert answer["error"].startswith(text)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces far more pixels than its bytes hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header(served: Any) -> None:
    status, answer = predict(served, base64.b64encode(bomb(60_000, 60_000)).decode())
    assert status == 413
    assert answer["error"].startswith("MW2031")


def test_one_frame_is_read_and_the_limit_holds_for_every_format(decoder: ImageDecoder) -> None:
    frames = [Image.new("RGB", (20, 10), (shade, 0, 0)) for shade in (10, 200)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    assert decoder.decode(stream.getvalue()).shape == (10, 20, 3)
    for form in ("PNG", "JPEG", "WEBP", "TIFF", "GIF"):
        stream = io.BytesIO()
        Image.new("RGB", (101, 100)).save(stream, form)
        with pytest.raises(RequestTooLarge):
            decoder.decode(stream.getvalue())


def test_a_decoder_that_dies_or_hangs_spoils_only_its_image() -> None:
    decoder = ImageDecoder(wall_s=0.5)
    try:
        good = encoded("PNG")
        assert decoder.decode(good).shape == (6, 8, 3)
        child = decoder._child
        assert child is not None
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(DataError, match="did not finish in time"):
            decoder.decode(good)
        assert np.array_equal(decoder.decode(good)[0, 0], [30, 60, 90])
        child = decoder._child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert decoder.decode(good).shape == (6, 8, 3)
    finally:
        decoder.close()


def test_a_child_that_reads_nothing_is_not_waited_for() -> None:
    """More than a pipe holds was written without looking at the clock."""
    decoder = ImageDecoder(wall_s=0.5)
    try:
        decoder.decode(encoded("PNG"))
        assert decoder._child is not None
        os.kill(decoder._child.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(DataError, match="did not finish in time"):
            decoder.decode(b"x" * 1_000_000)
        assert time.monotonic() - began < 5
        assert decoder.decode(encoded("PNG") + b" " * 500_000).shape == (6, 8, 3)
    finally:
        decoder.close()


@pytest.mark.parametrize(
    "said",
    [
        b"\0" + struct.pack(">III", 8 + 5, 2**31, 2**31) + b"12345",
        b"\0" + struct.pack(">I", 2**32 - 1),
        b"\0" + struct.pack(">I", 3) + b"123",
        b"\1" + struct.pack(">I", 2) + b"[]",
        b"\1" + struct.pack(">I", 9) + b"not JSON!",
        b"\1" + struct.pack(">I", 2) + b"{}",
        b"\1" + struct.pack(">I", 4) + b"\xff\xfe\xfd\xfc",
    ],
)
def test_a_child_that_an_image_took_over_is_not_believed(
    decoder: ImageDecoder, said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = tmp_path / "liar"
    liar.write_text(f"#!{sys.executable}\nimport os\nos.read(0, 9)\nos.write(1, {said!r})\nos.read(0, 1)\n")
    liar.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(liar))
    with pytest.raises(DataError, match="its decoder crashed on it"):
        decoder.decode(b"image")
    assert decoder._child is None


def test_the_child_is_told_nothing_of_the_server(
    decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWORKS_TOKEN", "canary-secret")
    decoder.decode(encoded("PNG"))
    assert decoder._child is not None
    told = Path(f"/proc/{decoder._child.pid}/environ").read_bytes()
    assert b"PATH=" in told and b"canary-secret" not in told


def test_the_child_can_open_nothing(tmp_path: Path, decoder: ImageDecoder) -> None:
    decoder.decode(encoded("PNG"))
    child = decoder._child
    assert child is not None
    with open(f"/proc/{child.pid}/limits", encoding="ascii") as stream:
        limits = {line[:26].strip(): line[26:].split() for line in stream}
    assert int(limits["Max address space"][0]) < 4 * 2**30
    assert limits["Max file size"][0] == "0"
    with open(f"/proc/{child.pid}/status", encoding="ascii") as stream:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
    assert status["Seccomp"] == "2"


def test_too_many_images_at_once_are_refused() -> None:
    decoder = ImageDecoder(waiting=1)
    assert decoder._places.acquire()
    with pytest.raises(Busy):
        decoder.decode(b"")
