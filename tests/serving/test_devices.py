"""Where a model runs is a measured choice; what answers differently there is not served from there.

There is no accelerator in CI: a session on the CPU stands for the device, with the latency and the answers each test
gives it. ``mw serve --device cuda`` is refused for real.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_kit import adder, make_package, running
from test_heads import fused

from modelworks.compute import runtime
from modelworks.compute.runtime import GraphSession, cuda_lacking
from modelworks.core.errors import UsageError
from modelworks.serving.curve import LatencyCurve
from modelworks.serving.devices import Devices, compare
from modelworks.serving.foreground import main
from modelworks.serving.loading import Loader, LoadLimits
from modelworks.serving.metrics import exposition
from modelworks.serving.model import MemorySource
from modelworks.serving.packages import package_source
from modelworks.serving.proofs import Proofs
from modelworks.serving.settings import ServeSettings
from modelworks.serving.work import Work


def _curve(**milliseconds: float) -> LatencyCurve:
    """``_curve(r1=1.0, r8=4.0)``: a run of 1 row takes 1 ms, one of 8 rows 4 ms; in between on the line."""
    known = {int(name[1:]): value / 1e3 for name, value in milliseconds.items()}
    curve = LatencyCurve(64)
    sizes = sorted(known)
    curve.seconds = [float(np.interp(size, sizes, [known[item] for item in sizes])) for size in curve.sizes]
    curve.decide(0.05)
    return curve


class _Timed:
    """Gives each device the curve it is told instead of measuring one."""

    def __init__(self, cpu: LatencyCurve, cuda: LatencyCurve) -> None:
        self.curves = {"cpu": cpu, "cuda": cuda}
        self.made: list[str] = []

    def make(self, device: str, threads: int = 1) -> GraphSession:
        self.made.append(device)
        session = GraphSession(adder().onnx)
        session.device = device
        return session

    def measure(self, session: GraphSession) -> LatencyCurve:
        return self.curves[session.device]


ENCODER = _curve(r1=9.0, r8=42.0, r64=340.0)
ENCODER_THERE = _curve(r1=1.6, r8=1.9, r64=5.0)
TREES = _curve(r1=0.01, r64=0.09)
TREES_THERE = _curve(r1=0.06, r64=0.16)


@pytest.mark.parametrize(
    ("cpu", "cuda", "chosen"),
    [
        (ENCODER, ENCODER_THERE, True),
        (TREES, TREES_THERE, False),
        # Three times the throughput, but a lone row waits twice as long.
        (_curve(r1=0.5, r64=30.0), _curve(r1=1.0, r64=10.0), False),
        # Level in batches: not worth a device's memory.
        (_curve(r1=1.0, r64=10.0), _curve(r1=0.9, r64=9.5), False),
        (ENCODER, LatencyCurve(64), False),
    ],
)
def test_the_faster_place_for_the_batches_it_will_see_is_taken(
    cpu: LatencyCurve, cuda: LatencyCurve, chosen: bool
) -> None:
    assert compare(cpu, cuda)[0] is chosen
    timed = _Timed(cpu, cuda)
    devices = Devices("auto", lacking=lambda: "")
    placed = devices.place("digest", timed.make, timed.measure, lambda session: "")
    assert placed.session.device == ("cuda" if chosen else "cpu")
    assert placed.fresh
    assert placed.curve is timed.curves[placed.session.device]


def test_the_choice_is_kept_and_not_measured_again() -> None:
    timed = _Timed(ENCODER, ENCODER_THERE)
    devices = Devices("auto", lacking=lambda: "")
    devices.place("digest", timed.make, timed.measure, lambda session: "")
    timed.made.clear()
    timed.curves.clear()
    placed = devices.place("digest", timed.make, timed.measure, lambda session: "never asked")
    assert (timed.made, placed.fresh, placed.session.device) == (["cuda"], False, "cuda")
    assert placed.curve.to_json() == ENCODER_THERE.to_json()


def test_other_answers_on_the_device_mean_the_cpu_and_are_said() -> None:
    for wanted in ("auto", "cuda"):
        timed = _Timed(ENCODER, ENCODER_THERE)
        placed = Devices(wanted, lacking=lambda: "").place(
            "digest", timed.make, timed.measure, lambda session: "3 value(s) of 'y' differ"
        )
        assert placed.session.device == "cpu"
        assert "3 value(s) of 'y' differ" in placed.note


def test_a_device_that_fails_or_does_not_take_the_graph_means_the_cpu() -> None:
    timed = _Timed(ENCODER, ENCODER_THERE)

    def breaks(session: GraphSession) -> str:
        raise RuntimeError("CUDA failure 2: out of memory\nmore")

    placed = Devices("auto", lacking=lambda: "").place("d", timed.make, timed.measure, breaks)
    assert placed.session.device == "cpu"
    assert "out of memory" in placed.note

    def without(device: str, threads: int) -> GraphSession:
        return GraphSession(adder().onnx)

    placed = Devices("cuda", lacking=lambda: "").place("d", without, timed.measure, lambda session: "")
    assert (placed.session.device, "did not take the graph" in placed.note) == ("cpu", True)


def test_asked_for_means_no_comparison() -> None:
    timed = _Timed(TREES, TREES_THERE)
    placed = Devices("cuda", lacking=lambda: "").place("d", timed.make, timed.measure, lambda session: "")
    assert (timed.made, placed.session.device) == (["cuda"], "cuda")
    timed.made.clear()
    assert Devices("cpu").place("d", timed.make, timed.measure, lambda session: "").session.device == "cpu"
    assert timed.made == ["cpu"]


class _Standing(Loader):
    """A loader whose device is the CPU under another name, answering ``other`` instead if it is given."""

    other: bytes | None = None

    def _session(self, onnx: bytes, device: str = "cpu", samples: Any = (), threads: int = 1) -> GraphSession:
        session = super()._session(self.other or onnx if device == "cuda" else onnx)
        session.device = device
        return session


def _standing(folder: Path, other: bytes | None = None) -> _Standing:
    loader = _Standing(Proofs(folder), LoadLimits(), Devices("cuda", lacking=lambda: ""))
    loader.other = other
    return loader


def test_golden_examples_are_replayed_where_they_will_be_answered(tmp_path: Path) -> None:
    from modelworks.packaging.package import TrustPolicy

    right = package_source(make_package(tmp_path, "adder", 1.0), TrustPolicy.of_folder(tmp_path / "keys"))
    wrong = package_source(make_package(tmp_path, "adder", 2.0), TrustPolicy.of_folder(tmp_path / "keys"))
    assert _standing(tmp_path / "p").load(right).device == "cuda"
    loaded = _standing(tmp_path / "p", wrong.read().onnx).load(right)
    assert loaded.device == "cpu"
    assert "differ from the golden examples" in loaded.note
    found = loaded.runner.run(
        [Work({"numbers": np.ones((1, 3), np.float32)}, 1, None, lambda *a: None, enqueued=0.0)]
    )
    assert found[0][0] is not None
    assert found[0][0]["prediction"].tolist() == [4.0]


def test_a_model_without_examples_is_compared_to_the_cpu(tmp_path: Path) -> None:
    assert _standing(tmp_path / "p").load(adder(amount=1.0)).device == "cuda"
    loaded = _standing(tmp_path / "p", adder(amount=1.5).onnx).load(adder(amount=1.0))
    assert (loaded.device, "differs from the CPU's answer" in loaded.note) == ("cpu", True)


def test_each_head_is_replayed_on_the_backbone_it_joins(tmp_path: Path) -> None:
    """The second head's examples do not hold on the device: it is served whole from the CPU, the first one stays."""
    first, second = fused("a", seed=1), fused("b", seed=2)
    loader = _standing(tmp_path / "p")
    loaded = loader.load(first)
    assert loaded.shared is not None
    assert loaded.device == "cuda"
    tensor = second.signature.inputs[0]
    names = tuple(f"x{index}" for index in range(tensor.shape[1]))
    signature = replace(second.signature, inputs=(replace(tensor, columns=names),))
    examples: dict[str, Any] = {
        "rows": [dict.fromkeys(names, 0.5)],
        "expected": {tensor.name: [["nobody"]] for tensor in second.signature.outputs},
        "tolerance": {"absolute": 1e-5, "relative": 1e-4},
    }
    proven = MemorySource(
        name="b", digest="bb" * 32, signature=signature, onnx=second.onnx, examples=examples
    )
    from modelworks.serving.proofs import Proof

    loader.proofs.put(Proof(digest=proven.digest, outcome="proven", cause="", wall=0.0))
    joined = loader.load(proven)
    assert (joined.shared, joined.device) == (None, "cpu")


def test_cuda_is_lacking_here_and_the_reason_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "built without CUDA" in cuda_lacking()
    monkeypatch.setattr(runtime.onnxruntime, "get_available_providers", lambda: [runtime.CUDA, runtime.CPU])
    monkeypatch.setattr(runtime, "gpus", tuple)
    assert cuda_lacking() == "NVIDIA's driver reports no device"


def test_the_memory_of_a_model_on_a_device_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX Runtime is told; without a device here, whether it keeps to it is not tested."""
    told: list[list[tuple[str, dict[str, str]]]] = []
    made = runtime.onnxruntime.InferenceSession

    def session(onnx: bytes, options: Any, *, providers: list[tuple[str, dict[str, str]]]) -> Any:
        told.append(providers)
        return made(onnx, options, providers=[runtime.CPU])

    monkeypatch.setattr(runtime.onnxruntime, "InferenceSession", session)
    settings = ServeSettings(home=tmp_path, memory_mb=512)
    assert settings.device_bytes == 512 * 2**20
    limits = LoadLimits(device_bytes=ServeSettings(home=tmp_path, device_memory_mb=100).device_bytes)
    Loader(Proofs(tmp_path), limits, Devices("cuda", lacking=str)).load(adder())
    given = dict(told[0])
    assert given[runtime.CUDA]["gpu_mem_limit"] == str(100 * 2**20)
    assert given[runtime.CUDA]["arena_extend_strategy"] == "kSameAsRequested"
    assert given[runtime.CPU] == {}
    assert "gpu_mem_limit" not in runtime.provider_options(runtime.CUDA)


def test_a_device_that_is_not_there_is_an_error_before_anything_is_served(tmp_path: Path) -> None:
    """The worker is a real process; its error comes back with its code."""
    package = make_package(tmp_path, "adder", 1.0)
    settings = ServeSettings(
        home=tmp_path, port=0, grpc_port=None, packages=(package,), device="cuda", quiet=True
    )
    with pytest.raises(UsageError) as caught:
        main(settings)
    assert caught.value.error_code == "MW1394"
    assert "built without CUDA" in caught.value.message
    with pytest.raises(UsageError, match="no device 'tpu'"):
        ServeSettings(device="tpu").check()


def test_the_device_is_shown(tmp_path: Path) -> None:
    with running(tmp_path, [adder()]) as server:
        assert server.infer("adder", [[1, 2, 3]])[0] == 200
        version = server.server.status()["endpoints"][0]["versions"][0]
        assert version["device"] == "cpu"
        assert "built without CUDA" in version["device_note"]
        card = server.request("GET", "/v1/models/adder")[1]
        assert card["versions"][0]["device"] == "cpu"
        text = exposition(server.on_loop(server.server.status)).decode()
        assert 'modelworks_model_device{model="adder",version="1",device="cpu"} 1' in text
