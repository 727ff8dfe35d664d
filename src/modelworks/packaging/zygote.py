"""The child that opens foreign graphs: it imports ONNX Runtime once and forks a limited process per package.

Requests come over a control socket, each with its own socket for the answer (``SCM_RIGHTS``). The forked
process drops what ``sandbox`` names, then answers in frames (four bytes of length, JSON): first what the
graph holds, then what it answers. The zygote itself never reads a model; it ends late processes and
appends the last frame, which says how the process ended.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import time
from typing import Any

MAX_FRAME = 600 * 2**20
IDLE_S = 10.0
"""Seconds without a request after which the zygote ends: packages come in bursts, and it holds some 30 MB."""


def send_frame(channel: socket.socket, data: bytes) -> None:
    """Send one frame."""
    channel.sendall(struct.pack(">I", len(data)))
    channel.sendall(data)


def receive_frame(channel: socket.socket, limit: int = MAX_FRAME) -> bytes:
    """Receive one frame.

    Raises:
        EOFError: The other side closed.
        ValueError: The frame is larger than ``limit``.
    """
    (size,) = struct.unpack(">I", _exactly(channel, 4))
    if size > limit:
        raise ValueError(f"a frame of {size} bytes; {limit} are allowed")
    # In one piece, so that a large graph is not copied once more; a signal may cut it short.
    data = channel.recv(size, socket.MSG_WAITALL) if size else b""
    return data if len(data) == size else data + bytes(_exactly(channel, size - len(data)))


def main(control_descriptor: int, work: str, idle_s: float = IDLE_S) -> None:
    """Serve requests with ``work``'s ``answer`` until the control socket closes or nothing comes for ``idle_s``."""
    child = importlib.import_module(work)  # loads numpy and ONNX Runtime before the first fork
    control = socket.socket(fileno=control_descriptor)
    child.warm_up()
    gc.collect()
    gc.freeze()
    waiting: dict[int, tuple[socket.socket, float]] = {}
    wakeup, wakeup_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    control.sendall(b"ready")
    while True:
        now = time.monotonic()
        timeout = min((end - now for _, end in waiting.values()), default=idle_s)
        watched: list[int] = [control.fileno(), wakeup]
        readable, _, _ = select.select(watched, [], [], max(0.0, timeout))
        if not readable and not waiting:
            break
        if wakeup in readable:
            os.read(wakeup, 4096)
        _end_late(waiting)
        _reap(waiting)
        if control.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
            if not message:
                break
            channel = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                _become_child(control, [wakeup, wakeup_end], waiting, channel, child.answer)
            waiting[pid] = (channel, time.monotonic() + float(message))
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)


def _become_child(
    control: socket.socket, pipes: list[int], waiting: dict[int, Any], channel: socket.socket, answer: Any
) -> None:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        for descriptor in pipes:
            os.close(descriptor)
        for other, _ in waiting.values():
            other.close()
        answer(channel)
        code = 0
    except MemoryError:
        code = 3
    finally:
        os._exit(code)


def _end_late(waiting: dict[int, tuple[socket.socket, float]]) -> None:
    now = time.monotonic()
    for pid, (_, end) in waiting.items():
        if end <= now:
            os.kill(pid, signal.SIGKILL)


def _reap(waiting: dict[int, tuple[socket.socket, float]]) -> None:
    for pid in list(waiting):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found == 0:
            continue
        channel, end = waiting.pop(pid)
        ended = {
            "exit": os.waitstatus_to_exitcode(status),
            "late": time.monotonic() >= end,
        }
        with contextlib.suppress(OSError):
            channel.settimeout(1.0)
            send_frame(channel, json.dumps({"ended": ended}).encode())
        channel.close()


def _exactly(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = channel.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]
    return data
