"""``mw data``: what a table or a set of samples holds, as Modelworks sees it."""

from __future__ import annotations

from typing import Annotated

import typer

from modelworks.cli.produce import Kinds, Reading, read_options
from modelworks.cli.terminal import Terminal, command


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        help="Tables and samples: how they are read.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(group, name="data")
    command(group, "show")(show)


def show(
    terminal: Terminal,
    source: Annotated[
        str, typer.Argument(help="A table or samples: file, folder, zip or URL.", show_default=False)
    ],
    kinds: Kinds = [],  # noqa: B006
    reading: Reading = [],  # noqa: B006
    query: Annotated[str, typer.Option(help="SQL to run when the source is a connection URL.")] = "",
    files: Annotated[str, typer.Option(help="Folder or zip with the images that a column names.")] = "",
    file_column: Annotated[str, typer.Option(help="That column, when more than one names images.")] = "",
) -> None:
    """Show the columns of a table or of samples, their kinds and why, and what was set aside."""
    from modelworks.cli.tables_shown import columns_table
    from modelworks.control.service import Service

    options = read_options(kinds, reading, query)
    options |= {"files": files} if files else {}
    options |= {"file_column": file_column} if file_column else {}
    terminal.result(Service.open().data_show(source, options), columns_table)
