"""Never from bytes that were not verified: signatures at every load, proof in a child, quarantine (F13, F17, S10)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from serving_kit import adder, make_package, running

from modelworks.core.errors import TrustError, UsageError
from modelworks.core.signature import Signature, Tensor
from modelworks.packaging.keys import SigningKey
from modelworks.packaging.package import TrustPolicy
from modelworks.packaging.replay import ReplayLimits
from modelworks.serving.errors import Quarantined
from modelworks.serving.loading import Loader, LoadLimits
from modelworks.serving.model import MemorySource
from modelworks.serving.packages import find_packages, package_source
from modelworks.serving.proofs import Proofs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_package(folder, "adder", 1.0)
    return folder


def _trust(folder: Path) -> TrustPolicy:
    return TrustPolicy.of_folder(folder / "keys")


def test_two_hundred_flipped_bytes_and_what_else_can_happen_to_a_folder(made: Path, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    path = tmp_path / "package"
    shutil.copytree(made / "adder-1", path)
    files = sorted(path.iterdir())
    source = package_source(path, _trust(made))
    for _ in range(200):
        file = rng.choice([item for item in files if item.stat().st_size])
        data = bytearray(file.read_bytes())
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        good = file.read_bytes()
        file.write_bytes(data)
        with pytest.raises(TrustError):
            source.read()
        file.write_bytes(good)
    assert source.read().onnx
    with pytest.raises(TrustError, match="not trusted"):
        replace(source, trust=TrustPolicy()).read()
    (path / "extra.txt").write_text("x")
    with pytest.raises(TrustError):
        source.read()
    (path / "extra.txt").unlink()
    (path / "card.md").rename(tmp_path / "card.md")
    with pytest.raises(TrustError):
        source.read()
    (path / "card.md").symlink_to(tmp_path / "card.md")
    with pytest.raises(TrustError):
        source.read()


def test_a_package_that_was_replaced_by_another_valid_one_is_refused(made: Path, tmp_path: Path) -> None:
    other = make_package(tmp_path / "other", "adder", 2.0)
    shutil.copytree(made / "keys", tmp_path / "keys")
    key = SigningKey.load_or_create(tmp_path / "other" / "keys")
    trust = TrustPolicy(keys={**_trust(made).keys, key.id: key.public})
    path = tmp_path / "package"
    shutil.copytree(made / "adder-1", path)
    source = package_source(path, trust)
    shutil.rmtree(path)
    shutil.copytree(other, path)
    with pytest.raises(TrustError, match="another package than was opened before"):
        source.read()


def test_a_package_of_an_unknown_maker_is_refused_unless_said_otherwise(made: Path, tmp_path: Path) -> None:
    stranger = make_package(tmp_path, "adder", 3.0)
    with pytest.raises(TrustError, match="not trusted"):
        package_source(stranger, _trust(made))
    assert package_source(stranger, TrustPolicy(require_signed=False)).name == "adder"


def test_a_tampered_champion_is_not_reloaded_and_the_rest_serve(tmp_path: Path) -> None:
    home = tmp_path / "home"
    one = make_package(home, "one", 1.0)
    two = make_package(home, "two", 2.0)
    with running(home, packages=(one, two)) as server:
        assert server.infer("one", [[1, 1, 1]])[0] == 200
        resident = server.server.plane.routes["one"].champion.resident
        model = one / "model.onnx"
        good = model.read_bytes()
        model.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        server.on_loop(lambda: server.server.residency._evict(resident))
        status, body, _ = server.infer("one", [[1, 1, 1]])
        assert status == 503 and "model.onnx is not the file that was signed" in body["error"]
        assert server.request("GET", "/v2/models/one/ready")[0] == 503
        assert server.infer("two", [[1, 1, 1]])[0] == 200
        model.write_bytes(good)
        assert server.request("POST", "/v2/repository/models/one/load", {})[0] == 200
        assert server.infer("one", [[1, 1, 1]])[0] == 200


def test_a_missing_package_does_not_stop_the_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    one, two = make_package(home, "one", 1.0), make_package(home, "two", 2.0)
    with running(home, packages=(one, two)):
        pass
    shutil.rmtree(one)
    with running(home) as server:
        status, body, _ = server.infer("two", [[1, 1, 1]])
        assert status == 200
        status, body, _ = server.request(
            "POST", "/v1/models/one/predict", {"rows": [{"c0": 1, "c1": 2, "c2": 3}]}
        )
        assert status == 503 and "no package here" in body["error"]
        assert server.request("GET", "/v2/models/one/ready")[0] == 503


# -- the proof ---------------------------------------------------------------------------------------------------


def _with_examples(source: MemorySource, expected: list[float]) -> MemorySource:
    examples = {
        "rows": [{"c0": 1.0, "c1": 2.0, "c2": 3.0}],
        "expected": {"prediction": expected},
        "tolerance": {"absolute": 1e-5, "relative": 1e-4},
    }
    return replace(source, examples=examples)


def test_a_package_is_proven_once_and_the_proof_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import modelworks.serving.loading as loading

    calls: list[int] = []
    real = loading.replay

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(loading, "replay", counted)
    source = _with_examples(adder(), [7.0])
    for _ in range(2):
        Loader(Proofs(tmp_path), LoadLimits()).load(source)
    assert calls == [1]


def test_a_different_answer_is_quarantined_for_good_and_can_be_released(tmp_path: Path) -> None:
    source = _with_examples(adder(), [8.0])
    loader = Loader(Proofs(tmp_path), LoadLimits())
    with pytest.raises(Quarantined, match="otherwise than"):
        loader.load(source)
    again = Loader(Proofs(tmp_path), LoadLimits())
    with pytest.raises(Quarantined, match="otherwise than"):
        again.load(_with_examples(adder(), [7.0]))
    again.proofs.forget(source.digest)
    assert again.load(_with_examples(adder(), [7.0])).runner.session.outputs == ("prediction",)  # type: ignore[attr-defined]


def _greedy(node: Any, more: list[Any], constants: dict[str, Any]) -> MemorySource:
    """A table model that does something expensive before it answers 7."""
    from serving_kit import graph, source

    inputs = [Tensor(name="numbers", datatype="FP32", shape=(-1, 3), columns=("c0", "c1", "c2"))]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    nodes = [
        *([node] if node else []),
        *more,
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "extra"], ["prediction"]),
    ]
    onnx = graph(nodes, inputs, outputs, {"axes": np.array([1], np.int64), **constants})
    return _with_examples(source("greedy", onnx, inputs, outputs), [7.0])


def _endless() -> MemorySource:
    """A graph that computes for minutes."""
    size = 1600
    nodes, last = [], "start"
    for index in range(400):
        nodes.append(helper.make_node("MatMul", [last, "matrix"], [f"m{index}"]))
        last = f"m{index}"
    nodes.append(helper.make_node("ReduceMax", [last], ["peak"], keepdims=0))
    nodes.append(helper.make_node("Min", ["peak", "one"], ["extra"]))
    # The input is taken in, so that nothing can be folded away when the graph is loaded.
    nodes.insert(0, helper.make_node("ReduceMax", ["numbers"], ["largest"], keepdims=0))
    nodes.insert(1, helper.make_node("Mul", ["matrix", "largest"], ["start"]))
    constants = {"matrix": np.full((size, size), 1e-3, np.float32), "one": np.array(1.0, np.float32)}
    return _greedy(None, nodes, constants)


def test_a_load_that_crashes_is_quarantined_and_the_server_goes_on(tmp_path: Path) -> None:
    """The child that proves a package dies by SIGSEGV, as a native parser does on a hostile graph (F17)."""
    died = threading.Event()
    earlier = {child.pid for child in psutil.Process().children(recursive=True)}

    def shoot() -> None:
        end = time.monotonic() + 30
        while not died.is_set() and time.monotonic() < end:
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    # The one that computes; its parent only waits, and what earlier tests left is not meant.
                    computes = child.cpu_times().user > 0.5 and not child.children()
                    if computes and child.pid not in earlier and child.ppid() != os.getpid():
                        child.send_signal(signal.SIGSEGV)
                        died.set()
            time.sleep(0.05)

    with running(tmp_path, [adder("good"), replace(_endless(), name="bad")]) as server:
        hunter = threading.Thread(target=shoot)
        hunter.start()
        status, answer, _ = server.infer("bad", [[1, 2, 3]])
        hunter.join()
        assert died.is_set()
        assert (status, server.infer("good", [[1, 2, 3]])[0]) == (503, 200)
        assert "SIGSEGV" in answer["error"] or "crash" in answer["error"], answer
        assert server.request("GET", "/v2/models/bad/ready")[0] == 503
        assert server.request("GET", "/v2/health/ready")[0] == 200


def test_a_load_that_hangs_is_ended_and_quarantined(tmp_path: Path) -> None:
    source = _endless()
    loader = Loader(Proofs(tmp_path), LoadLimits(proof=ReplayLimits(wall_s=1.0)))
    with pytest.raises(Quarantined, match="did not finish within 1 s"):
        loader.load(source)
    proof = loader.proofs.of(source.digest)
    assert proof is not None and proof.outcome == "quarantined"


def test_a_load_that_eats_memory_is_ended_and_quarantined(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["numbers"], ["largest"], keepdims=0),
        helper.make_node("Expand", ["largest", "shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["peak"], keepdims=0),
        helper.make_node("Min", ["peak", "one"], ["extra"]),
    ]
    constants = {"shape": np.array([3_000_000_000], np.int64), "one": np.array(1.0, np.float32)}
    loader = Loader(Proofs(tmp_path), LoadLimits(proof=ReplayLimits(memory_mb=256, wall_s=10)))
    with pytest.raises(Quarantined):
        loader.load(_greedy(None, nodes, constants))


def test_a_graph_with_external_data_is_refused(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "outside")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    inputs = [Tensor(name="numbers", datatype="FP32", shape=(-1, 3), columns=("c0", "c1", "c2"))]
    outputs = [Tensor(name="prediction", datatype="FP32", shape=(-1,))]
    made = helper.make_graph(
        [helper.make_node("Add", ["numbers", "outside"], ["prediction"])], "g",
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["n"])],
        [tensor],
    )  # fmt: skip
    onnx = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    source = MemorySource(
        name="outside", digest="ef" * 32, onnx=onnx,
        signature=Signature(inputs=tuple(inputs), outputs=tuple(outputs)),
    )  # fmt: skip
    with pytest.raises(TrustError):
        Loader(Proofs(tmp_path), LoadLimits()).load(_with_examples(source, [1.0]))


def test_quarantine_shows_everywhere(tmp_path: Path) -> None:
    bad = _with_examples(adder("bad"), [99.0])
    with running(tmp_path, [bad, adder("good")]) as server:
        status, body, _ = server.infer("bad", [[1, 2, 3]])
        assert status == 503 and "quarantined" in body["error"]
        entries = {entry["name"]: entry for entry in server.request("POST", "/v2/repository/index")[1]}
        assert entries["bad"]["state"] == "UNAVAILABLE" and "otherwise" in entries["bad"]["reason"]
        assert (
            b'modelworks_model_quarantined{model="bad",version="1"} 1' in server.request("GET", "/metrics")[1]
        )
        assert server.infer("good", [[1, 2, 3]])[0] == 200
        proofs = list((tmp_path / "serving" / "proofs").glob("*.json"))
        assert json.loads(next(iter(proofs)).read_text())["outcome"] == "quarantined"


def test_packages_are_found_in_folders(tmp_path: Path) -> None:
    make_package(tmp_path, "b", 1.0)
    make_package(tmp_path, "a", 1.0)
    assert [path.name for path in find_packages([tmp_path])] == ["a-1", "b-1"]
    assert [path.name for path in find_packages([tmp_path / "b-1"])] == ["b-1"]
    with pytest.raises(UsageError, match="no package"):
        list(find_packages([tmp_path / "keys"]))
