"""The child that turns encoded images into pixels: limited before it sees the first byte (S13)."""

from __future__ import annotations

import json
import struct
import sys
from typing import BinaryIO

from modelworks.compute.pixels import ImageLimits, decode_image
from modelworks.core.errors import DataError, ModelworksError
from modelworks.packaging.sandbox import forbid_system_calls, leave_network, limit_memory, limit_process

MEMORY = 2**30
CPU_S = 3600
DONE, REFUSED = b"\0", b"\1"
LENGTH = struct.Struct(">I")
SIZE = struct.Struct(">II")


def serve(stdin: BinaryIO, stdout: BinaryIO, limits: ImageLimits) -> None:
    """Answer ``length, bytes`` with ``0, length, height, width, pixels`` or ``1, length, error as JSON``."""
    while head := stdin.read(LENGTH.size):
        data = stdin.read(LENGTH.unpack(head)[0])
        try:
            pixels = decode_image(data, limits)
            mark, answer = DONE, SIZE.pack(pixels.shape[0], pixels.shape[1]) + pixels.tobytes()
        except ModelworksError as error:
            mark, answer = REFUSED, json.dumps(error.to_json()).encode()
        except MemoryError:
            refusal = DataError("The image takes more memory than its decoder may have.", code="MW1160")
            mark, answer = REFUSED, json.dumps(refusal.to_json()).encode()
        stdout.write(mark + LENGTH.pack(len(answer)) + answer)
        stdout.flush()


def main() -> None:
    """Load the decoders, give up everything else, and serve standard input."""
    try:
        from PIL import Image, ImageOps

        Image.init()
        assert ImageOps
    except ModuleNotFoundError:
        # The first image is answered with the error that says what to install.
        pass
    pixels = int(sys.argv[1])
    leave_network()
    limit_memory(MEMORY)
    limit_process(CPU_S)
    forbid_system_calls()
    serve(sys.stdin.buffer, sys.stdout.buffer, ImageLimits(pixels=pixels))


if __name__ == "__main__":
    main()
