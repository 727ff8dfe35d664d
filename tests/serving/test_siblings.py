"""Several workers' states as one."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from serving_kit import adder, running

from modelworks.core.errors import TrustError
from modelworks.serving.metrics import exposition
from modelworks.serving.siblings import Siblings, _short, merged


def test_counts_are_added_and_a_version_is_as_ready_as_its_best_worker(tmp_path: Path) -> None:
    states = []
    for number in range(2):
        with running(tmp_path / str(number), [adder(), adder("idle")]) as server:
            for _ in range(3 + number):
                assert server.infer("adder", [[1, 2, 3]])[0] == 200
            assert (
                server.request("POST", "/v1/models/adder/predict", {"rows": [{"c0": float("inf")}]})[0] == 400
            )
            states.append(server.request("GET", "/v1/status")[1])
    whole = merged(states)
    (version,) = whole["endpoints"][0]["versions"]
    assert version["requests"] == sum(state["endpoints"][0]["versions"][0]["requests"] for state in states)
    assert sum(version["latency"]["counts"]) == 7
    assert version["state"] == "ready"
    assert whole["models"]["loads"] == 2
    assert whole["workers"] == [states[0]["pid"], states[1]["pid"]]
    assert whole["resident_mb"] == pytest.approx(sum(state["resident_mb"] for state in states), abs=0.1)
    lines = exposition(whole).decode().splitlines()
    assert 'modelworks_request_seconds_count{model="adder",version="1"} 7' in lines
    assert merged(states[:1]) == {**states[0], "workers": [states[0]["pid"]]}


def test_a_dead_worker_is_forgotten_and_a_silent_one_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelworks.serving.siblings._WAIT_S", 0.2)
    own: dict[str, Any] = {"pid": os.getpid(), "endpoints": []}

    async def body() -> dict[str, Any]:
        siblings = Siblings(tmp_path, "token")
        await siblings.listen(asyncio.Protocol)
        folder = tmp_path / "workers"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(folder / "1.sock"))
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(folder / "2.sock"))
            silent.listen()
            found = await siblings.status(own)
        assert not (folder / "1.sock").exists()
        siblings.close()
        assert not (folder / f"{os.getpid()}.sock").exists()
        return found

    assert asyncio.run(body()) == {**own, "workers": [os.getpid()]}


def test_a_long_path_gets_a_short_one() -> None:
    assert len(str(_short(Path("/" + "x" * 200)))) < 100
    assert _short(Path("/short")) == Path("/short")


@pytest.mark.parametrize("planted", ["writable", "link"])
def test_workers_do_not_meet_where_others_can_write(tmp_path: Path, planted: str) -> None:
    """A socket that somebody else put there would be sent the server's own token."""
    folder = tmp_path / "workers"
    if planted == "writable":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")

    async def listen() -> None:
        await Siblings(tmp_path, "token").listen(asyncio.Protocol)

    with pytest.raises(TrustError, match="Other users of this machine can write"):
        asyncio.run(listen())
