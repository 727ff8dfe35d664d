"""Which models are in memory: loaded on first use under a stated cap, evicted by what they would cost to miss."""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

from modelworks.core.errors import ModelworksError
from modelworks.serving.errors import Busy, DeadlinePassed, ModelTooLarge, NotReady, Quarantined
from modelworks.serving.eviction import SLACK_BYTES
from modelworks.serving.lane import Lane, LaneLimits, Pooled
from modelworks.serving.loading import Loaded, Loader
from modelworks.serving.model import ModelSource
from modelworks.serving.resident import Resident, State
from modelworks.serving.room import Room
from modelworks.serving.work import Work

_log = logging.getLogger("modelworks.serving")
_SWEEP_S = 0.05
_TRIM_BYTES, _TRIM_S, _TIDY_S = 16 * 2**20, 5.0, 1.0


@dataclass(slots=True)
class ResidencyCounts:
    """Events since the start."""

    loads: int = 0
    load_failures: int = 0
    evictions: int = 0
    load_s: float = 0.0


class Residency:
    """The models in memory. All methods run on the event loop; loading happens in loader threads.

    Args:
        loop: The event loop.
        loader: Verifies and loads.
        pool: Worker threads of the lanes.
        cap_bytes: Most bytes of loaded models.
        lane_limits: Limits of every lane.
        loader_threads: Loads side by side.
        waiting_rows: Rows that may wait for one loading model.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        loader: Loader,
        pool: Pooled,
        *,
        cap_bytes: int,
        lane_limits: LaneLimits,
        loader_threads: int = 2,
        waiting_rows: int = 4096,
    ) -> None:
        self.room = Room(cap_bytes, self._evict)
        self.counts = ResidencyCounts()
        self.residents: dict[str, Resident] = {}
        self.on_change: Callable[[Resident], None] = _nothing
        self.on_standing: Callable[[], None] = _nobody
        self._loop = loop
        self._loader = loader
        self._pool = pool
        self._lane_limits = lane_limits
        self._waiting_rows = waiting_rows
        self._threads = ThreadPoolExecutor(loader_threads, thread_name_prefix="serving-load")
        self._slots = asyncio.Semaphore(loader_threads)
        self._waiters: deque[Future[None]] = deque()
        self._churned = 0
        self._tidying: TimerHandle | None = None
        self._trimmed = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep: TimerHandle | None = None

    def add(self, source: ModelSource) -> Resident:
        """Make a package known; nothing is loaded."""
        resident = self.residents.get(source.digest)
        if resident is None:
            resident = Resident(source=source, memory_bytes=source.graph_bytes + SLACK_BYTES)
            known = self._loader.proofs.of(source.digest)
            if known is not None and known.outcome != "proven":
                resident.state, resident.cause = State.QUARANTINED, known.cause
            self.residents[source.digest] = resident
        return resident

    def check(self, resident: Resident) -> None:
        """Raise if a request for the model would be refused, before any work is put into it.

        Raises:
            Quarantined: It may not be loaded.
            NotReady: It failed to load or was unloaded.
            ModelTooLarge: It can never fit.
        """
        if resident.state is not State.READY:
            self._check_loadable(resident)

    def out_of_service(self, resident: Resident, cause: str) -> None:
        """Mark a model whose package is not there; deploying it again brings it back."""
        self._stand(resident, State.FAILED, cause)
        resident.retry_at = float("inf")

    def _stand(self, resident: Resident, state: State, cause: str = "") -> None:
        """Change where a model stands; whoever holds what follows from that works it out anew."""
        resident.state, resident.cause = state, cause
        self.on_standing()

    def submit(self, resident: Resident, work: Work) -> None:
        """Queue a work on the model, loading it first if need be.

        Raises:
            Busy: Its queue is full.
            Quarantined: It may not be loaded.
            ModelTooLarge: It can never fit.
        """
        self.room.policy.used(resident)
        lane = resident.lane
        if lane is not None and resident.state is State.READY:
            if resident.place is not None:
                work.places = (resident.place,)
            lane.submit(work)
            return
        self._check_loadable(resident)
        if resident.backlog_rows and resident.backlog_rows + work.rows > self._waiting_rows:
            raise Busy(
                f"Model '{resident.source.name}' is loading and {resident.backlog_rows} rows wait for it already.",
                retry_after_s=max(1.0, resident.load_s),
            )
        resident.backlog.append(work)
        resident.backlog_rows += work.rows
        self._start(resident)
        if self._sweep is None:
            self._sweep = self._loop.call_later(_SWEEP_S, self._expire_backlogs)

    def _expire_backlogs(self) -> None:
        """Answer works whose deadline passed while their model was loading."""
        self._sweep = None
        now = self._loop.time()
        waiting = False
        for resident in self.residents.values():
            for work in resident.backlog:
                waiting = True
                if work.deadline < now and not work.settled:
                    message = (
                        f"Model '{resident.source.name}': the deadline passed while the model was loading."
                    )
                    work.settle(None, DeadlinePassed(message))
        if waiting:
            self._sweep = self._loop.call_later(_SWEEP_S, self._expire_backlogs)

    async def ready(self, resident: Resident) -> Lane:
        """Load the model if need be and return its lane.

        Raises:
            ModelworksError: It cannot be loaded; the error says why.
        """
        while resident.lane is None:
            self._check_loadable(resident)
            await asyncio.shield(self._start(resident))
        return resident.lane

    def pin(self, resident: Resident, reason: str) -> None:
        """Keep the model in memory once it is there."""
        resident.pins |= {reason}

    def unpin(self, resident: Resident, reason: str) -> None:
        """Take back one reason for keeping it."""
        resident.pins -= {reason}
        self._wake_room()

    def _check_loadable(self, resident: Resident) -> None:
        name = resident.source.name
        if resident.state is State.QUARANTINED:
            raise Quarantined(f"Model '{name}' is quarantined: {resident.cause}")
        if resident.state is State.UNLOADED:
            raise NotReady(f"Model '{name}' was unloaded; an admin has to load it.", retry_after_s=30.0)
        if resident.state is State.FAILED and monotonic() < resident.retry_at:
            raise NotReady(f"Model '{name}' failed to load: {resident.cause}", retry_after_s=5.0)
        self.room.check_fit(resident)

    def _start(self, resident: Resident) -> Future[None]:
        if resident.loading is None:
            resident.loading = self._loop.create_future()
            resident.loading.add_done_callback(_observe)
            self._stand(resident, State.LOADING, resident.cause)
            task = self._loop.create_task(self._load(resident))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return resident.loading

    async def _load(self, resident: Resident) -> None:
        finished = resident.loading
        assert finished is not None
        try:
            self._admit(resident, await self._load_when_there_is_room(resident))
        except Exception as error:
            self._failed(resident, error)
            finished.set_exception(error)
        else:
            finished.set_result(None)
        finally:
            resident.loading = None
            self.on_change(resident)
            self._wake_room()
            self._churned += resident.source.graph_bytes
            if self._tidying is None and self._churned > _TRIM_BYTES:
                self._tidying = self._loop.call_later(_TIDY_S, self._tidy)
        self._release_backlog(resident)

    def _tidy(self) -> None:
        """Give back to the system what loads left behind, once none is under way."""
        self._tidying = None
        if self._tasks:
            self._tidying = self._loop.call_later(_TIDY_S, self._tidy)
        elif self._churned:
            self._churned, self._trimmed = 0, self._loop.time()
            self._threads.submit(self._loader.drop, [], give_back=True)

    async def _load_when_there_is_room(self, resident: Resident) -> Loaded:
        """Load once there is a free thread and room; nothing is evicted for a load that has no thread yet."""
        while True:
            async with self._slots:
                self._check_loadable(resident)
                reserved = self.room.make(resident)
                if reserved is not None:
                    self.room.reserved_bytes += reserved
                    try:
                        return await self._loop.run_in_executor(
                            self._threads, self._loader.load, resident.source
                        )
                    finally:
                        self.room.reserved_bytes -= reserved
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            timer = self._loop.call_later(0.05, _resolve, waiter)
            try:
                await waiter
            finally:
                timer.cancel()

    def _admit(self, resident: Resident, loaded: Loaded) -> None:
        resident.memory_bytes = max(1, loaded.memory_bytes)
        resident.measured = True
        resident.load_s, resident.cost_s = loaded.load_s, loaded.cost_s
        resident.device, resident.device_note = loaded.device, loaded.note
        resident.run_threads = loaded.threads
        resident.shared_bytes = loaded.shared_bytes
        # Now that the size is measured, it may turn out not to fit after all.
        self.room.check_fit(resident)
        resident.lane = self._lane(resident, loaded)
        self.room.took(resident, loaded.shared)
        self._stand(resident, State.READY)
        resident.loads += 1
        self.counts.loads += 1
        self.counts.load_s += loaded.load_s
        self.room.evict_down_to(self.room.cap_bytes - self.room.reserved_bytes, keep=resident)

    def _lane(self, resident: Resident, loaded: Loaded) -> Lane:
        """Return the lane of a loaded model: its own, or the one of its backbone."""
        shared = loaded.shared
        lane = self.room.sharing.lane(shared.backbone) if shared is not None else None
        if lane is None:
            lane = Lane(
                resident.source.name,
                resident.source.digest,
                loaded.runner,
                loaded.curve,
                self._lane_limits,
                self._loop,
                self._pool,
            )
        return lane

    def _failed(self, resident: Resident, error: Exception) -> None:
        self.counts.load_failures += 1
        cause = error.message if isinstance(error, ModelworksError) else type(error).__name__
        if isinstance(error, Quarantined):
            self._stand(resident, State.QUARANTINED, cause.split("is quarantined: ", 1)[-1])
        elif isinstance(error, (ModelTooLarge, Busy)):
            self._stand(resident, State.COLD, cause)
        else:
            self._stand(resident, State.FAILED, cause)
            resident.retry_at = monotonic() + 5.0
        _log.warning("model %s was not loaded: %s", resident.source.name, resident.cause)

    def _release_backlog(self, resident: Resident) -> None:
        works, resident.backlog, resident.backlog_rows = resident.backlog, [], 0
        lane = resident.lane
        for work in works:
            if work.settled:
                continue
            try:
                if lane is None:
                    self._check_loadable(resident)
                    raise NotReady(f"Model '{resident.source.name}' was not loaded: {resident.cause}")
                if resident.place is not None:
                    work.places = (resident.place,)
                lane.submit(work)
            except ModelworksError as error:
                work.settle(None, error)

    def _wake_room(self) -> None:
        while self._waiters:
            _resolve(self._waiters.popleft())

    def _evict(self, resident: Resident, state: State = State.COLD, cause: str = "") -> None:
        lane, resident.lane = resident.lane, None
        backbone = self.room.left(resident)
        self._stand(resident, state, cause)
        resident.evictions += 1
        self.counts.evictions += 1
        self._churned += resident.memory_bytes
        # Freeing a large session takes milliseconds: the last reference goes in a loader thread.
        held = [lane, backbone]
        del lane, backbone
        # What was freed serves the next loads; giving it back to the system takes milliseconds.
        now = self._loop.time()
        due = self._churned > _TRIM_BYTES and now - self._trimmed > _TRIM_S
        if due:
            self._churned, self._trimmed = 0, now
        self._threads.submit(self._loader.drop, held, give_back=due)
        self.on_change(resident)

    def unload(self, resident: Resident) -> None:
        """Take no more requests for the model until it is loaded by name, and drop it once nothing runs on it."""
        if resident.state is State.LOADING:
            self._loop.call_later(0.01, self.unload, resident)
            return
        if resident.state in {State.QUARANTINED, State.FAILED}:
            return
        self._stand(resident, State.UNLOADED)
        self._drop_when_idle(resident)

    def _drop_when_idle(self, resident: Resident) -> None:
        lane = resident.lane
        if lane is None or resident.state is not State.UNLOADED:
            return
        if self.room.idle(resident):
            self._evict(resident, State.UNLOADED)
        else:
            self._loop.call_later(0.01, self._drop_when_idle, resident)

    def release(self, resident: Resident) -> None:
        """Lift a quarantine, a failure or an unload: the next load proves the package again."""
        if resident.state is State.UNLOADED:
            self._stand(resident, State.READY if resident.lane is not None else State.COLD)
        if resident.state in {State.QUARANTINED, State.FAILED}:
            self._loader.proofs.forget(resident.source.digest)
            self._stand(resident, State.COLD)
            resident.retry_at = 0.0

    def quarantine(self, resident: Resident, cause: str) -> None:
        """Take a model out of service for good, with a cause; what waits is answered with it."""
        self._loader.quarantine(resident.source.digest, cause)
        lane = resident.lane
        if lane is not None:
            error = Quarantined(f"Model '{resident.source.name}' is quarantined: {cause}")
            if resident.place is not None:
                lane.fail_head(resident.place, error)
            else:
                lane.fail_all(error)
            self._evict(resident, State.QUARANTINED, cause)
        self._stand(resident, State.QUARANTINED, cause)
        self.on_change(resident)

    def close(self) -> None:
        """Stop loading."""
        for timer in (self._sweep, self._tidying):
            if timer is not None:
                timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolve(waiter: Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _observe(future: Future[None]) -> None:
    """Mark an exception as seen: every waiter gets it through its own work."""
    if not future.cancelled():
        future.exception()


def _nobody() -> None:
    """Nobody holds what follows from where models stand."""


def _nothing(resident: Resident) -> None:
    """Nobody listens."""
