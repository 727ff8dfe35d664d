"""Explanations on request: what each column added to an answer, computed with the very graph that answered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from modelworks.compute.feeds import pack_columns, pack_rows
from modelworks.core.errors import ModelworksError, UsageError
from modelworks.core.signature import PIXELS, Signature
from modelworks.evaluation.explanation import explain
from modelworks.evaluation.sample_explanation import explain_image, explain_text
from modelworks.evaluation.series_explanation import explain_series, of_series
from modelworks.serving.errors import BadRequest
from modelworks.serving.lane import Lane
from modelworks.serving.model import Answer
from modelworks.serving.residency import Residency
from modelworks.serving.routing import Target
from modelworks.serving.tensors import Array
from modelworks.serving.work import Runner, Work

MOST_ROWS = 8
_KEPT = 64
_MADE_UP = 3
_MOST_PREDICTIONS = 2000
_MOST_SAMPLES, _MOST_ASKED = 2, 400
_SLICE, _SAMPLE_SLICE = 1024, 32


class Explainer:
    """Explains rows of tables against the real rows among a package's golden examples, and samples by their parts.

    Args:
        residency: Where models are loaded.
    """

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self._backgrounds: OrderedDict[str, dict[str, Array]] = OrderedDict()
        self._one_at_a_time = asyncio.Semaphore(1)

    def check(self, target: Target, rows: int) -> None:
        """Raise unless this many rows of this model can be explained."""
        signature = target.signature
        outputs = {tensor.name for tensor in signature.outputs}
        known = all(tensor.columns for tensor in signature.inputs) and bool(signature.inputs)
        if not known or not outputs & {"prediction", "probabilities", "score"}:
            raise BadRequest(f"Model '{target.endpoint}' has no columns to explain by.", code="MW1420")
        most = _MOST_SAMPLES if any(tensor.payload for tensor in signature.inputs) else MOST_ROWS
        if rows > most:
            raise BadRequest(f"{rows} rows were sent to be explained; at most {most} are.", code="MW1420")

    async def explain(
        self, target: Target, feeds: Mapping[str, Array], rows: bytes = b"[]"
    ) -> list[dict[str, Any]]:
        """Return, per row, ``{method, base, prediction, contributions: [{column, value, contribution, error}]}``.

        Of a text the columns are its words, of an image its fields, of a series its stretches. One explanation is
        computed at a time, in a thread; answers do not wait for it.

        Args:
            target: Who answers.
            feeds: The rows as tensors.
            rows: The rows as JSON; texts are explained from these.

        Raises:
            BadRequest: The package has no rows to compare with, or a sample is empty.
        """
        async with self._one_at_a_time:
            lane = await self._residency.ready(target.resident)
            found = await asyncio.to_thread(self._explain, target, lane, feeds, rows)
        for item in found:
            picked = item.get("answer")
            if picked is not None and target.signature.classes:
                item["answer"] = target.signature.classes[picked]
        return found

    def _explain(
        self, target: Target, lane: Lane, feeds: Mapping[str, Array], rows: bytes
    ) -> list[dict[str, Any]]:
        signature = target.signature
        if any(tensor.payload for tensor in signature.inputs):
            try:
                return _explain_samples(target, lane.runner, feeds, rows)
            except UsageError as error:
                raise BadRequest(error.message, code="MW1420") from None

        def predict(columns: Mapping[str, Array]) -> Mapping[str, Array]:
            rows = len(next(iter(columns.values())))
            return answer_rows(lane.runner, target, pack_columns(signature, columns, rows))

        background = self._background(target)
        return explain(predict, columns_of(signature, feeds), background, most_predictions=_MOST_PREDICTIONS)

    def _background(self, target: Target) -> dict[str, Array]:
        known = self._backgrounds.get(target.digest)
        if known is not None:
            return known
        examples = target.resident.source.read().examples
        rows = list(examples["rows"])[:-_MADE_UP] if examples is not None else []
        try:
            if not rows:
                raise BadRequest("The package has no example rows to compare with.", code="MW1420")
            background = columns_of(target.signature, pack_rows(target.signature, rows))
        except ModelworksError as error:
            raise BadRequest(f"The package cannot explain: {error.message}", code="MW1420") from None
        self._backgrounds[target.digest] = background
        while len(self._backgrounds) > _KEPT:
            self._backgrounds.popitem(last=False)
        return background


def _explain_samples(
    target: Target, runner: Runner, feeds: Mapping[str, Array], rows: bytes
) -> list[dict[str, Any]]:
    """Explain texts, images or series, each by its own parts."""
    signature = target.signature

    def run(given: dict[str, Array]) -> Mapping[str, Array]:
        return answer_rows(runner, target, given, size=_SAMPLE_SLICE)

    count = len(next(iter(feeds.values())))
    if of_series(signature):
        return [
            explain_series(signature, run, {name: array[row : row + 1] for name, array in feeds.items()})
            for row in range(count)
        ]
    if PIXELS in feeds:
        return [
            explain_image(image, lambda images: run({PIXELS: images}), most_asked=_MOST_ASKED)
            for image in feeds[PIXELS]
        ]
    (column,) = signature.columns

    def ask(texts: list[str]) -> Mapping[str, Array]:
        return run(pack_rows(signature, [{column: text} for text in texts]))

    return [
        explain_text(str(row.get(column) or ""), ask, most_asked=_MOST_ASKED)
        for row in msgspec.json.decode(rows)[:count]
    ]


def answer_rows(
    runner: Runner, target: Target, feeds: dict[str, Array], *, size: int = _SLICE
) -> Mapping[str, Array]:
    """Answer many rows aside from the queue, in slices of ``size`` that bound memory."""
    total = len(next(iter(feeds.values())))
    parts: list[Answer] = []
    for start in range(0, total, size):
        part = {name: array[start : start + size] for name, array in feeds.items()}
        work = Work(part, min(size, total - start), None, lambda *_: None, enqueued=0.0)
        if target.resident.place is not None:
            work.places = (target.resident.place,)
        answer, error = runner.run([work])[0]
        if answer is None:
            raise error or RuntimeError("no answer")
        parts.append(answer)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def columns_of(signature: Signature, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Take packed feeds apart into columns."""
    return {
        name: np.ascontiguousarray(feeds[tensor.name][:, index])
        for tensor in signature.inputs
        for index, name in enumerate(tensor.columns)
    }
