"""The words of the command line are a promise: commands and options change only together with this test's record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from modelworks.cli.main import app
from modelworks.cli.terminal import EXIT_CODES

RECORDED = Path(__file__).parent / "options.txt"


def options(command: Any, path: str) -> list[str]:
    commands = getattr(command, "commands", None)
    if commands is not None:
        return [line for name in sorted(commands) for line in options(commands[name], f"{path} {name}")]
    words = []
    for parameter in command.params:
        if parameter.param_type_name == "option":
            words.append("/".join([*parameter.opts, *parameter.secondary_opts]))
        else:
            words.append((parameter.name or "").upper())
    return [" ".join([path, *words])]


def test_commands_and_options_are_as_recorded() -> None:
    found = options(typer.main.get_command(app), "mw")
    if os.environ.get("MODELWORKS_RECORD_OPTIONS"):
        RECORDED.write_text("\n".join(found) + "\n")
    assert found == RECORDED.read_text().splitlines()


def test_every_command_speaks_json_and_shows_traces_on_request() -> None:
    for line in options(typer.main.get_command(app), "mw"):
        assert "--json" in line.split(), line
        assert "--debug" in line.split(), line


def test_exit_codes_are_documented_and_recorded() -> None:
    assert list(EXIT_CODES) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 130]
    help_text = app.info.epilog or ""
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in help_text
