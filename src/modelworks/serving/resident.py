"""One package the server may load, where it stands, and what it would cost to miss it."""

from __future__ import annotations

from asyncio import Future
from dataclasses import dataclass, field
from enum import StrEnum

from modelworks.serving.heads.stack import Place
from modelworks.serving.lane import Lane
from modelworks.serving.model import ModelSource
from modelworks.serving.work import Work


class State(StrEnum):
    """Where a model stands."""

    COLD = "cold"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    UNLOADED = "unloaded"


@dataclass(eq=False, slots=True)
class Resident:
    """One package the server may load.

    Attributes:
        source: Where its verified bytes come from.
        state: Where it stands.
        lane: Its queue and runner while it is ready; heads of one backbone have one lane.
        place: Where it stands among the heads of its backbone, if it is one.
        memory_bytes: Measured size; a guess from the graph's size until it was loaded once.
        measured: Whether ``memory_bytes`` is measured.
        load_s: Seconds of its last load.
        cost_s: CPU-seconds of it, which other work does not disturb: what it costs to miss the model.
        hits: Requests since it came in, halved at every eviction.
        clock: The cache clock at its last use (GreedyDual).
        pins: Why it may not be evicted.
        backlog: Works that wait for the load.
        cause: Why it failed or is quarantined.
        device: Where it runs while it is loaded.
        run_threads: Threads a run takes; 0 before its first load.
        device_note: Why there, and why on so many threads.
        shared_bytes: Bytes of its weights that the workers hold together.
    """

    source: ModelSource
    state: State = State.COLD
    lane: Lane | None = None
    place: Place | None = None
    memory_bytes: int = 0
    measured: bool = False
    load_s: float = 0.0
    cost_s: float = 0.0
    hits: float = 0.0
    clock: float = 0.0
    pins: frozenset[str] = frozenset()
    backlog: list[Work] = field(default_factory=list)
    backlog_rows: int = 0
    loading: Future[None] | None = None
    cause: str = ""
    loads: int = 0
    evictions: int = 0
    retry_at: float = 0.0
    device: str = ""
    run_threads: int = 0
    device_note: str = ""
    shared_bytes: int = 0
