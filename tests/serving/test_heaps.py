"""Threads of a server share heaps: what a model left behind in one serves the next one in another."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, sys, threading
from modelworks.serving.memory import few_heaps
if sys.argv[1] != "0":
    few_heaps(int(sys.argv[1]))
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)
def work():
    together.wait()
    for _ in range(100):
        libc.malloc(5000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps of glibc")
def test_threads_share_heaps() -> None:
    def heaps(most: int) -> int:
        found = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(most)],
            capture_output=True, text=True, check=True, env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        return found.stderr.count("Arena ")

    assert heaps(1) == 1
    assert heaps(0) > 1


_FAULTS = """
import ctypes, resource, sys
from modelworks.serving.memory import keep_pages
if sys.argv[1] == "keep":
    keep_pages()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def run():
    taken = [libc.malloc(2 ** 20) for _ in range(6)]
    for block in taken:
        ctypes.memset(block, 1, 2 ** 20)
    for block in taken:
        libc.free(block)
for _ in range(3):
    run()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    run()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps of glibc")
def test_what_one_run_frees_serves_the_next_without_the_system() -> None:
    def faults(how: str) -> int:
        found = subprocess.run(
            [sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True
        )
        return int(found.stdout)

    assert faults("keep") < 200
    assert faults("not") > 1000
