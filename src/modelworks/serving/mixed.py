"""Images of several sizes in one request: a pass per size, and the answers in the order of the rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelworks.compute.feeds import IMAGE_VALUES
from modelworks.core.errors import Cancelled
from modelworks.serving.errors import DeadlinePassed, NonFiniteAnswer, RequestTooLarge, RunFailed
from modelworks.serving.heads.stack import HeadBlock
from modelworks.serving.model import Answer
from modelworks.serving.tensors import Array
from modelworks.serving.work import Outcome, Runner, Work

MOST_PASSES = 64


class MixedFeeds(dict[str, Array]):
    """Feeds whose image input is an object array with one image per row.

    Attributes:
        passes: The rows of every pass: images of one size, and no more of them than fit into memory together.

    Args:
        name: The image input.
        images: ``uint8 [height, width, 3]`` each.
        others: Inputs with one size for all rows.

    Raises:
        RequestTooLarge: The request would cost too many passes.
    """

    def __init__(self, name: str, images: Sequence[Array], others: dict[str, Array]) -> None:
        column = np.empty(len(images), object)
        sizes: dict[tuple[int, ...], list[int]] = {}
        for row, image in enumerate(images):
            column[row] = image
            sizes.setdefault(image.shape, []).append(row)
        super().__init__({**others, name: column})
        self._name = name
        self.passes: list[list[int]] = []
        for shape, rows in sizes.items():
            step = max(1, IMAGE_VALUES // int(np.prod(shape)))
            self.passes += [rows[start : start + step] for start in range(0, len(rows), step)]
        if len(self.passes) > MOST_PASSES:
            raise RequestTooLarge(
                f"The images of the request have {len(sizes)} sizes and take {len(self.passes)} passes; at most "
                f"{MOST_PASSES} are run for one request: send fewer images at a time, or images of fewer sizes."
            )

    def part(self, rows: list[int]) -> dict[str, Array]:
        """Return the feeds of one pass."""
        return {
            name: np.stack(list(array[rows])) if name == self._name else array[rows]
            for name, array in self.items()
        }


def is_mixed(work: Work) -> bool:
    """Say whether a work takes several passes."""
    return type(work.feeds) is MixedFeeds


def run_mixed(runner: Runner, work: Work) -> Outcome:
    """Answer a work with ``MixedFeeds``, one pass after another, for as long as somebody waits for it."""
    feeds = work.feeds
    assert isinstance(feeds, MixedFeeds)
    answers: list[Answer] = []
    for rows in feeds.passes:
        if work.settled:
            return None, Cancelled("The client went away.")
        if time.monotonic() > work.deadline:
            return None, DeadlinePassed(
                f"The deadline passed after {len(answers)} of {len(feeds.passes)} passes over images by size."
            )
        part = Work(feeds.part(rows), len(rows), work.outputs, work.done, enqueued=work.enqueued)
        part.places, part.several = work.places, work.several
        answer, error = runner.run([part])[0]
        if answer is None:
            return None, _of_rows(error, rows)
        answers.append(answer)
    order = np.argsort([row for rows in feeds.passes for row in rows])
    try:
        return {name: _joined([answer[name] for answer in answers], order) for name in answers[0]}, None
    except ValueError:
        return None, RunFailed("The answers for images of different sizes have different shapes.")


def _of_rows(error: Exception | None, rows: list[int]) -> Exception | None:
    if isinstance(error, (RunFailed, NonFiniteAnswer)):
        named = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
        return type(error)(f"Row {named}: {error.message}", code=error.error_code)
    return error


def _joined(parts: list[Any], order: Array) -> Any:
    """Put the answers of all passes together, in the order of the rows."""
    first = parts[0]
    if isinstance(first, HeadBlock):
        return first.joined(parts[1:], order)
    return np.concatenate(parts)[order]
