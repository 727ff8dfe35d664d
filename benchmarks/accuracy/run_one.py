"""Fit one method on one fold of one table in this process and append one JSON line to its results file.

    python -m benchmarks.accuracy.run_one METHOD TABLE FOLD

One thread. Cost is user plus system CPU-seconds of this process and its children. While AutoGluon and FLAML
fit, ``time.time`` counts CPU-seconds, so their limits do not depend on how busy the machine is.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.accuracy.methods import make

if TYPE_CHECKING:
    from benchmarks.accuracy.methods.contract import Method

RESULTS = Path(__file__).resolve().parent / "results"
SINGLE_ROWS = 40
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


def cpu_seconds() -> float:
    """Return user + system seconds of this process and its finished children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_mebibytes() -> float:
    """Return the highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextlib.contextmanager
def cpu_clock(active: bool) -> Iterator[None]:
    """Let ``time.time`` advance with this process's CPU-seconds while a self-limiting method fits."""
    wall = time.time
    if active:
        start_wall, start_cpu = wall(), time.process_time()
        time.time = lambda: start_wall + time.process_time() - start_cpu
    try:
        yield
    finally:
        time.time = wall


def machine() -> dict[str, Any]:
    """Return the processor, the cores and how busy the machine was when the run began."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {"cpu": model, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}


def latency(method: Method, frame: Any) -> dict[str, float]:
    """Return median and 90th percentile of answering one row given as a one-row data frame."""
    rows = [frame.iloc[[index % len(frame)]] for index in range(SINGLE_ROWS)]
    for row in rows[:3]:
        method.predict(row)
    seconds = []
    for row in rows:
        begin = time.perf_counter()
        method.predict(row)
        seconds.append(time.perf_counter() - begin)
    seconds.sort()
    return {
        "row_ms": round(seconds[SINGLE_ROWS // 2] * 1e3, 3),
        "row_p90_ms": round(seconds[SINGLE_ROWS * 9 // 10] * 1e3, 3),
    }


def run(name: str, table: str, index: int) -> dict[str, Any]:
    """Return the whole result line of one run."""
    method = make(name)
    method.load_libraries()
    import_cpu = cpu_seconds()
    import numpy as np

    from benchmarks.accuracy.measures import load_fold, measure
    from benchmarks.accuracy.suite import work_folder

    fold = load_fold(table, index)
    folder = Path(tempfile.mkdtemp(prefix="accuracy-"))
    try:
        host = machine()
        start_memory, start_cpu, start = peak_mebibytes(), cpu_seconds(), time.perf_counter()
        with cpu_clock(method.on_cpu_clock):
            method.fit(fold, folder)
        fit_cpu, fit_wall = cpu_seconds() - start_cpu, time.perf_counter() - start
        memory, start_cpu = peak_mebibytes(), cpu_seconds()
        outputs = method.predict(fold.test)
        predict_cpu = cpu_seconds() - start_cpu
        kept = work_folder() / "predictions" / name
        kept.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept / f"{table}.{index}.npz", outputs=outputs.astype(np.float32))
        return {
            **measure(fold.kind, fold.test_target, outputs),
            "fit_cpu_s": round(fit_cpu, 3),
            "fit_wall_s": round(fit_wall, 2),
            "import_cpu_s": round(import_cpu, 3),
            "predict_cpu_s": round(predict_cpu, 4),
            "test_rows": len(fold.test_target),
            "bytes": method.save(folder),
            **latency(method, fold.test),
            "start_mib": round(start_memory, 1),
            "peak_mib": round(memory, 1),
            "notes": method.notes,
            "versions": {"python": platform.python_version(), **method.versions()},
            "machine": host,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def append(name: str, line: dict[str, Any]) -> None:
    """Append one line to the method's results file."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> int:
    warnings.filterwarnings("ignore")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read when numpy is first imported, in run()
    name, table, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
    key = {"method": name, "table": table, "fold": index, "at": int(time.time())}
    try:
        append(name, {**key, **run(name, table, index)})
    except Exception as error:
        append(name, {**key, "error": f"{type(error).__name__}: {error}"[:300]})
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
