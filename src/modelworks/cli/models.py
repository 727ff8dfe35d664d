"""``mw model``, ``mw predict``, ``mw explain``: what was released, and asking it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelworks.cli.terminal import Terminal, command
from modelworks.core.errors import UsageError

PackagePath = Annotated[
    str, typer.Argument(help="A package folder, a .mwpkg file or the name of a model.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(help="Released models.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name="model")
    command(group, "list")(listing)
    command(app, "predict")(predict)
    command(app, "explain")(explain)


def listing(terminal: Terminal) -> None:
    """List the released models and where their packages are."""
    from modelworks.cli.tables_shown import models_table
    from modelworks.control.service import Service

    terminal.result(Service.open().model_list(), models_table)


def predict(
    terminal: Terminal,
    package: PackagePath,
    source: Annotated[str, typer.Argument(help="A table: file or URL.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write CSV or Parquet here instead.")] = None,
) -> None:
    """Answer every row of a table with a package: CSV on stdout."""
    from modelworks.control.service import Service

    answer = Service.open().predict(package, source)
    if out is not None:
        answer.write(out)
        terminal.result({"rows": answer.rows, "path": str(out)}, lambda _: f"{answer.rows} rows in {out}")
    else:
        terminal.result(answer.to_json() if terminal.json else {}, lambda _: answer.csv())


def explain(
    terminal: Terminal,
    package: PackagePath,
    row: Annotated[
        str, typer.Option(help="The row as JSON, the number of a golden example, or an image's file.")
    ] = "0",
    out: Annotated[Path | None, typer.Option(help="Write a page (HTML) to look at here.")] = None,
) -> None:
    """Say what moved the answer for one row, computed through the shipped graph."""
    from modelworks.cli.tables_shown import explanation_table
    from modelworks.control.service import Service

    if not row.strip():
        raise UsageError("--row is empty.", code="MW1306", hint="--row '{\"age\": 31}' or --row 0")
    found = Service.open().explain(package, row, out=out)
    if out is not None:
        terminal.say(f"page: {out}")
    terminal.result(found, explanation_table)
