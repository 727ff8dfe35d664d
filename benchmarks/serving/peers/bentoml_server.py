"""A BentoML service with one worker; the route takes the protocol's JSON."""

from __future__ import annotations

from typing import Any

import bentoml
import graph as shared


@bentoml.service(
    workers=1, traffic={"timeout": 30}, metrics={"enabled": False}, logging={"access": {"enabled": False}}
)
class Server:
    """Runs the graph on the event loop, which is faster here than BentoML's thread."""

    def __init__(self) -> None:
        self.graph = shared.Graph()

    @bentoml.api(route="/infer")
    async def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return self.graph.answer(inputs)
