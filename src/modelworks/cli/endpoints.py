"""``mw endpoint`` and ``mw token``: what is served under which name, and who may ask."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from modelworks.cli.serving import UrlOption, share_of
from modelworks.cli.terminal import Terminal, command
from modelworks.core.errors import UsageError

Name = Annotated[str, typer.Argument(help="Name of an endpoint.", show_default=False)]
VersionArgument = Annotated[str, typer.Argument(help="Version of the endpoint.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(help="Endpoints: served names.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name="endpoint")
    for name, function in (
        ("list", listing), ("show", show), ("promote", promote), ("rollback", rollback), ("canary", canary),
        ("shadow", shadow), ("set", configure), ("load", load), ("unload", unload), ("outcome", outcome),
        ("remove", remove),
    ):  # fmt: skip
        command(group, name)(function)
    tokens = typer.Typer(help="Tokens of the server.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(tokens, name="token")
    command(tokens, "list")(token_list)
    command(tokens, "add")(token_add)
    command(tokens, "remove")(token_remove)


def _serving(url: str = "") -> Any:
    from modelworks.control.service import Service

    return Service.open().serving(url=url)


def listing(terminal: Terminal, url: UrlOption = "") -> None:
    """List the endpoints: champion, canary, shadow, state."""
    from modelworks.cli.serving_shown import endpoints_table

    terminal.result(_serving(url).endpoints(), endpoints_table)


def show(terminal: Terminal, name: Name, url: UrlOption = "") -> None:
    """Show an endpoint: versions, settings, and every act that led to it."""
    from modelworks.cli.serving_shown import endpoint_text

    terminal.result(_serving(url).endpoint(name), endpoint_text)


def promote(terminal: Terminal, name: Name, version: VersionArgument, url: UrlOption = "") -> None:
    """Let a version answer everything, once it is loaded; the champion before it is kept for rollback."""
    from modelworks.cli.serving_shown import endpoint_line

    terminal.result(_serving(url).promote(name, version), endpoint_line)


def rollback(terminal: Terminal, name: Name, url: UrlOption = "") -> None:
    """End the canary, or return to the champion before this one; at once."""
    from modelworks.cli.serving_shown import endpoint_line

    terminal.result(_serving(url).rollback(name), endpoint_line)


def canary(
    terminal: Terminal,
    name: Name,
    version: VersionArgument,
    share: Annotated[str, typer.Argument(help="Share of the traffic, like 10%; 0 ends it.")],
    sticky: Annotated[bool, typer.Option(help="Requests of one key always meet the same version.")] = True,
    url: UrlOption = "",
) -> None:
    """Give a version a share of the traffic."""
    from modelworks.cli.serving_shown import endpoint_line

    terminal.result(_serving(url).canary(name, version, share_of(share) or 0.0, sticky=sticky), endpoint_line)


def shadow(
    terminal: Terminal,
    name: Name,
    version: Annotated[str, typer.Argument(help="Version of the endpoint; left out, the shadow ends.")] = "",
    url: UrlOption = "",
) -> None:
    """Mirror the traffic to a version; its answers are compared and never sent."""
    from modelworks.cli.serving_shown import endpoint_line

    terminal.result(_serving(url).shadow(name, version or None), endpoint_line)


def configure(
    terminal: Terminal,
    name: Name,
    settings: Annotated[
        list[str],
        typer.Argument(
            help="NAME=VALUE: nan, priority, deadline_ms, pin, guard, observe, audit, redact, retention_days; "
            "NAME= restores the default.",
            show_default=False,
        ),
    ],
    url: UrlOption = "",
) -> None:
    """Change settings of an endpoint."""
    from modelworks.cli.serving_shown import endpoint_line

    terminal.result(_serving(url).configure(name, dict(_setting(text) for text in settings)), endpoint_line)


def _setting(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise UsageError(f"'{text}' is not NAME=VALUE.", code="MW1334", hint="mw endpoint set NAME pin=true")
    if not value:
        return name, None
    if name == "redact":
        return name, [part.strip() for part in value.split(",") if part.strip()]
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def load(terminal: Terminal, name: Name, url: UrlOption = "") -> None:
    """Load a model now; lifts a quarantine or an unload."""
    terminal.result(_serving(url).load(name), lambda data: f"{data['loaded']} is loaded")


def unload(terminal: Terminal, name: Name, url: UrlOption = "") -> None:
    """Drop a model from memory; it takes no requests until it is loaded again."""
    terminal.result(_serving(url).unload(name), lambda data: f"{data['unloaded']} is unloaded")


def outcome(
    terminal: Terminal,
    name: Name,
    key: Annotated[str, typer.Argument(help="Key of the earlier request.", show_default=False)],
    value: Annotated[str, typer.Argument(help="What really happened: JSON or a text.", show_default=False)],
    row: Annotated[int, typer.Option(help="Row of that request.")] = 0,
    correction: Annotated[
        bool, typer.Option("--correction", help="The answer was wrong and this is right.")
    ] = False,
    url: UrlOption = "",
) -> None:
    """Report what really happened to the subject of an earlier request."""
    try:
        sent = json.loads(value)
    except ValueError:
        sent = value
    found = _serving(url).outcome(name, key, sent, row=row, correction=correction)
    terminal.result(found, lambda data: f"kept for '{data['key']}' at {data['endpoint']}")


def remove(terminal: Terminal, name: Name, url: UrlOption = "") -> None:
    """Stop serving a name; what is under way is answered."""
    terminal.result(_serving(url).remove(name), lambda data: f"{data['removed']} is served no more")


def token_list(terminal: Terminal) -> None:
    """List the tokens beside the one this machine's first start made."""
    from modelworks.cli.serving_shown import tokens_table

    terminal.result(_serving().token_list(), tokens_table)


def token_add(
    terminal: Terminal,
    name: Annotated[str, typer.Argument(help="Name of its holder.", show_default=False)],
    role: Annotated[str, typer.Option(help="infer, monitor or admin.")] = "infer",
    endpoint: Annotated[
        list[str], typer.Option(help="Endpoints it may see, like city-*; all by default.")
    ] = [],  # noqa: B006
    rate: Annotated[float | None, typer.Option(help="Requests a second it may send.")] = None,
) -> None:
    """Make a token and show it once; only its digest is kept."""
    found = _serving().token_add(name, role=role, endpoints=endpoint or ("*",), rate=rate)
    terminal.result(found, lambda data: data["token"])


def token_remove(
    terminal: Terminal, name: Annotated[str, typer.Argument(help="Name of its holder.", show_default=False)]
) -> None:
    """Revoke a token; running servers refuse it within a second."""
    terminal.result(_serving().token_remove(name), lambda data: f"{data['removed']} may not ask any more")
