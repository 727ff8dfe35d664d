"""The memory that models share: what is used and reserved of it, who is loaded, and who leaves when it is full.

Bookkeeping only: nothing is loaded or freed here. Lives on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable

from modelworks.serving.errors import ModelTooLarge
from modelworks.serving.eviction import SLACK_BYTES, GreedyDual, SizeGuess
from modelworks.serving.loading import Backbone, SharedHead
from modelworks.serving.resident import Resident
from modelworks.serving.sharing import Sharing


class Room:
    """The loaded models and the memory they take.

    Attributes:
        used_bytes: Bytes of what is loaded, shared backbones included.
        reserved_bytes: Bytes kept for loads under way.
        refused: Models that can never fit and were asked for.
        policy: Says who leaves.
        sharing: The shared backbones.
        before_evicting: Called before it is chosen who leaves, so that uses counted elsewhere are known.

    Args:
        cap_bytes: Most bytes of loaded models.
        evict: Takes a model out of memory; calls ``left``.
    """

    def __init__(self, cap_bytes: int, evict: Callable[[Resident], None]) -> None:
        self.cap_bytes = cap_bytes
        self.used_bytes = 0
        self.reserved_bytes = 0
        self.refused = 0
        self.policy = GreedyDual()
        self.sharing: Sharing[Resident] = Sharing()
        self.before_evicting: Callable[[], None] = _no_books
        self._evict = evict
        self._guess = SizeGuess()
        self._loaded: dict[Resident, None] = {}

    def check_fit(self, resident: Resident) -> None:
        """Raise if the model can never fit beside the pinned ones.

        Raises:
            ModelTooLarge: With the numbers.
        """
        needed = resident.memory_bytes if resident.measured else resident.source.graph_bytes
        pinned = sum(item.memory_bytes for item in self._loaded if item.pins and item is not resident)
        if needed + pinned > self.cap_bytes:
            self.refused += 1
            raise ModelTooLarge(
                f"Model '{resident.source.name}' needs {needed / 1e6:.1f} MB"
                f"{'' if resident.measured else ' for its graph alone'}; the cap of all models is "
                f"{self.cap_bytes / 1e6:.1f} MB, of which pinned models hold {pinned / 1e6:.1f} MB.",
                hint="mw serve --memory with a larger cap",
            )

    def make(self, resident: Resident) -> int | None:
        """Evict until the model fits; returns the bytes to reserve, ``None`` if there is no room now.

        A size that was never measured is only a guess: where evicting everything that may go does not make that
        much room, the load is tried with the room there is.
        """
        needed = min(self.expected(resident), self.cap_bytes)
        if self.evict_down_to(self.cap_bytes - self.reserved_bytes - needed, keep=None):
            return needed
        if not resident.measured and not self.reserved_bytes and all(item.pins for item in self._loaded):
            return max(0, self.cap_bytes - self.used_bytes)
        return None

    def expected(self, resident: Resident) -> int:
        """Return the size to reserve: as measured, else by what graphs took here so far for their bytes."""
        if resident.measured:
            return resident.memory_bytes
        if self.sharing.looks_like_head(resident.source.graph_bytes):
            return SLACK_BYTES
        return self._guess.of(resident.source.graph_bytes)

    def took(self, resident: Resident, shared: SharedHead | None) -> None:
        """Note that a model was loaded; ``shared`` is its head and backbone, where it shares one."""
        if shared is not None and resident.lane is not None:
            fused_bytes = resident.source.graph_bytes
            added, resident.place = self.sharing.join(shared, resident.lane, resident, fused_bytes)
            self.used_bytes += added
        else:
            self._guess.learn(resident.source.graph_bytes, resident.memory_bytes)
        self._loaded[resident] = None
        self.used_bytes += resident.memory_bytes
        resident.clock = self.policy.clock

    def left(self, resident: Resident) -> Backbone | None:
        """Note that a model leaves; returns its backbone if it was the last one on it."""
        self.policy.left(resident)
        self._loaded.pop(resident, None)
        self.used_bytes -= resident.memory_bytes
        backbone = self.sharing.leave(resident)
        resident.place = None
        if backbone is not None:
            self.used_bytes -= backbone.memory_bytes
        return backbone

    def evict_down_to(self, bytes_left: int, keep: Resident | None) -> bool:
        """Evict the cheapest to miss until at most ``bytes_left`` are used; says whether that was reached.

        Nothing is evicted in vain: what would not make enough room stays.
        """
        if self.used_bytes <= bytes_left:
            return True
        self.before_evicting()
        idle = [item for item in self._loaded if not item.pins and item is not keep and self.idle(item)]
        freed = sum(item.memory_bytes for item in idle) + self.sharing.freed_by(set(idle))
        if keep is None and self.used_bytes - freed > bytes_left:
            return False
        for resident in self.policy.order(idle):
            if self.used_bytes <= bytes_left:
                break
            if self.idle(resident):
                self._evict(resident)
        return self.used_bytes <= bytes_left

    def idle(self, resident: Resident) -> bool:
        """Say whether nothing runs on the model, or it is a head and others stay on its backbone."""
        lane = resident.lane
        return lane is not None and (lane.idle or self.sharing.has_company(resident))


def _no_books() -> None:
    """Nobody counts uses elsewhere."""
