"""Trust at the door: tokens, roles, hidden endpoints, Host and Origin, unsafe binds (S1 to S6, S19)."""

from __future__ import annotations

import base64
import re
import stat
from pathlib import Path
from typing import Any

import psutil
import pytest
from serving_kit import adder, running

from modelworks.core.errors import TrustError, UsageError
from modelworks.serving.access import (
    LOCAL_TOKEN,
    TOKENS,
    Access,
    add_token,
    list_tokens,
    read_local_token,
    remove_token,
)
from modelworks.serving.errors import Busy, UnsafeStart
from modelworks.serving.settings import ServeSettings


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(
        tmp_path_factory.mktemp("home"), [adder("alpha"), adder("beta", 2.0)], grpc_port=0
    ) as server:
        yield server


def _paths(server: Any) -> list[tuple[str, str, str]]:
    return [
        (route.method, re.sub(r"\{\w+\}", "alpha", route.pattern), route.policy)
        for route in server.server.application.routes
    ]


def test_every_route_without_a_token_is_refused_except_the_open_ones(served: Any) -> None:
    seen_open = set()
    for method, path, policy in _paths(served):
        status, body, headers = served.request(
            method, path, body=b"" if method == "POST" else None, token=None
        )
        if policy == "open":
            seen_open.add(path)
            assert status == 200, path
        else:
            assert status == 401, path
            assert "www-authenticate" in headers
            assert body["error"].startswith("MW3410")
    static = {"/", "/docs", "/docs/page.js", "/docs/page.css", "/openapi.json"}
    assert seen_open == {"/v2/health/live", "/v2/health/ready", *static}


def test_an_unknown_path_tells_a_stranger_nothing(served: Any) -> None:
    assert served.request("GET", "/v1/secret", token=None)[0] == 401
    assert served.request("GET", "/v1/secret")[0] == 404


def test_every_rpc_without_a_token_is_refused_except_health(served: Any) -> None:
    import grpc

    from modelworks.serving.rpc.service import RpcService

    service = RpcService(served.server.access, served.server.plane, served.server.repository)
    with grpc.insecure_channel(f"127.0.0.1:{served.address.grpc_port}") as channel:
        for method, policy in service.methods.items():
            call = channel.unary_unary(method)
            if policy == "open":
                # One of them answers for as long as it is watched.
                assert next(iter(channel.unary_stream(method)(b"", timeout=10))) is not None
                continue
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, method
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("infer", {"any", "open", "infer"}),
        ("monitor", {"any", "open", "monitor"}),
        ("admin", {"any", "open", "infer", "monitor", "admin"}),
    ],
)
def test_roles_open_exactly_their_routes(served: Any, role: str, allowed: set[str]) -> None:
    token = add_token(served.server.settings.keys, name=f"matrix-{role}", role=role)
    served.on_loop(served.server.access.reload)
    for method, path, policy in _paths(served):
        if path.endswith(("/remove", "/unload")):
            continue
        status, _, _ = served.request(method, path, body=b"{}" if method == "POST" else None, token=token)
        assert (status == 403) == (policy not in allowed), (method, path, status)


def test_a_token_bound_to_one_endpoint_cannot_tell_that_another_exists(served: Any) -> None:
    token = add_token(served.server.settings.keys, name="beta only", role="infer", endpoints=("beta*",))
    served.on_loop(served.server.access.reload)
    for method, path, policy in _paths(served):
        if policy != "infer" or "alpha" not in path:
            continue
        body = b'{"rows": [], "inputs": [], "key": "k", "value": 1}' if method == "POST" else None
        hidden = served.request(method, path, body=body, token=token)
        missing = served.request(method, path.replace("alpha", "nothing"), body=body, token=token)
        assert hidden[0] == missing[0] == 404, path
        assert hidden[1]["error"].replace("alpha", "nothing") == missing[1]["error"]
    assert [model["name"] for model in served.request("GET", "/v1/models", token=token)[1]["models"]] == [
        "beta"
    ]
    assert {entry["name"] for entry in served.request("POST", "/v2/repository/index", token=token)[1]} == {
        "beta"
    }
    assert served.infer("beta", [[1, 1, 1]], token=token)[0] == 200


def test_basic_authorization_with_the_token_as_password(served: Any) -> None:
    value = base64.b64encode(f"anyone:{served.token}".encode()).decode()
    assert served.request("GET", "/v2", token=None, headers={"Authorization": f"Basic {value}"})[0] == 200
    assert served.request("GET", "/v2", token=None, headers={"Authorization": "Basic !!!"})[0] == 401


@pytest.mark.parametrize(
    "host", ["evil.test", "127.0.0.1.evil.test", "evil.test:8080", "[::2]:80", "localhost.evil"]
)
def test_a_foreign_host_is_refused_even_with_the_token(served: Any, host: str) -> None:
    assert served.request("GET", "/v2/health/live", headers={"Host": host})[0] == 403


def test_origins(served: Any) -> None:
    port = served.address.port
    own = f"http://127.0.0.1:{port}"
    assert served.request("GET", "/v2", headers={"Origin": "http://evil.test"})[0] == 403
    assert served.request("GET", "/v2", headers={"Origin": "null"})[0] == 403
    status, _, headers = served.request("GET", "/v2", headers={"Origin": own})
    assert (status, headers["access-control-allow-origin"]) == (200, own)
    assert "inference-header-content-length" in headers["access-control-expose-headers"]
    status, _, headers = served.request(
        "OPTIONS", "/v2/models/alpha/infer", token=None, headers={"Origin": own}
    )
    assert status == 204
    assert set(headers["access-control-allow-headers"].split(", ")) >= {"authorization", "x-request-key"}


def test_only_loopback_is_bound(served: Any) -> None:
    ports = {served.address.port, served.address.grpc_port}
    bound = [item.laddr for item in psutil.Process().net_connections("inet") if item.status == "LISTEN"]
    ours = [address for address in bound if address.port in ports]
    assert len(ours) == 2
    assert {address.ip.removeprefix("::ffff:") for address in ours} == {"127.0.0.1"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_a_public_bind_without_tls_refuses_to_start(tmp_path: Path, host: str) -> None:
    with pytest.raises(UnsafeStart):
        ServeSettings(home=tmp_path, host=host).check()
    ServeSettings(home=tmp_path, host=host, tls_certificate=tmp_path / "c", tls_key=tmp_path / "k").check()


def test_the_first_token_is_made_at_first_start_and_is_private(tmp_path: Path) -> None:
    one, two = Access(tmp_path / "one"), Access(tmp_path / "two")
    assert one.local_token != two.local_token
    assert len(one.local_token) >= 40
    assert stat.S_IMODE((tmp_path / "one" / LOCAL_TOKEN).stat().st_mode) == 0o600
    assert Access(tmp_path / "one").local_token == one.local_token == read_local_token(tmp_path / "one")
    (tmp_path / "one" / LOCAL_TOKEN).chmod(0o644)
    with pytest.raises(TrustError, match="can read"):
        Access(tmp_path / "one")


def test_tokens_are_kept_as_digests_and_can_be_revoked(tmp_path: Path) -> None:
    access = Access(tmp_path)
    token = add_token(tmp_path, name="ci", role="infer", rate=5)
    text = (tmp_path / TOKENS).read_text()
    assert token not in text
    assert stat.S_IMODE((tmp_path / TOKENS).stat().st_mode) == 0o600
    assert access.reload()
    assert access.authenticate(f"Bearer {token}").name == "ci"
    with pytest.raises(UsageError, match="already"):
        add_token(tmp_path, name="ci", role="infer")
    with pytest.raises(UsageError, match="no role"):
        add_token(tmp_path, name="x", role="root")
    remove_token(tmp_path, "ci")
    assert list_tokens(tmp_path) == []
    assert access.reload()
    with pytest.raises(TrustError):
        access.authenticate(f"Bearer {token}")
    with pytest.raises(UsageError):
        remove_token(tmp_path, "ci")


def test_a_rate_is_kept(tmp_path: Path) -> None:
    access = Access(tmp_path)
    token = add_token(tmp_path, name="slow", role="infer", rate=3)
    access.reload()
    bucket = access.authenticate(f"Bearer {token}").bucket
    assert bucket is not None
    bucket.last += 1e6
    for _ in range(3):
        bucket.take()
    with pytest.raises(Busy) as caught:
        bucket.take()
    assert 0 < caught.value.retry_after_s <= 0.34


def test_a_rate_limited_client_is_told_when_to_come_back(served: Any) -> None:
    token = add_token(served.server.settings.keys, name="hasty", role="infer", rate=1)
    served.on_loop(served.server.access.reload)
    statuses = [served.infer("alpha", [[1, 1, 1]], token=token) for _ in range(4)]
    assert {status for status, _, _ in statuses} == {200, 429}
    refused = next(item for item in statuses if item[0] == 429)
    assert int(refused[2]["retry-after"]) >= 1


def test_errors_tell_nothing_of_this_machine(served: Any) -> None:
    cases: list[tuple[str, str, Any]] = [
        ("POST", "/v2/models/alpha/infer", b"{"),
        ("POST", "/v2/models/alpha/infer", b"\xff\xfe"),
        ("POST", "/v2/models/alpha/infer", {"inputs": []}),
        (
            "POST",
            "/v2/models/alpha/infer",
            {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]},
        ),
        ("POST", "/v2/models/alpha/versions/../infer", b"{}"),
        ("GET", "/v2/models/..%2f..%2fetc%2fpasswd", None),
        ("POST", "/v1/models/alpha/predict", {"rows": [{"c0": "abc"}]}),
        ("POST", "/v1/models/alpha/predict", {"rows": "x"}),
        ("POST", "/v1/endpoints/alpha/deploy", {"digest": "../../etc"}),
        ("POST", "/v1/endpoints/alpha/deploy", {"digest": "0" * 64}),
        ("POST", "/v1/endpoints/alpha/rollback", {}),
        ("POST", "/v1/endpoints/alpha/canary", {"version": "7", "share": 2}),
        ("POST", "/v1/endpoints/alpha/configure", {"nothing": 1}),
        ("DELETE", "/v2", None),
    ]
    for method, path, body in cases:
        status, answer, headers = served.request(method, path, body)
        assert 400 <= status < 500, (path, status, answer)
        text = answer["error"]
        assert re.match(r"MW\d{4}: ", text), text
        assert not re.search(r"/(root|home|tmp|work|usr)/|Traceback|File \"|\.py\b|0x[0-9a-f]{6}", text), text
        assert headers["x-request-id"]
