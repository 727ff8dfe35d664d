"""Backbones in memory, the lane of each, and which loaded models are heads on it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from modelworks.serving.heads.stack import Place
from modelworks.serving.lane import Lane
from modelworks.serving.loading import Backbone, SharedHead

_User = TypeVar("_User", bound=Hashable)


@dataclass(eq=False)
class _Entry(Generic[_User]):
    backbone: Backbone
    lane: Lane
    fused_bytes: int
    places: dict[_User, Place] = field(default_factory=dict)


class Sharing(Generic[_User]):
    """The shared backbones; a backbone leaves with its last head. Lives on the event loop."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry[_User]] = {}
        self._where: dict[_User, str] = {}

    def lane(self, backbone: Backbone) -> Lane | None:
        """Return the lane of a backbone that is in use."""
        entry = self._entries.get(backbone.digest)
        return entry.lane if entry is not None else None

    def join(self, shared: SharedHead, lane: Lane, user: _User, fused_bytes: int) -> tuple[int, Place]:
        """Put a head on its backbone; returns the bytes that came into memory with the backbone, and its place.

        ``fused_bytes`` is the size of the graph the head came in, backbone included.
        """
        added = 0
        digest = shared.backbone.digest
        entry = self._entries.get(digest)
        if entry is None:
            entry = self._entries[digest] = _Entry(shared.backbone, lane, fused_bytes)
            added = shared.backbone.memory_bytes
        place = entry.backbone.runner.stack.add(shared.head)
        entry.places[user] = place
        self._where[user] = digest
        return added, place

    def leave(self, user: _User) -> Backbone | None:
        """Take a head off its backbone; returns the backbone if it was the last one."""
        digest = self._where.pop(user, None)
        if digest is None:
            return None
        entry = self._entries[digest]
        del entry.places[user]
        if entry.places:
            return None
        del self._entries[digest]
        return entry.backbone

    def has_company(self, user: _User) -> bool:
        """Say whether the user is a head that is not alone on its backbone."""
        digest = self._where.get(user)
        return digest is not None and len(self._entries[digest].places) > 1

    def looks_like_head(self, graph_bytes: int) -> bool:
        """Say whether a graph has the size of one whose backbone is in memory: within a fiftieth."""
        return any(
            abs(entry.fused_bytes - graph_bytes) * 50 <= entry.fused_bytes for entry in self._entries.values()
        )

    def freed_by(self, users: set[_User]) -> int:
        """Return the bytes of the backbones that leave with some users."""
        return sum(
            entry.backbone.memory_bytes for entry in self._entries.values() if entry.places.keys() <= users
        )
