"""The canary's guard: a candidate that fails hard loses its share within seconds; without traffic it is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelworks.serving.counters import VersionCounts
from modelworks.serving.resident import State
from modelworks.serving.routing import Route

HARD_ERRORS = frozenset({"MW2313", "MW3412", "MW5000", "MW5410", "MW5411"})
"""Deadline passed, quarantined, unexpected, not finite, refused by the runtime: the model's doing, not the client's."""


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """When a canary is ended.

    Attributes:
        errors: Least hard errors.
        share: Hard errors per request it must exceed.
        times: How many times the champion's share of hard errors in the same time it must exceed.
        slower: How many times the champion's mean latency is too slow.
        slow_s: Mean latency below which it is never too slow.
        requests: Least requests of both for a judgement of latency.
    """

    errors: int = 5
    share: float = 0.2
    times: float = 3.0
    slower: float = 10.0
    slow_s: float = 0.02
    requests: int = 20


@dataclass(frozen=True, slots=True)
class _Reading:
    requests: int
    hard: int
    answered: int
    latency_s: float

    @staticmethod
    def of(counts: VersionCounts) -> _Reading:
        hard = sum(count for code, count in counts.errors.items() if code in HARD_ERRORS)
        return _Reading(counts.requests, hard, counts.latency.count, counts.latency.total)

    def since(self, earlier: _Reading) -> _Reading:
        return _Reading(
            self.requests - earlier.requests,
            self.hard - earlier.hard,
            self.answered - earlier.answered,
            self.latency_s - earlier.latency_s,
        )

    @property
    def hard_share(self) -> float:
        return self.hard / self.requests if self.requests else 0.0

    @property
    def mean_s(self) -> float:
        return self.latency_s / self.answered if self.answered else 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "hard_errors": self.hard,
            "mean_ms": round(self.mean_s * 1e3, 3) if self.answered else None,
        }


class Guard:
    """Watches every canary since it got its share.

    Args:
        limits: When a canary is ended.
    """

    def __init__(self, limits: GuardLimits | None = None) -> None:
        self._limits = limits or GuardLimits()
        self._begun: dict[tuple[str, str, str], tuple[_Reading, _Reading]] = {}

    def look(self, routes: dict[str, Route]) -> list[tuple[str, str, dict[str, Any]]]:
        """Return ``(endpoint, version, evidence)`` of every canary that is to be ended now."""
        found = []
        watched = {}
        for name, route in routes.items():
            if route.canary is None or route.state.settings.get("guard") is False:
                continue
            place = (name, route.champion.digest, route.canary.digest)
            now = _Reading.of(route.champion.counts), _Reading.of(route.canary.counts)
            begun = self._begun.get(place, now)
            watched[place] = begun
            champion, canary = now[0].since(begun[0]), now[1].since(begun[1])
            cause = self._cause(route, champion, canary)
            if cause:
                evidence = {"cause": cause, "champion": champion.to_json(), "canary": canary.to_json()}
                found.append((name, route.canary.number, evidence))
        self._begun = watched
        return found

    def _cause(self, route: Route, champion: _Reading, canary: _Reading) -> str:
        limits = self._limits
        assert route.canary is not None
        resident = route.canary.resident
        if resident.state in {State.QUARANTINED, State.FAILED}:
            return f"it is {resident.state.value}: {resident.cause}"[:300]
        share = canary.hard_share
        if (
            canary.hard >= limits.errors
            and share > limits.share
            and share > limits.times * champion.hard_share
        ):
            return f"{canary.hard} of {canary.requests} requests failed hard"
        enough = min(champion.answered, canary.answered) >= limits.requests
        if enough and canary.mean_s > max(limits.slow_s, limits.slower * champion.mean_s):
            return f"it takes {canary.mean_s * 1e3:.1f} ms, the champion {champion.mean_s * 1e3:.1f} ms"
        return ""
