"""The bill of orders, for people: by model, step or order, with shared work parted and people's time in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelworks.control.producing import find_run
from modelworks.control.workspace import Workspace
from modelworks.core.errors import UsageError, close_matches
from modelworks.production.bill import bill_of_run, prices_of, shown
from modelworks.telemetry.ledger import Bill, human_bill

NO_ORDER = "(no order)"
"""Under this name are the seconds people spent on the installation itself."""

VIEWS = ("model", "step", "order")


def bill_of_orders(workspace: Workspace, order: str, *, by: str, curve: bool) -> dict[str, Any]:
    """Return the bill of one order or of all; see ``Service.cost``."""
    if by not in VIEWS:
        raise UsageError(
            f"The bill cannot be shown by '{by}'.{close_matches(by, VIEWS)}",
            code="MW1329",
            hint="--by model, --by step or --by order",
        )
    catalog = workspace.catalog
    runs = [find_run(workspace, order)] if order else [run.id for run in catalog.runs.find()]
    rows: list[dict[str, Any]] = []
    totals = []
    points: list[dict[str, float]] = []
    for name in runs:
        run = catalog.runs.get(name)
        ended = [line["task"] for line in (run.result or {}).get("lines", ())]
        bill = bill_of_run(catalog, name, ended)
        data = bill.to_json(prices_of(workspace.settings.prices, (run.spec or {}).get("prices", {})))
        totals.append(data["whole"])
        points += data["curve"]
        parts = {"model": data["tasks"], "step": data["steps"], "order": {name: data["whole"]}}[by]
        rows += [{"order": name, by: part or "(shared)", **figures} for part, figures in parts.items()]
    people = [] if order else catalog.ledger.human(run=NO_ORDER)
    if people:
        spent = sum((human_bill(item.seconds) for item in people), Bill())
        figures = shown(spent, prices_of(workspace.settings.prices))
        totals.append(figures)
        rows.append({"order": NO_ORDER, by: "people", **figures})
    return {"by": by, "rows": rows, "total": _sum(totals), "curve": points if curve else []}


def _sum(bills: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = ("cpu_s", "wall_s", "gpu_s", "human_s", "energy_j", "money", "attempts", "failed")
    total: dict[str, Any] = {key: sum(bill[key] for bill in bills) for key in keys}
    return total | {"currency": bills[0]["currency"] if bills else ""}
