"""The model repository extension's verbs: what is there, load it, drop it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from modelworks.core.errors import ModelworksError
from modelworks.serving.dataplane import DataPlane
from modelworks.serving.errors import BadRequest, Quarantined
from modelworks.serving.resident import Resident, State

_STATES = {
    # A request for it is taken, as the ready verbs say.
    State.COLD: "READY",
    State.LOADING: "LOADING",
    State.READY: "READY",
    State.FAILED: "UNAVAILABLE",
    State.QUARANTINED: "UNAVAILABLE",
    State.UNLOADED: "UNAVAILABLE",
}
_REASONS = {State.COLD: "loads on first use", State.UNLOADED: "unloaded by an admin"}


def not_ready_text(name: str, resident: Resident, *, draining: bool) -> str:
    """Return why no request for a model is taken."""
    if draining:
        return "The server is shutting down."
    return (
        f"Model '{name}' is not ready: {resident.cause or _REASONS.get(resident.state, 'it does not load')}."
    )


class Repository:
    """Index, load and unload, for the doors.

    Args:
        plane: The served endpoints.
    """

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def index(self, *, ready_only: bool = False) -> list[dict[str, Any]]:
        """Return ``{name, version, state, reason}`` of every version of every endpoint."""
        found = []
        for name, route in sorted(self._plane.routes.items()):
            for number, target in route.targets.items():
                resident = target.resident
                state = _STATES[resident.state]
                if ready_only and state != "READY":
                    continue
                reason = resident.cause or _REASONS.get(resident.state, "")
                found.append({"name": name, "version": number, "state": state, "reason": reason})
        return found

    async def load(self, name: str, parameters: Collection[str] = ()) -> None:
        """Load the version that answers, proving it again if it was quarantined.

        Args:
            name: Of the endpoint.
            parameters: Names of what the client asks beside, like Triton's ``config`` or ``file:...``: none is served,
                for a package says itself how it runs.

        Raises:
            BadRequest: There are parameters.
            ModelworksError: It cannot be loaded; the error says why.
        """
        if parameters:
            named = ", ".join(sorted(parameters))
            raise BadRequest(
                f"A load takes no parameters ({named[:80]}): what a package says is how it runs.",
                code="MW1415",
            )
        resident = self._plane.resolve(name).resident
        self._plane.residency.release(resident)
        try:
            await self._plane.residency.ready(resident)
        except ModelworksError:
            raise
        except Exception as error:
            raise Quarantined(f"Model '{name}' was not loaded ({type(error).__name__}).") from error

    def unload(self, name: str) -> None:
        """Stop every version of the endpoint until it is loaded again; requests that run are answered first."""
        self._plane.resolve(name)
        for target in self._plane.routes[name].targets.values():
            self._plane.residency.unload(target.resident)
