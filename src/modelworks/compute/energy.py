"""Energy of a job: measured by RAPL where the machine lets us read it, else declared watts per busy core."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Reading:
    """Counters at one moment.

    Attributes:
        joules: Of all processor packages; ``None`` where there is no counter.
        busy_s: CPU-seconds that all cores together were busy since boot.
    """

    joules: float | None
    busy_s: float


class EnergyMeter:
    """Says how many joules a job used.

    RAPL counts the whole package, so a job is given the share of the counted energy that its CPU-seconds have in all
    busy CPU-seconds of the machine meanwhile (David et al., RAPL, ISLPED 2010, for the counter).

    Args:
        declared_watts: Watts of one busy core, used where nothing can be measured; 0 declares nothing.
        rapl: Folder of the counters.
    """

    def __init__(self, declared_watts: float = 10.0, rapl: Path = RAPL) -> None:
        self.declared_watts = declared_watts
        self._lock = threading.Lock()
        self._last: dict[Path, float] = {}
        self._wrapped: dict[Path, float] = {}
        self._counters = [
            folder / "energy_uj"
            for folder in sorted(rapl.glob("intel-rapl:*"))
            if folder.name.count(":") == 1 and os.access(folder / "energy_uj", os.R_OK)
        ]

    @property
    def measures(self) -> bool:
        """Whether there are counters to read."""
        return bool(self._counters)

    def read(self) -> Reading:
        """Return the counters now."""
        if not self._counters:
            return Reading(None, 0.0)
        with self._lock:
            return Reading(sum(self._joules(counter) for counter in self._counters), _busy_s())

    def used(self, before: Reading, cpu_s: float) -> tuple[float, str]:
        """Return ``(joules, source)`` of a job that used ``cpu_s`` since ``before``."""
        now = self.read()
        if now.joules is not None and before.joules is not None:
            busy = max(now.busy_s - before.busy_s, cpu_s, 1e-9)
            return (now.joules - before.joules) * cpu_s / busy, "rapl"
        if self.declared_watts > 0:
            return cpu_s * self.declared_watts, "declared"
        return 0.0, "none"

    def _joules(self, counter: Path) -> float:
        value = float(counter.read_text(encoding="ascii"))
        if value < self._last.get(counter, 0.0):
            limit = float((counter.parent / "max_energy_range_uj").read_text(encoding="ascii"))
            self._wrapped[counter] = self._wrapped.get(counter, 0.0) + limit
        self._last[counter] = value
        return (value + self._wrapped.get(counter, 0.0)) / 1e6


def _busy_s() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    numbers = [int(field) for field in fields]
    # user nice system idle iowait irq softirq steal
    busy = sum(numbers[:3]) + sum(numbers[5:7])
    return busy / float(os.sysconf("SC_CLK_TCK"))
