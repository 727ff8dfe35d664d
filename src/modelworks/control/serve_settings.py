"""What ``mw serve`` is told: built-in values, ``serving:`` of ``modelworks.yaml``, the environment, the caller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UsageError
from modelworks.production.shapes import Flag, ListOf, Number, Record, Shape, Text, read_document

if TYPE_CHECKING:
    from modelworks.serving.settings import ServeSettings

PREFIX = "MODELWORKS_SERVE_"

SHAPES: dict[str, Shape] = {
    "name": Text(help="Name the only package is served under, instead of its own."),
    "host": Text(help="Address to bind; anything but loopback needs TLS."),
    "port": Number(help="HTTP port; 0 picks a free one.", low=0, high=65535, whole=True),
    "grpc": Flag(help="Whether gRPC is served."),
    "grpc_port": Number(help="gRPC port; 0 picks a free one.", low=0, high=65535, whole=True),
    "workers": Number(help="Processes that share the port.", low=1, high=256, whole=True),
    "memory_mb": Number(help="Cap of all loaded models of one process.", low=1, whole=True),
    "threads": Number(help="Threads that run models; 0 takes one per core.", low=0, high=1024, whole=True),
    "run_threads": Number(help="Threads one run takes on the CPU; 0 measures.", low=0, high=1024, whole=True),
    "device": Text(help="Where models run.", choices=("auto", "cpu", "cuda")),
    "tls_certificate": Text(help="PEM file of the certificate chain."),
    "tls_key": Text(help="PEM file of its key."),
    "host_names": ListOf(Text(), lone=True, help="Host names beside the loopback ones."),
    "origins": ListOf(Text(), lone=True, help="Origins of web pages that may call."),
    "insecure": Flag(help="Bind a public address without TLS all the same."),
    "require_signed": Flag(help="Refuse packages that no trusted key signed."),
    "keep_ready": Flag(help="Load every champion at start and keep it."),
    "connections_per_address": Number(
        help="Connections of one client address at each port; 0 is no limit.", low=0, whole=True
    ),
    "device_memory_mb": Number(
        help="Most memory one model may take on a CUDA device; 0 takes memory_mb.", low=0, whole=True
    ),
    "body_mb": Number(help="Longest request body.", low=0, open_low=True, high=4096),
    "queue_rows": Number(help="Rows that may wait per model.", low=1, whole=True),
    "batch_rows": Number(help="Most rows of one run.", low=1, whole=True),
    "wait_ms": Number(help="Longest time a batch waits for another row.", low=0),
    "deadline_s": Number(help="Seconds a request may take.", low=0, open_low=True),
    "drain_s": Number(help="Seconds that requests under way get on shutdown.", low=0),
    "observe_share": Number(help="Share of requests in the observation log.", low=0, high=1),
    "audit_share": Number(help="Uniform random share in the marked audit sample.", low=0, high=1),
    "otlp": Text(help="Base address of an OTLP/HTTP collector."),
    "trace_share": Number(help="Share of requests that are traced.", low=0, high=1),
    "access_log": Text(help="Which requests are logged.", choices=("all", "errors", "off")),
}
SHAPE = Record(SHAPES, help="How models are served.")


def serve_settings(
    home: Path,
    packages: tuple[Path, ...],
    written: Mapping[str, Any],
    environment: Mapping[str, str],
    given: Mapping[str, Any],
    written_in: str = "modelworks.yaml",
) -> tuple[ServeSettings, dict[str, str]]:
    """Return the settings in force, and for each that is not built in where it came from.

    Args:
        home: Folder of the installation.
        packages: What is served.
        written: The ``serving:`` part of ``modelworks.yaml``, checked already.
        environment: ``MODELWORKS_SERVE_<NAME>`` variables.
        given: What the caller set; ``None`` is not set.
        written_in: Where ``written`` stands, for the sources.

    Raises:
        UsageError: A variable or a value cannot be used.
    """
    from modelworks.serving.settings import ServeSettings

    values: dict[str, Any] = dict(written)
    sources = dict.fromkeys(values, written_in)
    for name, shape in SHAPES.items():
        variable = PREFIX + name.upper()
        if environment.get(variable, "") != "":
            values[name] = _from_text(shape, environment[variable], variable)
            sources[name] = variable
    asked = {name: value for name, value in given.items() if value is not None}
    known = _checked(json.dumps(asked, default=str), "an option") if asked else {}
    values |= known
    sources |= dict.fromkeys(known, "the caller")
    if not values.pop("grpc", True):
        values["grpc_port"] = None
    for name in ("tls_certificate", "tls_key"):
        if name in values:
            values[name] = Path(values[name]).expanduser().resolve()
    for name in ("host_names", "origins"):
        if name in values:
            values[name] = tuple(values[name])
    settings = ServeSettings(home=home, packages=packages, **values)
    settings.check()
    return settings, sources


def shown(settings: ServeSettings, sources: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings as plain data, each with its source."""
    found: dict[str, Any] = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        if isinstance(value, tuple):
            value = [str(part) for part in value]
        if isinstance(value, Path):
            value = str(value)
        found[item.name] = {"value": value, "from": sources.get(item.name, "built in")}
    return found


def _from_text(shape: Shape, text: str, variable: str) -> Any:
    name = variable.removeprefix(PREFIX).lower()
    if isinstance(shape, ListOf):
        value = json.dumps([part.strip() for part in text.split(",") if part.strip()])
    elif isinstance(shape, Text):
        value = json.dumps(text)
    else:
        value = {"on": "true", "1": "true", "off": "false", "0": "false"}.get(text.lower(), text)
        value = value if isinstance(shape, Flag) else json.dumps(_number(text))
    return _checked(f"{name}: {value.splitlines()[0]}", variable)[name]


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _checked(document: str, where: str) -> dict[str, Any]:
    reading = read_document(document, SHAPE)
    if reading.problems:
        listed = "; ".join(f"{item.path}: {item.message}" for item in reading.problems)
        raise UsageError(f"{where} cannot be used: {listed}", code="MW1330", hint="mw serve --help")
    found: dict[str, Any] = reading.value
    return found
