"""The command ``mw``: the tree of commands, and the last catch for everything that goes wrong."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from modelworks import __version__
from modelworks.cli import endpoints, home, memory, models, orders, packages, produce, serving, tables
from modelworks.cli.terminal import BUG, EXIT_CODES, INTERRUPTED

_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

app = typer.Typer(
    name="mw",
    help="Modelworks: from a raw table to a judged, signed ONNX package with a bill.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"modelworks {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Modelworks: from a raw table to a judged, signed ONNX package with a bill."""


produce.register(app)
orders.register(app)
tables.register(app)
models.register(app)
packages.register(app)
serving.register(app)
endpoints.register(app)
memory.register(app)
home.register(app)


def main() -> None:
    """Run ``mw`` with the arguments of this process."""
    if "_MW_COMPLETE" in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    try:
        app(prog_name="mw")
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the same command resumes\n")
        sys.exit(INTERRUPTED)
    except Exception as error:
        _unexpected(error)


def _unexpected(error: Exception) -> None:
    from modelworks.cli.terminal import exit_code
    from modelworks.core.errors import ModelworksError

    if "--debug" in sys.argv:
        traceback.print_exc()
    if isinstance(error, ModelworksError):
        sys.stderr.write(f"error {error}\n")
        sys.exit(exit_code(error))
    if "--debug" not in sys.argv:
        sys.stderr.write(
            f"error MW0001: a bug of ours: {type(error).__name__}: {error}\n"
            "  next: run the same command with --debug and report what it prints\n"
        )
    sys.exit(BUG)
