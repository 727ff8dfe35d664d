"""The HTTP carrier: framing, pipelining, limits and times, against raw sockets and against made-up bytes."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_kit import adder, echo, running

from modelworks.serving.rest.carrier import CarrierLimits
from modelworks.serving.rest.chunks import ChunkDecoder
from modelworks.serving.rest.coding import accepted, decompress
from modelworks.serving.rest.heads import BadHead, HeadParser, parse_head


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running(tmp_path_factory.mktemp("home"), [adder(), echo("FP32")]) as server:
        yield server


def _raw(server: Any, data: bytes, *, wait_s: float = 5.0, shut: bool = False) -> bytes:
    """Send bytes and read until the server closes or says nothing more for a while."""
    with socket.create_connection((server.address.host, server.address.port), timeout=wait_s) as sock:
        sock.sendall(data)
        if shut:
            sock.shutdown(socket.SHUT_WR)
        return _all(sock)


def _all(sock: socket.socket) -> bytes:
    found = b""
    try:
        while part := sock.recv(65536):
            found += part
    except (TimeoutError, ConnectionResetError):
        pass
    return found


def _infer_request(server: Any, number: float, extra: str = "") -> bytes:
    body = json.dumps(
        {"inputs": [{"name": "numbers", "shape": [1, 3], "datatype": "FP32", "data": [number, 0, 0]}]}
    ).encode()
    head = (
        f"POST /v2/models/adder/infer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


def _answers(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
        length = int(lengths[0][16:]) if lengths else 0
        found.append((status, rest[:length]))
        data = rest[length:]
    return found


def test_pipelined_requests_are_answered_in_order(served: Any) -> None:
    data = b"".join(_infer_request(served, number) for number in range(40))
    data += _infer_request(served, 40, "Connection: close\r\n")
    answers = _answers(_raw(served, data))
    assert [status for status, _ in answers] == [200] * 41
    assert [json.loads(body)["outputs"][0]["data"][0] for _, body in answers] == [
        number + 1.0 for number in range(41)
    ]


@pytest.mark.parametrize("step", [1, 3, 17, 64])
def test_a_request_may_arrive_in_pieces_of_any_size(served: Any, step: int) -> None:
    data = _infer_request(served, 4) + _infer_request(served, 5, "Connection: close\r\n")
    with socket.create_connection((served.address.host, served.address.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), step):
            sock.sendall(data[start : start + step])
        answers = _answers(_all(sock))
    assert [json.loads(body)["outputs"][0]["data"][0] for _, body in answers] == [5.0, 6.0]


def test_chunked_bodies(served: Any) -> None:
    whole = _infer_request(served, 7)
    body = whole.partition(b"\r\n\r\n")[2]
    pieces = b"".join(
        b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:11], body[11:])
    )
    head = (
        f"POST /v2/models/adder/infer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    data = (
        head.encode()
        + pieces
        + b"0\r\nTrailer: x\r\n\r\n"
        + _infer_request(served, 8, "Connection: close\r\n")
    )
    answers = _answers(_raw(served, data))
    assert [json.loads(body)["outputs"][0]["data"][0] for _, body in answers] == [8.0, 9.0]


def test_expect_continue(served: Any) -> None:
    request = _infer_request(served, 1, "Expect: 100-continue\r\nConnection: close\r\n")
    head, _, body = request.partition(b"\r\n\r\n")
    with socket.create_connection((served.address.host, served.address.port), timeout=5) as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert _answers(_all(sock))[0][0] == 200
    with socket.create_connection((served.address.host, served.address.port), timeout=5) as sock:
        sock.sendall(head.replace(served.token.encode(), b"wrong") + b"\r\n\r\n")
        assert _answers(_all(sock))[0][0] == 401


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1e3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\nabc", 400),
        (b"GET / HTTP/1.1\nHost: localhost\n\n\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_malformed_requests_get_an_error_and_an_end(served: Any, data: bytes, status: int) -> None:
    found = _raw(served, data)
    answers = _answers(found)
    assert len(answers) == 1
    # llhttp refuses some of these before our own check does, with the same outcome for the client.
    assert answers[0][0] in {status, 400}
    assert b"connection: close" in found
    assert served.request("GET", "/v2/health/live")[0] == 200


def test_nothing_is_smuggled_behind_a_refused_request(served: Any) -> None:
    inner = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    data = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        + inner
    )
    assert len(_answers(_raw(served, data))) == 1


def test_a_body_over_the_limit_is_refused_by_its_announcement(served: Any) -> None:
    head = (
        f"POST /v2/models/adder/infer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
        f"Content-Length: {10**12}\r\n\r\n"
    )
    assert _answers(_raw(served, head.encode()))[0][0] == 413
    chunks = head.replace(f"Content-Length: {10**12}", "Transfer-Encoding: chunked") + f"{10**9:x}\r\n"
    assert _answers(_raw(served, chunks.encode()))[0][0] == 413


def test_a_stranger_cannot_make_the_server_receive_a_body(served: Any) -> None:
    head = b"POST /v2/models/adder/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
    assert _answers(_raw(served, head + b"x" * 1000))[0][0] == 401
    assert served.on_loop(lambda: served.server.http.bodies_bytes) == 0


def test_slow_heads_and_slow_bodies_are_ended(served: Any) -> None:
    limits = served.server.http.limits
    quick = CarrierLimits(head_s=0.5, body_s=0.5, idle_s=0.5)
    served.on_loop(lambda: setattr(served.server.http, "limits", quick))
    try:
        request = _infer_request(served, 1)
        half = request[: len(request) - 5]
        assert _answers(_raw(served, half, wait_s=10))[0][0] == 408
        assert _answers(_raw(served, b"GET / HT", wait_s=10))[0][0] == 408
        started = time.monotonic()
        assert _raw(served, b"", wait_s=10) == b""
        assert time.monotonic() - started < 9
    finally:
        served.on_loop(lambda: setattr(served.server.http, "limits", limits))


def test_too_many_connections_get_a_503(served: Any) -> None:
    limits = served.server.http.limits
    served.on_loop(lambda: setattr(served.server.http, "limits", CarrierLimits(connections=3)))
    held = [socket.create_connection((served.address.host, served.address.port), timeout=5) for _ in range(6)]
    try:
        time.sleep(0.2)
        last = _raw(served, b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert _answers(last)[0][0] == 503
    finally:
        for sock in held:
            sock.close()
        served.on_loop(lambda: setattr(served.server.http, "limits", limits))


def test_head_has_the_length_and_no_body(served: Any) -> None:
    data = _raw(served, b"HEAD /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 200") and b"content-length: 13" in data and data.endswith(b"\r\n\r\n")


def test_a_half_closed_client_still_gets_its_answer(served: Any) -> None:
    assert _answers(_raw(served, _infer_request(served, 2), shut=True))[0][0] == 200


def test_http_1_0_without_keep_alive_is_closed(served: Any) -> None:
    data = _raw(served, b"GET /v2/health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_large_compressed_requests_and_answers(served: Any, coding: str) -> None:
    values = [float(number % 100) for number in range(60_000)]
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 60_000], "datatype": "FP32", "data": values}]}
    ).encode()
    sent = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    status, data, headers = served.request(
        "POST", "/v2/models/echo_fp32/infer", sent,
        headers={"Content-Encoding": coding, "Accept-Encoding": coding, "Content-Type": "application/json"},
    )  # fmt: skip
    assert (status, headers["content-encoding"]) == (200, coding)
    assert json.loads(zlib.decompress(data, 47))["outputs"][0]["data"] == values


def test_a_compression_bomb_is_stopped(served: Any) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    status, body, _ = served.request(
        "POST",
        "/v2/models/adder/infer",
        bomb,
        headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
    )
    assert status == 413 and "decompressed" in body["error"]
    for data, coding in (
        (b"not gzip", "gzip"),
        (gzip.compress(b"{}")[:-3], "gzip"),
        (gzip.compress(b"{}") + b"x", "gzip"),
    ):
        assert (
            served.request("POST", "/v2/models/adder/infer", data, headers={"Content-Encoding": coding})[0]
            == 400
        )
    assert (
        served.request("POST", "/v2/models/adder/infer", b"{}", headers={"Content-Encoding": "br"})[0] == 415
    )


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-python", "multipart/form-data", "application/pickle"]
)
def test_other_media_types_are_refused(served: Any, media: str) -> None:
    for path in ("/v2/models/adder/infer", "/v1/models/adder/predict"):
        assert served.request("POST", path, b"{}", headers={"Content-Type": media})[0] == 415


def test_deep_json_is_refused(served: Any) -> None:
    deep = (
        b'{"inputs":[{"name":"numbers","shape":[1,3],"datatype":"FP32","data":'
        + b"[" * 20_000
        + b"]" * 20_000
        + b"}]}"
    )
    assert served.request("POST", "/v2/models/adder/infer", deep)[0] == 400
    assert (
        served.request(
            "POST", "/v1/models/adder/predict", b'{"rows":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
        )[0]
        == 400
    )


def test_the_date_and_the_request_id(served: Any) -> None:
    _, _, headers = served.request("GET", "/v2", headers={"x-request-id": "my-id.7"})
    assert headers["x-request-id"] == "my-id.7" and "GMT" in headers["date"]
    _, _, headers = served.request("GET", "/v2", headers={"x-request-id": "a b<script>"})
    assert headers["x-request-id"] != "a b<script>"


# -- pure parts --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data(),
    st.sampled_from([b"", b";a=b", b" ; x"]), st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_chunks_decode_the_same_however_they_arrive(
    parts: list[bytes], data: Any, note: bytes, upper: bool
) -> None:
    form = b"%X%b\r\n%b\r\n" if upper else b"%x%b\r\n%b\r\n"
    wire = b"".join(form % (len(part), note, part) for part in parts) + b"0\r\nA: b\r\n\r\n" + b"NEXT"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    decoder = ChunkDecoder(10_000)
    rest = b""
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        if decoder.done:
            rest += wire[start:end]
        elif start < end:
            decoder.feed(wire[start:end])
            rest = decoder.rest
    assert decoder.done
    assert bytes(decoder.body) == b"".join(parts)
    assert rest == b"NEXT"


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_a_chunk_decoder_only_with_a_bad_head(data: bytes) -> None:
    decoder = ChunkDecoder(1000)
    try:
        decoder.feed(data)
    except BadHead as error:
        assert error.status in {400, 413, 431}
    assert len(decoder.body) <= 1000


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_a_head_parser_only_with_a_bad_head(data: bytes) -> None:
    for wire in (data, b"POST /x HTTP/1.1\r\nHost: h\r\n" + data + b"\r\n\r\n"):
        try:
            parse_head(wire)
        except BadHead as error:
            assert 400 <= error.status < 600


@given(st.integers(0, 10**14), st.integers(0, 10**14))
@settings(max_examples=100, deadline=None)
def test_remembered_heads_differ_only_in_their_length(one: int, two: int) -> None:
    parser = HeadParser()
    form = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nAuthorization: Bearer t\r\n\r\n"
    first, length = parser.parse(form % one)
    again, other = parser.parse(form % two)
    assert first is again
    assert (length, other) == (one, two)
    assert parser.parse(form.replace(b"Bearer t", b"Bearer u") % one)[0] is not first


def test_a_remembered_head_does_not_let_a_bad_length_in() -> None:
    parser = HeadParser()
    form = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %b\r\n\r\n"
    parser.parse(form % b"5")
    for bad in (b"-5", b"5, 5", b"", b"0x5", b"5\x00", "٣".encode(), b"9" * 17):
        with pytest.raises(BadHead):
            parser.parse(form % bad)
    bare, length = parser.parse(b"POST /a HTTP/1.1\r\nHost: h\r\n\r\n")
    assert length == 0 and bare is not parser.parse(form % b"5")[0]


def test_accepted_codings() -> None:
    assert accepted("gzip, deflate, br") == "gzip"
    assert accepted("deflate") == "deflate"
    assert accepted("gzip;q=0, deflate;q=0.5") == "deflate"
    assert accepted("br") is None
    assert accepted(None) is None


@given(st.binary(max_size=2000))
@settings(max_examples=60, deadline=None)
def test_codings_are_undone(data: bytes) -> None:
    raw = zlib.compressobj(6, zlib.DEFLATED, -15)
    assert decompress(gzip.compress(data), "gzip", 5000) == data
    assert decompress(zlib.compress(data), "deflate", 5000) == data
    assert decompress(raw.compress(data) + raw.flush(), "deflate", 5000) == data
