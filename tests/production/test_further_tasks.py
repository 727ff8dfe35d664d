"""What a further task over the same samples takes: rows for its head, and runs of its graph."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelworks.compute import runtime
from modelworks.core.task import Task, TaskKind
from modelworks.production import heads, sample_judging
from modelworks.training.heads import selftraining


def _parted(train: np.ndarray, test: np.ndarray, classes: int = 2) -> heads._Parted:
    names = tuple(str(code) for code in range(classes))
    target: Any = SimpleNamespace(classes=names)
    split: Any = SimpleNamespace(train=train, test=test)
    task = Task(name="t", data="t.csv", target="y")
    return heads._Parted(
        task=task, kind=TaskKind.BINARY, reason="", target=target, split=split, findings=[], sealed=""
    )


def test_rows_without_a_label_join_where_labels_are_few_and_sealed_ones_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = pa.table({"x": np.arange(1000)})
    few, many = (
        _parted(np.arange(30), np.arange(30, 50)),
        _parted(np.arange(100, 300), np.arange(300, 400)),
    )
    assert heads._pool(table, [many]).tolist() == list(range(100, 300))
    found = heads._pool(table, [few])
    assert found.tolist() == [*range(30), *range(50, 1000)]
    both = heads._pool(table, [few, many])
    assert both.tolist() == [*range(30), *range(50, 300), *range(400, 1000)]
    monkeypatch.setattr(selftraining, "ASKED", 100)
    thinned = heads._pool(table, [few, many])
    assert set(thinned) <= set(both) and 230 < len(thinned) <= 330


@pytest.mark.parametrize(("p99", "rounds"), [(4.0, [8]), (6.0, [8, 20])])
def test_a_graph_far_below_its_limit_is_timed_less_often(
    p99: float, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []

    def timed(
        session: Any, feeds: Any, *, repeats: int, limit_ms: float = np.inf, **_: Any
    ) -> dict[str, float]:
        seen.append((repeats, limit_ms))
        return {"p50": 1.0, "p99": p99 + len(seen)}

    monkeypatch.setattr(runtime, "single_row_latency_ms", timed)
    session: Any = None
    found = sample_judging._latency_ms(session, {}, 10.0)
    assert [repeats for repeats, _ in seen] == rounds
    assert found["p99"] == p99 + len(rounds) and (len(rounds) == 1 or seen[-1][1] == 10.0)
