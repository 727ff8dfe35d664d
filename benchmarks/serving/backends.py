"""Another ONNX Runtime (say the one with OpenVINO) against ours, model by model, interleaved on one machine.

    python -m benchmarks.serving.backends FOLDER --python OTHER/bin/python [--out results/DATE-backends.json]

``OTHER`` is an environment with ``onnxruntime-openvino`` and numpy. Each backend is a process that answers "run this
batch for a while"; they take turns, 12 rounds, one thread each. The figure is the median of the rounds' fastest run;
answers are compared with our CPU provider's within the tolerance of golden examples.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.serving.models import MAKERS, Model

ROUNDS, TURN_S = 12, 0.25
BATCHES = (1, 8)
BACKENDS: dict[str, tuple[bool, str, dict[str, str]]] = {
    "cpu": (False, "CPUExecutionProvider", {}),
    "cpu of the other": (True, "CPUExecutionProvider", {}),
    "openvino, FP32": (
        True,
        "OpenVINOExecutionProvider",
        {"device_type": "CPU", "num_of_threads": "1", "num_streams": "1", "precision": "FP32"},
    ),
    "openvino, its default": (
        True,
        "OpenVINOExecutionProvider",
        {"device_type": "CPU", "num_of_threads": "1", "num_streams": "1"},
    ),
}
_CHILD = textwrap.dedent(
    """
    import json, sys, time
    import numpy, onnxruntime
    onnxruntime.set_default_logger_severity(4)
    model, inputs, provider, options, rows = json.loads(sys.argv[1])
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(model, settings, providers=[(provider, options)])
    with numpy.load(inputs) as arrays:
        feeds = {name: arrays[name][:rows] for name in arrays}
    answers = session.run(None, feeds)
    load = time.perf_counter() - start
    numpy.savez(sys.argv[2], *answers)
    for _ in range(3):
        session.run(None, feeds)
    rss = next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]
    print(json.dumps({"version": onnxruntime.__version__, "active": session.get_providers(), "load_s": load,
                      "resident_mb": int(rss) * 1024 / 1e6}), flush=True)
    for line in sys.stdin:
        end, best = time.perf_counter() + float(line), 1e9
        while time.perf_counter() < end:
            begin = time.perf_counter()
            session.run(None, feeds)
            best = min(best, time.perf_counter() - begin)
        print(best, flush=True)
    """
)


def compare(folder: Path, model: Model, rows: int, other: str) -> dict[str, Any]:
    """Let the backends take turns; returns per backend milliseconds a batch and how far its answers are off."""
    inputs = folder / f"{model.name}.npz"
    np.savez(inputs, **model.rows)
    (folder / f"{model.name}.onnx").write_bytes(model.onnx)
    children: dict[str, subprocess.Popen[str]] = {}
    heads: dict[str, Any] = {}
    answers: dict[str, list[Any]] = {}
    for name, (elsewhere, provider, options) in BACKENDS.items():
        told = json.dumps([str(folder / f"{model.name}.onnx"), str(inputs), provider, options, rows])
        saved = folder / "answers.npz"
        child = subprocess.Popen(
            [other if elsewhere else sys.executable, "-c", _CHILD, told, str(saved)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        line = child.stdout.readline()
        heads[name] = json.loads(line) if line else {"failed": child.wait()}
        if not line:
            continue
        with np.load(saved) as found:
            answers[name] = [found[key] for key in found]
        children[name] = child
    spent: dict[str, list[float]] = {name: [] for name in children}
    for _ in range(ROUNDS):
        for name, child in children.items():
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{TURN_S}\n")
            child.stdin.flush()
            spent[name].append(float(child.stdout.readline()))
    result = {}
    for name, child in children.items():
        child.terminate()
        child.wait()
        pairs = list(zip(answers[name], answers["cpu"], strict=True))
        result[name] = {
            **heads[name],
            "ms": round(median(spent[name]) * 1e3, 4),
            "times_cpu": round(median(spent["cpu"]) / median(spent[name]), 3),
            "largest_difference": max(float(np.abs(one - two).max()) for one, two in pairs),
            "within_tolerance": all(np.allclose(one, two, rtol=1e-4, atol=1e-5) for one, two in pairs),
        }
    return {"model": model.name, "rows": rows, "backends": {**heads, **result}}


def main() -> None:
    """Compare on the three models of the benchmark, one and eight rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--models", default=",".join(MAKERS))
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name in told.models.split(","):
        model = MAKERS[name]()
        for rows in BATCHES:
            found.append(compare(told.folder, model, rows, told.python))
            print(json.dumps(found[-1], indent=1), flush=True)
    if told.out is not None:
        told.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
