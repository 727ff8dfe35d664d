"""Encoded images at the door: decoded by a limited child, within a time, never in the process that serves (S13)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelworks.compute.payloads import image_pixels
from modelworks.compute.pixels import Pixels
from modelworks.core.errors import DataError, LimitError, MissingExtra, ModelworksError
from modelworks.core.signature import Tensor
from modelworks.serving.errors import Busy, DeadlinePassed, RequestTooLarge
from modelworks.serving.image_child import DONE, LENGTH, SIZE

_TOLD = ("PATH", "PYTHONPATH", "LANG", "LC_ALL")
_SAID = 65_536


class ImageDecoder:
    """Turns encoded images into pixels; its child is started with the first image and again if it dies.

    Args:
        pixels: Most pixels of an image.
        wall_s: Seconds one image may take.
        waiting: Images that may wait; more are refused.
    """

    def __init__(self, *, pixels: int = 64 * 10**6, wall_s: float = 10.0, waiting: int = 64) -> None:
        self._pixels = pixels
        self._wall_s = wall_s
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(waiting)
        self._child: subprocess.Popen[bytes] | None = None

    def text(self, value: str) -> Pixels:
        """Decode base64 text, a data URL included; see ``decode``."""
        try:
            data = base64.b64decode(value.rpartition(",")[2], validate=True)
        except (binascii.Error, ValueError):
            raise DataError("the text is not base64.", code="MW1105") from None
        return self.decode(data)

    def decode(self, data: bytes) -> Pixels:
        """Return ``uint8 [height, width, 3]``; blocks, so call it from a thread.

        Raises:
            DataError: The bytes are no image of an accepted format, or their decoder crashed or hung.
            RequestTooLarge: The image has too many pixels.
            Busy: Too many images wait.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("Too many images wait to be decoded.")
        try:
            with self._turn:
                return self._exchange(data)
        finally:
            self._places.release()

    def close(self) -> None:
        """End the child."""
        with self._turn:
            self._end()

    def _exchange(self, data: bytes) -> Pixels:
        if self._child is None or self._child.poll() is not None:
            self._end()
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "modelworks.serving.image_child", str(self._pixels)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # What a server's environment holds is nothing for a program that reads strangers' images.
                env={name: os.environ[name] for name in _TOLD if name in os.environ},
            )
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)
            wall_s = self._wall_s + 30.0  # it starts first
        else:
            wall_s = self._wall_s
        try:
            mark, answer = self._ask(self._child, data, time.monotonic() + wall_s)
        except (TimeoutError, EOFError, OSError) as error:
            self._end()
            how = "did not finish in time" if isinstance(error, TimeoutError) else "crashed on it"
            raise DataError(f"The image is not readable: its decoder {how}.", code="MW1160") from None
        # A decoder that an image took over may say anything.
        try:
            if mark == DONE:
                height, width = SIZE.unpack_from(answer)
                return np.frombuffer(answer, np.uint8, offset=SIZE.size).reshape(height, width, 3)
            error_ = ModelworksError.from_json(json.loads(answer))
            if not isinstance(error_, (DataError, LimitError, MissingExtra)):
                raise ValueError(answer)
        except (ValueError, TypeError, KeyError, AttributeError, struct.error):
            self._end()
            raise DataError("The image is not readable: its decoder crashed on it.", code="MW1160") from None
        if isinstance(error_, LimitError):
            raise RequestTooLarge(error_.message, code=error_.error_code)
        raise error_

    def _ask(self, child: subprocess.Popen[bytes], data: bytes, ends: float) -> tuple[bytes, bytes]:
        assert child.stdin is not None
        assert child.stdout is not None
        target, descriptor = child.stdin.fileno(), child.stdout.fileno()
        # Not select: a server has more open files than that can wait for.
        sending, waiting = select.poll(), select.poll()
        sending.register(target, select.POLLOUT)
        waiting.register(descriptor, select.POLLIN)
        left = memoryview(LENGTH.pack(len(data)) + data)
        while left:
            if not sending.poll(max(0.0, ends - time.monotonic()) * 1e3):
                raise TimeoutError
            left = left[os.write(target, left[: 2**16]) :]

        def read(size: int) -> bytes:
            parts = bytearray()
            while len(parts) < size:
                if not waiting.poll(max(0.0, ends - time.monotonic()) * 1e3):
                    raise TimeoutError
                part = os.read(descriptor, min(2**20, size - len(parts)))
                if not part:
                    raise EOFError
                parts += part
            return bytes(parts)

        mark = read(1)
        (length,) = LENGTH.unpack(read(LENGTH.size))
        if length > 3 * self._pixels + _SAID:
            raise EOFError
        return mark, read(length)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for stream in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        child.wait()


def images_of(
    decoder: ImageDecoder, tensor: Tensor, values: Sequence[Any], *, pixels: int, until: float
) -> list[Pixels]:
    """Return the images of all rows.

    Args:
        decoder: Decodes base64 text.
        tensor: The input they are for.
        values: Base64 text or pixels ``[height][width][3]``, one per row.
        pixels: Most pixels of all of them.
        until: ``time.monotonic()`` at which nobody waits any more.

    Raises:
        DataError: A value is no image, or not of a size the model takes; names row and column.
        RequestTooLarge: There are too many pixels.
        DeadlinePassed: It takes too long.
    """
    column = tensor.columns[0]
    images: list[Pixels] = []
    for row, value in enumerate(values):
        if time.monotonic() > until:
            raise DeadlinePassed(f"The deadline passed after {row} of {len(values)} images were decoded.")
        try:
            image = decoder.text(value) if isinstance(value, str) else image_pixels(value)
        except DataError as error:
            # Its own name for the row is always the first.
            said = error.message.removeprefix("row 0: ")
            raise DataError(
                f"Row {row}, column '{column}': {said}", code=error.error_code, hint=error.hint
            ) from None
        height, width = image.shape[:2]
        if any(axis not in {-1, size} for axis, size in zip(tensor.shape[1:3], (height, width), strict=True)):
            wanted = "x".join("any" if axis < 0 else str(axis) for axis in reversed(tensor.shape[1:3]))
            raise DataError(
                f"Row {row}, column '{column}': the model takes images of {wanted} pixels, got {width}x{height}.",
                code="MW1404",
            )
        pixels -= height * width
        if pixels < 0:
            raise RequestTooLarge(
                f"The images of the request, up to row {row}, have more pixels than are taken at once: "
                "send fewer, or smaller ones."
            )
        images.append(image)
    return images
