"""The arithmetic of the bill: attempts are summed exactly and shared work is divided without a remainder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelworks.core.job import Attempt, Usage

_MICRO = 1_000_000
SHARED = ""
"""Label of work that no task asked for."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What things cost; a price of 0 leaves the thing out of the money, not out of the ledger.

    Attributes:
        cpu_hour: Money per CPU-hour.
        gpu_hour: Money per device-hour.
        kwh: Money per kilowatt-hour.
        human_hour: Money per hour of a person.
        currency: ISO 4217 code.
    """

    cpu_hour: float = 0.04
    gpu_hour: float = 1.0
    kwh: float = 0.0
    human_hour: float = 0.0
    currency: str = "EUR"


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a piece of work used, in whole millionths so that parts add up exactly.

    Attributes:
        cpu_us, wall_us, gpu_us, human_us: Microseconds of CPU, of elapsed time summed over attempts, of devices and
            of people.
        energy_uj: Microjoules.
        measured_uj: The part of ``energy_uj`` that was measured and not declared.
        peak_mb: Highest peak of any attempt, MB.
        attempts: Attempts; a shared one counts for each task that used it.
        failed: Those that did not end ``done``.
    """

    cpu_us: int = 0
    wall_us: int = 0
    gpu_us: int = 0
    human_us: int = 0
    energy_uj: int = 0
    measured_uj: int = 0
    peak_mb: float = 0.0
    attempts: int = 0
    failed: int = 0

    @property
    def cpu_s(self) -> float:
        """CPU-seconds."""
        return self.cpu_us / _MICRO

    @property
    def wall_s(self) -> float:
        """Elapsed seconds summed over attempts."""
        return self.wall_us / _MICRO

    @property
    def gpu_s(self) -> float:
        """Device-seconds."""
        return self.gpu_us / _MICRO

    @property
    def human_s(self) -> float:
        """Seconds of people."""
        return self.human_us / _MICRO

    @property
    def energy_j(self) -> float:
        """Joules."""
        return self.energy_uj / _MICRO

    @property
    def energy_source(self) -> str:
        """``rapl`` if all energy was measured, ``declared`` if none, ``mixed``, or ``none`` if there is none."""
        if self.energy_uj == 0:
            return "none"
        if self.measured_uj == self.energy_uj:
            return "rapl"
        return "mixed" if self.measured_uj else "declared"

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            cpu_us=self.cpu_us + other.cpu_us,
            wall_us=self.wall_us + other.wall_us,
            gpu_us=self.gpu_us + other.gpu_us,
            human_us=self.human_us + other.human_us,
            energy_uj=self.energy_uj + other.energy_uj,
            measured_uj=self.measured_uj + other.measured_uj,
            peak_mb=max(self.peak_mb, other.peak_mb),
            attempts=self.attempts + other.attempts,
            failed=self.failed + other.failed,
        )

    def money(self, prices: Prices) -> float:
        """Return what it costs in ``prices.currency``."""
        hours = 3600 * _MICRO
        return (
            self.cpu_us / hours * prices.cpu_hour
            + self.gpu_us / hours * prices.gpu_hour
            + self.human_us / hours * prices.human_hour
            + self.energy_uj / (hours * 1000) * prices.kwh
        )

    def to_json(self, prices: Prices | None = None) -> dict[str, Any]:
        """Return plain data in seconds and joules, with ``money`` and ``currency`` if there are prices."""
        data: dict[str, Any] = {
            "cpu_s": self.cpu_s,
            "wall_s": self.wall_s,
            "gpu_s": self.gpu_s,
            "human_s": self.human_s,
            "energy_j": self.energy_j,
            "energy_source": self.energy_source,
            "peak_mb": self.peak_mb,
            "attempts": self.attempts,
            "failed": self.failed,
        }
        if prices is not None:
            data |= {"money": self.money(prices), "currency": prices.currency}
        return data


def bill_of(usage: Usage, *, failed: bool = False) -> Bill:
    """Return the bill of one attempt."""
    energy = _micro(usage.energy_j)
    return Bill(
        cpu_us=_micro(usage.cpu_s),
        wall_us=_micro(usage.wall_s),
        gpu_us=_micro(usage.gpu_s),
        energy_uj=energy,
        measured_uj=energy if usage.energy_source == "rapl" else 0,
        peak_mb=usage.peak_mb,
        attempts=1,
        failed=int(failed),
    )


def human_bill(seconds: float) -> Bill:
    """Return the bill of a person's time."""
    return Bill(human_us=_micro(seconds))


def total(attempts: Iterable[Attempt]) -> Bill:
    """Return the sum of all attempts, whatever their end."""
    return sum((_attempt_bill(attempt) for attempt in attempts), Bill())


def by_step(attempts: Iterable[Attempt]) -> dict[str, Bill]:
    """Return the sum per step name."""
    bills: dict[str, Bill] = {}
    for attempt in attempts:
        bills[attempt.step] = bills.get(attempt.step, Bill()) + _attempt_bill(attempt)
    return bills


def amortise(attempts: Iterable[Attempt], uses: Iterable[tuple[str, str]]) -> dict[str, Bill]:
    """Divide every attempt evenly over the tasks that used its result.

    Each quantity is divided in whole millionths; what is left over goes to the first tasks by name, so the parts add
    up to ``total`` exactly (``peak_mb`` and ``attempts`` are not divided). An attempt whose key nobody used is
    charged to its own label, or to ``SHARED``.

    Args:
        attempts: All attempts of a run.
        uses: ``(key, label)`` pairs.
    """
    users: dict[str, list[str]] = {}
    for key, label in sorted(set(uses)):
        users.setdefault(key, []).append(label)
    bills: dict[str, Bill] = {}
    for attempt in attempts:
        labels = users.get(attempt.key) or [attempt.label or SHARED]
        for label, part in zip(labels, _divide(_attempt_bill(attempt), len(labels)), strict=True):
            bills[label] = bills.get(label, Bill()) + part
    return bills


def with_people(bills: Mapping[str, Bill], seconds: Iterable[tuple[str, float]]) -> dict[str, Bill]:
    """Return ``bills`` with ``(label, seconds)`` of people added."""
    joined = dict(bills)
    for label, spent in seconds:
        joined[label] = joined.get(label, Bill()) + human_bill(spent)
    return joined


def learning_curve(order: Sequence[str], bills: Mapping[str, Bill]) -> list[dict[str, float]]:
    """Return the cost of task n: its own CPU-seconds and the mean of the first n."""
    curve = []
    spent = 0
    for number, label in enumerate(order, start=1):
        own = bills.get(label, Bill()).cpu_us
        spent += own
        curve.append({"n": float(number), "cpu_s": own / _MICRO, "mean_cpu_s": spent / _MICRO / number})
    return curve


def _attempt_bill(attempt: Attempt) -> Bill:
    return bill_of(attempt.usage, failed=attempt.status not in ("done", "running"))


def _divide(bill: Bill, parts: int) -> list[Bill]:
    columns = {
        name: _even(getattr(bill, name), parts)
        for name in ("cpu_us", "wall_us", "gpu_us", "human_us", "energy_uj", "measured_uj")
    }
    return [
        Bill(
            **{name: values[index] for name, values in columns.items()},
            peak_mb=bill.peak_mb,
            attempts=bill.attempts,
            failed=bill.failed,
        )
        for index in range(parts)
    ]


def _even(amount: int, parts: int) -> list[int]:
    share, rest = divmod(amount, parts)
    return [share + (index < rest) for index in range(parts)]


def _micro(value: float) -> int:
    return round(value * _MICRO)
