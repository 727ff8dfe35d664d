"""``mw produce``: one table or a whole order to verdicts and packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelworks.cli.terminal import Terminal, command, verdict_exit_code
from modelworks.core.errors import UsageError

if TYPE_CHECKING:
    from modelworks.control.service import Service
    from modelworks.production.order import Order

_ORDERS = (".yaml", ".yml")

Source = Annotated[
    str,
    typer.Argument(
        help="A table or samples (file, folder, zip or URL), or an order (.yaml).", show_default=False
    ),
]
Targets = Annotated[
    list[str],
    typer.Option(
        "--target",
        "-t",
        help="Column to predict; repeat for a multi-label task. Samples with a label need none.",
    ),
]
Kind = Annotated[str, typer.Option(help="binary, multiclass, regression, multilabel, anomaly or forecast.")]
Modality = Annotated[
    str, typer.Option(help="What the samples are: table, image, text or series; found out by default.")
]
Options = Annotated[
    list[str], typer.Option("--option", help="Setting of the recipe, like backbone=images.patches.")
]
Metric = Annotated[str, typer.Option(help="Metric to choose and judge by.")]
Gates = Annotated[list[str], typer.Option("--gate", help='Condition of release, like roc_auc=">= 0.8".')]
Budget = Annotated[str, typer.Option(help="CPU time for fitting: 60s, 10m, 1h.")]
Slices = Annotated[list[str], typer.Option("--slice", help="Column by whose values quality is shown.")]
Exclude = Annotated[list[str], typer.Option(help="Column the model may not read.")]
Kinds = Annotated[list[str], typer.Option("--as", help="Set a column's kind, like zip=category.")]
Reading = Annotated[
    list[str], typer.Option("--read", help="How the source is read, like delimiter=';' or encoding=latin-1.")
]
Quantiles = Annotated[list[float], typer.Option("--quantile", help="Quantile level for intervals.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, "produce")(produce)


def produce(
    terminal: Terminal,
    source: Source,
    target: Targets = [],  # noqa: B006
    name: Annotated[str, typer.Option(help="Name of the model; the file's name by default.")] = "",
    modality: Modality = "",
    files: Annotated[str, typer.Option(help="Folder or zip with the images that a column names.")] = "",
    file_column: Annotated[str, typer.Option(help="That column, when more than one names images.")] = "",
    kind: Kind = "",
    metric: Metric = "",
    gate: Gates = [],  # noqa: B006
    budget: Budget = "",
    slices: Slices = [],  # noqa: B006
    group: Annotated[str, typer.Option(help="Column kept on one side of the split.")] = "",
    time: Annotated[str, typer.Option(help="Column whose later values are the test part.")] = "",
    test_share: Annotated[float, typer.Option(help="Share of rows that is sealed.")] = 0.2,
    test_data: Annotated[str, typer.Option(help="A ready-made test table instead of a share.")] = "",
    exclude: Exclude = [],  # noqa: B006
    weight: Annotated[str, typer.Option(help="Column of row weights.")] = "",
    positive: Annotated[str, typer.Option(help="Class that counts as positive.")] = "",
    quantile: Quantiles = [],  # noqa: B006
    kinds: Kinds = [],  # noqa: B006
    reading: Reading = [],  # noqa: B006
    query: Annotated[str, typer.Option(help="SQL to run when the source is a connection URL.")] = "",
    options: Options = [],  # noqa: B006
    latency_ms: Annotated[
        float, typer.Option(help="Limit of one row, 99th percentile; 0: 2 ms, or 100 ms for samples.")
    ] = 0.0,
    size_mb: Annotated[
        float, typer.Option(help="Limit of model.onnx; 0: 10 MB, or 200 MB for samples.")
    ] = 0.0,
    memory_mb: Annotated[int, typer.Option(help="Limit of any one job.")] = 4096,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the package(s) here.")] = None,
    slots: Annotated[int, typer.Option(help="Jobs side by side; all cores by default.")] = 0,
    explain: Annotated[bool, typer.Option(help="Compute importance for the report.")] = True,
    memory: Annotated[bool, typer.Option(help="Use what earlier tasks taught.")] = True,
    deploy: Annotated[bool, typer.Option("--deploy", help="Serve it under its name once released.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show plan and forecast only.")] = False,
) -> None:
    """Make models: from a table and a target, or from an order, to verdicts and packages."""
    from modelworks.cli.progress import run_with_progress
    from modelworks.cli.tables_shown import plan_table, show_order
    from modelworks.control.service import Service

    settings = task_settings(
        modality=modality, files=files, file_column=file_column, options=_values(options),
        kind=kind, metric=metric, gate=_pairs(gate, "--gate"), budget=budget, slices=slices, exclude=exclude,
        weight=weight, positive=positive, quantiles=quantile, seed=seed, explain=explain,
        deploy=deploy,
        split={"group": group, "time": time, "test_share": test_share, "test_data": test_data},
        limits={"latency_ms": latency_ms, "size_mb": size_mb, "memory_mb": memory_mb},
        **read_options(kinds, reading, query),
    )  # fmt: skip
    service = Service.open(slots=slots, memory=memory)
    if not target and not _is_order(source):
        target = [service.only_target(source, settings)]
        terminal.say(f"target: {target[0]} (found beside the samples; --target names another)")
    order = _order(service, source, target, name, settings)
    if dry_run:
        terminal.result(service.plan(order, strict=not _is_order(source)), plan_table)
        return
    result = run_with_progress(terminal, service, order, out=out, strict=not _is_order(source))
    terminal.result(result.to_json(), lambda _: show_order(result))
    terminal.code = verdict_exit_code([line.verdict.kind for line in result.lines])


def _is_order(source: str) -> bool:
    return source.lower().endswith(_ORDERS)


def _order(service: Service, source: str, target: list[str], name: str, settings: dict[str, Any]) -> Order:
    if _is_order(source):
        given = [*(["target"] if target else []), *(["name"] if name else []), *settings]
        if given:
            raise UsageError(
                f"An order sets its own {', '.join(given)}; such options are for a single table.",
                code="MW1303",
                hint=f"write it into {source}, then: mw produce {source}",
            )
        return service.read_order(Path(source))
    return service.single(source, target, name=name, settings=settings)


def task_settings(**given: Any) -> dict[str, Any]:
    """Return the settings that differ from the built-in ones, in the words of an order file."""
    plain = {"split": {"test_share": 0.2}, "limits": {"latency_ms": 0.0, "size_mb": 0.0, "memory_mb": 4096}}
    settings: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if v not in ("", None) and plain.get(key, {}).get(k) != v}
        if value in ("", [], {}, None) or (key, value) in (("seed", 0), ("explain", True), ("deploy", False)):
            continue
        settings[key] = value
    return settings


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    found = {}
    for text in texts:
        key, mark, value = text.partition("=")
        # roc_auc>=0.8 splits inside the relation; give the sign back.
        if mark and key and key[-1] in "<>":
            key, value = key[:-1], f"{key[-1]}={value}"
        if not mark or not key.strip() or not value.strip():
            raise UsageError(
                f"{option} '{text}' is not NAME=VALUE.", code="MW1305", hint=f"{option} 'NAME=VALUE'"
            )
        found[key.strip()] = value.strip() if option != "--read" else value
    return found


def read_options(kinds: list[str], reading: list[str], query: str) -> dict[str, Any]:
    """Return how a source is read, in the words of an order file."""
    found = {"kinds": _pairs(kinds, "--as"), "reading": _reading(reading), "query": query}
    return {key: value for key, value in found.items() if value}


def _values(texts: list[str]) -> dict[str, Any]:
    """Return ``--option`` settings as the plain values that YAML reads in them."""
    import yaml

    found: dict[str, Any] = {}
    for key, value in _pairs(texts, "--option").items():
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            found[key] = value
    return found


def _reading(texts: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in _pairs(texts, "--read").items():
        if value in {"true", "false"}:
            found[key] = value == "true"
        elif key in {"skip", "series_values"}:
            found[key] = value.split(",")
        else:
            found[key] = int(value) if value.isdigit() and key.startswith("max_") else value
    return found
