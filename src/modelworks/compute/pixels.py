"""Encoded image bytes to pixels, within limits: few formats, one frame, no bombs."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import DataError, LimitError, MissingExtra

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What an encoded image may be.

    Attributes:
        bytes: Encoded size.
        pixels: Width x height.
        side: Longest side pixels are kept at; larger images are reduced while decoding (0 keeps all).
    """

    bytes: int = 64 * 10**6
    pixels: int = 64 * 10**6
    side: int = 0


def decode_image(data: bytes, limits: ImageLimits | None = None) -> Pixels:
    """Decode the first frame of an image to ``uint8 [height, width, 3]`` (RGB; transparent parts on white).

    The format list is closed and the size is read from the header before anything is decoded.

    Raises:
        DataError: The bytes are no image, of another format or cut off.
        LimitError: The image is larger than the limits.
        MissingExtra: Pillow is not installed.
    """
    limits = limits or ImageLimits()
    if len(data) > limits.bytes:
        raise LimitError(f"The image has {len(data):,} bytes; the limit is {limits.bytes:,}.", code="MW2030")
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Decoding images", "image") from error

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > limits.pixels:
                    raise LimitError(
                        f"The image has {width} x {height} pixels; the limit is {limits.pixels:,}.",
                        code="MW2031",
                    )
                if limits.side:
                    image.draft("RGB", (limits.side, limits.side))
                upright = ImageOps.exif_transpose(image)
                if limits.side and max(upright.size) > limits.side:
                    upright.thumbnail((limits.side, limits.side))
                return np.array(_rgb(upright), dtype=np.uint8)
    except LimitError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LimitError("The image is larger than the limits.", code="MW2031") from error
    except Exception as error:
        # Pillow's decoders raise many kinds of errors on damaged bytes; every one means the same to a user.
        raise DataError(
            f"The bytes are not a readable image ({type(error).__name__}).", code="MW1160"
        ) from error


def small_picture(pixels: Pixels, side: int = 460) -> dict[str, Any]:
    """Return an image ``[height, width, 3]`` for a page: ``{media, data: base64, width, height}``."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    written = io.BytesIO()
    image.save(written, format="JPEG", quality=85)
    width, height = image.size
    data = base64.b64encode(written.getvalue()).decode()
    return {"media": "image/jpeg", "data": data, "width": width, "height": height}


def thumbnail(data: bytes, side: int) -> tuple[bytes, str]:
    """Return an encoded image made small (longest side ``side`` pixels) and its media type, for a page.

    Raises:
        DataError, LimitError, MissingExtra: See ``decode_image``.
    """
    pixels = decode_image(data, ImageLimits(side=max(side, 1)))
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels).save(written, format="JPEG", quality=82)
    return written.getvalue(), "image/jpeg"


def heat_picture(heat: npt.NDArray[np.floating[Any]], side: int) -> tuple[bytes, str]:
    """Return a heat map ``[h, w]`` as a PNG of ``side`` x ``side`` pixels and its media type.

    Blue is 0, white 0.5 and red 1 or more: for anomalies, the threshold of the alarm.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Drawing heat maps", "image") from error

    level = np.clip(np.nan_to_num(heat), 0, 1)[..., None] * 2
    blue, white, red = (np.array(colour, float) for colour in ((40, 80, 180), (245, 245, 245), (200, 30, 40)))
    cold, warm = blue + (white - blue) * level, white + (red - white) * (level - 1)
    drawn = Image.fromarray(np.where(level < 1, cold, warm).astype(np.uint8))
    written = io.BytesIO()
    drawn.resize((side, side), Image.Resampling.BILINEAR).save(written, format="PNG", optimize=True)
    return written.getvalue(), "image/png"


def _rgb(image: Any) -> Any:
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        canvas = Image.new("RGBA", image.size, (255, 255, 255, 255))
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert("RGB")
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image, np.float64)
        top = max(float(values.max()), 1.0)
        return Image.fromarray((values * (255.0 / top)).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
