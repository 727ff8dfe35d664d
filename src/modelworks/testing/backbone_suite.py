"""The conformance suite of backbones: every encoder of samples, ours and plugged-in ones, sits this exam.

@pytest.mark.parametrize("check", backbone_suite.CHECKS)
def test_my_backbone(check):
    backbone_suite.run(check, MySource())
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from modelworks.algorithms.backbones.fusion import fuse, payload_inputs
from modelworks.algorithms.samples.head import linear_head
from modelworks.compute.embedding import embed_column, objects
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.backbone import EMBEDDING, Backbone, BackboneSource
from modelworks.core.signature import CHARACTERS, PIXELS, SERIES, Signature
from modelworks.core.task import Modality, TaskKind

Check = Callable[[BackboneSource], None]

PAYLOADS = {"image": (PIXELS, "UINT8"), "text": (CHARACTERS, "INT64"), "series": (SERIES, "FP32")}
DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml"))
CLOSE = 1e-4
_ROWS = 40


def sample_payloads(modality: Modality, rows: int = _ROWS, seed: int = 0) -> list[Any]:
    """Return made-up samples: images of several sizes, texts of several scripts, two-channel series."""
    rng = np.random.default_rng(seed)
    if modality == "image":
        return [
            rng.integers(0, 256, (int(rng.integers(12, 50)), int(rng.integers(12, 50)), 3)).astype(np.uint8)
            for _ in range(rows)
        ]
    if modality == "text":
        words = ["pump", "leaks", "Oil", "42", "很好", "Straße", "—", "\U0001f600"]
        return [" ".join(rng.choice(words, int(rng.integers(1, 9)))) for _ in range(rows)]
    return [rng.normal(size=(2, 60)).cumsum(axis=1).astype(np.float32) for _ in range(rows)]


def strange_payloads(modality: Modality) -> list[Any]:
    """Return samples at the edge of what may come."""
    if modality == "image":
        return [np.zeros((1, 1, 3), np.uint8), np.full((200, 3, 3), 255, np.uint8)]
    if modality == "text":
        return ["", " ", "x" * 5000, "\U0010ffff\x00"]
    gone = np.full((2, 60), np.nan, np.float32)
    half = np.ones((2, 60), np.float32)
    half[0, 20:] = np.nan
    return [gone, half, np.zeros((2, 60), np.float32)]


def made(source: BackboneSource, seed: int = 0) -> Backbone:
    """Make a backbone from the made-up samples."""
    return source.make(sample_payloads(source.card.modality), seed)


def embeddings(backbone: Backbone, payloads: list[Any]) -> Any:
    """Return the embeddings of payloads, float32 [rows, width]."""
    return embed_column(backbone.onnx, payload_inputs(backbone, "sample"), objects(payloads))


def equal_bytes_for_equal_samples(source: BackboneSource) -> None:
    """Equal samples and seeds give equal bytes, and the digest is that of the bytes."""
    one, other = made(source), made(source)
    assert one.onnx == other.onnx and one.preprocessor == other.preprocessor
    assert one.digest == other.digest
    if one.preprocessor is None:
        assert one.digest == hashlib.sha256(one.onnx).hexdigest()


def is_what_it_says(source: BackboneSource) -> None:
    """Name, modality, payload tensor, width and licence are those of card and graph; operators are standard."""
    import onnx

    backbone, card = made(source), source.card
    assert (backbone.name, backbone.modality) == (card.name, card.modality)
    assert backbone.licence and card.summary and card.source
    if backbone.preprocessor is None:
        (payload,) = payload_inputs(backbone, "sample")
        assert (payload.name, payload.datatype) == PAYLOADS[card.modality]
        assert payload.payload
    graph = onnx.load_model_from_string(backbone.onnx).graph
    (output,) = graph.output
    assert output.name == EMBEDDING
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert output.type.tensor_type.shape.dim[1].dim_value == backbone.width
    assert {node.domain for node in graph.node} <= DOMAINS
    assert embeddings(backbone, sample_payloads(card.modality)).shape == (_ROWS, backbone.width)


def one_sample_equals_the_batch(source: BackboneSource) -> None:
    """A sample's embedding does not depend on the samples beside it."""
    backbone, payloads = made(source), sample_payloads(source.card.modality)
    whole = embeddings(backbone, payloads)
    for row in (0, _ROWS // 2, _ROWS - 1):
        np.testing.assert_allclose(embeddings(backbone, payloads[row : row + 1])[0], whole[row], atol=CLOSE)


def tells_samples_apart(source: BackboneSource) -> None:
    """Different samples have different embeddings."""
    found = embeddings(made(source), sample_payloads(source.card.modality))
    assert float(found.std(axis=0).max()) > 0


def strange_samples_stay_finite(source: BackboneSource) -> None:
    """Empty, huge and missing content gives finite numbers."""
    found = embeddings(made(source), strange_payloads(source.card.modality))
    assert np.isfinite(found).all()


def carries_a_head(source: BackboneSource) -> None:
    """Fused with a head it answers as backbone and head one after the other."""
    backbone, payloads = made(source), sample_payloads(source.card.modality)
    rng = np.random.default_rng(1)
    weights = (rng.standard_normal((backbone.width, 3)) / backbone.width**0.5).astype(np.float32)
    head, outputs = linear_head(TaskKind.MULTICLASS, weights, np.zeros(3, np.float32), ("a", "b", "c"))
    parts = GraphSession(head).run({EMBEDDING: embeddings(backbone, payloads)})
    signature = Signature(inputs=payload_inputs(backbone, "sample"), outputs=outputs, classes=("a", "b", "c"))
    session = GraphSession(fuse(backbone.onnx, head))
    whole = answer(session, signature, {"sample": objects(payloads)}, len(payloads))
    np.testing.assert_allclose(whole["probabilities"], parts["probabilities"], atol=CLOSE)


CHECKS: tuple[Check, ...] = (
    equal_bytes_for_equal_samples,
    is_what_it_says,
    one_sample_equals_the_batch,
    tells_samples_apart,
    strange_samples_stay_finite,
    carries_a_head,
)


def run(check: Check, source: BackboneSource) -> None:
    """Run one check on a configured source."""
    check(source)
