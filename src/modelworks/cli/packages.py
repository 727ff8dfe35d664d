"""``mw package``: verify, show, export, compare and list packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelworks.cli.models import PackagePath
from modelworks.cli.terminal import Terminal, command


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(help="Packages: the deployable folders.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name="package")
    command(group, "list")(listing)
    command(group, "verify")(verify)
    command(group, "show")(show)
    command(group, "export")(export)
    command(group, "diff")(diff)
    command(group, "trust")(trust)


def listing(terminal: Terminal) -> None:
    """List every package this installation made."""
    from modelworks.cli.tables_shown import packages_table
    from modelworks.control.service import Service

    terminal.result(Service.open().package_list(), packages_table)


def verify(terminal: Terminal, package: PackagePath) -> None:
    """Check every byte and the signature, and replay the golden examples in a clean process."""
    from modelworks.control.service import Service

    terminal.result(Service.open().package_verify(package), lambda data: data["message"])


def show(terminal: Terminal, package: PackagePath) -> None:
    """Show what a package is: task, metrics with intervals, gate, limits, lineage, cost."""
    from modelworks.cli.tables_shown import package_text
    from modelworks.control.service import Service

    terminal.result(Service.open().package_show(package), package_text)


def export(
    terminal: Terminal,
    package: PackagePath,
    to: Annotated[str, typer.Option(help="triton, triton-python, mlflow, docker, predict or mwpkg.")],
    out: Annotated[Path, typer.Option(help="Folder (or .mwpkg file) to write.")],
) -> None:
    """Write a package in the form another system reads."""
    from modelworks.control.service import Service

    terminal.result(Service.open().package_export(package, to, out), lambda data: data["path"])


def diff(
    terminal: Terminal,
    one: PackagePath,
    other: Annotated[str, typer.Argument(help="The package to compare with.", show_default=False)],
) -> None:
    """Compare two packages: data, task, metrics, size, latency, cost."""
    from modelworks.cli.tables_shown import diff_table
    from modelworks.control.service import Service

    terminal.result(Service.open().package_diff(one, other), diff_table)


def trust(
    terminal: Terminal,
    key: Annotated[Path, typer.Argument(help="A public key file (.pub) of a maker.", show_default=False)],
) -> None:
    """Trust the packages that a key signs."""
    from modelworks.control.service import Service

    terminal.result(Service.open().package_trust(key), lambda data: f"trusts {data['key']}")
