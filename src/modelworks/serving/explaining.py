"""Explanations on request: what each column added to an answer, computed with the very graph that answered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelworks.compute.feeds import pack_columns, pack_rows
from modelworks.core.errors import ModelworksError
from modelworks.core.signature import Signature
from modelworks.evaluation.explanation import explain
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
_SLICE = 1024


class Explainer:
    """Explains rows of table models against the real rows among a package's golden examples.

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
        packed = bool(signature.inputs) and all(
            tensor.columns and not tensor.payload for tensor in signature.inputs
        )
        if not packed or not outputs & {"prediction", "probabilities"}:
            raise BadRequest(f"Model '{target.endpoint}' has no columns to explain by.", code="MW1420")
        if rows > MOST_ROWS:
            raise BadRequest(
                f"{rows} rows were sent to be explained; at most {MOST_ROWS} are.", code="MW1420"
            )

    async def explain(self, target: Target, feeds: Mapping[str, Array]) -> list[dict[str, Any]]:
        """Return, per row, ``{method, base, prediction, contributions: [{column, value, contribution, error}]}``.

        One explanation is computed at a time, in a thread; answers do not wait for it.

        Raises:
            BadRequest: The package has no rows to compare with.
        """
        async with self._one_at_a_time:
            lane = await self._residency.ready(target.resident)
            return await asyncio.to_thread(self._explain, target, lane, feeds)

    def _explain(self, target: Target, lane: Lane, feeds: Mapping[str, Array]) -> list[dict[str, Any]]:
        signature = target.signature

        def predict(columns: Mapping[str, Array]) -> Mapping[str, Array]:
            rows = len(next(iter(columns.values())))
            return answer_rows(lane.runner, target, pack_columns(signature, columns, rows))

        background = self._background(target)
        found = explain(predict, columns_of(signature, feeds), background, most_predictions=_MOST_PREDICTIONS)
        for item in found:
            picked = item.get("answer")
            if picked is not None and signature.classes:
                item["answer"] = signature.classes[picked]
        return found

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


def answer_rows(runner: Runner, target: Target, feeds: dict[str, Array]) -> Mapping[str, Array]:
    """Answer many rows aside from the queue, in slices that bound memory."""
    total = len(next(iter(feeds.values())))
    parts: list[Answer] = []
    for start in range(0, total, _SLICE):
        part = {name: array[start : start + _SLICE] for name, array in feeds.items()}
        work = Work(part, min(_SLICE, total - start), None, lambda *_: None, enqueued=0.0)
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
