"""``mw serve``, ``mw deploy``, ``mw infer``, ``mw top``: models behind one port."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from modelworks.cli.terminal import Terminal, command
from modelworks.core.errors import UsageError

UrlOption = Annotated[str, typer.Option(help="A server elsewhere; the one of this installation by default.")]
Models = Annotated[
    list[str],
    typer.Argument(
        help="Names (NAME@2 for a version), packages, folders of packages; every released model by default.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, "serve")(serve)
    command(app, "deploy")(deploy)
    command(app, "infer")(infer)
    command(app, "top")(top)


def serve(
    terminal: Terminal,
    models: Models = [],  # noqa: B006
    name: Annotated[str | None, typer.Option(help="Serve the only package under this name.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind: 127.0.0.1; another needs TLS.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port: 8080; 0 picks a free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port: 8081; 0 picks a free one.")] = None,
    grpc: Annotated[bool | None, typer.Option("--grpc/--no-grpc", help="Serve gRPC.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port.")] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Cap of all loaded models of one process.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads that run models; 0 is one per core.")] = None,
    run_threads: Annotated[
        int | None, typer.Option(help="Threads of one run on the CPU; 0 measures whether more than 1 pay.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto (a CUDA device for what it answers faster), cpu or cuda.")
    ] = None,
    device_memory_mb: Annotated[
        int | None,
        typer.Option(help="Most memory of a model on a CUDA device: 0, which takes --memory-mb."),
    ] = None,
    connections_per_address: Annotated[
        int | None,
        typer.Option(
            help="Connections of one client at each port: 256; 0, for a proxy in front, is no limit."
        ),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    host_name: Annotated[list[str], typer.Option(help="A host name clients may use.")] = [],  # noqa: B006
    origin: Annotated[list[str], typer.Option(help="An origin of pages that may call.")] = [],  # noqa: B006
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Bind a public address in clear text all the same.")
    ] = None,
    unsigned: Annotated[
        bool | None, typer.Option("--unsigned", help="Also serve packages that no trusted key signed.")
    ] = None,
    keep_ready: Annotated[
        bool | None, typer.Option("--keep-ready", help="Load every champion at start and keep it.")
    ] = None,
    observe: Annotated[float | None, typer.Option(help="Share of requests that is logged.")] = None,
    audit: Annotated[float | None, typer.Option(help="Share of the marked uniform sample: 0.01.")] = None,
    otlp: Annotated[str | None, typer.Option(help="Address of an OTLP/HTTP collector for traces.")] = None,
    access_log: Annotated[str | None, typer.Option(help="all, errors or off.")] = None,
    ray: Annotated[str, typer.Option(help="Serve on Ray: local, or the address of a cluster.")] = "",
    replicas: Annotated[int, typer.Option(help="Processes that answer on Ray.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show settings and models only.")] = False,
) -> None:
    """Serve models over the Open Inference Protocol (REST and gRPC) until told to stop."""
    from modelworks.cli.serving_shown import settings_table
    from modelworks.control.service import Service

    given = {
        "name": name, "host": host, "port": port, "grpc": grpc, "grpc_port": grpc_port, "workers": workers,
        "memory_mb": memory_mb, "threads": threads, "run_threads": run_threads, "device": device,
        "device_memory_mb": device_memory_mb, "connections_per_address": connections_per_address,
        "tls_certificate": tls_cert, "tls_key": tls_key,
        "host_names": host_name or None, "origins": origin or None, "insecure": insecure,
        "require_signed": not unsigned if unsigned is not None else None, "keep_ready": keep_ready,
        "observe_share": observe, "audit_share": audit, "otlp": otlp, "access_log": access_log,
    }  # fmt: skip
    serving = Service.open().serving()
    settings, shown = serving.settings(models, **given)
    if dry_run:
        terminal.result(shown, settings_table)
        return

    def told(report: dict[str, Any]) -> None:
        if terminal.json:
            # One line, so that a program can wait for it.
            sys.stdout.write(json.dumps({**report, "token_file": str(settings.keys / "serve-token")}) + "\n")
            sys.stdout.flush()

    terminal.code = serving.serve(settings, told, ray=ray, replicas=replicas)


def deploy(
    terminal: Terminal,
    model: Annotated[
        str, typer.Argument(help="A released model, package or .mwpkg file.", show_default=False)
    ],
    version: Annotated[str, typer.Option(help="Released version; the newest by default.")] = "",
    endpoint: Annotated[str, typer.Option(help="Name it is served under; its own by default.")] = "",
    canary: Annotated[str, typer.Option(help="Share of the traffic it gets first, like 10%.")] = "",
    shadow: Annotated[bool, typer.Option("--shadow", help="It only gets copies of the traffic.")] = False,
    sticky: Annotated[bool, typer.Option(help="Requests of one key always meet the same version.")] = True,
    change_signature: Annotated[
        bool,
        typer.Option("--change-signature", help="It may take or give other tensors than what answers now."),
    ] = False,
) -> None:
    """Prove a package in a limited child and let it answer; the champion before it is kept for rollback."""
    from modelworks.cli.serving_shown import deployed_text
    from modelworks.control.service import Service

    found = (
        Service.open()
        .serving()
        .deploy(
            model,
            version=version,
            endpoint=endpoint,
            canary=share_of(canary),
            shadow=shadow,
            sticky=sticky,
            change_signature=change_signature,
        )
    )
    terminal.result(found, deployed_text)


def infer(
    terminal: Terminal,
    model: Annotated[str, typer.Argument(help="Name of an endpoint.", show_default=False)],
    row: Annotated[list[str], typer.Option(help="A row as JSON; repeat for more.")] = [],  # noqa: B006
    file: Annotated[
        str, typer.Option(help="Rows: .json, .jsonl or .csv, or an image; - is standard input.")
    ] = "",
    version: Annotated[str, typer.Option(help="Ask this version of the endpoint.")] = "",
    key: Annotated[
        str, typer.Option(help="Names the subject: sticky canaries, outcomes reported later.")
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say what moved each answer.")] = False,
    url: UrlOption = "",
) -> None:
    """Ask the running server; one answer per row."""
    from modelworks.cli.serving_shown import answers_table
    from modelworks.control.rows import read_rows
    from modelworks.control.service import Service

    rows = read_rows(row, file, sys.stdin)
    serving = Service.open().serving(url=url)
    texts = file.endswith(".csv")
    found = serving.infer(model, rows, version=version, key=key or None, explain=explain, texts=texts)
    terminal.result(found, answers_table)


def top(
    terminal: Terminal,
    once: Annotated[bool, typer.Option("--once", help="Show one picture and end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two pictures.")] = 2.0,
    url: UrlOption = "",
) -> None:
    """Watch the server: requests, errors, latency, batches, memory, per version."""
    from modelworks.cli.serving_shown import watch
    from modelworks.control.service import Service

    if every < 0.2:
        raise UsageError("--every is at least 0.2 seconds.", code="MW1332")
    serving = Service.open().serving(url=url)
    watch(terminal, serving.status, serving.top_lines, every=every, once=once or terminal.json)


def share_of(text: str) -> float | None:
    """Return ``10%`` or ``0.1`` as a share; nothing for an empty text.

    Raises:
        UsageError: It is no share between 0 and 1.
    """
    if not text.strip():
        return None
    number, percent = (text.strip()[:-1], True) if text.strip().endswith("%") else (text, False)
    try:
        share = float(number) / (100.0 if percent else 1.0)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise UsageError(
            f"'{text}' is not a share of the traffic.", code="MW1333", hint="like 10% or 0.1; 100% is promote"
        )
    return share
