"""``mw order``: check, list, show, resume and cancel orders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelworks.cli.terminal import Terminal, command, verdict_exit_code

OrderName = Annotated[str, typer.Argument(help="Name or id of an order.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(help="Orders: many tasks in one file.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name="order")
    command(group, "schema")(schema)
    command(group, "check")(check)
    command(group, "list")(listing)
    command(group, "show")(show)
    command(group, "resume")(resume)
    command(group, "cancel")(cancel)


def schema(terminal: Terminal) -> None:
    """Print the JSON Schema of an order file."""
    from modelworks.control.service import Service

    terminal.json = True
    terminal.result(Service.open().order_schema())


def check(
    terminal: Terminal, path: Annotated[Path, typer.Argument(help="The order file.", show_default=False)]
) -> None:
    """Check an order file; every problem is named with its line, its field and close matches."""
    from modelworks.control.service import Service

    order = Service.open().read_order(path)
    data = {
        "name": order.name,
        "lines": [
            {"name": line.name, "data": line.data, "targets": list(line.targets), "where": line.where}
            for line in order.lines
        ],
    }
    plural = "s" if len(order.lines) != 1 else ""
    terminal.result(data, lambda _: f"{path}: order '{order.name}' is fine, {len(order.lines)} line{plural}")


def listing(terminal: Terminal) -> None:
    """List the orders of this installation, the newest first."""
    from modelworks.cli.tables_shown import orders_table
    from modelworks.control.service import Service

    terminal.result(Service.open().order_list(), orders_table)


def show(terminal: Terminal, name: OrderName) -> None:
    """Show how an order stands: verdicts, costs, its report."""
    from modelworks.cli.tables_shown import show_order
    from modelworks.control.service import Service

    result = Service.open().order_show(name)
    terminal.result(result.to_json(), lambda _: show_order(result))


def resume(
    terminal: Terminal,
    name: OrderName,
    budget: Annotated[str, typer.Option(help="A higher budget of the whole order.")] = "",
    slots: Annotated[int, typer.Option(help="Jobs side by side; all cores by default.")] = 0,
) -> None:
    """Go on with an order that was stopped; finished steps are not repeated."""
    from modelworks.cli.progress import run_with_progress
    from modelworks.cli.tables_shown import show_order
    from modelworks.control.service import Service

    service = Service.open(slots=slots)
    order = service.order_of(name, budget=budget)
    result = run_with_progress(terminal, service, order)
    terminal.result(result.to_json(), lambda _: show_order(result))
    terminal.code = verdict_exit_code([line.verdict.kind for line in result.lines])


def cancel(terminal: Terminal, name: OrderName) -> None:
    """Ask a running order to stop at its next safe point."""
    from modelworks.control.service import Service

    terminal.result(Service.open().order_cancel(name), lambda data: data["message"])
