"""Job functions that the executor suite runs: good ones, bad ones and deadly ones."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from modelworks.core.errors import DataError

Inputs = dict[str, Path]
Params = dict[str, Any]


def copy_and_report(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Copy the input to ``copy.txt`` and return what was handed over."""
    (folder / "copy.txt").write_bytes(inputs["text"].read_bytes())
    return {"params": params, "length": len(inputs["text"].read_bytes()), "pair": (1, 2)}


def number(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Return the number handed over."""
    return params["number"]


def not_a_number(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Return a value JSON has no word for."""
    return {"loss": float("nan")}


def an_object(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Return something that is no data."""
    return {"folder": folder}


def data_error(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Fail with an error of ours."""
    raise DataError("Column 'age' is empty.", code="MW1106", hint="exclude: [age]", where="line 3")


def strange_error(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Fail with an error of Python's."""
    return dict(params)["absent"]


def spin(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Use ``cpu_s`` CPU-seconds."""
    start = time.process_time()
    while time.process_time() - start < params["cpu_s"]:
        sum(range(1000))
    return time.process_time() - start


def sleep(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Wait ``wall_s`` seconds, after telling our process number in ``pid``."""
    (folder / "pid").write_text(str(os.getpid()), encoding="ascii")
    time.sleep(params["wall_s"])
    return os.getpid()


def take(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Take ``mb`` megabytes in pieces of ``step`` and write to each page."""
    taken = []
    left = params["mb"]
    while left > 0:
        size = min(left, params["step"])
        taken.append(bytearray(b"x") * (size * 10**6))
        left -= size
        time.sleep(params.get("pause_s", 0))
    return sum(len(item) for item in taken)


def leave(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Leave the process without a word."""
    os._exit(3)


def kill_itself(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Die by a signal."""
    os.kill(os.getpid(), params.get("signal", signal.SIGKILL))
    time.sleep(10)


def segfault(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Read where nothing is."""
    return ctypes.string_at(0)


def meet(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Wait until the other job of the pair is running too."""
    place = Path(params["place"])
    (place / params["me"]).touch()
    deadline = time.monotonic() + 30
    while not (place / params["other"]).exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the other job did not come")
        time.sleep(0.01)
    return True


def threads(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Return how many threads numerical libraries are told to use."""
    return int(os.environ["OMP_NUM_THREADS"])


def shout(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Print to both streams, also from a child process, and leave a child process behind."""
    print('{"id": "forged", "value": 1}')
    print("to stderr", file=sys.stderr)
    os.write(1, b"raw bytes\n")
    code = "import time; print('child', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code])
    return child.pid


def text_hash(inputs: Inputs, params: Params, folder: Path) -> Any:
    """Return the hash of a text and our process number."""
    return [hash("a text"), os.getpid()]
