"""The model repository extension's verbs: what is there, load it, drop it."""

from __future__ import annotations

from typing import Any

from modelworks.core.errors import ModelworksError
from modelworks.serving.dataplane import DataPlane
from modelworks.serving.errors import Quarantined
from modelworks.serving.resident import State

_STATES = {
    State.COLD: "UNAVAILABLE",
    State.LOADING: "LOADING",
    State.READY: "READY",
    State.FAILED: "UNAVAILABLE",
    State.QUARANTINED: "UNAVAILABLE",
    State.UNLOADED: "UNAVAILABLE",
}
_REASONS = {State.COLD: "loads on first use", State.UNLOADED: "unloaded by an admin"}


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
                if ready_only and resident.state is not State.READY:
                    continue
                reason = resident.cause
                reason = reason or _REASONS.get(resident.state, "")
                found.append(
                    {"name": name, "version": number, "state": _STATES[resident.state], "reason": reason}
                )
        return found

    async def load(self, name: str) -> None:
        """Load the version that answers, proving it again if it was quarantined.

        Raises:
            ModelworksError: It cannot be loaded; the error says why.
        """
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
