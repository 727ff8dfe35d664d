"""Big models are in memory once for all workers; what they share is checked, and answers do not change by a bit."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from serving_kit import DEEP_WIDTH, adder, deep, graph

from modelworks.compute.runtime import WEIGHTS_FILE, GraphSession
from modelworks.core.digest import digest_bytes
from modelworks.core.signature import Tensor
from modelworks.serving import weights
from modelworks.serving.loading import Loader, LoadLimits
from modelworks.serving.proofs import Proofs
from modelworks.serving.weights import SharedWeights, WeightsFolder, weights_folder
from modelworks.serving.worker import shared_weights


def _samples(rows: int = 1) -> list[dict[str, Any]]:
    return [{"x": np.random.default_rng(7).standard_normal((rows, DEEP_WIDTH)).astype(np.float32)}]


def _share(folder: WeightsFolder, **options: Any) -> SharedWeights:
    return SharedWeights(folder.path, folder.secret, **options)


@pytest.fixture
def folder(tmp_path: Path) -> WeightsFolder:
    return WeightsFolder(tmp_path)


def _private_kb(pid: int | str = "self") -> int:
    """Anonymous memory: what no other process can share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss_Anon:"))


def test_answers_are_equal_to_the_last_bit_and_the_weights_are_not_private(folder: WeightsFolder) -> None:
    onnx = deep().onnx
    private = GraphSession(onnx, arena=False)
    first = _share(folder).session(onnx, _samples())
    assert first is not None
    before = _private_kb()
    second = _share(folder).session(onnx, _samples())
    assert second is not None
    for rows in (1, 2, 7, 64):
        for feeds in _samples(rows):
            expected = private.run(feeds)["prediction"].tobytes()
            assert first.run(feeds)["prediction"].tobytes() == expected
            assert second.run(feeds)["prediction"].tobytes() == expected
    assert (first.shared_bytes, second.shared_bytes, private.shared_bytes) == (len(onnx), len(onnx), 0)
    assert _private_kb() - before < len(onnx) / 1024 / 3
    place = folder.path / digest_bytes(onnx)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / WEIGHTS_FILE).stat().st_mode) == 0o400
    assert not list(folder.path.glob(".making*"))
    folder.close()
    assert not folder.path.exists()
    assert (
        second.run(_samples()[0])["prediction"].tobytes()
        == private.run(_samples()[0])["prediction"].tobytes()
    )


def _flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    path.chmod(0o400)


def _writable(path: Path) -> None:
    path.chmod(0o460)


def _linked(path: Path) -> None:
    os.link(path, path.parent.parent / "second-name")


def _replaced_by_link(path: Path) -> None:
    other = path.parent.parent / "elsewhere"
    path.rename(other)
    path.symlink_to(other)


def _gone(path: Path) -> None:
    path.unlink()


def _without_mac(path: Path) -> None:
    (path.parent / "mac").unlink()


def _other_models(path: Path) -> None:
    """The well-formed files of another graph of the same server, digest and all."""
    other = deep(seed=1).onnx
    made = path.parent.parent / digest_bytes(other)
    path.parent.rename(path.parent.parent / "away")
    made.rename(path.parent)


@pytest.mark.parametrize(
    "alter",
    [_flip, _writable, _linked, _replaced_by_link, _gone, _without_mac, _other_models],
)
def test_an_altered_file_is_refused_said_and_made_again(
    folder: WeightsFolder, alter: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    onnx = deep().onnx
    share = _share(folder)
    assert share.session(onnx, _samples()) is not None
    assert share.session(deep(seed=1).onnx, _samples()) is not None
    caplog.clear()
    assert share.session(onnx, _samples()) is not None
    assert caplog.records == []
    alter(folder.path / digest_bytes(onnx) / WEIGHTS_FILE)
    session = share.session(onnx, _samples())
    assert "are refused" in caplog.text
    assert session is not None
    expected = GraphSession(onnx, arena=False).run(_samples()[0])["prediction"]
    assert session.run(_samples()[0])["prediction"].tobytes() == expected.tobytes()
    caplog.clear()
    assert share.session(onnx, _samples()) is not None
    assert caplog.records == []


def test_the_key_of_another_server_opens_nothing(folder: WeightsFolder, tmp_path: Path) -> None:
    onnx = deep().onnx
    _share(folder).session(onnx, _samples())
    place = folder.path / digest_bytes(onnx)
    stranger = SharedWeights(folder.path, b"another key".ljust(32), 2**62)
    with pytest.raises(weights.TrustError, match="not the bytes that were written"):
        stranger._open(place, digest_bytes(onnx), len(onnx), 1)


def test_a_file_that_changes_between_check_and_use_is_refused(
    folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = deep().onnx
    share = _share(folder)
    share.session(onnx, _samples())
    place = folder.path / digest_bytes(onnx)

    def meanwhile(*arguments: Any, **options: Any) -> GraphSession:
        session = GraphSession(*arguments, **options)
        _flip(place / WEIGHTS_FILE)
        return session

    monkeypatch.setattr(weights, "GraphSession", meanwhile)
    with pytest.raises(weights.TrustError, match="changed while they were loaded"):
        share._open(place, digest_bytes(onnx), len(onnx), 1)


def test_a_graph_without_large_tensors_is_loaded_privately_and_not_tried_again(folder: WeightsFolder) -> None:
    """Eight megabytes in tensors below 64 KB, as a tree ensemble's attributes are: there is nothing to map."""
    inputs = [Tensor(name="x", datatype="FP32", shape=(-1, 8000))]
    outputs = [Tensor(name="y", datatype="FP32", shape=(-1, 8000))]
    constants = {f"c{number}": np.full(8000, float(number), np.float32) for number in range(20)}
    nodes = [
        helper.make_node("Sum", ["x", *constants], ["s"]),
        helper.make_node("Identity", ["s"], ["y"]),
    ]
    onnx = graph(nodes, inputs, outputs, constants)
    share = _share(folder)
    samples = [{"x": np.zeros((1, 8000), np.float32)}]
    first = share.session(onnx, samples)
    assert first is not None
    assert first.shared_bytes == 0
    assert first.run(samples[0])["y"][0, 0] == 190.0
    assert share.session(onnx, samples) is None


def test_answers_that_would_differ_are_not_shared(
    folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_equal", lambda one, other: False)
    onnx = deep().onnx
    session = _share(folder).session(onnx, _samples())
    assert session is not None
    assert session.shared_bytes == 0
    assert not (folder.path / digest_bytes(onnx) / WEIGHTS_FILE).exists()


def test_one_writes_and_the_others_wait(folder: WeightsFolder) -> None:
    import threading

    onnx = deep().onnx
    made: list[Any] = []
    shares = [_share(folder) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda share=share: made.append(share.session(onnx, _samples())))
        for share in shares
    ]
    lock = os.open(folder.path / f"{digest_bytes(onnx)}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert made == []
    os.close(lock)
    for thread in threads:
        thread.join(30)
    assert [session.shared_bytes for session in made] == [len(onnx)] * 3
    assert len(list(folder.path.glob(f"*/{WEIGHTS_FILE}"))) == 1


def test_files_stay_within_the_cap_and_the_oldest_go(folder: WeightsFolder) -> None:
    models = [deep(seed=seed).onnx for seed in range(3)]
    share = _share(folder, cap_bytes=5 * len(models[0]))
    sessions = [share.session(onnx, _samples()) for onnx in models]
    places = [folder.path / digest_bytes(onnx) / WEIGHTS_FILE for onnx in models]
    assert [place.exists() for place in places] == [False, True, True]
    assert sessions[0] is not None
    assert sessions[0].run(_samples()[0])["prediction"].tobytes() == (
        GraphSession(models[0], arena=False).run(_samples()[0])["prediction"].tobytes()
    )


def test_what_a_dead_server_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    living, dead = WeightsFolder(tmp_path), WeightsFolder(tmp_path)
    os.close(dead._held)
    later = WeightsFolder(tmp_path)
    assert (living.path.exists(), dead.path.exists(), later.path.exists()) == (True, False, True)


def test_what_a_killed_worker_left_half_made_is_removed(folder: WeightsFolder) -> None:
    onnx = deep().onnx
    left = folder.path / f".making-{digest_bytes(onnx)}-x"
    others = folder.path / f".making-{digest_bytes(b'other')}-x"
    for place in (left, others):
        place.mkdir()
        (place / WEIGHTS_FILE).write_bytes(b"half")
    assert _share(folder).session(onnx, _samples()) is not None
    assert (left.exists(), others.exists()) == (False, True)


def test_a_file_system_without_locks_shares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(weights.fcntl, "flock", refuse)
    assert weights_folder(tmp_path) is None
    assert "No locks available" in caplog.text


def test_a_full_disk_means_private_weights(
    folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: Any, **options: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.tempfile, "mkdtemp", full)
    assert _share(folder).session(deep().onnx, _samples()) is None
    assert "No space left" in caplog.text


def test_a_loader_shares_big_models_and_leaves_small_ones_alone(folder: WeightsFolder) -> None:
    loader = Loader(Proofs(None), LoadLimits(), weights=_share(folder))
    big = loader.load(deep())
    assert big.shared_bytes == len(deep().onnx)
    assert big.memory_bytes >= big.shared_bytes
    small = loader.load(adder())
    assert small.shared_bytes == 0
    assert [path.name for path in folder.path.iterdir() if path.is_dir()] == [digest_bytes(deep().onnx)]
    assert Loader(Proofs(None), LoadLimits()).load(deep()).shared_bytes == 0


def test_the_parents_second_line_is_read(folder: WeightsFolder) -> None:
    assert shared_weights(b"", 1) is None
    line = json.dumps([str(folder.path), folder.secret.hex()]).encode()
    share = shared_weights(line, 2**62)
    assert share is not None
    assert share.session(deep().onnx, _samples()) is not None
