"""What a further task over the same samples takes: rows for its head, and runs of its graph."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelworks.algorithms.backbones.fusion import fuse
from modelworks.algorithms.graph import Graph
from modelworks.algorithms.samples.head import embedding_input, linear_head
from modelworks.compute import runtime
from modelworks.core.signature import Tensor
from modelworks.core.task import Task, TaskKind
from modelworks.production import halves, heads, sample_judging
from modelworks.production.embedding import GRAPH
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


@pytest.mark.parametrize(("times", "rounds"), [((3.0, 4.0, 4.5), []), ((3.0, 4.0, 9.0), [20])])
def test_runs_that_were_timed_on_sealed_samples_are_not_made_again(
    times: tuple[float, ...], rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def timed(_session: Any, _feeds: Any, *, repeats: int, **_: Any) -> dict[str, float]:
        seen.append(repeats)
        return {"p50": 1.0, "p99": 8.0}

    monkeypatch.setattr(runtime, "single_row_latency_ms", timed)
    session: Any = None
    found = sample_judging._latency_ms(session, {}, 10.0, times)
    assert seen == rounds
    assert found["p99"] == (8.0 if rounds else pytest.approx(np.percentile(times, 99)))


def test_a_head_and_its_backbone_answer_as_their_fused_graph_and_look_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    below = Graph()
    seen = below.op("MatMul", "x", below.constant(rng.normal(size=(3, 4)).astype(np.float32)))
    below.op("LeakyRelu", seen, out="embedding", alpha=0.1)
    backbone = below.to_bytes([Tensor(name="x", datatype="FP32", shape=(-1, 3))], [embedding_input(4)])
    (tmp_path / GRAPH).write_bytes(backbone)
    runs: list[int] = []
    session = halves._looks(tmp_path)._session
    look = session.run
    monkeypatch.setattr(session, "run", lambda *what: runs.append(1) or look(*what))
    for number in range(2):
        weights = rng.normal(size=(4, 1)).astype(np.float32)
        head = linear_head(TaskKind.BINARY, weights, np.zeros(1, np.float32), ("no", "yes"))[0]
        whole = runtime.GraphSession(fuse(halves.backbone_bytes(tmp_path), head))
        both = halves.Halves(tmp_path, runtime.GraphSession(head))
        for rows in (1, 2):
            feeds = {"x": np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)}
            expected = whole.run(feeds)
            for name, answer in both.run(feeds).items():
                np.testing.assert_array_equal(answer, expected[name])
        assert len(runs) == 2, f"head {number} had the backbone look again"
