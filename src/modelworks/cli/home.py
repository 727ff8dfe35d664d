"""``mw cost``, ``mw doctor``, ``mw gc``, ``mw export``, ``mw demo``, ``mw completion``: the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelworks.cli.terminal import Terminal, command, verdict_exit_code


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, "cost")(cost)
    command(app, "demo")(demo)
    command(app, "doctor")(doctor)
    command(app, "gc")(gc)
    command(app, "export")(export)
    command(app, "completion")(completion)


def cost(
    terminal: Terminal,
    order: Annotated[str, typer.Argument(help="An order; all of them when left out.")] = "",
    by: Annotated[str, typer.Option(help="model, step or order.")] = "model",
    curve: Annotated[bool, typer.Option("--curve", help="Show the cost of task n.")] = False,
) -> None:
    """Show the bill: every attempt is in it, shared work is parted among the tasks that used it."""
    from modelworks.cli.tables_shown import cost_table
    from modelworks.control.service import Service

    terminal.result(Service.open().cost(order, by=by, curve=curve), cost_table)


def demo(
    terminal: Terminal,
    out: Annotated[Path | None, typer.Option(help="Also write the packages here.")] = None,
) -> None:
    """Run the main job on bundled public tables: produce, judge, package, report."""
    from modelworks.cli.progress import run_with_progress
    from modelworks.cli.tables_shown import show_order
    from modelworks.control.service import Service

    service = Service.open()
    result = run_with_progress(terminal, service, service.demo_order(), out=out)
    terminal.result(result.to_json(), lambda _: show_order(result))
    # One line has a gate it cannot reach, to show a refusal; only a failure is one of ours.
    terminal.code = verdict_exit_code(
        [line.verdict.kind for line in result.lines if line.verdict.kind == "failed"]
    )


def doctor(
    terminal: Terminal,
    strict: Annotated[bool, typer.Option("--strict", help="Check every byte; a warning fails.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged; its step runs again.")
    ] = False,
) -> None:
    """Check this installation: disk, catalog, artifacts, keys, packages, unfinished runs."""
    from modelworks.cli.tables_shown import doctor_table
    from modelworks.cli.terminal import STORAGE
    from modelworks.control.service import Service

    found = Service.open().doctor(strict=strict or repair, repair=repair)
    terminal.result(found, doctor_table)
    if not found["ok"]:
        terminal.code = STORAGE


def gc(
    terminal: Terminal,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    cache: Annotated[bool, typer.Option("--cache", help="Also forget finished steps.")] = False,
) -> None:
    """Sweep what nothing names: dead staging folders and artifacts without a name."""
    from modelworks.control.service import Service

    terminal.result(Service.open().gc(dry_run=dry_run, cache=cache), lambda data: data["message"])


def export(
    terminal: Terminal,
    folder: Annotated[Path, typer.Argument(help="Empty folder to write.", show_default=False)],
) -> None:
    """Write everything that was made as plain files: packages, reports, ledger, memory, orders."""
    from modelworks.control.service import Service

    terminal.result(Service.open().export(folder), lambda data: data["message"])


def completion(
    terminal: Terminal,
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print the completion script of a shell: eval "$(mw completion bash)"."""
    from modelworks.core.errors import UsageError, close_matches

    if shell not in ("bash", "zsh", "fish"):
        raise UsageError(
            f"There is no completion for '{shell}'.{close_matches(shell, ('bash', 'zsh', 'fish'))}",
            code="MW1307",
            hint="mw completion bash",
        )
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="mw", complete_var="_MW_COMPLETE", shell=shell)
    terminal.result({"shell": shell, "script": script}, lambda data: data["script"])
