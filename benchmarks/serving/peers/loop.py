"""The limit: ONNX Runtime called in a loop in one thread; prints runs, seconds and CPU-seconds."""

from __future__ import annotations

import json
import sys
import time

import graph as shared
import numpy as np


def main() -> None:
    seconds, rows = float(sys.argv[1]), int(sys.argv[2])
    graph = shared.Graph()
    data = np.load(shared.folder() / f"{shared.name()}.npz")
    feeds = [
        {key: np.ascontiguousarray(data[key][start : start + rows]) for key in graph.inputs}
        for start in range(0, len(data[next(iter(graph.inputs))]) - rows + 1, rows)
    ]
    for _ in range(20):
        graph.run(feeds[0])
    runs, spent, times = 0, time.thread_time(), []
    begin = last = time.perf_counter()
    while last - begin < seconds:
        graph.run(feeds[runs % len(feeds)])
        runs += 1
        now = time.perf_counter()
        times.append(now - last)
        last = now
    spent = time.thread_time() - spent
    p50, p99 = (float(np.percentile(times, share)) * 1e6 for share in (50, 99))
    print(
        json.dumps({"answers": runs, "seconds": last - begin, "cpu_s": spent, "p50_us": p50, "p99_us": p99})
    )


if __name__ == "__main__":
    main()
