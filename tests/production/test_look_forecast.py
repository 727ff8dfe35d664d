"""What embedding a table should take: the card, what earlier tables taught, and what is at hand."""

from __future__ import annotations

import pytest

from modelworks.algorithms.plugins import backbone_source
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.task import Task
from modelworks.production.forecast import Forecast
from modelworks.production.look_forecast import (
    Look,
    LookMemory,
    Looks,
    card_cost_s,
    forecast_look,
    look_of,
)
from modelworks.production.order import Line
from modelworks.production.plan import plan_task

CARD = backbone_source("images.formula")().card
SIZE = 5_000_000


def look(rows: int, times: float = 0.0) -> Look:
    """A look at ``rows`` images; with ``times``, one that took so many times what the card says."""
    found = look_of(CARD, rows, 0.2, rows * 5000, 0)
    return Look(**{**found.to_json(), "cpu_s": times * card_cost_s(CARD, found)})


def test_a_backbone_that_learns_costs_more_than_its_embeddings() -> None:
    cost = card_cost_s(CARD, look(1000))
    assert cost > 1000 * CARD.cost_ms / 1000 + CARD.fit_s + 800 * CARD.fit_ms / 1000
    assert look(1000).learned == 800 and look(100_000).learned == 4000


def test_earlier_tables_correct_the_card_and_narrow_the_range() -> None:
    blind = forecast_look(CARD, look(2000), [])
    assert blind.low < card_cost_s(CARD, look(2000)) < blind.high and blind.basis == 0
    taught = forecast_look(CARD, look(2000), [look(500, 2.0), look(4000, 2.0), look(900, 2.0)])
    assert taught.basis == 3
    assert taught.cpu_s == pytest.approx(2 * card_cost_s(CARD, look(2000)), rel=0.15)
    assert taught.high / taught.low < blind.high / blind.low
    other = [Look(**{**look(500, 9.0).to_json(), "backbone": "images.patches"})]
    assert forecast_look(CARD, look(2000), other) == blind


def planned(looks: Looks, peers: int = 1) -> Forecast:
    schema = Schema(
        (
            Column(name="x", kind=ColumnKind.IMAGE, distinct=1000),
            Column(name="y", kind=ColumnKind.CATEGORY, distinct=2),
        ),
        rows=1000,
    )
    task = Task(name="t", data="t.zip", target="y", modality="image")
    facts = {"y": {"kind": "binary", "reason": "", "counts": [500, 500], "rows": 1000}}
    line = Line(name="t", data="t.zip", targets=("y",))
    return plan_task(line, task, schema, facts, [], peers, 0, looks).fit


def test_embeddings_at_hand_cost_nothing_and_peers_share_the_others() -> None:
    whole = planned(Looks(bytes=SIZE))
    assert whole.cpu_s > CARD.fit_s and whole.low < whole.cpu_s < whole.high
    kept = planned(Looks(bytes=SIZE, kept=frozenset({"images.formula", "images.patches", "images.pixels"})))
    assert kept.cpu_s < 0.5
    part = planned(Looks(bytes=SIZE), peers=10)
    assert part.cpu_s - kept.cpu_s == pytest.approx((whole.cpu_s - kept.cpu_s) / 10)


def test_what_a_look_took_is_remembered_once_and_not_where_memory_is_off() -> None:
    class Memory(dict):  # type: ignore[type-arg]
        def recall(self, _space: str) -> dict[str, object]:
            return dict(self)

        def remember(self, _space: str, key: str, value: object) -> None:
            assert key not in self
            self[key] = value

    memory = Memory()
    for _ in range(2):
        LookMemory(memory).learn("key", look(100, 1.5))
    assert list(LookMemory(memory).lessons.values()) == [look(100, 1.5)]
    off = LookMemory(None)
    off.learn("key", look(100, 1.5))
    assert off.lessons == {}
