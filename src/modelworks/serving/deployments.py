"""Changing what is served: every act loads first, is recorded, and then takes effect at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from modelworks.core.errors import Conflict, ModelworksError, TrustError, UsageError, close_matches
from modelworks.core.signature import Signature
from modelworks.packaging.package import TrustPolicy
from modelworks.serving import endpoints as acts
from modelworks.serving.compatibility import broken_for_clients
from modelworks.serving.dataplane import DataPlane
from modelworks.serving.endpoints import Endpoint
from modelworks.serving.errors import Quarantined
from modelworks.serving.journal import Change, Journal
from modelworks.serving.model import LoadedModel, ModelSource
from modelworks.serving.packages import package_source

_log = logging.getLogger("modelworks.serving")


class Setting(NamedTuple):
    """What may be set on an endpoint: how a value is checked, and in words."""

    fits: Callable[[Any], bool]
    takes: str


def _one_of(*values: str) -> Setting:
    return Setting(lambda value: value in values, " or ".join(values))


_LONGEST = 1e9
_FLAG = Setting(lambda value: isinstance(value, bool), "true or false")
_SHARE = Setting(lambda value: _number(value) and 0 <= value <= 1, "a share from 0 to 1")
_POSITIVE = Setting(lambda value: _number(value) and 0 < value <= _LONGEST, "a number above 0")
SETTINGS: dict[str, Setting] = {
    "nan": _one_of("missing", "refuse"),
    "priority": _one_of("interactive", "background"),
    "deadline_ms": _POSITIVE,
    "pin": _FLAG,
    "guard": _FLAG,
    "observe": _SHARE,
    "audit": _SHARE,
    "redact": Setting(
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
        "names of columns or outputs, separated by commas",
    ),
    "retention_days": _POSITIVE,
}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class MissingSource:
    """A deployed package that could not be read at start: its endpoint exists and says why it does not answer."""

    name: str
    digest: str
    cause: str
    place: str
    signature: Signature = Signature(inputs=(), outputs=())  # noqa: RUF009 - frozen
    graph_bytes: int = 0

    def read(self) -> LoadedModel:
        raise TrustError(self.cause, code="MW3423")


async def _nobody(*_: str) -> None:
    """There are no other workers."""


class Deployments:
    """The endpoints of a server and the acts that change them.

    Args:
        plane: Where changes take effect.
        journal: Where they are recorded first.
        trust: Whose packages are accepted.
    """

    def __init__(self, plane: DataPlane, journal: Journal, trust: TrustPolicy) -> None:
        self.plane = plane
        self.journal = journal
        self.trust = trust
        self.sources: dict[str, ModelSource] = {}
        self.prepare_others: Callable[[str], Awaitable[None]] = _nobody
        self.refresh_others: Callable[[], Awaitable[None]] = _nobody
        self._acting = asyncio.Lock()

    # -- start -------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Bring back every endpoint of the journal."""
        for endpoint in self.journal.endpoints.values():
            self._apply(endpoint)

    def refresh(self) -> None:
        """Take in what other processes recorded."""
        known = set(self.plane.routes)
        if self.journal.refresh():
            for endpoint in self.journal.endpoints.values():
                if endpoint.name not in known or self.plane.routes[endpoint.name].state != endpoint:
                    self._apply(endpoint)
            for name in known - set(self.journal.endpoints):
                self.plane.drop_endpoint(name)

    def serve(self, sources: Iterable[ModelSource], actor: str = "start") -> None:
        """Serve packages under their own names; a package new to its endpoint becomes the champion at once.

        Nothing is loaded. Used at start, where there is no traffic that a failing load could hurt. Workers that start
        together all try; the first one's acts are what the others find.
        """
        listed = list(sources)
        while True:
            try:
                self._serve(listed, actor)
            except Conflict:
                # The journal read the other's acts before it refused ours.
                self.restore()
            else:
                return

    def _serve(self, sources: list[ModelSource], actor: str) -> None:
        changed: dict[str, Change] = {}
        for source in sources:
            name = source.name
            before = changed[name].state if name in changed else self.journal.endpoints.get(name)
            self.sources[source.digest] = source
            if before is not None and any(version.digest == source.digest for version in before.versions):
                continue
            champion = (
                self.sources.get(before.version(before.champion).digest) if before is not None else None
            )
            broken = broken_for_clients(champion.signature, source.signature) if champion is not None else ""
            if broken:
                _log.warning("the new package of %s is not asked like the one before: %s", name, broken)
            state, version = acts.with_version(before, name, source.digest, source.place)
            state = acts.promote(state, version.number)
            changed[name] = Change(
                actor=actor,
                verb="deploy",
                endpoint=name,
                before=self.journal.endpoints.get(name),
                state=state,
                detail={"digest": source.digest, "version": version.number},
            )
        if changed:
            self.journal.append(*changed.values())
        for change in changed.values():
            if change.state is not None:
                self._apply(change.state)

    def _apply(self, endpoint: Endpoint) -> None:
        for version in endpoint.versions:
            if version.digest not in self.sources:
                self.sources[version.digest] = self._find(endpoint.name, version.digest, version.place)
        self.plane.set_endpoint(endpoint, self.sources)
        for target in self.plane.routes[endpoint.name].targets.values():
            source = target.resident.source
            if isinstance(source, MissingSource):
                self.plane.residency.out_of_service(target.resident, source.cause)
        pinned = bool(endpoint.settings.get("pin"))
        reason = f"endpoint {endpoint.name}"
        for number, target in self.plane.routes[endpoint.name].targets.items():
            if pinned and number in endpoint.in_use:
                self.plane.residency.pin(target.resident, reason)
            else:
                self.plane.residency.unpin(target.resident, reason)

    def _find(self, name: str, digest: str, place: str) -> ModelSource:
        try:
            if not place:
                raise TrustError("The package was served from memory and is gone.", code="MW3423")
            source = package_source(Path(place), self.trust)
            if source.digest != digest:
                raise TrustError("The package on disk is another one than was deployed.", code="MW3422")
            return source
        except ModelworksError as error:
            _log.warning("the package of %s cannot be read: %s", name, error.message)
            return MissingSource(name=name, digest=digest, cause=error.message, place=place)

    # -- acts --------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Endpoint:
        """Return the recorded state of an endpoint.

        Raises:
            UnknownModel: There is none of that name.
        """
        return acts.find(self.journal.endpoints, name)

    async def deploy(
        self,
        source: ModelSource,
        *,
        endpoint: str | None = None,
        actor: str,
        canary: float | None = None,
        shadow: bool = False,
        sticky: bool = True,
        change_signature: bool = False,
    ) -> Endpoint:
        """Load and prove a package, then let it answer: everything, a canary's share, or as a shadow.

        Raises:
            Conflict: It takes or gives other tensors than the version that answers, and may not (``change_signature``).
            Quarantined: It did not pass its proof; the champion goes on serving.
            ModelTooLarge: It does not fit.
        """
        name = endpoint or source.name
        known = self.plane.routes.get(name)
        if known is not None and not change_signature:
            broken = broken_for_clients(known.champion.signature, source.signature)
            if broken:
                raise Conflict(
                    f"Those who ask '{name}' could not go on as they do: {broken}.",
                    code="MW1343",
                    hint="--endpoint with another name, or --change-signature",
                )
        self.sources[source.digest] = source
        resident = self.plane.residency.add(source)
        reason = f"deploying {name}"
        self.plane.residency.pin(resident, reason)
        try:
            await self.plane.residency.ready(resident)
            await self.prepare_others(source.digest)
            async with self._acting:
                before = self.journal.endpoints.get(name)
                state, version = acts.with_version(before, name, source.digest, source.place)
                detail: dict[str, Any] = {"digest": source.digest, "version": version.number}
                if before is not None and canary is not None:
                    state = acts.set_canary(state, version.number, canary, sticky=sticky)
                    detail["canary"] = canary
                elif before is not None and shadow:
                    state = acts.set_shadow(state, version.number)
                    detail["shadow"] = True
                else:
                    state = acts.promote(state, version.number)
                return await self._record(actor, "deploy", before, state, detail)
        finally:
            self.plane.residency.unpin(resident, reason)

    async def promote(self, name: str, number: str, *, actor: str) -> Endpoint:
        """Let a known version answer everything, once it is loaded."""
        endpoint = acts.find(self.journal.endpoints, name)
        await self._make_ready(name, endpoint.version(number).number)
        return await self._act(
            name, actor, "promote", {"version": number}, lambda state: acts.promote(state, number)
        )

    async def canary(
        self, name: str, number: str, share: float, *, actor: str, sticky: bool = True
    ) -> Endpoint:
        """Give a known version a share of the traffic, once it is loaded; 0 ends the canary."""
        endpoint = acts.find(self.journal.endpoints, name)
        if share > 0:
            await self._make_ready(name, endpoint.version(number).number)
        detail = {"version": number, "share": share, "sticky": sticky}
        return await self._act(
            name, actor, "canary", detail, lambda state: acts.set_canary(state, number, share, sticky=sticky)
        )

    async def shadow(self, name: str, number: str | None, *, actor: str) -> Endpoint:
        """Mirror traffic to a known version; ``None`` ends it."""
        return await self._act(
            name, actor, "shadow", {"version": number}, lambda state: acts.set_shadow(state, number)
        )

    async def rollback(self, name: str, *, actor: str) -> Endpoint:
        """End the canary, or return to the champion before this one; takes effect at once."""
        return await self._act(name, actor, "rollback", {}, acts.rollback)

    async def end_canary(self, name: str, number: str, evidence: dict[str, Any], *, actor: str) -> Endpoint:
        """Take its share from a canary because of what it did; the evidence is recorded with the act.

        Raises:
            Conflict: It is no canary any more.
        """

        def change(state: Endpoint) -> Endpoint:
            if state.canary is None or state.canary.number != number:
                raise Conflict(f"Version {number} of '{name}' is no canary any more.", code="MW4310")
            return acts.rollback(state)

        return await self._act(name, actor, "rollback", {"version": number, **evidence}, change)

    async def configure(self, name: str, settings: dict[str, Any], *, actor: str) -> Endpoint:
        """Change settings of an endpoint; ``None`` restores a default.

        Raises:
            UsageError: There is no such setting, or the value does not fit.
        """
        for key, value in settings.items():
            if key not in SETTINGS:
                near = close_matches(key, SETTINGS) or f" There are {', '.join(SETTINGS)}."
                raise UsageError(f"There is no setting '{key}'.{near}", code="MW1315")
            if value is not None and not SETTINGS[key].fits(value):
                raise UsageError(
                    f"Setting '{key}' cannot be {value!r:.60}; it takes {SETTINGS[key].takes}.", code="MW1315"
                )

        def change(state: Endpoint) -> Endpoint:
            merged = {**state.settings, **settings}
            return replace(state, settings={key: value for key, value in merged.items() if value is not None})

        return await self._act(name, actor, "configure", {"settings": settings}, change)

    async def remove(self, name: str, *, actor: str) -> None:
        """Stop serving a name; what is under way is answered."""
        async with self._acting:
            before = acts.find(self.journal.endpoints, name)
            change = Change(actor=actor, verb="remove", endpoint=name, before=before, state=None)
            await asyncio.to_thread(self.journal.append, change)
            route = self.plane.routes.get(name)
            self.plane.drop_endpoint(name)
            if route is not None:
                for target in route.targets.values():
                    self.plane.residency.unpin(target.resident, f"endpoint {name}")
            await self.refresh_others()

    async def _act(
        self, name: str, actor: str, verb: str, detail: dict[str, Any], change: Callable[[Endpoint], Endpoint]
    ) -> Endpoint:
        async with self._acting:
            before = acts.find(self.journal.endpoints, name)
            return await self._record(actor, verb, before, change(before), detail)

    async def _record(
        self, actor: str, verb: str, before: Endpoint | None, state: Endpoint, detail: dict[str, Any]
    ) -> Endpoint:
        change = Change(
            actor=actor, verb=verb, endpoint=state.name, before=before, state=state, detail=detail
        )
        await asyncio.to_thread(self.journal.append, change)
        self._apply(state)
        await self.refresh_others()
        return state

    async def _make_ready(self, name: str, number: str) -> None:
        target = self.plane.routes[name].targets[number]
        resident = target.resident
        if resident.cause:
            raise Quarantined(f"Version {number} of '{name}' cannot answer: {resident.cause}")
        await self.plane.residency.ready(resident)
        await self.prepare_others(target.digest)
