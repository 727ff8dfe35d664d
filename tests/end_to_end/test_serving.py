"""From a table to an answering server and back, as a person does it: commands, curl, the public client, Python."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from command_line import CommandLine

import modelworks as mw_api
from modelworks.core.errors import ModelworksError

pytestmark = pytest.mark.slow


ROW = {
    "island": "Torgersen",
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "sex": "MALE",
    "body_mass_g": 3750,
}


@contextmanager
def serving(mw: CommandLine, *arguments: str) -> Iterator[dict[str, Any]]:
    process = mw.start("serve", *arguments, "--port", "0", "--grpc-port", "0", "--json")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    try:
        yield {**json.loads(line), "process": process}
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == ""


def test_from_a_table_to_a_rolled_back_deployment(mw: CommandLine, tables: Path, tmp_path: Path) -> None:
    source = str(tables / "penguins.csv")
    made = mw.json("produce", source, "--target", "species", "--name", "penguins", "--deploy")
    assert made["lines"][0]["deployed"] == {"endpoint": "penguins", "version": "1", "at": "the next mw serve"}
    with serving(mw, "--keep-ready") as server:
        assert server["endpoints"] == ["penguins"]
        token = Path(server["token_file"]).read_text().strip()
        _only_loopback(server["process"].pid)
        _curl(server["url"], token)
        _public_client(server, token)
        with mw_api.Client(server["url"], token=token) as client:
            assert client.predict("penguins", [ROW])[0]["label"] == "Adelie"
        asked = mw.json("infer", "penguins", "--row", json.dumps(ROW), "--key", "bird-1", "--explain")
        assert asked[0]["label"] == "Adelie"
        assert asked[0]["explanation"]["contributions"][0]["column"] == "bill_length_mm"
        mw.json("endpoint", "outcome", "penguins", "bird-1", "Adelie")
        bad = mw.run("infer", "penguins", "--row", '{"bill_length_mm": "abc"}')
        assert bad.returncode == 6
        assert "column 'bill_length_mm': expected a number, got 'abc'" in bad.stderr

        mw.json("produce", source, "--target", "species", "--name", "birds", "--seed", "5")
        canary = mw.json("deploy", "birds", "--endpoint", "penguins", "--canary", "50%")
        assert (canary["deployed"], canary["champion"], canary["canary"]["share"]) == ("2", "1", 0.5)
        assert canary["at"] == server["url"]
        assert {_version(server["url"], token, f"key-{number}") for number in range(30)} == {"1", "2"}
        assert mw.json("endpoint", "promote", "penguins", "2")["champion"] == "2"
        assert _version(server["url"], token, "") == "2"
        started = time.monotonic()
        assert mw.json("endpoint", "rollback", "penguins")["champion"] == "1"
        assert _version(server["url"], token, "") == "1"
        assert time.monotonic() - started < 30
        shown = mw.json("endpoint", "show", "penguins")
        assert [act["verb"] for act in shown["acts"]] == ["deploy", "deploy", "promote", "rollback"]
        assert mw.json("top")["versions"][0]["name"] == "penguins"
    # A restart serves what was last decided, not what is newest.
    with serving(mw) as server:
        assert _version(server["url"], token, "") == "1"
        assert mw.json("endpoint", "list")[0]["champion"] == "1"


def _only_loopback(pid: int) -> None:
    """S1: whatever the processes of a default start listen on is loopback."""
    parent = psutil.Process(pid)
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in (parent, *parent.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def _curl(url: str, token: str) -> None:
    def ask(path: str, body: Any, *headers: str) -> Any:
        sent = [part for header in headers for part in ("-H", header)]
        command = ["curl", "-sS", *sent, "--json", json.dumps(body), url + path]
        return json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        )

    refused = ask("/v1/models/penguins/predict", {"rows": [ROW]})
    assert refused["error"].startswith("MW3410")
    answer = ask("/v1/models/penguins/predict", {"rows": [ROW]}, f"Authorization: Bearer {token}")
    assert answer["predictions"][0]["label"] == "Adelie"


def _public_client(server: dict[str, Any], token: str) -> None:
    import tritonclient.grpc as grpc_client
    import tritonclient.http as http_client

    headers = {"authorization": f"Bearer {token}"}
    answers = []
    for module, url in (
        (http_client, server["url"].removeprefix("http://")),
        (grpc_client, f"127.0.0.1:{server['grpc_port']}"),
    ):
        client = module.InferenceServerClient(url)
        assert client.is_server_ready(headers=dict(headers))
        metadata = client.get_model_metadata("penguins", headers=dict(headers))
        inputs = metadata["inputs"] if isinstance(metadata, dict) else metadata.inputs
        sent = []
        for tensor in inputs:
            name, kind, shape = (
                (tensor["name"], tensor["datatype"], tensor["shape"])
                if isinstance(tensor, dict)
                else (tensor.name, tensor.datatype, tensor.shape)
            )
            array = np.full((1, int(shape[1])), np.nan, np.float32)
            if kind == "BYTES":
                array = np.full((1, int(shape[1])), "", dtype=object)
            item = module.InferInput(name, list(array.shape), kind)
            item.set_data_from_numpy(array)
            sent.append(item)
        answers.append(client.infer("penguins", sent, headers=dict(headers)).as_numpy("probabilities"))
        client.close()
    assert np.array_equal(answers[0], answers[1])
    assert answers[0].sum() == pytest.approx(1, abs=1e-5)


def _version(url: str, token: str, key: str) -> str:
    body = {"rows": [ROW], **({"key": key} if key else {})}
    with mw_api.Client(url, token=token) as client:
        return str(client.call("POST", "/v1/models/penguins/predict", body)["version"])


def test_nothing_under_way_is_lost_when_the_server_is_told_to_stop(
    mw: CommandLine, tables: Path, tmp_path: Path
) -> None:
    mw.json("produce", str(tables / "penguins.csv"), "--target", "species", "--name", "penguins")
    with mw_api.serve("penguins", home=mw.home, port=0, grpc=False) as server:
        failed: list[str] = []
        answered = [0]
        stop = threading.Event()

        def ask() -> None:
            with server.client(retries=0) as client:
                while not stop.is_set():
                    try:
                        assert client.predict("penguins", [ROW])[0]["label"] == "Adelie"
                        answered[0] += 1
                    except ModelworksError as error:
                        # What is refused while draining was never taken; that is no loss.
                        if error.error_code != "MW2312":
                            failed.append(str(error))
                        return
                    except OSError:
                        # The door is shut or the kept connection was closed between two requests.
                        return

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        while answered[0] < 50:
            time.sleep(0.01)
        assert server.stop() == 0
        stop.set()
        for asker in askers:
            asker.join(30)
    assert failed == []


def test_an_order_deploys_and_a_second_start_is_as_it_was_left(mw: CommandLine, order_file: Any) -> None:
    path = order_file(
        """
        tasks:
          - {name: cars, data: TABLES/auto_mpg.csv, target: mpg, deploy: true}
          - {name: birds, data: TABLES/penguins.csv, target: species, deploy: true}
          - {name: still, data: TABLES/penguins.csv, target: sex}
        """
    )
    made = mw.json("produce", str(path))
    deployed = {line["task"]: line["deployed"].get("version") for line in made["lines"]}
    assert deployed == {"cars": "1", "birds": "1", "still": None}
    assert mw.json("endpoint", "remove", "cars") == {"removed": "cars"}
    # The same order again changes nothing that a person decided in between.
    mw.json("produce", str(path))
    listed = {item["name"]: item["state"] for item in mw.json("endpoint", "list")}
    assert listed == {"birds": "not served now"}
    with serving(mw) as server:
        assert server["endpoints"] == ["birds", "still"]


def test_a_start_that_cannot_work_says_why(mw: CommandLine, tmp_path: Path) -> None:
    assert "MW4220" in mw.run("serve").stderr
    unsafe = mw.run("serve", str(tmp_path), "--host", "0.0.0.0")
    assert unsafe.returncode == 2
    assert "MW1310" in unsafe.stderr
    assert "MW4222" in mw.run("infer", "x", "--row", "{}").stderr
    with pytest.raises(ModelworksError, match="nothing"):
        mw_api.serve("nothing", home=mw.home)
