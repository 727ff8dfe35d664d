"""What the n-th task of an attribute order costs from file to package, embeddings cached: ``mw.order`` of one and many.

    OMP_NUM_THREADS=1 python -m benchmarks.heads.order [--tasks 200] [--rows 4000]

The first order makes one task and the embeddings; the second adds the others over the same faces. CPU is that of all
processes, by the kernel's account; steps are told apart by the ledger.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sqlite3
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

from benchmarks.heads.results import record
from benchmarks.heads.samples import derived, faces


def used_cpu_s() -> float:
    """Return CPU-seconds of this process and of its children that ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in found)


def write_set(folder: Path, rows: int, tasks: int) -> list[str]:
    """Write faces and a table of tasks; returns the names of the tasks."""
    images, values, names = faces(rows)
    columns, found = derived(values, names, tasks, rows)
    found = [name.replace("&", "_and_") for name in found]
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"{number:06}.jpg", image)
    with (folder / "attributes.csv").open("w", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["photo", *found])
        writer.writerows([f"{number:06}.jpg", *columns[number]] for number in range(rows))
    return found


def main() -> int:
    """Make the orders."""
    import modelworks as mw

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--rows", type=int, default=4000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        targets = write_set(folder, arguments.rows, arguments.tasks)
        line = {
            "data": str(folder / "attributes.csv"), "files": str(folder / "faces.zip"), "limits": {"latency_ms": 50},
        }  # fmt: skip
        for count in (1, len(targets)):
            cpu, wall = used_cpu_s(), time.perf_counter()
            order = mw.order(
                {"name": f"faces{count}", "tasks": [{**line, "targets": targets[:count]}]},
                home=folder / "home", slots=1,
            )  # fmt: skip
            cpu, wall = used_cpu_s() - cpu, time.perf_counter() - wall
            row = {"part": "order", "tasks": count, "rows": arguments.rows, "cpu_s": round(cpu, 1)}
            row |= {
                "wall_s": round(wall, 1),
                "verdicts": dict(Counter(str(item.verdict.kind) for item in order)),
            }
            if count > 1:
                row |= {
                    "cpu_s_a_task": round(cpu / (count - 1), 3),
                    "steps": steps(folder / "home", f"faces{count}"),
                }
            record(row)
    return 0


def steps(home: Path, order: str) -> dict[str, float]:
    """Return CPU-seconds by step of the last run of an order."""
    with sqlite3.connect(home / "modelworks.db") as database:
        query = "select step, sum(cpu_s) from attempts where run like ? group by step"
        return {name: round(total, 1) for name, total in database.execute(query, (f"{order}-%",))}


if __name__ == "__main__":
    raise SystemExit(main())
