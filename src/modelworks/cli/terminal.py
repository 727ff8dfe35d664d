"""What every command shares: ``--json``, ``--debug``, results on stdout, the rest on stderr, exit codes."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TextIO

import typer

from modelworks.core.errors import (
    DataError,
    ExecutionError,
    LimitError,
    MissingExtra,
    ModelworksError,
    NotFound,
    StorageError,
    TaskError,
    TrustError,
    UsageError,
)

DONE = 0
BUG = 1
USAGE = 2
REFUSED = 3
NEEDS_EVIDENCE = 4
FAILED = 5
BAD_INPUT = 6
LIMIT = 7
UNTRUSTED = 8
STORAGE = 9
EXECUTION = 10
MISSING_EXTRA = 11
INTERRUPTED = 130

EXIT_CODES: dict[int, str] = {
    DONE: "done; every model was released",
    BUG: "a bug of ours (please report it with --debug)",
    USAGE: "a command, an option or a name is wrong",
    REFUSED: "at least one model was refused, none failed",
    NEEDS_EVIDENCE: "at least one model needs more evidence, none was refused or failed",
    FAILED: "at least one task failed",
    BAD_INPUT: "a file, a table, a task or an order cannot be used",
    LIMIT: "a stated limit or budget was reached",
    UNTRUSTED: "bytes that may not be trusted (digest, signature, package, graph)",
    STORAGE: "the store, the database or the disk failed",
    EXECUTION: "a job crashed, ran out of memory or out of time",
    MISSING_EXTRA: "an optional part is not installed",
    INTERRUPTED: "interrupted; the command to resume was printed",
}
_CODES: tuple[tuple[type[ModelworksError], int], ...] = (
    (UsageError, USAGE),
    (NotFound, USAGE),
    (DataError, BAD_INPUT),
    (TaskError, BAD_INPUT),
    (LimitError, LIMIT),
    (TrustError, UNTRUSTED),
    (StorageError, STORAGE),
    (ExecutionError, EXECUTION),
    (MissingExtra, MISSING_EXTRA),
)


def exit_code(error: ModelworksError) -> int:
    """Return the documented exit code of an error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return BAD_INPUT


def verdict_exit_code(verdicts: Sequence[str]) -> int:
    """Return the exit code of the worst verdict: failed, then refused, then needs_evidence."""
    for verdict, code in (("failed", FAILED), ("refused", REFUSED), ("needs_evidence", NEEDS_EVIDENCE)):
        if verdict in verdicts:
            return code
    return DONE


class Terminal:
    """Where a command writes.

    Attributes:
        json: Results are one JSON document on stdout.
        debug: Traces are shown.
        code: Exit code of the command so far.
        asked_s: Seconds a person took to answer questions.
    """

    def __init__(self, *, json: bool = False, debug: bool = False, out: TextIO | None = None) -> None:
        self.json = json
        self.debug = debug
        self.code = DONE
        self.asked_s = 0.0
        self._out = out or sys.stdout

    def result(self, data: Any, show: Callable[[Any], Any] | None = None) -> None:
        """Write a result: as JSON, or as ``show`` draws it, or line by line."""
        if self.json:
            json.dump(data, self._out, indent=2, ensure_ascii=False, default=str)
            self._out.write("\n")
            return
        drawn = show(data) if show is not None else data
        if isinstance(drawn, str):
            self._out.write(drawn.rstrip("\n") + "\n")
        elif drawn is not None:
            self.console(self._out).print(drawn)

    def say(self, text: str) -> None:
        """Write a line for people on stderr."""
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()

    def ask(self, question: str) -> bool:
        """Ask a person; without a terminal the answer is no."""
        if not sys.stdin.isatty():
            self.say(f"{question} Nobody is here to answer; use --yes.")
            return False
        start = time.monotonic()
        answer = typer.confirm(question, err=True)
        self.asked_s += time.monotonic() - start
        return answer

    @property
    def live(self) -> bool:
        """Whether stderr is a terminal that progress may redraw."""
        return sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"

    def console(self, stream: TextIO | None = None) -> Any:
        """Return a rich console on a stream (stderr by default); it honours ``NO_COLOR``."""
        from rich.console import Console

        stream = stream or sys.stderr
        width = None if stream.isatty() else 140
        return Console(file=stream, highlight=False, width=width, soft_wrap=not stream.isatty())

    def fail(self, error: ModelworksError) -> None:
        """Show an error: code, cause and next command; no trace without ``--debug``."""
        self.code = exit_code(error)
        if self.json:
            json.dump({"error": error.to_json()}, self._out, indent=2, ensure_ascii=False)
            self._out.write("\n")
        self.say(f"error {error}")


JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]


def command(
    app: typer.Typer, name: str, **options: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command with ``--json`` and ``--debug``; its first parameter is a ``Terminal``."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        extra = [
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
            inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption),
        ]
        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

        @functools.wraps(function)
        def run(*, json: bool, debug: bool, **arguments: Any) -> None:
            terminal = Terminal(json=json, debug=debug)
            try:
                function(terminal, **arguments)
            except ModelworksError as error:
                if debug:
                    raise
                terminal.fail(error)
            except BrokenPipeError:
                # The reader of stdout went away (mw ... | head); that is not an error of ours.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(terminal.code)

        run.__signature__ = inspect.Signature(keyword + extra)  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in keyword + extra}
        app.command(name, **options)(run)
        return function

    return register
