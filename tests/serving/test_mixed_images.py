"""Images of several sizes in one request: a pass per size, answers in the order of the rows, every limit kept."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from onnx import helper
from serving_kit import graph, package_of, running, source
from test_image_door import bomb, brightness, encoded
from test_sample_models import length_of_text

from modelworks.compute.runtime import GraphSession
from modelworks.core.signature import Tensor
from modelworks.serving import rows as reading
from modelworks.serving.client import Client
from modelworks.serving.errors import DeadlinePassed, RequestTooLarge
from modelworks.serving.images import ImageDecoder
from modelworks.serving.mixed import MOST_PASSES, MixedFeeds, run_mixed
from modelworks.serving.model import MemorySource
from modelworks.serving.samples import sample_feeds, stacks
from modelworks.serving.work import GraphRunner, Work

SIZES = ((8, 6), (3, 5), (20, 4))


def text(form: str, size: tuple[int, int], shade: int) -> str:
    return base64.b64encode(encoded(form, size, (shade, shade, shade))).decode()


def darkness() -> MemorySource:
    """``prediction`` = logarithm of the mean: not finite for a black image."""
    inputs = [Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3), columns=("photo",))]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=1),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Log", ["mean"], ["prediction"]),
    ]
    return source("darkness", graph(nodes, inputs, outputs, {}), inputs, outputs)


def head(name: str, seed: int) -> MemorySource:
    """A head of its own on the mean colour of an image: two of them share the backbone."""
    trunk, own = np.random.default_rng(0), np.random.default_rng(seed)
    inputs = [Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3), columns=("photo",))]
    outputs = [Tensor(name="probabilities", datatype="FP32", shape=(-1, 3))]
    constants: dict[str, Any] = {
        "b0": (trunk.standard_normal((3, 64)) / 255).astype(np.float32),
        "b1": (trunk.standard_normal((64, 16)) / 8).astype(np.float32),
        "weights": own.standard_normal((16, 3)).astype(np.float32),
        "bias": own.standard_normal(3).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=1),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "b0"], ["t0"]), helper.make_node("Tanh", ["t0"], ["t1"]),
        helper.make_node("MatMul", ["t1", "b1"], ["t2"]), helper.make_node("Tanh", ["t2"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]  # fmt: skip
    onnx = graph(nodes, inputs, outputs, constants)
    images = [np.full((4, 4, 3), shade, np.uint8) for shade in (10, 200)]
    answers = [GraphSession(onnx).run({"pixels": image[None]})["probabilities"][0] for image in images]
    examples = {
        "rows": [{"photo": image.tolist()} for image in images],
        "expected": {"probabilities": [answer.tolist() for answer in answers]},
        "tolerance": {"absolute": 1e-5, "relative": 1e-4},
    }
    return replace(source(name, onnx, inputs, outputs, classes=("a", "b", "c")), examples=examples)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Any]:
    models = [brightness(), darkness(), head("colour", 1), head("mood", 2)]
    with running(home, models, audit_share=1.0) as server:
        yield server


def predict(served: Any, values: list[Any], model: str = "brightness", **more: Any) -> tuple[int, Any]:
    rows = [{"photo": value} for value in values]
    status, answer, _ = served.request("POST", f"/v1/models/{model}/predict", {"rows": rows, **more})
    return status, answer


def test_three_sizes_and_every_form_are_answered_in_order_as_alone(served: Any) -> None:
    values: list[Any] = []
    for number, form in enumerate(("PNG", "JPEG", "WEBP", "PNG", "JPEG", "PNG", "WEBP")):
        values.append(text(form, SIZES[number % 3], 20 * number))
    values.append(np.full((9, 2, 3), 200, np.uint8).tolist())
    counts = served.server.plane.routes["brightness"].champion.counts
    before = served.on_loop(lambda: (counts.requests, counts.rows))
    status, answer = predict(served, values)
    assert status == 200, answer
    found = [item["prediction"] for item in answer["predictions"]]
    assert served.on_loop(lambda: (counts.requests, counts.rows)) == (before[0] + 1, before[1] + 8)
    alone = [predict(served, [value])[1]["predictions"][0]["prediction"] for value in values]
    assert found == pytest.approx(alone)
    assert found == pytest.approx([0, 20, 40, 60, 80, 100, 120, 200], abs=1)


def test_one_broken_image_among_them_is_named(served: Any) -> None:
    values = [text("PNG", size, 90) for size in SIZES]
    broken = base64.b64encode(encoded("JPEG", (16, 16))[:60]).decode()
    for place, (value, code, said) in enumerate(
        [
            (broken, "MW1160", "Row 0, column 'photo': The bytes are not a readable image"),
            ("no base64!", "MW1105", "Row 1, column 'photo': the text is not base64."),
            (None, "MW1105", "Row 2, column 'photo': expected an image"),
        ]
    ):
        status, answer = predict(served, [*values[:place], value, *values[place:]])
        assert status == 400
        assert answer["error"].startswith(f"{code}: {said}")
    assert predict(served, [*values, base64.b64encode(bomb(60_000, 60_000)).decode()])[0] == 413
    assert predict(served, [{"x": 1}, *values])[0] == 400
    status, answer, _ = served.request(
        "POST", "/v1/models/brightness/predict", {"rows": [{"photo": values[0]}, {"foto": values[1]}]}
    )
    assert (status, answer["error"][:6]) == (400, "MW1104") and "Did you mean 'photo'?" in answer["error"]


def test_an_answer_that_is_not_finite_names_its_rows(served: Any) -> None:
    status, answer = predict(served, [text("PNG", SIZES[row], 90 - 45 * row) for row in range(3)], "darkness")
    assert status == 422, answer
    assert "Row 2: The model's output 'prediction' is not finite" in answer["error"]


def test_a_request_may_cost_so_many_passes(served: Any) -> None:
    values = [np.zeros((1, width, 3), np.uint8).tolist() for width in range(1, MOST_PASSES + 2)]
    assert predict(served, values[:-1])[0] == 200
    status, answer = predict(served, values)
    assert status == 413
    assert (
        f"have {MOST_PASSES + 1} sizes and take {MOST_PASSES + 1} passes; at most {MOST_PASSES}"
        in answer["error"]
    )


def test_large_images_of_one_size_do_not_go_together() -> None:
    large = np.zeros((1200, 1200, 3), np.uint8)
    feeds = MixedFeeds("pixels", [large, large, large[:2, :2], large], {"n": np.arange(4)})
    assert feeds.passes == [[0], [1], [3], [2]]
    part = feeds.part([2, 2])
    assert part["pixels"].shape == (2, 2, 2, 3) and part["n"].tolist() == [2, 2]


def test_all_images_together_have_so_many_pixels(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "REQUEST_PIXELS", 100)
    values = [text("PNG", (8, 6), 9), text("PNG", (8, 6), 9), text("PNG", (2, 2), 9)]
    assert predict(served, values)[0] == 200
    status, answer = predict(served, [*values, text("PNG", (1, 1), 9)])
    assert status == 413
    assert "up to row 3, have more pixels" in answer["error"]


def test_rows_are_counted_before_an_image_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = ImageDecoder()
    monkeypatch.setattr(decoder, "decode", lambda data: pytest.fail("decoded"))
    reader = reading.RowReader(brightness().signature, decoder, rows=3)
    with pytest.raises(RequestTooLarge, match="4 rows; at most 3"):
        reader.pack([{"photo": text("PNG", (1, 1), 0)}] * 4)
    with pytest.raises(DeadlinePassed, match="after 0 of 3 images"):
        reader.pack([{"photo": text("PNG", (1, 1), 0)}] * 3, until=time.monotonic() - 1)


def test_a_size_the_model_does_not_take_is_named() -> None:
    tensor = Tensor(name="pixels", datatype="UINT8", shape=(-1, 4, 6, 3), columns=("photo",))
    signature = brightness().signature
    reader = reading.RowReader(type(signature)(inputs=(tensor,), outputs=signature.outputs), ImageDecoder())
    rows = [{"photo": np.zeros(shape, np.uint8)} for shape in ((4, 6, 3), (6, 4, 3))]
    with pytest.raises(
        Exception, match="Row 1, column 'photo': the model takes images of 6x4 pixels, got 4x6"
    ):
        reader.pack(rows)


def test_passes_end_with_the_deadline_and_when_nobody_waits() -> None:
    session = GraphSession(brightness().onnx)
    images = [np.full((1, width, 3), width, np.uint8) for width in range(1, 11)]
    ran: list[int] = []

    class Slow(GraphRunner):
        def run(self, works: Any) -> Any:
            ran.append(1)
            time.sleep(0.02)
            if len(ran) == 12:
                work.cancel()
            return super().run(works)

    feeds = MixedFeeds("pixels", images, {})
    work = Work(feeds, 10, None, lambda *_: None, enqueued=0.0)
    answer, error = run_mixed(Slow(session), work)
    assert error is None and answer is not None and answer["prediction"].tolist() == list(range(1, 11))
    late = Work(feeds, 10, None, lambda *_: None, enqueued=0.0, deadline=time.monotonic() + 0.005)
    answer, error = run_mixed(Slow(session), late)
    assert isinstance(error, DeadlinePassed) and len(ran) == 11
    assert "after 1 of 10 passes" in error.message
    answer, error = run_mixed(Slow(session), work)
    assert answer is None and len(ran) == 12


def test_the_deadline_counts_from_the_request(served: Any) -> None:
    values = [text("PNG", (400 + number, 400), 9) for number in range(20)]
    status, answer = predict(served, values, timeout_ms=3)
    assert (status, answer["error"][:6]) == (504, "MW2313")


def test_heads_of_one_backbone_answer_together(served: Any) -> None:
    values = [text("PNG", SIZES[number % 3], 40 * number) for number in range(5)]
    rows = [{"photo": value} for value in values]
    for _ in range(2):
        status, answer, _ = served.request(
            "POST", "/v1/predict", {"models": ["colour", "mood", "brightness"], "rows": rows}
        )
        assert status == 200, answer
    for model in ("colour", "mood"):
        assert served.server.plane.routes[model].champion.resident.place is not None
        expected = [predict(served, [value], model)[1]["predictions"][0]["probabilities"] for value in values]
        found = [item["probabilities"] for item in answer["models"][model]["predictions"]]
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


def test_the_observation_log_has_one_line_per_row(tmp_path: Path) -> None:
    with running(tmp_path, [brightness()], audit_share=1.0) as server:
        values = [text("PNG", SIZES[number % 3], 20 * number) for number in range(4)]
        assert predict(server, [*values, text("PNG", (40, 40), 3)], key="k")[0] == 200
    logged = pq.read_table(next((tmp_path / "observations" / "brightness").glob("*.parquet"))).to_pylist()
    assert [line["row"] for line in logged] == list(range(5))
    assert [line["out.prediction"] for line in logged] == [0, 20, 40, 60, 3]
    shapes = [line["in.photo"]["shape"] for line in logged]
    assert shapes == [[6, 8, 3], [5, 3, 3], [4, 20, 3], [6, 8, 3], [40, 40, 3]]
    assert logged[3]["in.photo"]["values"] == [60] * 144
    assert logged[4]["in.photo"]["values"] is None and len(logged[4]["in.photo"]["sha256"]) == 64


def test_a_package_asked_without_a_server_takes_them_too(tmp_path: Path) -> None:
    from modelworks.control.asking import Asker
    from modelworks.core.errors import DataError
    from modelworks.packaging import TrustPolicy, open_package

    path = package_of(
        tmp_path,
        brightness(),
        [{"photo": [[[1, 2, 3]]]}, {"photo": [[[9, 9, 9]] * 2]}, {"photo": [[[0, 0, 0]]]}],
    )
    asker = Asker(open_package(path, TrustPolicy(require_signed=False)))
    values = [text("PNG", SIZES[number % 3], 20 * number) for number in range(5)]
    answers = asker.answer_rows([{"photo": value} for value in values]).to_json()
    assert [item["prediction"] for item in answers] == pytest.approx([0, 20, 40, 60, 80])
    with pytest.raises(DataError, match="the model has no column 'foto'"):
        asker.answer_rows([{"foto": values[0]}])


def test_the_client_sends_bytes_and_arrays(served: Any) -> None:
    rows = [
        {"photo": encoded("PNG", SIZES[0], (9, 9, 9))},
        {"photo": np.full((3, 4, 3), 30, np.uint8)},
        {"photo": text("PNG", SIZES[1], 60)},
    ]
    with Client(f"http://127.0.0.1:{served.address.port}", token=served.token) as client:
        found = client.predict("brightness", rows)
        assert [item["prediction"] for item in found] == pytest.approx([9, 30, 60])
        with pytest.raises(TypeError, match="object cannot be sent as JSON"):
            client.predict("brightness", [{"photo": object()}])


@pytest.mark.parametrize("model", ["image", "text"])
def test_samples_of_different_sizes_are_batched_all_the_same(model: str) -> None:
    """Two golden rows of different sizes could not be stacked, so such models were never batched."""
    if model == "image":
        made, rows = brightness(), [{"photo": np.full((4, size, 3), size, np.uint8)} for size in (5, 9)]
    else:
        made, rows = length_of_text(), [{"review": "good"}, {"review": "better"}]
    samples = sample_feeds(made.signature, {"rows": rows})
    assert stacks(GraphSession(made.onnx), made.signature, samples)
    one, other = (next(iter(feeds.values())) for feeds in samples)
    assert one.shape == other.shape
