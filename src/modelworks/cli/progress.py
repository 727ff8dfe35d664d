"""Running an order under the eyes of a person: live progress, Ctrl-C once to stop well, twice to stop hard."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelworks.cli.terminal import INTERRUPTED, Terminal
from modelworks.control.service import Service
from modelworks.core.errors import Cancelled


def run_with_progress(
    terminal: Terminal, service: Service, order: Any, *, out: Path | None = None, strict: bool = False
) -> Any:
    """Produce an order with progress on stderr; returns its result.

    Raises:
        SystemExit: It was interrupted; the command to resume was printed.
    """
    with _interruptible(terminal) as stop, service.progress(sys.stderr) as progress:
        try:
            return service.produce(order, events=progress, stop=stop, out=out, strict=strict)
        except Cancelled as error:
            terminal.say(f"stopped: {error.message} Finished steps are kept.")
            terminal.say(f"  next: mw order resume {order.run}")
            if terminal.json:
                terminal.result({"error": error.to_json(), "resume": f"mw order resume {order.run}"})
            raise SystemExit(INTERRUPTED) from None


@contextmanager
def _interruptible(terminal: Terminal) -> Iterator[threading.Event]:
    stop = threading.Event()

    def first(_signal: int, _frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        terminal.say("\nstopping at the next safe point (Ctrl-C again stops at once) ...")

    before = {name: signal.signal(name, first) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
