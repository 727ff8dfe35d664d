"""Measure the wheels of the core install, the start of the command and the first model, and write a dated report.

    python -m benchmarks.startup.run [--repeats 15] [--wheels FOLDER] [--out benchmarks/startup/results]

Wall time counts the neighbours of a busy machine, CPU time hardly: both are printed, best and median of the repeats.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELWORKS_SHARED", ROOT.parent / "shared")) / "data"
TABLE, TARGET = "german_credit/german.csv", "c20"
"""1,000 rows, 20 columns."""
WHEELS_MB, START_MS, MODEL_S = 150, 300, 15
"""What was asked for: at most so many MB, milliseconds and seconds."""


@dataclass(frozen=True)
class Timed:
    """Wall and CPU seconds of one command, repeated."""

    wall: list[float]
    cpu: list[float]

    def words(self, scale: float, unit: str) -> list[str]:
        """Return best wall, median wall, best CPU and median CPU as cells."""
        values = [min(self.wall), statistics.median(self.wall), min(self.cpu), statistics.median(self.cpu)]
        return [f"{value * scale:.3g} {unit}" for value in values]


def timed(command: list[str], repeats: int, home: Path | None = None) -> Timed:
    """Run a command some times to its end, with one warm-up when it is repeated."""
    wall, cpu = [], []
    for index in range(repeats + (repeats > 1)):
        environment = {**os.environ, "NO_COLOR": "1"}
        if home is not None:
            environment["MODELWORKS_HOME"] = str(home / str(index))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
        )
        elapsed = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if index or repeats == 1:
            wall.append(elapsed)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Timed(wall, cpu)


def core_wheels(folder: Path) -> dict[str, float]:
    """Download the wheels of the core install, unless the folder has some; returns megabytes by name."""
    if not any(folder.glob("*.whl")):
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            + ["--only-binary", ":all:", "--constraint", str(ROOT / "constraints.txt"), "--dest", str(folder)]
            + settings["project"]["dependencies"],
            check=True,
        )
    return {
        "-".join(path.name.split("-")[:2]): path.stat().st_size / 1e6
        for path in sorted(folder.glob("*.whl"), key=lambda path: -path.stat().st_size)
    }


def report(wheels: dict[str, float], rows: dict[str, list[str]], load: float) -> str:
    """Return the report as Markdown."""
    total = sum(wheels.values())
    lines = [
        f"# Starting from nothing ({datetime.now(UTC):%Y-%m-%d %H:%M UTC})",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} when it began, "
        f"Python {platform.python_version()}; `python -m benchmarks.startup.run`.",
        "",
        "| what | best wall | median wall | best CPU | median CPU | asked for |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
        "",
        f"Wheels of the core install: {total:.1f} MB in {len(wheels)} files; asked for: {WHEELS_MB} MB, "
        f"{'kept' if total <= WHEELS_MB else 'missed'}.",
        "",
        "| wheel | MB |",
        "|---|---|",
        *(f"| {name} | {size:.1f} |" for name, size in wheels.items() if size >= 1),
        f"| {sum(size < 1 for size in wheels.values())} others | "
        f"{sum(size for size in wheels.values() if size < 1):.1f} |",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--wheels", type=Path, help="a folder of wheels downloaded before")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    python = sys.executable
    produce = [python, "-m", "modelworks", "produce", str(DATA / TABLE), "--target", TARGET]
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        start, model = f"≤ {START_MS} ms", f"≤ {MODEL_S} s"
        rows = {
            "`python -c pass`, the floor": [
                *timed([python, "-c", "pass"], options.repeats).words(1e3, "ms"),
                "",
            ],
            "`import modelworks`": [
                *timed([python, "-c", "import modelworks"], options.repeats).words(1e3, "ms"),
                start,
            ],
            "`mw --help`": [
                *timed([python, "-m", "modelworks", "--help"], options.repeats).words(1e3, "ms"),
                start,
            ],
            f"one model of {Path(TABLE).name} (1,000 rows), a fresh home each time": [
                *timed(produce, max(1, options.repeats // 5), Path(folder)).words(1, "s"),
                model,
            ],
        }
        if options.wheels:
            options.wheels.mkdir(parents=True, exist_ok=True)
        wheels = core_wheels(options.wheels or Path(folder) / "wheels")
    options.out.mkdir(parents=True, exist_ok=True)
    text = report(wheels, rows, load)
    (options.out / f"{datetime.now(UTC):%Y-%m-%d}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
