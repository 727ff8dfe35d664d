"""One of several processes that write the same names and create the same catalog.

``python contender.py names CATALOG ME ROUNDS`` or ``python contender.py create CATALOG ME THREADS``; says ``ready``
and begins with the first line of its standard input.
"""

import json
import sys
import threading
from pathlib import Path

from modelworks.core.errors import Conflict, NotFound
from modelworks.storage.catalog import Catalog


def names(where: str, me: str, rounds: int) -> dict[str, int]:
    """Append ``rounds`` versions to one name, retrying after each conflict."""
    conflicts = 0
    with Catalog(where) as catalog:
        for number in range(rounds):
            while True:
                seen = newest(catalog)
                try:
                    catalog.names.set("model", "churn", f"{me}-{number}", expected=seen)
                    break
                except Conflict:
                    conflicts += 1
    return {"conflicts": conflicts}


def newest(catalog: Catalog) -> int:
    """Return the newest version of the name, 0 if there is none."""
    try:
        return catalog.names.get("model", "churn").version
    except NotFound:
        return 0


def create(where: str, me: str, threads: int) -> dict[str, int]:
    """Open a catalog that may not exist yet and create one name, from many threads at once."""
    won: list[str] = []
    lost: list[str] = []
    strange: list[str] = []
    gate = threading.Barrier(threads)

    def work(number: int) -> None:
        gate.wait()
        try:
            with Catalog(where) as catalog:
                catalog.names.set("dataset", "people", f"{me}-{number}", expected=0)
            won.append(f"{me}-{number}")
        except Conflict:
            lost.append(f"{me}-{number}")
        except Exception as error:
            strange.append(repr(error))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not strange, strange
    return {"won": len(won), "lost": len(lost)}


if __name__ == "__main__":
    act = {"names": names, "create": create}[sys.argv[1]]
    where = sys.argv[2] if "://" in sys.argv[2] else str(Path(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(act(where, sys.argv[3], int(sys.argv[4]))))
