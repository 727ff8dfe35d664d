"""Kills the chain at numbered boundaries in forked children and prints what is left, as JSON lines.

Run as ``python crash_driver.py FOLDER STRIDE RECOVERY_KILLS``. One warm process forks every child, so that a kill and
a recovery cost milliseconds.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

from chain import MEMBERS, Boundary, prepare, produce

from modelworks.storage.catalog import Catalog
from modelworks.storage.store import Store
from modelworks.storage.sweep import sweep
from modelworks.telemetry.ledger import amortise, total


def child(folder: Path, deadly: int) -> str:
    """Run the chain in a child process; returns ``killed``, ``done`` or ``failed``."""
    pid = os.fork()
    if pid == 0:
        try:
            produce(folder, Boundary(deadly))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return "killed"
    return "done" if os.WEXITSTATUS(status) == 0 else "failed"


def published(folder: Path) -> list[str]:
    """Return the steps whose results are recorded."""
    pid_read, pid_write = os.pipe()
    if os.fork() == 0:
        names: list[str] = []
        if (folder / "catalog.db").exists():
            with Catalog(folder / "catalog.db") as catalog:
                names = [
                    f"fit-{result.params['member']}"
                    if result.step == "chain_fit"
                    else result.step.removeprefix("chain_")
                    for result in catalog.ledger.all_results()
                ]
        os.write(pid_write, json.dumps(names).encode())
        os._exit(0)
    os.close(pid_write)
    with os.fdopen(pid_read) as stream:
        names = json.loads(stream.read())
    os.wait()
    return names


def state(folder: Path) -> dict[str, object]:
    """Return what the catalog and the store hold at the end."""
    with Catalog(folder / "catalog.db") as catalog:
        store = Store(folder / "store")
        for digest in list(store.digests()):
            store.verify(digest)
        live = store.expand(catalog.live_digests())
        missing = [digest for digest in live if not store.has(digest)]
        sweep(store, live)
        attempts = catalog.ledger.attempts(run="order")
        bills = amortise(attempts, catalog.ledger.uses("order"))
        return {
            "run": catalog.runs.get("order").status,
            "attempts": [
                [attempt.step.removeprefix("chain_"), attempt.status, attempt.key, attempt.id]
                for attempt in attempts
            ],
            "results": len(list(catalog.ledger.all_results())),
            "versions": len(catalog.names.history("model", "task")),
            "packages": len(catalog.packages.find()),
            "missing": missing,
            "left": [path.name for path in store.unfinished.iterdir()],
            "bill": sum(bill.cpu_us for bill in bills.values()) == total(attempts).cpu_us,
            "package": store.open_tree(catalog.packages.find()[0].digest)["out.txt"].read_text(),
        }


def main() -> None:
    """Kill at every ``STRIDE``-th boundary."""
    root, stride, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    clean = root / "clean"
    prepare(clean)
    boundary = Boundary()
    produce(clean, boundary)
    print(json.dumps({"boundaries": boundary.count, "members": MEMBERS}), flush=True)
    # Another first boundary each day would be random; an offset by the stride keeps runs equal and covers both ends.
    for point in sorted({*range(1, boundary.count + 1, stride), boundary.count}):
        folder = root / f"point-{point}"
        prepare(folder)
        ends = [child(folder, point)]
        before = published(folder)
        cut = len(notes(folder))
        for kill in range(kills):
            # Recovery is killed early, in its middle, and late.
            ends.append(child(folder, 2 + (point * 7 + kill * 11) % 25))
        ends.append(child(folder, 0))
        after = notes(folder)[cut:]
        repeated = [name for name in before if f"begin {name}" in after]
        line = {"point": point, "ends": ends, "before": before, "repeated": repeated, "begun": notes(folder)}
        print(json.dumps(line | state(folder)), flush=True)


def notes(folder: Path) -> list[str]:
    """Return what the steps noted."""
    path = folder / "notes.txt"
    return path.read_text().splitlines() if path.exists() else []


main()
