"""Endpoints change by recorded, atomic acts: under load, across restarts and crashes, between processes (F7, F14)."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from serving_kit import Running, adder, echo, make_package, running
from test_dataplane import Bench

from modelworks.core.clock import ManualClock
from modelworks.core.errors import Conflict, ModelworksError, StorageError, UsageError
from modelworks.core.signature import Signature
from modelworks.packaging.keys import SigningKey
from modelworks.packaging.package import TrustPolicy
from modelworks.serving import endpoints as acts
from modelworks.serving.compatibility import broken_for_clients
from modelworks.serving.deployments import Deployments
from modelworks.serving.endpoints import Endpoint, share_point
from modelworks.serving.journal import Change, Journal
from modelworks.serving.staging import stage


def _deploy(journal: Journal, name: str, digest: str) -> None:
    before = journal.endpoints.get(name)
    state, version = acts.with_version(before, name, digest, "")
    journal.append(
        Change(
            actor="t", verb="deploy", endpoint=name, before=before, state=acts.promote(state, version.number)
        )
    )


# -- the journal -------------------------------------------------------------------------------------------------


def test_a_journal_brings_back_its_state(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    journal = Journal(path)
    for number in range(5):
        _deploy(journal, f"e{number % 2}", f"{number:064x}")
    again = Journal(path)
    assert again.endpoints == journal.endpoints
    assert [act.sequence for act in again.history()] == [1, 2, 3, 4, 5]
    assert path.stat().st_mode & 0o077 == 0


def test_a_torn_last_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    journal = Journal(path)
    _deploy(journal, "a", "1" * 64)
    whole = path.read_bytes()
    _deploy(journal, "a", "2" * 64)
    full = path.read_bytes()
    for cut in range(len(whole), len(full)):
        path.write_bytes(full[:cut])
        again = Journal(path)
        assert again.endpoints["a"].champion == "1"
        assert path.read_bytes() == whole
        _deploy(again, "b", "3" * 64)
        assert set(Journal(path).endpoints) == {"a", "b"}
        path.write_bytes(full)


def test_a_changed_or_missing_act_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    journal = Journal(path)
    for number in range(4):
        _deploy(journal, "a", f"{number:064x}")
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (
        [lines[0], lines[2], lines[3]],
        [lines[0], lines[1].replace(b'"actor":"t"', b'"actor":"x"'), lines[2], lines[3]],
        [lines[1], lines[0], lines[2], lines[3]],
        [b"\n", *lines],
    ):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(StorageError, match="damaged at act"):
            Journal(path)


def test_two_processes_never_overwrite_each_other(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    conflicts: list[int] = []

    def work(worker: int) -> None:
        journal = Journal(path)
        for number in range(40):
            while True:
                try:
                    _deploy(journal, "shared", f"{worker * 1000 + number:064x}")
                    break
                except Conflict:
                    conflicts.append(1)
                    journal.refresh()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    journal = Journal(path)
    assert journal.count == 80
    assert len(journal.endpoints["shared"].versions) == 80
    assert [version.number for version in journal.endpoints["shared"].versions] == [
        str(n) for n in range(1, 81)
    ]


def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deployments.jsonl"
    journal = Journal(path)
    _deploy(journal, "a", "1" * 64)
    before = path.read_bytes()
    state = dict(journal.endpoints)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        _deploy(journal, "a", "2" * 64)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert journal.endpoints == state
    _deploy(journal, "a", "2" * 64)
    assert Journal(path).endpoints["a"].champion == "2"


def test_order_is_by_sequence_whatever_the_clock_says(tmp_path: Path) -> None:
    clock = ManualClock()
    journal = Journal(tmp_path / "j", clock)
    for jump in (0, -3600, 30 * 86400, 0):
        clock.jump(jump)
        _deploy(journal, "a", f"{journal.count:064x}")
    again = Journal(tmp_path / "j", clock)
    assert [act.sequence for act in again.history()] == [1, 2, 3, 4]
    assert again.endpoints["a"].champion == "4"
    assert again.history()[1].wall < again.history()[0].wall


# -- the values --------------------------------------------------------------------------------------------------


class EndpointMachine(RuleBasedStateMachine):
    """Any sequence of acts keeps an endpoint whole, and its JSON brings it back."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Endpoint = acts.with_version(None, "e", "0" * 64, "")[0]
        self.count = 1

    @rule()
    def deploy(self) -> None:
        self.state, version = acts.with_version(self.state, "e", f"{self.count:064x}", "")
        self.count += 1
        assert version.number == str(self.count)

    @rule(data=st.data())
    def promote(self, data: Any) -> None:
        before = self.state.champion
        number = data.draw(st.sampled_from(self.state.versions)).number
        self.state = acts.promote(self.state, number)
        assert self.state.champion == number
        if number != before:
            assert self.state.history[-1] == before
            assert acts.rollback(self.state).champion == before

    @rule(data=st.data(), share=st.floats(0, 0.99))
    def canary(self, data: Any, share: float) -> None:
        number = data.draw(st.sampled_from(self.state.versions)).number
        if number == self.state.champion:
            with pytest.raises(UsageError):
                acts.set_canary(self.state, number, share)
            return
        self.state = acts.set_canary(self.state, number, share)

    @rule(data=st.data())
    def shadow(self, data: Any) -> None:
        number = data.draw(st.sampled_from(self.state.versions)).number
        if number != self.state.champion:
            self.state = acts.set_shadow(self.state, number)

    @precondition(lambda self: self.state.canary or self.state.history)
    @rule()
    def rollback(self) -> None:
        had_canary, champion = self.state.canary, self.state.champion
        self.state = acts.rollback(self.state)
        assert self.state.canary is None
        if had_canary:
            assert self.state.champion == champion

    @invariant()
    def whole(self) -> None:
        known = {version.number for version in self.state.versions}
        assert set(self.state.in_use) <= known
        assert self.state.canary is None or self.state.canary.number != self.state.champion
        assert self.state.shadow != self.state.champion
        assert Endpoint.from_json(json.loads(json.dumps(self.state.to_json()))) == self.state


TestEndpointMachine = EndpointMachine.TestCase
TestEndpointMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_sticky_keys_keep_their_version_as_the_share_grows() -> None:
    keys = [f"customer-{number}" for number in range(4000)]
    chosen: set[str] = set()
    for share in (0.05, 0.2, 0.5):
        now = {key for key in keys if share_point("e", key) < share}
        assert chosen <= now
        assert abs(len(now) / len(keys) - share) < 0.03
        chosen = now
    assert {key for key in keys if share_point("other", key) < 0.5} != chosen


# -- a running server --------------------------------------------------------------------------------------------


def _package_server(tmp_path: Path, **options: Any) -> Any:
    home = tmp_path / "home"
    first = make_package(home, "adder", 1.0)
    return running(home, packages=(first,), **options)


def _deploy_package(server: Running, path: Path, **options: Any) -> tuple[int, Any, Any]:
    settings_ = server.server.settings
    source = stage(path, settings_.state, TrustPolicy.of_folder(settings_.keys))
    return server.request("POST", "/v1/endpoints/adder/deploy", {"digest": source.digest, **options})


def test_hot_swap_canary_and_rollback_under_load_lose_and_confuse_nothing(tmp_path: Path) -> None:
    with _package_server(tmp_path) as server:
        stop = threading.Event()
        seen: dict[str, int] = {}
        wrong: list[Any] = []

        def load(worker: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                status, body, _ = server.infer("adder", [[number, worker, 0]])
                if status != 200:
                    wrong.append((status, body))
                    continue
                version = body["model_version"]
                seen[version] = seen.get(version, 0) + 1
                # Version n adds n.
                if body["outputs"][0]["data"] != [number + worker + float(version)]:
                    wrong.append(body)

        threads = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(2, 6):
                path = make_package(tmp_path / "home", "adder", float(number))
                status, body, _ = _deploy_package(server, path, canary=0.3)
                assert status == 200, body
                time.sleep(0.15)
                status, body, _ = server.request(
                    "POST", "/v1/endpoints/adder/promote", {"version": str(number)}
                )
                assert (status, body["champion"]) == (200, str(number))
                time.sleep(0.1)
            started = time.monotonic()
            status, body, _ = server.request("POST", "/v1/endpoints/adder/rollback", {})
            assert (status, body["champion"]) == (200, "4")
            assert server.infer("adder", [[0, 0, 0]])[1]["model_version"] == "4"
            assert time.monotonic() - started < 5
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        assert wrong == []
        assert set(seen) == {"1", "2", "3", "4", "5"}


def test_state_survives_a_restart_and_folders_are_not_deployed_twice(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = make_package(home, "adder", 1.0)
    with running(home, packages=(first,)) as server:
        second = make_package(home, "adder", 2.0)
        assert _deploy_package(server, second)[0] == 200
        assert (
            server.request("POST", "/v1/endpoints/adder/configure", {"nan": "refuse", "pin": True})[0] == 200
        )
        third = make_package(home, "adder", 3.0)
        assert _deploy_package(server, third, canary=0.25)[0] == 200
        recorded = server.request("GET", "/v1/endpoints/adder")[1]
    with running(home, packages=(first,)) as server:
        again = server.request("GET", "/v1/endpoints/adder")[1]
        assert again == recorded
        assert again["endpoint"]["champion"] == "2"
        assert again["endpoint"]["canary"]["share"] == 0.25
        assert [act["verb"] for act in again["acts"]] == ["deploy", "deploy", "configure", "deploy"]
        numbers = {server.infer("adder", [[0, 0, 0]])[1]["model_version"] for _ in range(60)}
        assert numbers == {"2", "3"}
        assert server.request("POST", "/v1/endpoints/adder/rollback", {})[1]["canary"] is None
        assert server.request("POST", "/v1/endpoints/adder/rollback", {})[1]["champion"] == "1"
        assert server.request("POST", "/v1/endpoints/adder/rollback", {})[0] == 400
    # The folder's package is older than the record: starting with it again undoes nothing.
    with running(home, packages=(first, second)) as server:
        assert server.infer("adder", [[0, 0, 0]])[1]["model_version"] == "1"


def test_a_canary_is_sticky_by_key(tmp_path: Path) -> None:
    with _package_server(tmp_path) as server:
        assert _deploy_package(server, make_package(tmp_path / "home", "adder", 2.0), canary=0.5)[0] == 200
        first = {}
        for _ in range(3):
            for number in range(30):
                body = {"rows": [{"c0": 1, "c1": 1, "c2": 1}], "key": f"k{number}"}
                version = server.request("POST", "/v1/models/adder/predict", body)[1]["version"]
                assert first.setdefault(number, version) == version
        assert set(first.values()) == {"1", "2"}


def test_a_bad_candidate_never_touches_the_champion(tmp_path: Path) -> None:
    with _package_server(tmp_path) as server:
        path = make_package(tmp_path / "home", "adder", 2.0)
        settings_ = server.server.settings
        source = stage(path, settings_.state, TrustPolicy.of_folder(settings_.keys))
        model = settings_.state / "packages" / source.digest / "model.onnx"
        data = bytearray(model.read_bytes())
        data[len(data) // 2] ^= 1
        model.write_bytes(data)
        status, body, _ = server.request("POST", "/v1/endpoints/adder/deploy", {"digest": source.digest})
        assert status == 503 and body["error"].startswith("MW31")
        assert server.infer("adder", [[1, 1, 1]])[1]["outputs"][0]["data"] == [4.0]
        assert server.request("GET", "/v1/endpoints/adder")[1]["endpoint"]["versions"][-1]["number"] == "1"
        assert server.request("POST", "/v1/endpoints/adder/deploy", {"digest": "f" * 64})[0] == 404


def test_a_package_that_is_asked_otherwise_does_not_replace_the_champion(tmp_path: Path) -> None:
    other = replace(adder("adder", 2.0), signature=_columns(adder().signature, "c0", "c1", "d"))
    with running(tmp_path, [adder()]) as server:
        deployments = server.server.deployments
        with pytest.raises(Conflict, match="has no column c2 and has a new column d") as caught:
            server.wait(deployments.deploy(other, endpoint="adder", actor="t"))
        assert caught.value.error_code == "MW1343" and "--change-signature" in caught.value.hint
        assert server.infer("adder", [[1, 2, 3]])[0] == 200
        assert [version.number for version in deployments.find("adder").versions] == ["1"]
        state = server.wait(deployments.deploy(other, endpoint="adder", actor="t", change_signature=True))
        assert state.champion == "2"


def _columns(signature: Signature, *columns: str) -> Signature:
    (tensor,) = signature.inputs
    return replace(signature, inputs=(replace(tensor, columns=columns),))


def test_what_breaks_a_client_is_named() -> None:
    old = adder().signature
    (given,) = old.outputs
    assert broken_for_clients(old, old) == ""
    assert broken_for_clients(Signature(inputs=(), outputs=()), old) == ""
    assert broken_for_clients(old, replace(old, outputs=(given, replace(given, name="more")))) == ""
    assert "another order" in broken_for_clients(old, _columns(old, "c1", "c0", "c2"))
    assert "no output 'prediction'" in broken_for_clients(old, replace(old, outputs=()))
    integer = replace(old, outputs=(replace(given, datatype="INT64"),))
    assert "is INT64 instead of FP32" in broken_for_clients(old, integer)
    assert "instead of numbers" in broken_for_clients(old, echo("INT64").signature)


def test_two_admins_at_once_get_a_conflict_or_a_turn() -> None:
    async def work() -> None:
        bench = Bench(adder(amount=1))
        for number in range(2, 6):
            await bench.deployments.deploy(adder(amount=number), actor="a", canary=0.1)
        outcomes = await asyncio.gather(
            *(
                bench.deployments.promote("adder", str(1 + number % 5), actor=f"a{number}")
                for number in range(40)
            ),
            return_exceptions=True,
        )
        assert not [
            item for item in outcomes if isinstance(item, Exception) and not isinstance(item, ModelworksError)
        ]
        journal = bench.deployments.journal
        assert [act.sequence for act in journal.history()] == list(range(1, journal.count + 1))
        assert bench.plane.routes["adder"].state == journal.endpoints["adder"]
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_settings_are_checked() -> None:
    async def work() -> None:
        bench = Bench(adder())
        for bad in (
            {"nothing": 1},
            {"nan": "x"},
            {"deadline_ms": -1},
            {"observe": 2},
            {"redact": "c0"},
            {"pin": 1},
        ):
            with pytest.raises(UsageError):
                await bench.deployments.configure("adder", bad, actor="t")
        with pytest.raises(UsageError, match="There are nan, priority, deadline_ms"):
            await bench.deployments.configure("adder", {"nothing": 1}, actor="t")
        with pytest.raises(UsageError, match="it takes missing or refuse"):
            await bench.deployments.configure("adder", {"nan": "x"}, actor="t")
        await bench.deployments.configure("adder", {"deadline_ms": 50, "priority": "background"}, actor="t")
        assert bench.plane.resolve("adder").policy.deadline_s == 0.05
        assert bench.plane.resolve("adder").policy.priority == 1
        await bench.deployments.configure("adder", {"deadline_ms": None, "priority": None}, actor="t")
        assert bench.plane.resolve("adder").policy.deadline_s == float("inf")
        with pytest.raises(UsageError):
            await bench.deployments.deploy(adder("../etc"), actor="t")
        bench.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_other_processes_acts_are_taken_in(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, packages=(make_package(home, "adder", 1.0),)) as server:
        second = make_package(home, "adder", 2.0)
        trust = TrustPolicy.of_folder(home / "keys")
        source = stage(second, home / "serving", trust)
        other = Journal(home / "serving" / "deployments.jsonl")
        before = other.endpoints["adder"]
        state, version = acts.with_version(before, "adder", source.digest, source.place)
        other.append(
            Change(
                actor="elsewhere",
                verb="deploy",
                endpoint="adder",
                before=before,
                state=acts.promote(state, version.number),
            )
        )
        server.on_loop(server.server.deployments.refresh)
        assert server.infer("adder", [[1, 1, 1]])[1]["outputs"][0]["data"] == [5.0]
    assert SigningKey.load_or_create(home / "keys").id in TrustPolicy.of_folder(home / "keys").keys


def test_workers_that_start_together_all_serve_what_one_of_them_recorded(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"

    async def body() -> None:
        benches = [Bench() for _ in range(2)]
        both = [Deployments(bench.plane, Journal(path), TrustPolicy()) for bench in benches]
        for deployments in both:
            deployments.restore()
        # Both read an empty journal; the second meets the first one's act.
        for deployments in both:
            deployments.serve([adder()])
            assert set(deployments.plane.routes) == {"adder"}
        assert Journal(path).count == 1
        for bench in benches:
            bench.close()

    asyncio.run(body())
