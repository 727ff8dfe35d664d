"""``mw memory``: what earlier tasks taught this installation."""

from __future__ import annotations

from typing import Annotated

import typer

from modelworks.cli.terminal import Terminal, command


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(help="Memory across tasks.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name="memory")
    command(group, "show")(show)
    command(group, "clear")(clear)


def show(terminal: Terminal) -> None:
    """Show what is remembered: one line per finished task and its best member."""
    from modelworks.cli.tables_shown import memory_table
    from modelworks.control.service import Service

    terminal.result(Service.open().memory_show(), memory_table)


def clear(
    terminal: Terminal,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget what earlier tasks taught; models, packages and the ledger stay."""
    from modelworks.control.service import Service

    service = Service.open()
    count = len(service.memory_show()["lessons"])
    if not yes and count and not terminal.ask(f"Forget {count} lessons?"):
        terminal.result({"cleared": 0}, lambda _: "nothing was forgotten")
        return
    terminal.result(
        service.memory_clear(person_s=terminal.asked_s), lambda data: f"forgot {data['cleared']} lessons"
    )
