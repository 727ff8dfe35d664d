"""One request for several models of equal inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelworks.core.errors import ModelworksError
from modelworks.serving.counters import VersionCounts
from modelworks.serving.errors import NonFiniteAnswer, NotReady
from modelworks.serving.heads.stack import HeadBlock
from modelworks.serving.lane import Lane
from modelworks.serving.model import Answer
from modelworks.serving.resident import State
from modelworks.serving.routing import Target
from modelworks.serving.tensors import Array
from modelworks.serving.work import Work

if TYPE_CHECKING:
    from modelworks.serving.dataplane import DataPlane

Answers = Sequence[Answer | ModelworksError]


class Tally:
    """What was counted for the same heads asked together, before each is given its share.

    Attributes:
        plain: Whether no head's endpoint has settings of its own.

    Args:
        targets: The heads.
    """

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.plain = not any(target.policy.settings for target in targets)
        self._targets = targets
        self._counts = VersionCounts()

    def add(self, work: Work, latency: float) -> None:
        """Count one answered request."""
        counts = self._counts
        counts.requests += 1
        counts.rows += work.rows
        counts.latency.observe(latency)
        counts.queue.observe(work.started - work.enqueued)
        counts.batch.observe(work.batch_rows)

    def give(self) -> None:
        """Give every head its share."""
        for target in self._targets:
            target.counts.add(self._counts)
            target.resident.hits += self._counts.requests


async def infer_many(
    plane: DataPlane, targets: Sequence[Target], feeds: dict[str, Array], timeout_s: float | None
) -> Answers:
    """See ``DataPlane.infer_many``."""
    if _stand_together(targets):
        return await _from_one_pass(plane, targets, feeds, timeout_s)
    answers: list[Answer | ModelworksError] = [NotReady("The model was not asked.")] * len(targets)
    groups: dict[Lane, list[int]] = {}
    alone: list[int] = []
    ready = await asyncio.gather(
        *(plane.residency.ready(target.resident) for target in targets), return_exceptions=True
    )
    for index, lane in enumerate(ready):
        if isinstance(lane, ModelworksError):
            answers[index] = lane
            targets[index].counts.failed(lane.error_code)
        elif isinstance(lane, BaseException):
            raise lane
        elif targets[index].resident.place is not None:
            groups.setdefault(lane, []).append(index)
        else:
            alone.append(index)

    async def one(index: int) -> None:
        try:
            answers[index] = await plane.infer(targets[index], feeds, timeout_s=timeout_s)
        except ModelworksError as error:
            answers[index] = error

    async def group(members: list[int]) -> None:
        found = await _from_one_pass(plane, [targets[index] for index in members], feeds, timeout_s)
        for index, answer in zip(members, found, strict=True):
            answers[index] = answer

    await asyncio.gather(*(one(index) for index in alone), *(group(members) for members in groups.values()))
    return answers


def _stand_together(targets: Sequence[Target]) -> bool:
    """Say whether all are loaded heads of one backbone."""
    lane = targets[0].resident.lane
    return lane is not None and all(
        target.resident.lane is lane
        and target.resident.place is not None
        and target.resident.state is State.READY
        for target in targets
    )


async def _from_one_pass(
    plane: DataPlane, targets: Sequence[Target], feeds: dict[str, Array], timeout_s: float | None
) -> Answers:
    """Answer heads of one backbone."""
    try:
        found = await plane.infer(targets[0], feeds, timeout_s=timeout_s, several=tuple(targets))
    except ModelworksError as error:
        return [error] * len(targets)
    block: HeadBlock = found["heads"]
    bad = block.not_finite()
    if not bad:
        return block
    answers: list[Answer | ModelworksError] = list(block)
    for position in bad:
        answers[position] = NonFiniteAnswer(
            "The head's output is not finite for this input; no answer is given."
        )
    return answers
