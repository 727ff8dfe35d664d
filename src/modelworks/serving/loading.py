"""From a source to a session that is ready to answer: verify, prove once, load, warm up, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from modelworks.compute.runtime import CPU, CUDA, GraphSession
from modelworks.core.errors import TrustError
from modelworks.core.signature import Signature
from modelworks.packaging.replay import ReplayLimits, replay
from modelworks.serving.curve import LatencyCurve
from modelworks.serving.devices import Devices, as_on_cpu, replayed
from modelworks.serving.errors import Quarantined
from modelworks.serving.heads.embeddings import EmbeddingCache
from modelworks.serving.heads.runner import BackboneRunner, HeadOnBackbone, agrees
from modelworks.serving.heads.split import Head, Split, split_head
from modelworks.serving.memory import allocated_bytes, trim
from modelworks.serving.model import LoadedModel, ModelSource
from modelworks.serving.proofs import Proof, Proofs
from modelworks.serving.samples import sample_feeds, stacks
from modelworks.serving.tensors import Array
from modelworks.serving.turns import Turns
from modelworks.serving.weights import SHARED_BYTES, SharedWeights
from modelworks.serving.work import GraphRunner, Runner, Work

_HEAD_OVERHEAD = 2048
_WORTH_CACHING_S = 200e-6
_SMALL_SAMPLES = 16_384
_TRIM_BYTES = 8 * 2**20
_COMPARED_S = 0.5
_MEASURED_AGAIN = 3
_PLAUSIBLE_TIMES, _PLAUSIBLE_BYTES = 8, 32 * 2**20
"""A load that seems to have taken more than so many times its file, and so many bytes on top, is measured again."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A shared backbone; it lives as long as a head of it is loaded.

    Attributes:
        digest: SHA-256 of its own graph.
        runner: Its session, heads and cache.
        curve: Measured latency with one head.
        memory_bytes: Measured memory.
        note: Why it runs on the device it does.
    """

    digest: str
    runner: BackboneRunner
    curve: LatencyCurve
    memory_bytes: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SharedHead:
    """A head and the backbone it shares with others."""

    head: Head
    backbone: Backbone


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A session and what its load showed.

    Attributes:
        runner: Runs batches: the graph of its own, or the backbone it shares.
        curve: Latency by batch size, measured through the stacking that requests go through.
        memory_bytes: Bytes the load and its warm-up runs left allocated (of a head: its own part).
        shared: The head and its backbone, if it shares one.
        load_s: Elapsed seconds of verifying, loading and warming up (without the proof).
        device: Where it runs: ``cpu`` or ``cuda``.
        threads: Threads a run takes.
        note: Why there.
        shared_bytes: Bytes of its weights (of a head: of its backbone's) that all workers hold together.
    """

    runner: Runner
    curve: LatencyCurve
    memory_bytes: int
    load_s: float
    shared: SharedHead | None = None
    cost_s: float = 0.0
    device: str = "cpu"
    threads: int = 1
    note: str = ""
    shared_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class LoadLimits:
    """Limits of a load.

    Attributes:
        proof: Limits of the child in which a package is first loaded and its golden examples replayed.
        warm_up_s: Most time for measuring the latency curve.
        batch_rows: Largest batch that is measured.
        batch_s: Longest run a batch may be grown to.
        cache_bytes: Bytes of embeddings kept per shared backbone; 0 keeps none.
        share: Whether heads share backbones.
        cap_bytes: Cap of all models: a size beyond it is not believed at once.
        device_bytes: Most memory of one model on a CUDA device; 0 is no cap.
    """

    proof: ReplayLimits = ReplayLimits()  # noqa: RUF009 - frozen
    warm_up_s: float = 0.1
    batch_rows: int = 64
    batch_s: float = 0.05
    cache_bytes: int = 32 * 2**20
    share: bool = True
    cap_bytes: int = 2**62
    device_bytes: int = 0


class Loader:
    """Loads models; every method may be called from any thread.

    Args:
        proofs: Record of first loads.
        limits: Limits of a load.
        devices: Where models may run; the CPU by default.
        weights: Weights shared with the other workers of a server; ``None`` loads all privately.
    """

    def __init__(
        self,
        proofs: Proofs,
        limits: LoadLimits,
        devices: Devices | None = None,
        weights: SharedWeights | None = None,
    ) -> None:
        self.proofs = proofs
        self.limits = limits
        self._weights = weights
        self._devices = devices if devices is not None else Devices("cpu")
        self._turns = Turns()
        self._sizes: dict[str, int] = {}
        self._samples: dict[str, list[dict[str, Array]]] = {}
        self._backbones: WeakValueDictionary[str, Backbone] = WeakValueDictionary()

    def load(self, source: ModelSource) -> Loaded:
        """Verify, prove if this digest never was, load, warm up and measure.

        Raises:
            TrustError: The bytes are not as signed, or the package is not fit to be loaded.
            Quarantined: It failed its proof before.
        """
        known = self.proofs.of(source.digest)
        if known is not None and known.outcome != "proven":
            raise Quarantined(f"Model '{source.name}' is quarantined: {known.cause}")
        start = time.perf_counter()
        model = source.read()
        proof_s = 0.0
        if known is None:
            proof_start = time.perf_counter()
            self._prove(source, model)
            proof_s = time.perf_counter() - proof_start
        try:
            # What was never measured is loaded alone. What was is loaded beside others, and beside what is let go of:
            # nearly all of a load is ONNX Runtime's, without the interpreter.
            with self._turns.beside() if source.digest in self._sizes else self._turns.alone():
                cost = time.thread_time()
                loaded = self._build(source, model)
                cost = time.thread_time() - cost
                if len(model.onnx) > _TRIM_BYTES:
                    # What only reading the file took, as much again as the model, is not left lying about.
                    trim()
        except TrustError as error:
            self.quarantine(source.digest, error.message)
            raise Quarantined(f"Model '{source.name}' is quarantined: {error.message}") from error
        load_s = time.perf_counter() - start - proof_s
        return replace(loaded, load_s=load_s, cost_s=cost)

    def _prove(self, source: ModelSource, model: LoadedModel) -> None:
        examples = model.examples
        if examples is None:
            return
        try:
            replay(model.onnx, source.signature, examples, self.limits.proof)
        except TrustError as error:
            self.quarantine(source.digest, error.message)
            raise Quarantined(f"Model '{source.name}' is quarantined: {error.message}") from error
        self.proofs.put(Proof(digest=source.digest, outcome="proven", cause="", wall=time.time()))

    def quarantine(self, digest: str, cause: str) -> None:
        """Record that a package must not be loaded, and why."""
        self.proofs.put(Proof(digest=digest, outcome="quarantined", cause=cause, wall=time.time()))

    def drop(self, held: list[Any], *, give_back: bool) -> None:
        """Let go of the last references to sessions, not while another load is being measured."""
        with self._turns.beside():
            held.clear()
            if give_back:
                trim()

    def _build(self, source: ModelSource, model: LoadedModel) -> Loaded:
        samples = self._samples.get(source.digest)
        if samples is None:
            samples = sample_feeds(source.signature, model.examples)
        memory = self._sizes.get(source.digest)
        known = self.proofs.of(source.digest)
        if memory is None and self.limits.share and (known is None or known.shares is not False):
            split = split_head(model.onnx, source.signature)
            loaded = self._build_head(source, model, split, samples) if split is not None else None
            if loaded is not None:
                return loaded
        if sum(array.nbytes for feeds in samples for array in feeds.values()) <= _SMALL_SAMPLES:
            self._samples[source.digest] = samples
        before = allocated_bytes() if memory is None else 0
        start = time.perf_counter()

        def make(device: str, threads: int) -> GraphSession:
            session = self._session(model.onnx, device, samples, threads)
            check_names(session, source.signature)
            return session

        def measure(session: GraphSession) -> LatencyCurve:
            return self._measure(
                GraphRunner(session), samples, stack=stacks(session, source.signature, samples)
            )

        def replay_on(session: GraphSession) -> str:
            if model.examples is None:
                return as_on_cpu(session, make("cpu", 1), samples)
            return replayed(session, source.signature, model.examples)

        placed = self._devices.place(source.digest, make, measure, replay_on, samples[0] if samples else None)
        if samples and not placed.fresh:
            # It was here before: one run warms it up, and what its curve was then is where this one starts.
            placed.session.run(samples[0])
        if memory is None:
            memory = self._sizes[source.digest] = self._memory_of(
                model.onnx, allocated_bytes() - before + placed.session.shared_bytes
            )
        return Loaded(
            runner=GraphRunner(placed.session),
            curve=placed.curve,
            memory_bytes=memory,
            load_s=time.perf_counter() - start,
            device=placed.session.device,
            threads=placed.session.threads,
            note=placed.note,
            shared_bytes=placed.session.shared_bytes,
        )

    def _memory_of(self, onnx: bytes, measured: int) -> int:
        """Return what a load took, given the bytes the process was handed out meanwhile.

        What other threads free makes the difference too small; weights are never smaller than half the file.
        What they take makes it too large: a difference that is implausible, or that would keep the model out for good,
        is measured again, up to three times, and the smallest one counts.
        """
        plausible = min(self.limits.cap_bytes, _PLAUSIBLE_TIMES * len(onnx) + _PLAUSIBLE_BYTES)
        for _ in range(_MEASURED_AGAIN):
            if measured <= plausible:
                break
            before = allocated_bytes()
            again = self._session(onnx)
            measured = min(measured, allocated_bytes() - before)
            del again
        return max(len(onnx) // 2, measured)

    def _build_head(
        self, source: ModelSource, model: LoadedModel, split: Split, samples: list[dict[str, Array]]
    ) -> Loaded | None:
        """Load a head beside the others of its backbone; ``None`` if its parts do not answer as the whole."""
        if not samples:
            return None
        start = time.perf_counter()
        backbone = self._backbones.get(split.digest)
        known = self.proofs.of(source.digest)
        if backbone is None:
            before = allocated_bytes()
            placed = self._devices.place(
                split.digest,
                lambda device, threads: self._session(split.backbone, device, samples, threads),
                lambda session: self._measure_backbone(BackboneRunner(session, 0), split.head, samples),
                lambda session: self._head_differs(BackboneRunner(session, 0), split.head, source, model),
                samples[0],
            )
            runner = BackboneRunner(placed.session, 0)
            curve = placed.curve
            if self.limits.cache_bytes and curve.estimate(1) > _WORTH_CACHING_S:
                runner.cache = EmbeddingCache(self.limits.cache_bytes)
            memory = self._memory_of(split.backbone, allocated_bytes() - before + placed.session.shared_bytes)
            backbone = Backbone(
                digest=split.digest, runner=runner, curve=curve, memory_bytes=memory, note=placed.note
            )
        elif differs_from_proof(backbone.runner.session) and self._head_differs(
            backbone.runner, split.head, source, model
        ):
            return None
        if known is None or known.shares is None:
            same = agrees(backbone.runner, split.head, self._session(model.onnx), samples)
            if known is not None:
                self.proofs.put(replace(known, shares=same))
            if not same:
                return None
        self._backbones[split.digest] = backbone
        return Loaded(
            runner=backbone.runner,
            curve=backbone.curve,
            memory_bytes=split.head.nbytes + _HEAD_OVERHEAD,
            load_s=time.perf_counter() - start,
            shared=SharedHead(head=split.head, backbone=backbone),
            device=backbone.runner.session.device,
            threads=backbone.runner.session.threads,
            note=backbone.note,
            shared_bytes=backbone.runner.session.shared_bytes,
        )

    def _head_differs(
        self, runner: BackboneRunner, head: Head, source: ModelSource, model: LoadedModel
    ) -> str:
        """Replay the golden examples of a head on a backbone that runs otherwise than its proof did."""
        if model.examples is None:
            samples = sample_feeds(source.signature, None)
            return as_on_cpu(HeadOnBackbone(runner, head), self._session(model.onnx), samples)
        return replayed(HeadOnBackbone(runner, head), source.signature, model.examples)

    def _session(
        self, onnx: bytes, device: str = "cpu", samples: Sequence[dict[str, Array]] = (), threads: int = 1
    ) -> GraphSession:
        """Load a graph; with samples to compare answers by, on shared weights if it is big."""
        if self._weights is not None and device == "cpu" and samples and len(onnx) >= SHARED_BYTES:
            shared = self._weights.session(onnx, samples, threads)
            if shared is not None:
                return shared
        providers = (CUDA, CPU) if device == "cuda" else (CPU,)
        most = self.limits.device_bytes
        return GraphSession(onnx, threads=threads, arena=False, providers=providers, device_bytes=most)

    def _spend_s(self) -> float:
        """Return the time a curve may take: more where two are compared, for a guess at larger batches decides."""
        return self.limits.warm_up_s if self._devices.missing else max(self.limits.warm_up_s, _COMPARED_S)

    def _measure(self, runner: GraphRunner, samples: list[dict[str, Array]], *, stack: bool) -> LatencyCurve:
        curve = LatencyCurve(self.limits.batch_rows)
        if not samples:
            return curve
        measured = curve if stack else LatencyCurve(1)

        def run(rows: int) -> None:
            runner.run([Work(samples[0], 1, None, _ignore, enqueued=0.0) for _ in range(rows)])

        self._time(measured, run, runner.session)
        return measured

    def _measure_backbone(
        self, runner: BackboneRunner, head: Head, samples: list[dict[str, Array]]
    ) -> LatencyCurve:
        curve = LatencyCurve(self.limits.batch_rows)
        alone = BackboneRunner(runner.session, 0)
        place = alone.stack.add(head)

        def run(rows: int) -> None:
            works = [Work(samples[0], 1, None, _ignore, enqueued=0.0) for _ in range(rows)]
            for work in works:
                work.places = (place,)
            alone.run(works)

        self._time(curve, run, runner.session)
        return curve

    def _time(self, curve: LatencyCurve, run: Callable[[int], None], session: GraphSession) -> None:
        """Measure a curve: by this thread's clock, or by elapsed time where it waits for others or for a device."""
        if session.device != "cpu":
            # What a device sets up on its first run of a kind is not the model's latency.
            for size in curve.sizes:
                run(size)
        alone = session.device == "cpu" and session.threads == 1
        clock = time.thread_time if alone else time.perf_counter
        curve.measure(run, limit_s=self._spend_s(), longest_s=self.limits.batch_s, clock=clock)


def differs_from_proof(session: GraphSession) -> bool:
    """Say whether a session runs otherwise than the child that proved it: on a device, or on several threads."""
    return session.device != "cpu" or session.threads > 1


def check_names(session: GraphSession, signature: Signature) -> None:
    """Raise unless the graph has the inputs and outputs its signature names."""
    wanted = {tensor.name for tensor in signature.inputs}
    if set(session.inputs) != wanted:
        raise TrustError(
            f"The graph's inputs are {sorted(session.inputs)}, its signature says {sorted(wanted)}.",
            code="MW3420",
        )
    missing = {tensor.name for tensor in signature.outputs} - set(session.outputs)
    if missing:
        raise TrustError(f"The graph has no output {sorted(missing)}.", code="MW3421")


def _ignore(work: object, answer: object, error: object) -> None:
    """Warm-up answers are nobody's."""
