"""Judging a model of samples: the fused graph on the sealed rows, or its two halves where they are seen to agree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.signature import Signature
from modelworks.core.task import Task, TaskKind
from modelworks.core.verdict import Verdict
from modelworks.production.embedding import load_embeddings, load_tokenizer
from modelworks.production.fitting import finite, timed
from modelworks.production.halves import Halves, backbone_bytes
from modelworks.production.heads import SEALED, TRAINS
from modelworks.production.judging import JUDGED, PARITY, Judged, compare_answers, evaluate_answers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from modelworks.compute.runtime import GraphSession
    from modelworks.core.estimator import FittedModel

CHECKED_ROWS = 5
"""Sealed samples on which the shipped graph, which holds the backbone bit for bit, runs from end to end, one by one;
the first run warms up, the others are timed too."""

WARM_UP, REPEATS, QUICK, MARGIN = 2, 20, 8, 0.5
"""Runs that are timed; where the slowest of the quick ones takes at most this share of the limit, no others follow."""
ANSWERS = "answers.npz"


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the steps before wrote for one task.

    Attributes:
        table: Folder of ``ingest``.
        record: ``fit-i.json``.
        rows: ``rows-i.npy``.
        constant: Graph of the constant baseline, on the embeddings in ``embedded``; from payload to answers without.
        head: Graph of the head, on the embeddings in ``embedded``; or ``None`` where ``model`` is given.
        embedded: Folder of ``embed`` for its backbone, or ``None``.
        model: A model of its own, from payload to answers; or ``None``.
        reference: Graph of the reference head, or ``None``.
        reference_embedded: Folder of ``embed`` for the reference; ``None`` where its graph starts at the payload.
        champion: Package that answers today, or ``None``.
    """

    table: Path
    record: Path
    rows: Path
    constant: Path | None = None
    head: Path | None = None
    embedded: Path | None = None
    model: Path | None = None
    reference: Path | None = None
    reference_embedded: Path | None = None
    champion: Path | None = None


class SealedSamples:
    """The sealed rows of a task over samples, with what evaluation asks of them."""

    def __init__(self, files: Files, task: Task, record: dict[str, Any]) -> None:
        import numpy as np
        import pyarrow as pa

        from modelworks.data import open_table, typed_columns
        from modelworks.data.samples.normal import sample_target

        self.table, self.schema = open_table(files.table)
        self.kind = TaskKind(record["kind"])
        self.classes: tuple[str, ...] = tuple(record["classes"])
        self.payload: str = record["features"][0]
        sides = np.load(files.rows, allow_pickle=False)
        self.train = np.flatnonzero(sides == TRAINS)
        numbers = np.flatnonzero(sides == SEALED)
        target = sample_target(self.table, self.schema, task, self.kind, self.classes or None)
        self.numbers = numbers[target.present[numbers]]
        self.labels = target.values
        self.truth = target.values[self.numbers]
        self.rows = len(self.numbers)
        names = [name for name in task.slices if self.schema[name]]
        self.slices = typed_columns(self.table.select(names).take(pa.array(self.numbers)), self.schema, names)
        self.features: dict[str, Any] = {}
        self.weight = None

    def values(self, places: npt.NDArray[np.int64] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return the payload of the sealed rows, or of some of them (places among the sealed rows)."""
        from modelworks.data.samples.payload import payload_values

        rows = self.numbers if places is None else self.numbers[places]
        return {self.payload: payload_values(self.table, self.payload, rows)}


def judge_samples(files: Files, task: Task, look: int, folder: Path) -> Judged:
    """Score model, baselines and champion on the sealed samples and hold the result to the gate.

    Where the model is a head on a backbone, its answers come from the embeddings that the same backbone gave: the
    shipped graph is seen to hold that backbone bit for bit and runs from end to end on some of the rows; it runs on all
    of them if it does not, or if a single answer differs.

    Args:
        files: What the steps before wrote.
        task: The task.
        look: How often this sealed test set was looked at, with this time.
        folder: Gets ``judged.json`` and ``answers.npz`` (rows of the table, truth, outputs).
    """
    import numpy as np

    from modelworks.compute.runtime import GraphSession
    from modelworks.evaluation import judge

    parts: dict[str, float] = {}
    with timed(parts, "read"):
        record = json.loads(files.record.read_text(encoding="utf-8"))
        task = replace(task, metric=record["metric"])
        sealed = SealedSamples(files, task, record)
        model = _model(files, record)
        session = GraphSession(model.onnx)
    with timed(parts, "score"):
        outputs, seen = _answers(files, sealed, session, model)
        parity = seen.parity
        numbers = {name: value for name, value in outputs.items() if value.dtype != object}
        kept: dict[str, Any] = {"rows": sealed.numbers, "truth": sealed.truth, **numbers}
        np.savez(folder / ANSWERS, allow_pickle=False, **kept)
        evaluation = evaluate_answers(sealed, outputs, model, task, look)
        others = _baselines(files, sealed, model)
        baselines = {
            name: compare_answers(sealed, outputs, found, task, look) for name, found in others.items()
        }
        champion = _champion(files.champion, sealed, model, outputs, task, look)
    with timed(parts, "latency"):
        feeds = _one_row(sealed, model, 0)
        latency = _latency_ms(session, feeds, task.limits.latency_ms, seen.times_ms)
        measured = {"latency_ms": latency, "size_bytes": len(model.onnx), "size_mb": len(model.onnx) / 1e6}
        measured |= {"parity": parity} if parity else {}
    with timed(parts, "show"):
        shown = _shown(files, sealed, outputs) if task.explain else {}
    verdict = judge(evaluation, task.gate, task.limits, measured, baselines, record["findings"], champion)
    verdict = with_hint(verdict, task, model.diagnostics.get("escalation"))
    findings = finite(
        {
            "evaluation": evaluation,
            "baselines": baselines,
            "champion": champion,
            "importance": [],
            "measured": measured,
            "verdict": verdict.to_json(),
            **({"samples": shown} if shown else {}),
        }
    )
    (folder / JUDGED).write_text(json.dumps(findings), encoding="utf-8")
    return Judged(
        record=record,
        model=model,
        session=seen.exact or session,
        table=sealed.table,
        schema=sealed.schema,
        findings=findings,
        parts=parts,
        train=sealed.train,
    )


def _shown(files: Files, sealed: SealedSamples, outputs: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Return the sealed samples that a report lets people look at."""
    from modelworks.production.sample_showing import Showing

    showing = Showing(
        sealed.table,
        sealed.payload,
        sealed.kind,
        sealed.classes,
        sealed=sealed.numbers,
        truth=sealed.truth,
        outputs=outputs,
        train=sealed.train,
        labels=sealed.labels if sealed.kind is not TaskKind.MULTILABEL else None,
        embeddings=load_embeddings(files.embedded) if files.embedded is not None else None,
    )
    return dict(finite(showing.to_json()))


def with_hint(verdict: Verdict, task: Task, escalation: Mapping[str, Any] | None) -> Verdict:
    """Return the verdict with the command that lets a network be tried, where a bound of the gate was missed for it."""
    hint = str((escalation or {}).get("hint") or "")
    bounds = {str(bound) for bound in task.gate}
    wrong = next((check.name for check in verdict.checks if check.outcome != "passed"), "")
    if not hint or wrong not in bounds:
        return verdict
    return replace(verdict, fix=f"{hint}, then the same command again: a network of its own may do better")


def _model(files: Files, record: dict[str, Any]) -> FittedModel:
    from modelworks.algorithms.backbones.fusion import fuse
    from modelworks.core.estimator import FittedModel

    tokenizer = None
    if files.head is not None and files.embedded is not None:
        tokenizer = load_tokenizer(files.embedded)
        onnx = fuse(backbone_bytes(files.embedded), files.head.read_bytes())
    else:
        assert files.model is not None
        onnx = files.model.read_bytes()
    data = record["model"]
    return FittedModel(
        onnx=onnx,
        signature=Signature.from_json(data["signature"]).with_tokenizer(tokenizer),
        diagnostics=data["diagnostics"],
    )


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What running the shipped graph from end to end showed.

    Attributes:
        parity: How it compares with its halves; empty where it has none.
        times_ms: What each run on one sample took, warm; empty where none was timed.
        exact: Its halves, where no number differed.
    """

    parity: dict[str, Any] = field(default_factory=dict)
    times_ms: tuple[float, ...] = ()
    exact: Halves | None = None


def _answers(
    files: Files, sealed: SealedSamples, session: GraphSession, model: FittedModel
) -> tuple[dict[str, npt.NDArray[Any]], _Seen]:
    """Return the answers to the sealed rows, and how the shipped graph compares with its halves."""
    from modelworks.algorithms.backbones.fusion import stands_on
    from modelworks.compute.feeds import answer
    from modelworks.compute.runtime import GraphSession

    if files.head is None or files.embedded is None:
        return answer(session, model.signature, sealed.values(), sealed.rows), _Seen()
    if not stands_on(model.onnx, backbone_bytes(files.embedded)):
        return answer(session, model.signature, sealed.values(), sealed.rows), _Seen()
    head = GraphSession(files.head.read_bytes())
    found = _head_answers(head, files.embedded, sealed)
    worst, times = _one_by_one(session, sealed, model, found)
    detail = (
        "The shipped graph holds the backbone of the cached embeddings bit for bit; run from end to end on "
        f"{len(times) + 1} sealed samples, its largest difference is {worst:.1g}."
    )
    if worst > PARITY:
        found = answer(session, model.signature, sealed.values(), sealed.rows)
        detail += " All sealed samples were answered by the shipped graph."
    parity = {"passed": worst <= PARITY, "detail": detail, "worst": worst}
    exact = Halves(files.embedded, head) if worst == 0 else None
    return found, _Seen(parity=parity, times_ms=times, exact=exact)


def _one_by_one(
    session: GraphSession,
    sealed: SealedSamples,
    model: FittedModel,
    expected: Mapping[str, npt.NDArray[Any]],
) -> tuple[float, tuple[float, ...]]:
    """Run the shipped graph on single sealed samples: the largest difference, and what all runs but the first took."""
    import time

    import numpy as np

    places = np.unique(np.linspace(0, sealed.rows - 1, min(CHECKED_ROWS, sealed.rows)).astype(np.int64))
    worst, times = 0.0, []
    for place in places:
        feeds = _one_row(sealed, model, int(place))
        start = time.thread_time()
        whole = session.run(feeds)
        times.append((time.thread_time() - start) * 1e3)
        worst = max(worst, *(_difference(whole[name], expected[name][[place]]) for name in whole))
    return worst, tuple(times[1:])


def _latency_ms(
    session: GraphSession, feeds: dict[str, npt.NDArray[Any]], limit_ms: float, times_ms: Sequence[float] = ()
) -> dict[str, float]:
    """Return what one row takes; runs that were timed already are enough where they leave a margin to the limit."""
    import numpy as np

    from modelworks.compute.runtime import single_row_latency_ms

    if times_ms:
        quick = {f"p{share}": float(np.percentile(times_ms, share)) for share in (50, 99)}
    else:
        quick = single_row_latency_ms(session, feeds, repeats=QUICK, warm_up=WARM_UP)
    if quick["p99"] <= MARGIN * limit_ms:
        return quick
    return single_row_latency_ms(session, feeds, repeats=REPEATS, warm_up=0, limit_ms=limit_ms)


def _difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Return the largest difference of numbers, relative where they are above 1; texts and truths are no measure."""
    import numpy as np

    if one.dtype.kind != "f":
        return 0.0
    return float(np.max(np.abs(one - other) / np.maximum(1.0, np.abs(other)), initial=0.0))


def _head_answers(head: GraphSession, embedded: Path, sealed: SealedSamples) -> dict[str, npt.NDArray[Any]]:
    from modelworks.core.backbone import EMBEDDING

    return head.run_batched({EMBEDDING: load_embeddings(embedded)[sealed.numbers]})


def _baselines(
    files: Files, sealed: SealedSamples, model: FittedModel
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    from modelworks.compute.feeds import answer
    from modelworks.compute.runtime import GraphSession

    found = {}
    for name, graph, embedded in (
        ("constant", files.constant, files.embedded),
        ("reference", files.reference, files.reference_embedded),
    ):
        if graph is None:
            continue
        if embedded is not None:
            found[name] = _head_answers(GraphSession(graph.read_bytes()), embedded, sealed)
        else:
            found[name] = answer(
                GraphSession(graph.read_bytes()), model.signature, sealed.values(), sealed.rows
            )
    return found


def _champion(
    folder: Path | None,
    sealed: SealedSamples,
    model: FittedModel,
    outputs: dict[str, npt.NDArray[Any]],
    task: Task,
    look: int,
) -> dict[str, Any] | None:
    """Compare with the package that answers today, unless it is this very model or answers another question."""
    if folder is None:
        return None
    from modelworks.compute.feeds import answer
    from modelworks.compute.runtime import GraphSession

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    signature = Signature.from_json(manifest["signature"]).with_tokenizer(load_tokenizer(folder))
    if signature.classes != sealed.classes or signature.inputs != model.signature.inputs:
        return None
    onnx = (folder / "model.onnx").read_bytes()
    if onnx == model.onnx:
        return None
    others = answer(GraphSession(onnx), signature, sealed.values(), sealed.rows)
    return compare_answers(sealed, outputs, others, task, look)


def _one_row(sealed: SealedSamples, model: FittedModel, place: int) -> dict[str, npt.NDArray[Any]]:
    import numpy as np

    from modelworks.compute.feeds import pack_columns

    return pack_columns(model.signature, sealed.values(np.array([place])), 1)
