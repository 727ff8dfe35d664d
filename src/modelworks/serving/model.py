"""What the data plane needs to know of a model: its identity, its signature and how to read its verified bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelworks.core.signature import Signature


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model whose bytes were just verified.

    Attributes:
        onnx: Bytes of the graph.
        examples: Golden examples ``{rows, expected, tolerance}`` (see ``packaging.golden``), or ``None``.
    """

    onnx: bytes
    examples: Mapping[str, Any] | None = None


class ModelSource(Protocol):
    """A model that can be loaded, again and again, from where it is kept.

    Attributes of an implementation never change; ``digest`` names the exact bytes.
    """

    @property
    def name(self) -> str:
        """Name of the task."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 that identifies the package."""
        ...

    @property
    def signature(self) -> Signature:
        """Typed inputs and outputs."""
        ...

    @property
    def graph_bytes(self) -> int:
        """Size of the graph in bytes."""
        ...

    @property
    def place(self) -> str:
        """Where it is kept, for the deployment journal; empty if it lives in memory only."""
        ...

    def read(self) -> LoadedModel:
        """Read and verify every byte again.

        Raises:
            TrustError: The bytes are not the ones that were signed.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class MemorySource:
    """A model held in memory: for embedding the plane in a program, and for tests."""

    name: str
    digest: str
    signature: Signature
    onnx: bytes = field(repr=False)
    examples: Mapping[str, Any] | None = None
    place: str = ""

    @property
    def graph_bytes(self) -> int:
        return len(self.onnx)

    def read(self) -> LoadedModel:
        return LoadedModel(onnx=self.onnx, examples=self.examples)


Answer = Mapping[str, Any]
"""Output name -> array."""

Done = Callable[[Answer | None, Exception | None], None]
"""Called exactly once, on the event loop, with the answer or the error."""
