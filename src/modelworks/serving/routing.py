"""The routes that follow from the endpoints: name and version to the model that answers, without a lock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelworks.core.signature import Signature
from modelworks.serving.counters import VersionCounts
from modelworks.serving.endpoints import Endpoint, share_point
from modelworks.serving.errors import BadRequest, UnknownModel
from modelworks.serving.resident import Resident
from modelworks.serving.tensors import Array
from modelworks.serving.work import finite


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What an endpoint's settings mean for its requests.

    Attributes:
        refuse_nan: Whether NaN is refused in packed table inputs too, where it means missing.
        priority: 0 interactive, 1 background.
        deadline_s: Seconds a request may take unless it says less.
        settings: The settings themselves, for the observation log.
    """

    refuse_nan: bool = False
    priority: int = 0
    deadline_s: float = float("inf")
    settings: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(settings: dict[str, Any]) -> Policy:
        """Read an endpoint's settings."""
        deadline_ms = settings.get("deadline_ms")
        return Policy(
            refuse_nan=settings.get("nan") == "refuse",
            priority=1 if settings.get("priority") == "background" else 0,
            deadline_s=deadline_ms / 1e3 if deadline_ms else float("inf"),
            settings=settings,
        )


@dataclass(eq=False, slots=True, kw_only=True)
class Target:
    """One version of one endpoint, ready to take requests.

    Attributes:
        endpoint: Name of the endpoint.
        number: Version.
        digest: Identity of the package.
        resident: Its place in memory.
        signature: Typed inputs and outputs.
        counts: What it did.
        policy: Rules of the endpoint.
        fixed: Whether every axis but the row's is fixed, so that any two requests can be stacked.
    """

    endpoint: str
    number: str
    digest: str
    resident: Resident
    signature: Signature
    counts: VersionCounts
    policy: Policy
    fixed: bool = False


@dataclass(frozen=True, kw_only=True)
class Route:
    """An endpoint as requests see it.

    Attributes:
        state: The endpoint's recorded state.
        targets: Version -> target.
        champion: Target that answers.
        canary: Target with a share of the traffic.
        shadow: Target that gets copies.
    """

    state: Endpoint
    targets: dict[str, Target]
    champion: Target
    canary: Target | None = None
    shadow: Target | None = None

    def choose(self, version: str, key: str | None) -> Target:
        """Return the target of a request (``version`` empty: by share of traffic).

        Raises:
            UnknownModel: There is no such version.
        """
        if version:
            target = self.targets.get(version)
            if target is None:
                known = ", ".join(self.targets)
                raise UnknownModel(
                    f"Model '{self.state.name}' has no version '{version[:40]}'; it has {known}."
                )
            return target
        canary = self.canary
        if canary is None or self.state.canary is None:
            return self.champion
        spec = self.state.canary
        point = share_point(self.state.name, key) if spec.sticky and key else random.random()  # noqa: S311
        return canary if point < spec.share else self.champion


def check_finite_inputs(target: Target, feeds: dict[str, Array]) -> None:
    """Apply the NaN policy: NaN means missing in packed table inputs; elsewhere, and for infinities, it is refused.

    Raises:
        BadRequest: Names the input, the row and, for a packed table input, the column.
    """
    refuse_nan = target.policy.refuse_nan
    for tensor in target.signature.inputs:
        array = feeds[tensor.name]
        if finite(array):
            continue
        bad = np.isinf(array) if tensor.columns and not refuse_nan else ~np.isfinite(array)
        if not bad.any():
            continue
        place = [int(index) for index in np.argwhere(bad)[0]]
        what = "infinite"
        if np.isnan(array[tuple(place)]):
            what = "missing or NaN, which this endpoint refuses (nan=refuse)" if tensor.columns else "NaN"
        where = f"row {place[0]}"
        if tensor.columns and not tensor.payload and len(place) > 1:
            where += f", column '{tensor.columns[place[1]]}'"
        raise BadRequest(f"Input '{tensor.name}', {where}: a value is {what}.", code="MW1407")
