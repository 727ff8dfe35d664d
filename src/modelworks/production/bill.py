"""The bill of a run: what every task, step and shared piece of work cost, and the cost of task n."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelworks.core.job import Attempt
from modelworks.storage.catalog import Catalog
from modelworks.telemetry.ledger import (
    SHARED,
    Bill,
    Prices,
    amortise,
    by_step,
    human_bill,
    learning_curve,
    total,
    with_people,
)
from modelworks.workflow.journal import ENGINE


@dataclass(frozen=True, kw_only=True)
class RunBill:
    """The bill of one run.

    Attributes:
        whole: Sum of all attempts and of people's time.
        tasks: Task name -> its own attempts and its share of shared work; the parts add up to ``whole``.
        steps: Step name -> sum of its attempts.
        unshared: What the tasks would have cost had each paid for the shared work alone.
        curve: Cost of task n in the order the tasks ended.
    """

    whole: Bill
    tasks: Mapping[str, Bill]
    steps: Mapping[str, Bill]
    unshared: Bill
    curve: tuple[dict[str, float], ...]

    def to_json(self, prices: Prices) -> dict[str, Any]:
        return {
            "whole": shown(self.whole, prices),
            "tasks": {name: shown(bill, prices) for name, bill in self.tasks.items()},
            "steps": {name: shown(bill, prices) for name, bill in self.steps.items()},
            "unshared": shown(self.unshared, prices),
            "curve": list(self.curve),
        }


def bill_of_run(catalog: Catalog, run: str, ended: Sequence[str]) -> RunBill:
    """Return the bill of a run.

    Work that several tasks used is divided evenly over them. What no task used (a table whose line failed, the
    attempts of a step that nobody asked for again) stays under its own label.

    Args:
        catalog: Where attempts and uses are.
        run: The run.
        ended: Names of its tasks, in the order they ended.
    """
    attempts = catalog.ledger.attempts(run=run)
    known = set(ended)
    uses = [(key, label) for key, label in catalog.ledger.uses(run) if label in known]
    people = catalog.ledger.human(run=run)
    tasks = with_people(amortise(attempts, uses), [(item.label, item.seconds) for item in people])
    whole = total(attempts) + sum((human_bill(item.seconds) for item in people), Bill())
    order = [name for name in ended if name in tasks]
    return RunBill(
        whole=whole,
        tasks=tasks,
        steps=by_step(attempts),
        unshared=_unshared(attempts, uses),
        curve=tuple(learning_curve(order, tasks)),
    )


def _unshared(attempts: Sequence[Attempt], uses: Sequence[tuple[str, str]]) -> Bill:
    """Return the sum of all attempts, each as often as tasks used its result; the engine's own counts once."""
    users = Counter(key for key, _ in set(uses))
    repeated = [
        attempt
        for attempt in attempts
        for _ in range(1 if attempt.step == ENGINE else max(1, users[attempt.key]))
    ]
    return total(repeated)


def prices_of(*lists: Mapping[str, Any]) -> Prices:
    """Return the price list, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    for prices in lists:
        merged |= prices
    return Prices(**merged)


def shown(bill: Bill, prices: Prices) -> dict[str, Any]:
    """Return a bill as reports and commands show it."""
    data = bill.to_json(prices)
    return data | {"total": data["money"]}


__all__ = ["SHARED", "RunBill", "bill_of_run", "prices_of", "shown"]
