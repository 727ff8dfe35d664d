"""Endpoints: which package answers a served name, with which share of traffic. Values; every act gives a new one."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass, field, replace
from typing import Any

from modelworks.core.errors import UsageError, close_matches
from modelworks.serving.errors import UnknownModel

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HISTORY = 20


@dataclass(frozen=True, kw_only=True)
class Version:
    """One deployed package.

    Attributes:
        number: ``"1"``, ``"2"``, ... in order of deployment; never reused.
        digest: Identity of the package.
        place: Where it is kept.
    """

    number: str
    digest: str
    place: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"number": self.number, "digest": self.digest, "place": self.place}


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A candidate that answers a share of the traffic.

    Attributes:
        number: Its version.
        share: Share of requests in (0, 1).
        sticky: Whether requests of one key always meet the same version.
    """

    number: str
    share: float
    sticky: bool = True

    def to_json(self) -> dict[str, Any]:
        return {"number": self.number, "share": self.share, "sticky": self.sticky}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A served name.

    Attributes:
        name: What clients ask for.
        champion: Version that answers.
        versions: Every version that may be asked for, oldest first.
        canary: Candidate with a share of the traffic.
        shadow: Version that is run on copies of requests; its answers are only compared and logged.
        history: Earlier champions, oldest first; rollback returns to the last one.
        settings: Plain options of the endpoint: ``nan``, ``priority``, ``deadline_ms``, ``pin``, ``guard``,
            ``observe``, ``audit``, ``redact``, ``retention_days``.
    """

    name: str
    champion: str
    versions: tuple[Version, ...]
    canary: Canary | None = None
    shadow: str | None = None
    history: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def version(self, number: str) -> Version:
        """Return the version with that number.

        Raises:
            UnknownModel: There is none.
        """
        for version in self.versions:
            if version.number == number:
                return version
        known = [version.number for version in self.versions]
        raise UnknownModel(f"Model '{self.name}' has no version '{number}'; it has {', '.join(known)}.")

    def choose(self, key: str | None) -> str:
        """Return the version that answers a request with this key (sticky keys always meet the same one)."""
        canary = self.canary
        if canary is None:
            return self.champion
        point = share_point(self.name, key) if canary.sticky and key else random.random()  # noqa: S311
        return canary.number if point < canary.share else self.champion

    @property
    def in_use(self) -> tuple[str, ...]:
        """Versions that must stay ready: champion, canary, shadow and the one a rollback returns to."""
        named = [self.champion, self.canary.number if self.canary else None, self.shadow, *self.history[-1:]]
        return tuple(dict.fromkeys(number for number in named if number is not None))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "champion": self.champion,
            "versions": [version.to_json() for version in self.versions],
            "canary": self.canary.to_json() if self.canary else None,
            "shadow": self.shadow,
            "history": list(self.history),
            "settings": dict(self.settings),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Endpoint:
        canary = data.get("canary")
        return Endpoint(
            name=data["name"],
            champion=data["champion"],
            versions=tuple(Version(**version) for version in data["versions"]),
            canary=Canary(**canary) if canary else None,
            shadow=data.get("shadow"),
            history=tuple(data.get("history", ())),
            settings=dict(data.get("settings", {})),
        )


def share_point(name: str, key: str) -> float:
    """Return the fixed point in [0, 1) of a key at an endpoint; endpoints are independent of each other."""
    digest = hashlib.blake2b(f"{name}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def with_version(endpoint: Endpoint | None, name: str, digest: str, place: str) -> tuple[Endpoint, Version]:
    """Add a package as a new version (or find it) without giving it traffic; makes the endpoint if there is none.

    Raises:
        UsageError: The name cannot be served.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name[:100]}' cannot be served: a name has 1 to 100 letters, digits, '.', '_' and '-'.",
            code="MW1312",
        )
    if endpoint is None:
        first = Version(number="1", digest=digest, place=place)
        return Endpoint(name=name, champion="1", versions=(first,)), first
    for version in endpoint.versions:
        if version.digest == digest:
            return endpoint, version
    number = str(max(int(version.number) for version in endpoint.versions) + 1)
    added = Version(number=number, digest=digest, place=place)
    return replace(endpoint, versions=(*endpoint.versions, added)), added


def promote(endpoint: Endpoint, number: str) -> Endpoint:
    """Let a version answer everything; the champion before it is kept for rollback."""
    endpoint.version(number)
    if number == endpoint.champion:
        return replace(endpoint, canary=None)
    return replace(
        endpoint,
        champion=number,
        canary=None,
        shadow=None if endpoint.shadow == number else endpoint.shadow,
        history=(*endpoint.history, endpoint.champion)[-_HISTORY:],
    )


def set_canary(endpoint: Endpoint, number: str, share: float, *, sticky: bool = True) -> Endpoint:
    """Give a version a share of the traffic; 0 ends the canary.

    Raises:
        UsageError: The share is not in [0, 1), or the version is the champion.
    """
    endpoint.version(number)
    if not 0 <= share < 1:
        raise UsageError(
            f"A canary's share is {share:g}, must be in [0, 1).", code="MW1313", hint="promote it"
        )
    if number == endpoint.champion:
        raise UsageError(f"Version {number} of '{endpoint.name}' answers already.", code="MW1313")
    if share == 0:
        return replace(endpoint, canary=None)
    return replace(endpoint, canary=Canary(number=number, share=share, sticky=sticky))


def set_shadow(endpoint: Endpoint, number: str | None) -> Endpoint:
    """Mirror requests to a version whose answers nobody gets; ``None`` ends it."""
    if number is not None:
        endpoint.version(number)
        if number == endpoint.champion:
            raise UsageError(f"Version {number} of '{endpoint.name}' answers already.", code="MW1313")
    return replace(endpoint, shadow=number)


def rollback(endpoint: Endpoint) -> Endpoint:
    """End the canary if there is one, else return to the champion before this one.

    Raises:
        UsageError: There is nothing to go back to.
    """
    if endpoint.canary is not None:
        return replace(endpoint, canary=None)
    if not endpoint.history:
        raise UsageError(
            f"Endpoint '{endpoint.name}' has no earlier champion.",
            code="MW1314",
            hint="mw deploy another package",
        )
    back = endpoint.history[-1]
    return replace(
        endpoint,
        champion=back,
        history=endpoint.history[:-1],
        shadow=None if endpoint.shadow == back else endpoint.shadow,
    )


def find(endpoints: dict[str, Endpoint], name: str) -> Endpoint:
    """Return an endpoint by name.

    Raises:
        UnknownModel: There is none; close names are offered.
    """
    endpoint = endpoints.get(name)
    if endpoint is None:
        raise UnknownModel(f"There is no model '{name[:100]}'.{close_matches(name[:100], endpoints)}")
    return endpoint
