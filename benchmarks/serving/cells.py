"""What is measured: which requests at which load, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.serving.models import CNN, TEXT, TREE

CLOSED = 0.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One load.

    Attributes:
        model: Model that is asked.
        form: ``json``, ``binary`` or ``grpc``.
        rows: Rows of a request.
        connections: Connections with one request under way on each.
        rate: Requests a second of an open loop; 0 is a closed loop.
    """

    model: str
    form: str
    rows: int = 1
    connections: int = 16
    rate: float = CLOSED

    @property
    def title(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        loop = f"open loop, {self.rate:g}/s" if self.rate else f"closed loop, {self.connections} connections"
        return f"{self.model}, {self.form}, {rows}, {loop}"


CELLS = (
    Cell(model=TREE, form="json"),
    Cell(model=TREE, form="json", connections=1),
    Cell(model=TREE, form="json", rows=32),
    Cell(model=TREE, form="json", connections=64, rate=200),
    Cell(model=TREE, form="json", connections=64, rate=1500),
    Cell(model=TREE, form="binary"),
    Cell(model=TREE, form="binary", rows=32),
    Cell(model=TREE, form="grpc"),
    Cell(model=TREE, form="grpc", rows=32),
    Cell(model=CNN, form="json"),
    Cell(model=CNN, form="binary"),
    Cell(model=CNN, form="binary", rows=8),
    Cell(model=CNN, form="binary", connections=64, rate=100),
    Cell(model=CNN, form="grpc"),
    Cell(model=TEXT, form="json"),
    Cell(model=TEXT, form="json", rows=8),
    Cell(model=TEXT, form="binary"),
    Cell(model=TEXT, form="grpc"),
    Cell(model=TEXT, form="json", connections=64, rate=15),
)
"""Every load; a server takes part in those whose form it answers."""

SATURATED = {"bentoml": 600.0, "litserve": 600.0, "ray serve": 600.0, "triton (python)": 1000.0}
"""Open loops above these rates are left out: the queue would only grow."""
