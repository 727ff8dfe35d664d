"""What the HTTP door remembers never answers for something that has changed, and says the same as the long way."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_kit import Running, adder, running

from modelworks.core.errors import ModelworksError
from modelworks.core.signature import Signature, Tensor
from modelworks.serving.access import add_token, remove_token
from modelworks.serving.rest.codec import Asked, decode
from modelworks.serving.rest.doors import AnswerWriter, BodyReader
from modelworks.serving.tensors import datatype_of, to_binary, to_list

BODY = json.dumps(
    {"inputs": [{"name": "numbers", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}]}
).encode()


class Client:
    """Sends the same bytes over one kept connection again and again."""

    def __init__(self, served: Running, token: str) -> None:
        self._connection = http.client.HTTPConnection(served.address.host, served.address.port, timeout=20)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, path: str = "/v2/models/a/infer") -> tuple[int, Any]:
        self._connection.request("POST", path, BODY, self._headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def answer(self) -> float:
        status, found = self.ask()
        assert status == 200, found
        return float(found["outputs"][0]["data"][0])

    def close(self) -> None:
        self._connection.close()


@contextmanager
def asking(tmp_path: Path, **token: Any) -> Iterator[tuple[Running, Client]]:
    with running(tmp_path, [adder("a", 1.0)]) as served:
        made = add_token(served.server.settings.keys, name="client", **{"role": "infer", **token})
        served.on_loop(served.server.access.reload)
        client = Client(served, made)
        try:
            yield served, client
        finally:
            client.close()


def test_the_same_bytes_go_to_the_version_that_answers_now(tmp_path: Path) -> None:
    with asking(tmp_path) as (served, client):
        deployments = served.server.deployments
        assert client.answer() == 7.0
        served.wait(deployments.deploy(adder("a", 2.0), actor="test"))
        assert client.answer() == 8.0
        served.wait(deployments.rollback("a", actor="test"))
        assert client.answer() == 7.0
        served.wait(deployments.canary("a", "2", 0.5, actor="test"))
        assert {client.answer() for _ in range(60)} == {7.0, 8.0}
        assert client.ask("/v2/models/a/versions/2/infer")[1]["model_version"] == "2"
        served.wait(deployments.rollback("a", actor="test"))
        assert {client.answer() for _ in range(20)} == {7.0}
        served.wait(deployments.remove("a", actor="test"))
        assert client.ask()[0] == 404


def test_a_token_that_is_revoked_or_changed_is_refused_on_the_connection_that_used_it(tmp_path: Path) -> None:
    with asking(tmp_path) as (served, client):
        keys, reload = served.server.settings.keys, served.server.access.reload
        assert client.answer() == 7.0
        path = keys / "serve-tokens.json"
        content = json.loads(path.read_text())
        content["tokens"][0]["endpoints"] = ["other"]
        path.write_text(json.dumps(content))
        assert served.on_loop(reload)
        assert client.ask()[0] == 404
        remove_token(keys, "client")
        assert served.on_loop(reload)
        assert client.ask()[0] == 401


def test_the_rate_of_a_token_counts_every_request(tmp_path: Path) -> None:
    with asking(tmp_path, rate=2) as (_, client):
        assert 429 in [client.ask()[0] for _ in range(8)]


def test_a_model_taken_out_of_service_is_refused_on_the_connection_that_used_it(tmp_path: Path) -> None:
    with asking(tmp_path) as (served, client):
        assert client.answer() == 7.0
        residency = served.server.residency
        resident = served.server.plane.routes["a"].champion.resident
        served.on_loop(lambda: residency.unload(resident))
        assert client.ask()[0] == 503
        served.on_loop(lambda: residency.release(resident))
        assert client.answer() == 7.0
        served.on_loop(lambda: residency.quarantine(resident, "for a test"))
        status, found = client.ask()
        assert status == 503 and "for a test" in found["error"]


FLOATS = Signature(
    inputs=(Tensor(name="a", datatype="FP32", shape=(-1, 2)), Tensor(name="b", datatype="FP64", shape=(-1,))),
    outputs=(
        Tensor(name="y", datatype="FP32", shape=(-1, 2)),
        Tensor(name="label", datatype="BYTES", shape=(-1,)),
    ),
)
BYTES = Signature(inputs=(Tensor(name="a", datatype="UINT8", shape=(-1, 2)),), outputs=FLOATS.outputs)
WHOLE = Signature(inputs=(Tensor(name="a", datatype="INT16", shape=(-1, 2)),), outputs=FLOATS.outputs)

VALUES = st.one_of(
    st.integers(-(2**70), 2**70), st.integers(-3, 300), st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([1e39, -1e300, None, True, "x", [1.0, 2.0]]),
)  # fmt: skip
INPUT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b", "a", "other"]),
        "datatype": st.sampled_from(["FP32", "FP64", "UINT8", "INT16", "BYTES", "??"]),
        "shape": st.sampled_from([[1, 2], [2], [1], [2, 2], [0, 2], [-1, 2], [1, 2, 1], []]),
    },
    optional={
        "data": st.one_of(
            st.lists(VALUES, max_size=5), st.lists(st.integers(0, 255), min_size=2, max_size=2)
        ),
        "parameters": st.sampled_from([{}, {"binary_data_size": 0}, {"x": 1}]),
    },
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=3)},
    optional={
        "id": st.sampled_from(["", "7", "é"]),
        "parameters": st.sampled_from([{}, {"binary_data_output": True}, {"priority": 1}]),
        "outputs": st.sampled_from(
            [[], [{"name": "y"}], [{"name": "?"}], [{"name": "label", "parameters": {}}]]
        ),
    },
)


def _read(read: Any) -> Any:
    try:
        asked = read()
    except ModelworksError as error:
        return error.error_code, error.message
    assert isinstance(asked, Asked)
    for values in asked.feeds.values():
        assert not asked.finite or np.isfinite(values).all()
    feeds = {name: (values.dtype, values.shape, values.tobytes()) for name, values in asked.feeds.items()}
    return feeds, asked.outputs, asked.id, asked.binary, asked.parameters


@pytest.mark.parametrize("signature", [FLOATS, BYTES, WHOLE], ids=["floats", "bytes", "whole"])
@given(st.one_of(REQUEST.map(lambda request: json.dumps(request).encode()), st.binary(max_size=60)))
def test_a_body_is_read_as_the_long_way_reads_it(signature: Signature, body: bytes) -> None:
    reader = BodyReader(signature)
    expected = _read(lambda: decode(body, None, signature))
    assert _read(lambda: reader.read(body, None)) == expected
    # The second time from memory.
    assert _read(lambda: reader.read(body, None)) == expected


def test_plain_requests_are_read_in_one_pass_and_their_values_are_known_to_be_finite() -> None:
    def body(data: list[Any]) -> bytes:
        sent = [{"name": "a", "datatype": "INT16", "shape": [1, 2], "data": data}]
        return json.dumps({"inputs": sent}).encode()

    reader = BodyReader(WHOLE)
    assert reader.read(body([1, -2]), None).finite
    assert not reader.read(body([[1, -2]]), None).finite
    many = json.dumps(
        {
            "inputs": [
                {"name": "a", "datatype": "FP32", "shape": [40_000, 2], "data": [0.5] * 80_000},
                {"name": "b", "datatype": "FP64", "shape": [40_000], "data": [1.0] * 40_000},
            ]
        }
    ).encode()
    asked = BodyReader(FLOATS).read(many, None)
    assert asked.finite and asked.feeds["a"].sum() == 40_000 and asked.feeds["b"].sum() == 40_000


@given(
    rows=st.integers(1, 3),
    id_=st.sampled_from(["", "7", 'quote " and é']),
    outputs=st.sampled_from([None, ("y",), ("label",), ("y", "label")]),
    binary=st.sampled_from([(), ("y",), ("label",), ("y", "label")]),
)
def test_answers_are_the_json_of_the_protocol(
    rows: int, id_: str, outputs: tuple[str, ...] | None, binary: tuple[str, ...]
) -> None:
    target: Any = SimpleNamespace(endpoint='m "1"', number="3", signature=FLOATS)
    writer = AnswerWriter(target)
    answer = {
        "y": np.arange(rows * 2, dtype=np.float32).reshape(rows, 2) / 3,
        "label": np.array(["ä", "b", "c"][:rows], object),
    }
    named = outputs or ("y", "label")
    asked = Asked({}, outputs, id_, frozenset(name for name in binary if name in named), {})
    wanted: dict[str, Any] = {"model_name": 'm "1"', "model_version": "3"}
    if id_:
        wanted["id"] = id_
    wanted["outputs"] = []
    tail = b""
    for name in ("y", "label"):
        if name not in named:
            continue
        item: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(answer[name]),
            "shape": answer[name].shape,
        }
        if name in asked.binary:
            raw = to_binary(answer[name])
            item["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        else:
            item["data"] = to_list(answer[name])
        wanted["outputs"].append(item)
    expected = msgspec.json.encode(wanted)
    for _ in range(2):
        body, length = writer.write(asked, answer)
        assert body == expected + tail
        assert length == (len(expected) if asked.binary else None)
