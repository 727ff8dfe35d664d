"""One request for several models of equal inputs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelworks.core.errors import ModelworksError
from modelworks.serving.counters import VersionCounts
from modelworks.serving.errors import NotReady
from modelworks.serving.heads.stack import HeadBlock, Selection
from modelworks.serving.lane import Lane
from modelworks.serving.model import Answer
from modelworks.serving.resident import State
from modelworks.serving.routing import Target
from modelworks.serving.tensors import Array
from modelworks.serving.work import Work

if TYPE_CHECKING:
    from modelworks.serving.dataplane import DataPlane

Answers = Sequence[Answer | ModelworksError]
_REMEMBERED = 16
_WAITING = 64


class Tally:
    """What was counted for the same heads asked together, before each is given its share.

    Args:
        targets: The heads.
    """

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.targets = targets
        self._counts = VersionCounts()
        self._uses = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to give."""
        return not self._counts.requests

    def add(self, work: Work, latency: float) -> None:
        """Count one answered request."""
        self._counts.answered(work, latency)
        self._uses += 1

    def give_uses(self, clock: float) -> None:
        """Give every head its uses, which say what it is worth in memory."""
        uses, self._uses = self._uses, 0
        if uses:
            for target in self.targets:
                target.resident.hits += uses
                target.resident.clock = clock

    def give(self) -> None:
        """Give every head its share of the counts."""
        counts, self._counts = self._counts, VersionCounts()
        for target in self.targets:
            target.counts.add(counts)


ShadowOf = Callable[[Target], Target | None]


class Gathering:
    """Loaded heads of one backbone that are asked together.

    Attributes:
        targets: The heads.
        positions: Where the answer of each stands in the request.
        lane: The queue of their backbone.
        selection: Where their weights stand.
        plain: Which of them follow the settings of the server in what is observed.
        own: Which have settings of their own.
        shadows: Those that are mirrored, and where to.
        tally: What was counted for all of them.
    """

    def __init__(
        self, targets: tuple[Target, ...], positions: Sequence[int], total: int, shadow_of: ShadowOf
    ) -> None:
        first = targets[0].resident
        assert first.lane is not None
        self.lane: Lane = first.lane
        self.targets = targets
        self.positions = positions
        places = [target.resident.place for target in targets]
        self.selection = Selection([place for place in places if place is not None], positions, total)
        own = [number for number, target in enumerate(targets) if target.policy.settings]
        self.own = own
        self.plain: Sequence[int] = range(len(targets))
        if own:
            self.plain = [number for number, target in enumerate(targets) if not target.policy.settings]
        found = [(number, shadow_of(target)) for number, target in enumerate(targets)]
        self.shadows = [(number, shadow) for number, shadow in found if shadow is not None]
        self.tally = Tally(targets)


@dataclass(frozen=True, eq=False)
class Parting:
    """What is asked of a request, parted into what is answered together.

    Attributes:
        gatherings: Loaded heads, by backbone.
        others: Positions of all others: models of their own, not loaded, not in service.
    """

    gatherings: list[Gathering]
    others: list[int]


class Partings:
    """The partings of the latest requests, and what was counted for several heads at once.

    Whoever changes which models are loaded or which version answers calls ``forget``.

    Args:
        clock: Returns the clock of the cache of models.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[Target, ...], Parting] = OrderedDict()
        self._tallies: list[Tally] = []

    def of(self, asked: tuple[Target, ...], shadow_of: ShadowOf) -> Parting:
        """Return how a request is parted now."""
        found = self._known.get(asked)
        if found is None:
            found = self._known[asked] = _parting(asked, shadow_of)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found

    def forget(self) -> None:
        """Work out every parting anew: a model came, left, or is no longer in service, or an endpoint changed."""
        if self._known:
            self._known.clear()

    def count(self, gathering: Gathering, work: Work, latency: float) -> None:
        """Count one request that all heads of a gathering answered."""
        tally = gathering.tally
        if tally.empty:
            self._tallies.append(tally)
        tally.add(work, latency)
        if len(self._tallies) > _WAITING:
            self.give()

    def give_uses(self) -> None:
        """Give every head its uses so far."""
        for tally in self._tallies:
            tally.give_uses(self._clock())

    def give(self) -> None:
        """Give every head its share of all that was counted."""
        self.give_uses()
        tallies, self._tallies = self._tallies, []
        for tally in tallies:
            tally.give()


def _parting(asked: tuple[Target, ...], shadow_of: ShadowOf) -> Parting:
    lanes: dict[Lane, list[int]] = {}
    others: list[int] = []
    for position, target in enumerate(asked):
        resident = target.resident
        if resident.lane is not None and resident.place is not None and resident.state is State.READY:
            lanes.setdefault(resident.lane, []).append(position)
        else:
            others.append(position)
    gatherings = []
    for mine in lanes.values():
        if len(mine) == len(asked):
            gatherings.append(Gathering(asked, range(len(asked)), len(asked), shadow_of))
        else:
            targets = tuple(asked[position] for position in mine)
            gatherings.append(Gathering(targets, mine, len(asked), shadow_of))
    return Parting(gatherings, others)


async def infer_many(
    plane: DataPlane, targets: Sequence[Target], feeds: dict[str, Array], timeout_s: float | None
) -> Answers:
    """See ``DataPlane.infer_many``."""
    asked = tuple(targets)
    parting = plane.parting(asked)
    errors: dict[int, ModelworksError] = {}
    alone: list[int] = []
    if parting.others:
        cold = [position for position in parting.others if asked[position].resident.lane is None]
        errors = await _make_ready(plane, asked, cold)
        if len(errors) < len(cold):
            parting = plane.parting(asked)
        alone = [position for position in parting.others if position not in errors]
    if not alone and len(parting.gatherings) == 1:
        block = await _from_one_pass(plane, parting.gatherings[0], feeds, timeout_s)
        if isinstance(block, HeadBlock):
            block.errors.update(errors)
            return block
        return [errors.get(position, block) for position in range(len(asked))]
    answers: list[Answer | ModelworksError] = [NotReady("The model was not asked.")] * len(asked)
    for position, error in errors.items():
        answers[position] = error

    async def one(position: int) -> None:
        try:
            answers[position] = await plane.infer(asked[position], feeds, timeout_s=timeout_s)
        except ModelworksError as error:
            answers[position] = error

    async def group(gathering: Gathering) -> None:
        found = await _from_one_pass(plane, gathering, feeds, timeout_s)
        for position in gathering.positions:
            answers[position] = found[position] if isinstance(found, HeadBlock) else found

    await asyncio.gather(
        *(one(position) for position in alone), *(group(item) for item in parting.gatherings)
    )
    return answers


async def _make_ready(
    plane: DataPlane, asked: tuple[Target, ...], positions: list[int]
) -> dict[int, ModelworksError]:
    """Load what is not; returns the errors of those that cannot be."""
    ready = await asyncio.gather(
        *(plane.residency.ready(asked[position].resident) for position in positions), return_exceptions=True
    )
    errors: dict[int, ModelworksError] = {}
    for position, found in zip(positions, ready, strict=True):
        if isinstance(found, ModelworksError):
            errors[position] = found
            asked[position].counts.failed(found.error_code)
        elif isinstance(found, BaseException):
            raise found
    return errors


async def _from_one_pass(
    plane: DataPlane, gathering: Gathering, feeds: dict[str, Array], timeout_s: float | None
) -> HeadBlock | ModelworksError:
    """Answer heads of one backbone."""
    try:
        found = await plane.infer(gathering.targets[0], feeds, timeout_s=timeout_s, several=gathering)
    except ModelworksError as error:
        return error
    block: HeadBlock = found["heads"]
    return block
