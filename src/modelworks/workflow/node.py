"""One content key of a run: what is to be done once, and every call that wants it."""

from __future__ import annotations

from modelworks.core.errors import ModelworksError
from modelworks.core.job import Usage
from modelworks.storage.ledger import StepResult
from modelworks.workflow.call import Handle
from modelworks.workflow.fingerprint import Fingerprint


class Node:
    """A unit of work.

    Attributes:
        key: Content key.
        handles: The calls that want it and have not ended.
        status: ``ready``, ``running``, ``done``, ``failed`` or ``dropped`` (nobody wants it any more).
        digests: Input name -> digest.
        fingerprints: Inputs from outside the store, as they were when the key was made.
        usage: What its attempts used in this run.
        tries: Attempts so far.
        result: What it came to.
        error: Why it came to nothing.
    """

    def __init__(
        self, handle: Handle, digests: dict[str, str], fingerprints: list[Fingerprint], order: int
    ) -> None:
        self.key = handle.key
        self.step = handle.step
        self.params = handle.params
        self.inputs = handle.inputs
        self.resources = handle.resources
        self.priority = handle.priority
        self.order = order
        self.digests = digests
        self.fingerprints = fingerprints
        self.handles = [handle]
        self.status = "ready"
        self.usage = Usage()
        self.tries = 0
        self.result: StepResult | None = None
        self.error: ModelworksError | None = None

    def __lt__(self, other: Node) -> bool:
        return (-self.priority, self.order) < (-other.priority, other.order)

    @property
    def label(self) -> str:
        """The task that asked first."""
        return self.handles[0].label if self.handles else ""

    def add_usage(self, usage: Usage) -> None:
        """Put one more attempt on the node's bill."""
        mine = self.usage
        self.usage = Usage(
            cpu_s=mine.cpu_s + usage.cpu_s,
            wall_s=mine.wall_s + usage.wall_s,
            peak_mb=max(mine.peak_mb, usage.peak_mb),
            gpu_s=mine.gpu_s + usage.gpu_s,
            energy_j=mine.energy_j + usage.energy_j,
            energy_source=usage.energy_source if usage.energy_source != "none" else mine.energy_source,
        )
