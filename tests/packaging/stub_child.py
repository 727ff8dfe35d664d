"""Stands in for the limited child's work: crashes, hangs, or tries what it may not do."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import time

from modelworks.packaging import sandbox
from modelworks.packaging.zygote import receive_frame, send_frame


def warm_up() -> None:
    pass


def answer(channel: socket.socket) -> None:
    order = json.loads(receive_frame(channel))
    receive_frame(channel)
    receive_frame(channel)
    match order["do"]:
        case "crash":
            ctypes.string_at(1)
        case "abort":
            os.abort()
        case "sleep":
            time.sleep(600)
        case "spin":
            while True:
                pass
        case "leave":
            os._exit(7)
        case "garbage":
            channel.sendall(b"\xff\xff\xff\xff and so on")
        case "deep":
            send_frame(channel, b"[" * 100_000)
        case "memory":
            sandbox.limit_memory(64 * 2**20)
            _ = bytearray(2**30)
        case "escape":
            send_frame(channel, json.dumps(escapes()).encode())


def escapes() -> dict[str, bool]:
    """Try to get out; returns attempt -> whether it was stopped."""
    sandbox.limit_process(5)
    assert sandbox.forbid_system_calls()
    return {
        "read a file": stopped(lambda: os.open("/etc/passwd", os.O_RDONLY)),
        "write a file": stopped(lambda: os.open("stolen", os.O_WRONLY | os.O_CREAT)),
        "make a folder": stopped(lambda: os.mkdir("stolen")),
        "remove a file": stopped(lambda: os.unlink("stolen")),
        "open a socket": stopped(socket.socket),
        "open a local socket": stopped(lambda: socket.socket(socket.AF_UNIX)),
        "start a process": stopped(os.fork),
        "run a program": stopped(lambda: os.execv("/bin/true", ["true"])),
        "end another process": stopped(lambda: os.kill(os.getppid(), 9)),
        "make a file in memory": stopped(lambda: os.memfd_create("code")),
        "lift the limit of open files": stopped(lambda: sandbox.resource.setrlimit(7, (10**6, 10**6))),
    }


def stopped(attempt: object) -> bool:
    try:
        attempt()  # type: ignore[operator]
    except (OSError, ValueError):
        return True
    return False
