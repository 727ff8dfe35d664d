"""Which models leave a full memory, and how much room a model that was never measured will need. Pure: no loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

_LEAST_COST_S = 1e-4
_GUESS_FACTOR = 1.5
_MOST_TIMES = 20.0
_UP, _DOWN = 0.5, 0.05
SLACK_BYTES = 256 * 1024
"""Room that is kept for a model beyond what its file suggests."""


class Cached(Protocol):
    """What the policy needs to know of a model.

    Attributes:
        hits: Uses since it came in, halved at every eviction.
        cost_s: CPU-seconds of loading it again.
        memory_bytes: Its size.
        clock: The policy's clock at its last use.
    """

    hits: float
    cost_s: float
    memory_bytes: int
    clock: float


_Cached = TypeVar("_Cached", bound=Cached)


class GreedyDual:
    """GreedyDual-Size with frequency (Cao and Irani, 1997; Cherkasova, 1998).

    The model with the least ``clock + hits * load seconds / bytes`` leaves, and the clock rises to that value, so
    that a model that was costly once but is not used any more ages out.
    """

    def __init__(self) -> None:
        self.clock = 0.0

    def used(self, model: Cached, times: float = 1.0) -> None:
        """Note that a model was used."""
        model.hits += times
        model.clock = self.clock

    def worth(self, model: Cached) -> float:
        """Return what a model is worth in memory."""
        return model.clock + model.hits * max(model.cost_s, _LEAST_COST_S) / max(model.memory_bytes, 1)

    def order(self, models: Iterable[_Cached]) -> list[_Cached]:
        """Return models in the order in which they should leave."""
        return sorted(models, key=self.worth)

    def left(self, model: Cached) -> None:
        """Note that a model left."""
        self.clock = max(self.clock, self.worth(model))
        model.hits *= 0.5


class SizeGuess:
    """Guesses what a graph will take in memory by what graphs took here so far for the bytes of their files."""

    def __init__(self) -> None:
        self.times = _GUESS_FACTOR

    def of(self, graph_bytes: int) -> int:
        """Return the bytes to keep free for a graph."""
        return int(graph_bytes * self.times) + SLACK_BYTES

    def learn(self, graph_bytes: int, memory_bytes: int) -> None:
        """Take in what a graph really took; follows larger ones fast and smaller ones slowly."""
        if graph_bytes:
            times = min(_MOST_TIMES, memory_bytes / graph_bytes)
            self.times += (_UP if times > self.times else _DOWN) * (times - self.times)
