"""Ask the limited child about a graph: what it holds and whether it still answers its golden examples."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelworks.compute.memory import keep_child, release_child
from modelworks.core.errors import MissingExtra, ModelworksError, TrustError
from modelworks.core.signature import Signature
from modelworks.packaging.golden import differences
from modelworks.packaging.inspection import GraphLimits
from modelworks.packaging.manifest import strict_json
from modelworks.packaging.zygote import IDLE_S, receive_frame, send_frame

MAX_ANSWER = 16 * 2**20
GRACE_S = 5.0
WORK = "modelworks.packaging.replay_child"
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Lets glibc ask for large pages: each forked process touches its memory for the first time, and a replay of a graph of
9 MB took 17,000 page faults and 150 ms instead of 3,600 and 95. Other C libraries ignore it."""


@dataclass(frozen=True, kw_only=True)
class ReplayLimits:
    """What the child may use.

    Attributes:
        wall_s: Elapsed seconds before it is ended.
        cpu_s: CPU-seconds before it is ended.
        memory_mb: Memory beyond what the idle child maps and four times the graph.
        namespace: Also leave the network namespace (where the kernel allows it); the system-call
            filter refuses sockets in any case.
        graph: What the graph may hold.
    """

    wall_s: float = 20.0
    cpu_s: int = 20
    memory_mb: int = 1024
    namespace: bool = False
    graph: GraphLimits = field(default_factory=GraphLimits)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What the child found.

    Attributes:
        graph: Operators with counts, nodes, bytes of constants, opsets.
        protections: Which of the kernel's protections were in force.
        rows: Golden rows that were answered as expected.
    """

    graph: dict[str, Any]
    protections: dict[str, bool]
    rows: int


def inspect_graph(onnx: bytes, limits: ReplayLimits | None = None) -> dict[str, Any]:
    """Check a graph from outside in the limited child; returns ``{operators, nodes, ...}``.

    Raises:
        TrustError: The graph holds something that is not allowed, or the child crashed or hung.
    """
    frames = _ask(onnx, None, None, limits or ReplayLimits())
    return dict(frames[0]["graph"])


def replay(onnx: bytes, signature: Signature, examples: Mapping[str, Any], limits: ReplayLimits) -> Replayed:
    """Inspect, load and run a graph on its golden examples in the limited child.

    Raises:
        TrustError: The graph is not allowed, the child crashed or hung, or an answer differs.
    """
    try:
        rows, expected, tolerance = examples["rows"], examples["expected"], examples["tolerance"]
        names = [tensor.name for tensor in signature.outputs]
        wanted = {name: expected[name] for name in names}
        count = len(rows) if isinstance(rows, list) else None
    except (KeyError, TypeError):
        raise TrustError("examples.json lacks rows, expected or tolerance.", code="MW3304") from None
    if count is None:
        raise TrustError("The rows of examples.json are not a list.", code="MW3304")
    if signature.tokenizer is not None and find_spec("tokenizers") is None:
        raise MissingExtra.named("A package whose texts go through a tokenizer", "text")
    frames = _ask(onnx, signature, rows, limits)
    answers = frames[1].get("answers", {}) if len(frames) > 1 else {}
    for name in names:
        wrong = differences(wanted[name], answers.get(name), tolerance)
        if wrong:
            raise TrustError(
                f"The graph answers {wrong} value(s) of '{name}' otherwise than examples.json expects.",
                code="MW3303",
                where="examples.json",
                hint="mw package show PACKAGE, then produce the model again on this machine",
            )
    return Replayed(graph=frames[0]["graph"], protections=frames[0]["protections"], rows=count)


def _ask(onnx: bytes, signature: Signature | None, rows: Any, limits: ReplayLimits) -> list[dict[str, Any]]:
    header = {
        "limits": {name: value for name, value in asdict(limits).items() if name != "graph"},
        "graph_limits": asdict(limits.graph),
        "signature": signature.to_json() if signature else None,
        "rows": rows,
    }
    tokenizer = signature.tokenizer.data if signature is not None and signature.tokenizer is not None else b""
    request = json.dumps(header).encode()
    frames: list[dict[str, Any]] = []
    for _ in range(
        2
    ):  # a second time only if the zygote itself was ended from outside, or had just gone to rest
        zygote = _zygote()
        frames = zygote.ask(request, onnx, limits.wall_s, tokenizer)
        if frames or not zygote.ended():
            break
    ended = frames.pop()["ended"] if frames and "ended" in frames[-1] else {"exit": None, "late": True}
    for frame in frames:
        if "error" in frame:
            raise ModelworksError.from_json(frame["error"])
    if ended["exit"] == 0 and len(frames) == (1 if rows is None else 2):
        return frames
    raise _died(ended, limits)


def _died(ended: dict[str, Any], limits: ReplayLimits) -> TrustError:
    code, hint = ended["exit"], "do not use this package; ask its maker for another"
    if ended["late"]:
        return TrustError(
            f"The child that opened the graph did not finish within {limits.wall_s:g} s and was ended.",
            code="MW3302",
            where="model.onnx",
            hint=hint,
        )
    if isinstance(code, int) and code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    elif code == 3:
        how = f"needed more than {limits.memory_mb} MB"
    else:
        how = f"ended with exit code {code}"
    return TrustError(f"The child that opened the graph {how}.", code="MW3301", where="model.onnx", hint=hint)


class Zygote:
    """A started child and the socket to it. One per process; threads share it.

    Args:
        work: Module whose ``answer(channel)`` runs in the limited process.
        folders: Where that module is found, if not beside this package.
        idle_s: Seconds without a request after which the child ends.
    """

    def __init__(self, work: str = WORK, folders: Sequence[Path] = (), idle_s: float = IDLE_S) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        paths = [str(folder) for folder in (Path(__file__).resolve().parents[2], *folders)]
        code = (
            f"import sys; sys.path[:0] = {paths!r}; "
            f"from modelworks.packaging.zygote import main; main({theirs.fileno()}, {work!r}, {idle_s!r})"
        )
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", **quiet, **LARGE_PAGES},
            start_new_session=True,
        )
        theirs.close()
        keep_child(self._process.pid)
        self.owner = os.getpid()
        self._control.settimeout(60.0)
        if self._control.recv(16) != b"ready":
            raise TrustError("The child that opens packages does not start.", code="MW3309", hint="mw doctor")

    @property
    def alive(self) -> bool:
        return self.owner == os.getpid() and self._process.poll() is None

    def ended(self) -> bool:
        """Say whether the child ended or is ending just now."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return not self.alive

    def ask(self, header: bytes, onnx: bytes, wall_s: float, tokenizer: bytes = b"") -> list[dict[str, Any]]:
        """Send one request; returns its frames, the last one saying how the child ended (if it is known)."""
        ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs, self._lock:
                    socket.send_fds(self._control, [f"{wall_s:.3f}".encode().ljust(64)], [theirs.fileno()])
            except OSError:
                return []
            ours.settimeout(wall_s + GRACE_S)
            frames: list[dict[str, Any]] = []
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                send_frame(ours, header)
                send_frame(ours, onnx)
                send_frame(ours, tokenizer)
            try:
                while True:
                    frames.append(strict_json(receive_frame(ours, MAX_ANSWER), "answer of the child"))
            except (EOFError, TimeoutError, ConnectionResetError, ValueError):
                return frames

    def close(self) -> None:
        """End the child; in a forked copy of the process that started it, only let go of it."""
        self._control.close()
        if self.owner != os.getpid():
            return
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        release_child(self._process.pid)


_current: Zygote | None = None
_starting = threading.Lock()


def _zygote() -> Zygote:
    global _current  # noqa: PLW0603 - one child per process
    with _starting:
        if _current is None or not _current.alive:
            if _current is not None:
                _current.close()
            _current = Zygote()
        return _current


@atexit.register
def _close() -> None:
    if _current is not None:
        _current.close()
