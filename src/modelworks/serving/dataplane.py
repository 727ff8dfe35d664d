"""The life of a request between the doors and the runtime; knows nothing of HTTP or gRPC."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

from modelworks.core.errors import ModelworksError
from modelworks.serving.counters import VersionCounts
from modelworks.serving.endpoints import Endpoint, find
from modelworks.serving.errors import BadRequest, NotReady, RequestTooLarge
from modelworks.serving.heads.stack import HeadBlock
from modelworks.serving.model import Answer, Done, ModelSource
from modelworks.serving.residency import Residency
from modelworks.serving.resident import Resident, State
from modelworks.serving.routing import Policy, Route, Target, check_finite_inputs
from modelworks.serving.shadows import Shadows
from modelworks.serving.tensors import Array
from modelworks.serving.together import Gathering, Parting, Partings, infer_many
from modelworks.serving.work import Work, trailing_shapes

_NOT_READY = frozenset({State.QUARANTINED, State.FAILED, State.UNLOADED})
Trace = Callable[["Target", Work, Exception | None, float], None]
ObserveMany = Callable[[Work, Sequence[Answer | ModelworksError], float], None]
Observe = Callable[["Target", Work, Answer, str | None, float], None]


@dataclass(frozen=True, kw_only=True)
class PlaneLimits:
    """Limits of one request.

    Attributes:
        rows: Most rows of a request.
        deadline_s: Seconds a request may take when it names no deadline.
    """

    rows: int = 10_000
    deadline_s: float = 30.0


class DataPlane:
    """Takes decoded requests, answers them from the right version, and keeps the books.

    Args:
        loop: The event loop everything here runs on.
        residency: The models in memory.
        limits: Limits of a request.
    """

    def __init__(
        self, loop: AbstractEventLoop, residency: Residency, limits: PlaneLimits | None = None
    ) -> None:
        self.loop = loop
        self.residency = residency
        self.limits = limits or PlaneLimits()
        self.routes: dict[str, Route] = {}
        self.in_flight = 0
        self.draining = False
        self.generation = 0
        self.observe: Observe | None = None
        self.observe_many: ObserveMany | None = None
        self.trace: Trace | None = None
        self._counts: dict[tuple[str, str], VersionCounts] = {}
        self._shadows = Shadows(residency, self.limits.deadline_s)
        self._partings = Partings(lambda: residency.room.policy.clock)
        residency.room.before_evicting = self._partings.give_uses
        residency.on_standing = self._partings.forget
        self._finish = self._settled
        self._drained: asyncio.Event = asyncio.Event()

    # -- routes ------------------------------------------------------------------------------------------------

    def set_endpoint(self, endpoint: Endpoint, sources: dict[str, ModelSource]) -> None:
        """Make an endpoint's recorded state the one that answers, at once and as a whole.

        Args:
            endpoint: The new state.
            sources: Package digest -> source, for every version of the endpoint.
        """
        policy = Policy.of(endpoint.settings)
        targets = {
            version.number: Target(
                endpoint=endpoint.name,
                number=version.number,
                digest=version.digest,
                resident=self.residency.add(sources[version.digest]),
                signature=sources[version.digest].signature,
                counts=self._counts.setdefault((endpoint.name, version.number), VersionCounts()),
                policy=policy,
                fixed=all(
                    axis >= 0
                    for tensor in sources[version.digest].signature.inputs
                    for axis in tensor.shape[1:]
                ),
            )
            for version in endpoint.versions
        }
        self.routes[endpoint.name] = Route(
            state=endpoint,
            targets=targets,
            champion=targets[endpoint.champion],
            canary=targets[endpoint.canary.number] if endpoint.canary else None,
            shadow=targets[endpoint.shadow] if endpoint.shadow else None,
        )
        self._changed()

    def drop_endpoint(self, name: str) -> None:
        """Stop answering a name."""
        self.routes.pop(name, None)
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        self._partings.forget()

    def resolve(self, name: str, version: str = "", key: str | None = None) -> Target:
        """Return the target that answers a request.

        Raises:
            UnknownModel: No such endpoint or version.
        """
        route = self.routes.get(name)
        if route is None:
            find({known: item.state for known, item in self.routes.items()}, name)
            raise AssertionError
        return route.choose(version, key)

    def admit(self, name: str, version: str = "", key: str | None = None) -> Target:
        """Return the target that answers a request, if it can.

        Raises:
            UnknownModel: No such endpoint or version.
            ModelworksError: The model is not in service; the error says why.
        """
        target = self.resolve(name, version, key)
        self.residency.check(target.resident)
        return target

    # -- requests ----------------------------------------------------------------------------------------------

    def submit(
        self,
        target: Target,
        feeds: dict[str, Array],
        done: Done,
        *,
        outputs: tuple[str, ...] | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
        priority: int | None = None,
        traceparent: str | None = None,
        several: Gathering | None = None,
        finite: bool = False,
    ) -> Work:
        """Admit a decoded request; ``done`` is called once on the loop, never before this returns.

        ``finite`` says that no value can be NaN or infinite; else that is looked at.

        Raises:
            BadRequest: The feeds do not fit the signature or the NaN policy.
            Busy: A queue is full or the server drains.
            ModelworksError: The model cannot be served.
        """
        counts = target.counts
        try:
            if self.draining:
                raise NotReady("The server is shutting down.")
            rows = self._check_rows(feeds)
            if not finite:
                check_finite_inputs(target, feeds)
            now = monotonic()
            policy = target.policy
            limit = self.limits.deadline_s if timeout_s is None else timeout_s
            limit = min(limit, policy.deadline_s)
            work = Work(
                feeds,
                rows,
                outputs,
                self._finish,
                enqueued=now,
                deadline=now + limit,
                priority=policy.priority if priority is None else priority,
                shape=() if target.fixed else trailing_shapes(feeds),
            )
            work.target, work.key, work.reply, work.traceparent = target, key, done, traceparent
            if several is None:
                self.residency.submit(target.resident, work)
            else:
                # It holds the places of its heads: they answer even if one leaves meanwhile.
                work.several, work.places = several, several.selection.places
                several.lane.submit(work)
        except ModelworksError as error:
            counts.failed(error.error_code)
            raise
        self.in_flight += 1
        return work

    def _check_rows(self, feeds: dict[str, Array]) -> int:
        rows = -1
        for array in feeds.values():
            if rows < 0:
                rows = len(array)
            elif len(array) != rows:
                raise BadRequest("The inputs have different numbers of rows.", code="MW1408")
        if rows <= 0:
            raise BadRequest("The request has no rows.", code="MW1409")
        if rows > self.limits.rows:
            raise RequestTooLarge(
                f"The request has {rows} rows; at most {self.limits.rows} are taken at once."
            )
        return rows

    def _settled(self, work: Work, answer: Answer | None, error: Exception | None) -> None:
        """Keep the books of a work that has its outcome, and pass it on."""
        self.in_flight -= 1
        latency = monotonic() - work.enqueued
        if work.several is not None:
            self._book_many(work, answer, error, latency)
        else:
            self._book(work.target, work, answer, error, latency)
        if self.trace is not None:
            self.trace(work.target, work, error, latency)
        if work.reply is not None:
            work.reply(answer, error)
        if self.draining and not self.in_flight:
            self._drained.set()

    def _book(
        self, target: Target, work: Work, answer: Answer | None, error: Exception | None, latency: float
    ) -> None:
        counts = target.counts
        if answer is None:
            counts.failed(error.error_code if isinstance(error, ModelworksError) else "MW5000")
            return
        counts.answered(work, latency)
        if self.observe is not None:
            self.observe(target, work, answer, work.key, latency)
        route = self.routes.get(target.endpoint)
        if route is not None and route.shadow is not None:
            self._shadow(target, route.shadow, work, answer)

    def _book_many(self, work: Work, answer: Answer | None, error: Exception | None, latency: float) -> None:
        """Keep the books of every head a work asked for."""
        gathering: Gathering = work.several
        if answer is None:
            code = error.error_code if isinstance(error, ModelworksError) else "MW5000"
            for target in gathering.targets:
                target.counts.failed(code)
            return
        block: HeadBlock = answer["heads"]
        if block.errors:
            self._book_each(gathering, block, work, latency)
        else:
            self._partings.count(gathering, work, latency)
        if self.observe_many is not None:
            self.observe_many(work, block, latency)
        for number, shadow in gathering.shadows:
            found = block[gathering.positions[number]]
            if not isinstance(found, ModelworksError):
                self._shadow(gathering.targets[number], shadow, work, found)

    def _shadow(self, target: Target, shadow: Target, work: Work, answer: Answer) -> None:
        if shadow is not target and not self.draining:
            self._shadows.mirror(shadow, work, answer)

    def _book_each(self, gathering: Gathering, block: HeadBlock, work: Work, latency: float) -> None:
        """Keep the books of a request that some heads failed on."""
        for position, target in zip(gathering.positions, gathering.targets, strict=True):
            error = block.errors.get(position)
            if error is not None:
                target.counts.failed(error.error_code)
            else:
                target.counts.answered(work, latency)

    def parting(self, asked: tuple[Target, ...]) -> Parting:
        """Return which of these models are answered together now."""
        return self._partings.of(asked, self._shadow_of)

    def _shadow_of(self, target: Target) -> Target | None:
        route = self.routes.get(target.endpoint)
        return route.shadow if route is not None else None

    def fold(self) -> None:
        """Give every head its share of what was counted for several at once; done before counts are read."""
        self._partings.give()

    async def infer(
        self,
        target: Target,
        feeds: dict[str, Array],
        *,
        outputs: tuple[str, ...] | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
        priority: int | None = None,
        several: Gathering | None = None,
    ) -> Answer:
        """Answer a decoded request; cancelling the caller cancels the work.

        Raises:
            ModelworksError: See ``submit``; also everything that can go wrong later.
        """
        future: asyncio.Future[Answer] = self.loop.create_future()

        def done(answer: Answer | None, error: Exception | None) -> None:
            if future.done():
                return
            if answer is not None:
                future.set_result(answer)
            else:
                future.set_exception(error or RuntimeError("no answer"))

        work = self.submit(
            target,
            feeds,
            done,
            outputs=outputs,
            key=key,
            timeout_s=timeout_s,
            priority=priority,
            several=several,
        )
        try:
            return await future
        except asyncio.CancelledError:
            self.forget(work)
            raise

    async def infer_many(
        self, targets: Sequence[Target], feeds: dict[str, Array], *, timeout_s: float | None = None
    ) -> Sequence[Answer | ModelworksError]:
        """Answer one request for several models of equal inputs, in order; an error takes the place of its answer.

        Models that are heads of one backbone are answered from one pass over it.
        """
        return await infer_many(self, targets, feeds, timeout_s)

    def forget(self, work: Work) -> None:
        """Cancel a work whose client went away."""
        if not work.settled:
            work.cancel()
            self.in_flight -= 1
            if self.draining and not self.in_flight:
                self._drained.set()

    # -- state -------------------------------------------------------------------------------------------------

    def ready(self, name: str, version: str = "") -> bool:
        """Say whether a request for this model would be taken (a cold model is loaded by its first request)."""
        target = self.resolve(name, version)
        return not self.draining and target.resident.state not in _NOT_READY

    def residents(self, endpoints: Iterable[Endpoint]) -> set[Resident]:
        """Return the models these endpoints keep in use."""
        return {
            self.routes[endpoint.name].targets[number].resident
            for endpoint in endpoints
            if endpoint.name in self.routes
            for number in endpoint.in_use
            if number in self.routes[endpoint.name].targets
        }

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing more and wait for what is under way; returns whether all of it was answered in time."""
        self.draining = True
        if self.in_flight:
            try:
                await asyncio.wait_for(self._drained.wait(), timeout_s)
            except TimeoutError:
                return False
        return True
