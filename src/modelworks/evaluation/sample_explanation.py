"""Why a text or an image got its answer: what each run of words, or each field of the picture, adds to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import UsageError
from modelworks.evaluation.explanation import explain

Outputs = Mapping[str, npt.NDArray[Any]]
Pixels = npt.NDArray[np.uint8]

MOST_PARTS = 36
MOST_ASKED = 800
MOST_PIXELS = 2**20
_WALKS = 24
_WORD = re.compile(r"\S+\s*")
_BLANK = re.compile(r"\s")


def explain_text(
    text: str, ask: Callable[[list[str]], Outputs], *, most_asked: int = MOST_ASKED
) -> dict[str, Any]:
    """Return what each word adds to the answer, as ``explanation.explain`` does for columns.

    A word that is absent is cut out. Texts of more than 36 words are taken apart in runs of neighbours of equal length,
    and texts without blanks in runs of characters.

    Args:
        text: The text.
        ask: Answers many texts through the shipped graph.
        most_asked: Bound on texts handed to ``ask``.

    Returns:
        As ``explain``; every contribution also has ``start`` and ``stop``, its place in the text. The base is the
        answer to an empty text.

    Raises:
        UsageError: The text is empty.
    """
    spots = _runs(text)
    if not spots:
        raise UsageError("An empty text has nothing to explain by.", code="MW1342", hint="--row 0")

    def texts(present: npt.NDArray[np.bool_]) -> Outputs:
        return ask(
            ["".join(text[a:b] for (a, b), kept in zip(spots, row, strict=True) if kept) for row in present]
        )

    found = _explain_parts(len(spots), texts, most_asked)
    for item in found["contributions"]:
        start, stop = spots[int(item["column"])]
        item |= {
            "column": text[start:stop].strip(),
            "value": f"characters {start + 1} to {stop}",
            "start": start,
            "stop": stop,
        }
    return {**found, "base_is": "an empty text"}


def explain_image(
    pixels: Pixels, ask: Callable[[Pixels], Outputs], *, most_asked: int = MOST_ASKED
) -> dict[str, Any]:
    """Return what each field of an image adds to the answer, as ``explanation.explain`` does for columns.

    The image is cut into 6 x 6 fields; one that is absent has the mean colour of the image. Images of more than a
    million pixels are looked at in every second, third, ... pixel.

    Args:
        pixels: ``uint8 [height, width, 3]``.
        ask: Answers images ``uint8 [n, height, width, 3]`` through the shipped graph.
        most_asked: Bound on images handed to ``ask``.

    Returns:
        As ``explain``; every contribution also has ``box``: left, top, right and bottom as shares of the sides. The
        base is the answer to an image of that one colour.
    """
    step = 1
    while pixels.shape[0] // step * (pixels.shape[1] // step) > MOST_PIXELS:
        step += 1
    pixels = np.ascontiguousarray(pixels[::step, ::step])
    height, width = pixels.shape[:2]
    side = int(MOST_PARTS**0.5)
    tops, lefts = (np.linspace(0, length, min(side, length) + 1).astype(int) for length in (height, width))
    boxes = [(a, b, c, d) for a, b in pairwise(tops) for c, d in pairwise(lefts)]
    colour = pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)

    def images(present: npt.NDArray[np.bool_]) -> Outputs:
        parts = []
        size = max(1, MOST_PIXELS * 8 // (height * width))
        for start in range(0, len(present), size):
            some = present[start : start + size]
            shown = np.repeat(pixels[None], len(some), axis=0)
            for index, (top, bottom, left, right) in enumerate(boxes):
                shown[~some[:, index], top:bottom, left:right] = colour
            parts.append(ask(shown))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    found = _explain_parts(len(boxes), images, most_asked)
    for item in found["contributions"]:
        number = int(item["column"])
        top, bottom, left, right = boxes[number]
        row, column = divmod(number, len(lefts) - 1)
        item |= {
            "column": f"row {row + 1}, column {column + 1} of {len(tops) - 1} x {len(lefts) - 1}",
            "value": f"x {left * step} to {right * step}, y {top * step} to {bottom * step}",
            "box": [float(x) for x in (left / width, top / height, right / width, bottom / height)],
        }
    return {**found, "base_is": "the same image in its mean colour"}


def _explain_parts(
    count: int, ask: Callable[[npt.NDArray[np.bool_]], Outputs], most_asked: int
) -> dict[str, Any]:
    """Explain by parts that are there or not; ``ask`` takes ``[rows, parts]``."""

    def predict(columns: Mapping[str, Any]) -> Outputs:
        # Walks begin and end alike, and few parts leave few ways to be absent: each way is asked once.
        ways, place = np.unique(
            np.stack([np.asarray(columns[str(i)]) > 0 for i in range(count)], axis=1),
            axis=0,
            return_inverse=True,
        )
        return {name: values[place.reshape(-1)] for name, values in one_answer(ask(ways)).items()}

    here, absent = ({str(i): np.full(n, v) for i in range(count)} for n, v in ((1, 1.0), (_WALKS, 0.0)))
    (found,) = explain(predict, here, absent, most_predictions=most_asked)
    return found


def one_answer(outputs: Outputs) -> Outputs:
    """Return outputs that have one number to explain: the score of a detector, the mean of a forecast."""
    if "score" in outputs:
        return {"prediction": outputs["score"].reshape(-1)}
    if "prediction" in outputs:
        return {"prediction": outputs["prediction"].reshape(len(outputs["prediction"]), -1).mean(axis=1)}
    return outputs


def _runs(text: str) -> list[tuple[int, int]]:
    """Return where the parts of a text begin and end; together they are the whole of it but for leading blanks."""
    words: Sequence[tuple[int, int]] = [found.span() for found in _WORD.finditer(text)]
    if len(words) == 1 or (words and len(text) / len(words) > 30 and not _BLANK.search(text.strip()[:200])):
        words = [(place, place + 1) for place in range(words[0][0], words[-1][1])]
    groups = np.array_split(np.arange(len(words)), min(MOST_PARTS, len(words))) if words else []
    return [(words[group[0]][0], words[group[-1]][1]) for group in groups]
