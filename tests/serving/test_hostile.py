"""What an attack on the running server found (2026-11-26), each with the request that did it."""

from __future__ import annotations

import gzip
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from serving_kit import adder, echo, running
from test_friendly import _Target, classifier
from test_http2 import Raw, _assert_clean
from test_image_door import brightness

from modelworks.core.errors import StorageError
from modelworks.serving import outcomes
from modelworks.serving.images import ImageDecoder
from modelworks.serving.mixed import MixedFeeds
from modelworks.serving.observations import ObservationLog
from modelworks.serving.observed import ObservationLimits, weight
from modelworks.serving.rest.chunks import ChunkDecoder
from modelworks.serving.rest.heads import BadHead, HeadParser
from modelworks.serving.rpc import frames
from modelworks.serving.rpc.calls import HeadReader
from modelworks.serving.rpc.hpack import encode
from modelworks.serving.rpc.limits import RpcLimits
from modelworks.serving.server import connections_allowed

BODY = json.dumps(
    {"inputs": [{"name": "numbers", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
).encode()
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    models = [adder(), classifier(), brightness(), echo("FP32"), echo("INT64"), echo("BYTES")]
    with running(tmp_path_factory.mktemp("home"), models, grpc_port=0, access_log="off") as server:
        yield server


def send(served: Any, data: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes."""
    found = b""
    with socket.create_connection((served.address.host, served.address.port), timeout=10) as sock:
        sock.sendall(data)
        while piece := sock.recv(65536):
            found += piece
    return found


def post(served: Any, path: str, body: bytes, *lines: str, version: str = "1.1", length: str = "") -> bytes:
    head = [
        f"POST {path} HTTP/{version}", "Host: localhost", f"Authorization: Bearer {served.token}",
        "Content-Type: application/json", length or f"Content-Length: {len(body)}", *lines,
    ]  # fmt: skip
    return "\r\n".join((*head, "", "")).encode("latin-1") + body


INFER = "/v2/models/adder/infer"
CLOSE = "Connection: close"


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


# -- where one request ends and the next begins --------------------------------------------------------------------


def test_a_length_in_another_spelling_means_the_same_every_time(served: Any) -> None:
    """Of two equal heads the second was taken for one without a body: its body became the next request."""
    for spelling in ("CONTENT-LENGTH: ", "content-Length:", "Content-length:\t"):
        one = post(served, INFER, BODY, "X-Pad: " + "a" * 1500, length=f"{spelling}{len(BODY)}")
        answer = send(served, one * 3 + post(served, INFER, BODY, CLOSE))
        assert statuses(answer) == [200] * 4, spelling
    parser = HeadParser()
    head = one.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert [parser.parse(head)[1] for _ in range(3)] == [len(BODY)] * 3


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding: chunked", "Transfer-Encoding : chunked", "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked", "X: a\r\n b", "X: a\r\n 0", "X: a\0b", "Content-Length: 5",
        f"Content-Length: {len(BODY)}", "X\x0b: a", " X: a",
    ],
)  # fmt: skip
def test_what_two_programs_read_differently_is_refused(served: Any, line: str) -> None:
    assert statuses(send(served, post(served, INFER, BODY, CLOSE, line)))[0] == 400


def test_a_folded_line_behind_a_length_is_no_other_length(served: Any) -> None:
    """The remembered head must not swallow what continues the line of the length."""
    fine = post(served, INFER, BODY, "X-Fold: a", CLOSE)
    assert statuses(send(served, fine)) == [200]
    folded = fine.replace(b"Content-Length: %d\r\n" % len(BODY), b"").replace(
        b"X-Fold: a\r\n", b"X-Fold: a\r\nContent-Length: %d\r\n 0\r\n" % len(BODY)
    )
    assert statuses(send(served, folded)) == [400]


def test_chunks_of_http_1_0_are_refused(served: Any) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    lines = ("Connection: keep-alive",)
    request = post(served, INFER, b"", *lines, version="1.0", length="Transfer-Encoding: chunked") + chunked
    assert statuses(send(served, request * 2)) == [400]


@pytest.mark.parametrize(
    "chunked",
    [
        b"%x;a\nb\r\n%b\r\n0\r\n\r\n", b"%x;a\rb\r\n%b\r\n0\r\n\r\n", b" %x\r\n%b\r\n0\r\n\r\n",
        b"0x%x\r\n%b\r\n0\r\n\r\n",
        b"%x\r\n%b\r\n0\r\nX: a\n\nGET / HTTP/1.1\r\n\r\n", b"%x\n%b\n0\n\n" + b" " * 300, b"+%x\r\n%b\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_chunks_that_two_programs_read_differently_are_refused(served: Any, chunked: bytes) -> None:
    request = post(served, INFER, b"", CLOSE, length="Transfer-Encoding: chunked")
    assert statuses(send(served, request + chunked % (len(BODY), BODY))) == [400]
    plain = b"%x;ext=1\r\n%b\r\n0\r\nX: a\r\n\r\n" % (len(BODY), BODY)
    assert statuses(send(served, request + plain)) == [200]


def test_a_body_of_tiny_chunks_is_given_up(served: Any) -> None:
    decoder = ChunkDecoder(2**20)
    with pytest.raises(BadHead, match="more framing than body"):
        decoder.feed((b"1;" + b"x" * 200 + b"\r\na\r\n") * 5_000)
    assert len(decoder.body) < 1000
    decoder = ChunkDecoder(2**20)
    decoder.feed(b"400\r\n%b\r\n" % (b"a" * 1024) * 1000 + b"0\r\n\r\n")
    assert decoder.done and len(decoder.body) == 1024 * 1000


# -- numbers -------------------------------------------------------------------------------------------------------


def test_lengths_and_numbers_of_thousands_of_digits_are_refused(served: Any) -> None:
    digits = "9" * 5000
    tensor = '{"inputs":[{"name":"%s","datatype":"%s","shape":[%s],"data":[%s]}]%s}'
    requests = {
        "length": post(served, INFER, BODY, CLOSE, f"Inference-Header-Content-Length: {digits}"),
        "timeout": (INFER, tensor % ("numbers", "FP32", "1,3", "1,2,3", f',"parameters":{{"timeout":{digits[:400]}}}')),
        "timeout far": (INFER, tensor % ("numbers", "FP32", "1,3", "1,2,3", ',"parameters":{"timeout":1e300}')),
        "float": (INFER, tensor % ("numbers", "FP32", "1,3", f"{digits},1,2", "")),
        "integer": ("/v2/models/echo_int64/infer", tensor % ("x", "INT64", "1,1", digits, "")),
        "axis": ("/v2/models/echo_fp32/infer", tensor % ("x", "FP32", f"1,{digits}", "", "")),
        "axes": ("/v2/models/echo_fp32/infer", tensor % ("x", "FP32", f"{digits[:4000]},{digits[:4000]}", "", "")),
        "row": ("/v1/models/churn/predict", '{"rows":[{"age":' + digits[:4200] + "}]}"),
        "outcome": ("/v1/models/adder/outcomes", '{"key":"a","value":1,"row":' + digits[:4000] + "}"),
        "key": ("/v1/models/churn/predict", json.dumps({"rows": [{"age": 1}], "key": "k" * 10_000})),
        "no key": ("/v1/models/churn/predict", '{"rows":[{"age":1}],"key":""}'),
    }  # fmt: skip
    for name, request in requests.items():
        data = request if isinstance(request, bytes) else post(served, request[0], request[1].encode(), CLOSE)
        answer = send(served, data)
        assert statuses(answer) == [400], (name, answer[-300:])
        assert len(answer) < 6000, name


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/adder/outcomes", b'{"key":"\xa2","value":1}'),
        ("/v2/repository/index", b'{"a":"\xff"}'),
        (
            "/v2/models/echo_bytes/infer",
            b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,1],"data":["\xff"]}]}',
        ),
        (
            "/v2/models/adder/infer",
            b'{"inputs":[{"name":"numbers","datatype":"FP32","shape":[1,3],"data":["\xff"]}]}',
        ),
        ("/v1/models/churn/predict", b'{"rows":[{"city":"\xff"}]}'),
        ("/v1/predict", b'{"models":["\xff"],"rows":[]}'),
        ("/v1/endpoints/adder/configure", b'{"nan":"\xff"}'),
    ],
)
def test_text_that_is_not_utf_8_is_refused(served: Any, path: str, body: bytes) -> None:
    assert statuses(send(served, post(served, path, body, CLOSE))) == [400]


def test_a_setting_that_cannot_be_used_is_not_recorded(tmp_path: Path) -> None:
    """It was written into the journal first: the server could not be started again."""
    with running(tmp_path, [adder()]) as server:
        for setting in ("deadline_ms", "retention_days", "observe"):
            for value in (10**400, True, -1, 1e30):
                status, answer, _ = server.request("POST", "/v1/endpoints/adder/configure", {setting: value})
                assert (status, answer["error"][:6]) == (400, "MW1315"), (setting, value)
        assert server.request("POST", "/v1/endpoints/adder/configure", {"deadline_ms": 1000})[0] == 200
        assert server.infer("adder", [[1, 2, 3]])[0] == 200


@pytest.mark.parametrize("origin", ["http://[::1", "http://[", "//", "null", "http://localhost:1]"])
def test_an_origin_that_is_no_address_is_refused(served: Any, origin: str) -> None:
    """The connection was dropped with a trace in the log, for anybody."""
    assert statuses(send(served, post(served, INFER, BODY, CLOSE, f"Origin: {origin}"))) == [403]


# -- memory and connections ----------------------------------------------------------------------------------------


def test_strangers_do_not_fill_the_memory_of_heads() -> None:
    parser = HeadParser()
    for number in range(6000):
        pad = "a" * 12_000
        parser.parse(f"GET /v2/{number} HTTP/1.1\r\nHost: localhost\r\nX: {pad}\r\n\r\n".encode())
        if number % 2:
            parser.parse(
                f"GET /v2/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nX: {pad}\r\n\r\n".encode()
            )
    assert not parser._bare and not parser._sized and not parser._exact


def test_strangers_do_not_fill_the_memory_of_header_blocks() -> None:
    reader = HeadReader(16_384)
    pseudo = [(b":method", b"POST"), (b":scheme", b"http"), (b"content-type", b"application/grpc")]
    for number in range(100):
        for length in (10, 3000):
            fields = [*pseudo[:2], (b":path", b"/a/%d" % number), pseudo[2], (b"x", b"y" * length)]
            assert reader.read(encode(fields)) is not None
    # An entry of the table is three thousand bytes long and takes one byte in a block.
    reader.read(b"\x40\x01z\x7f\xb9\x16" + b"v" * 3000)
    fields = [*pseudo[:2], (b":path", b"/a"), pseudo[2]]
    head = reader.read(encode(fields) + b"\xbe")
    assert head is not None and len(head.metadata["z"]) == 3000
    assert len(reader._known) <= 16
    assert all(len(block) < 2048 and "z" not in head.metadata for block, head in reader._known.items())


def test_connections_leave_files_for_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((1024, 384), (65_536, 1024), (300, 22), (64, 16), (resource.RLIM_INFINITY, 1024)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert connections_allowed() == most


def test_a_worker_may_open_more_files(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096));"
        "from modelworks.serving.worker import more_files; more_files(); more_files();"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4096", "4096"]


def test_an_image_is_decoded_by_a_server_with_many_open_files(served: Any) -> None:
    """Waiting with ``select`` ends at file 1,023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this process may not open 2,048 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken: list[int] = []
    try:
        while not taken or taken[-1] < 1100:
            taken.append(os.dup(0))
        decoder = ImageDecoder()
        try:
            from test_image_door import encoded

            assert decoder.decode(encoded("PNG")).shape == (6, 8, 3)
        finally:
            decoder.close()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_answer_that_is_never_taken_does_not_hold_its_connection(served: Any) -> None:
    """A window of no bytes kept a stranger's call, and with it a place among the connections, for ever."""
    limits = served.server._rpc.limits
    served.on_loop(lambda: setattr(served.server._rpc, "limits", RpcLimits(write_s=1.0)))
    try:
        raw = Raw(served, {frames.INITIAL_WINDOW: 0})
        for stream in range(1, 21, 2):
            raw.ask(stream, b"", HEALTH, authorization="")
        reset = set()
        began = time.monotonic()
        while len(reset) < 10:
            kind, _, stream, payload = raw.frame()
            if kind == frames.RST_STREAM:
                assert int.from_bytes(payload, "big") == frames.Code.CANCEL
                reset.add(stream)
        assert 0.9 < time.monotonic() - began < 8
        raw.send(frames.SETTINGS, 0, 0, b"\0\x04\0\0\xff\xff")
        raw.ask(21, b"", HEALTH, authorization="")
        assert raw.answer(21)[:2] == (0, b"\x08\x01")
        raw.socket.close()
    finally:
        served.on_loop(lambda: setattr(served.server._rpc, "limits", limits))
    _assert_clean(served)


def test_a_slow_client_that_takes_its_answer_bit_by_bit_gets_it(served: Any) -> None:
    limits = served.server._rpc.limits
    served.on_loop(lambda: setattr(served.server._rpc, "limits", RpcLimits(write_s=2.0)))
    try:
        raw = Raw(served, {frames.INITIAL_WINDOW: 0})
        raw.ask(1, b"", HEALTH, authorization="")
        found = b""
        while len(found) < 7:
            raw.send(frames.WINDOW_UPDATE, 0, 1, b"\0\0\0\1")
            kind, _, _, payload = raw.frame()
            while kind != frames.DATA:
                kind, _, _, payload = raw.frame()
            found += payload
            time.sleep(0.7)
        assert found[5:] == b"\x08\x01"
        raw.socket.close()
    finally:
        served.on_loop(lambda: setattr(served.server._rpc, "limits", limits))
    _assert_clean(served)


def test_large_compressed_rows_are_taken_and_bombs_are_not(served: Any) -> None:
    """Bodies of rows were decompressed on the loop, where everybody waits."""
    rows = [{"age": number % 90, "city": os.urandom(12).hex()} for number in range(9_000)]
    packed = gzip.compress(json.dumps({"rows": rows}).encode(), 1)
    assert len(packed) > 128 * 1024
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    status, answer, _ = served.request("POST", "/v1/models/churn/predict", packed, headers=headers)
    assert status == 200 and len(answer["predictions"]) == 9_000
    many = gzip.compress(json.dumps({"models": ["churn"], "rows": rows}).encode(), 1)
    status, answer, _ = served.request("POST", "/v1/predict", many, headers=headers)
    assert status == 200 and len(answer["models"]["churn"]["predictions"]) == 9_000
    bomb = gzip.compress(b" " * 200_000_000, 9)
    for path in ("/v1/models/churn/predict", "/v1/predict"):
        status, answer, _ = served.request("POST", path, bomb, headers=headers)
        assert (status, answer["error"][:6]) == (413, "MW2310")
        status, answer, _ = served.request("POST", path, packed[:-9], headers=headers)
        assert (status, answer["error"][:6]) == (400, "MW1412")


def test_large_requests_that_wait_to_be_logged_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand might wait, however large they were."""
    monkeypatch.setattr(ObservationLog, "_write", lambda self: None)
    log = ObservationLog(
        tmp_path, observe_share=1.0, audit_share=0.0, limits=ObservationLimits(waiting_bytes=1000)
    )
    images = [np.zeros((4, width, 3), np.uint8) for width in (10, 20)]
    mixed = SimpleNamespace(feeds=MixedFeeds("x", images, {}))
    texts = SimpleNamespace(feeds={"x": np.array([["a" * 400]], object)})
    assert (weight(mixed.feeds), weight(texts.feeds)) == (360 + 16, 400 + 8)
    dropped = []
    for work in (mixed, texts, mixed, texts):
        log.offer(_Target, work, {"y": np.ones(1, np.float32)}, None, 0.001)  # type: ignore[arg-type]
        dropped.append(log.counts.dropped)
    assert dropped == [0, 0, 1, 2]
    large = SimpleNamespace(feeds={"x": np.zeros((1, 5000), np.float32)})
    log._taken_bytes = log._kept_bytes
    log.offer(_Target, large, {"y": np.ones(1, np.float32)}, None, 0.001)  # type: ignore[arg-type]
    log.offer(_Target, texts, {"y": np.ones(1, np.float32)}, None, 0.001)  # type: ignore[arg-type]
    # One that is larger than all that may wait is no less likely to be kept where nothing waits.
    assert log.counts.dropped == 3
    log.close()


def test_outcomes_do_not_fill_the_disk_and_are_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "_FILE_BYTES", 1000)
    monkeypatch.setattr(outcomes, "_MOST_FILES", 3)
    kept = outcomes.Outcomes(tmp_path)
    entry = {"key": "k", "row": 0, "value": "v" * 600, "kind": "outcome", "by": "x"}
    for _ in range(6):
        kept.put("adder", [entry])
    with pytest.raises(StorageError, match="fill 3 files"):
        kept.put("adder", [entry])
    kept.put("other", [entry])
    files = sorted((tmp_path / "adder").iterdir())
    assert [len(file.read_text().splitlines()) for file in files] == [2, 2, 2]
    # One that was moved away makes room.
    files[0].unlink()
    kept.put("adder", [entry])


def test_images_that_wait_keep_nothing_else_waiting(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They held every thread in which acts are recorded and outcomes are written."""
    go_on = threading.Event()
    waiting = threading.Semaphore(0)

    def slow(decoder: ImageDecoder, value: str) -> Any:
        waiting.release()
        assert go_on.wait(30)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(ImageDecoder, "text", slow)
    found: list[int] = []

    def ask() -> None:
        rows = {"rows": [{"photo": "x"}], "timeout_ms": 25_000}
        found.append(served.request("POST", "/v1/models/brightness/predict", rows)[0])

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            assert waiting.acquire(timeout=10)
        began = time.monotonic()
        outcome = {"key": "a", "value": 1}
        assert served.request("POST", "/v1/models/adder/outcomes", outcome)[0] == 202
        assert served.request("POST", "/v1/endpoints/adder/configure", {"deadline_ms": None})[0] == 200
        assert time.monotonic() - began < 5
    finally:
        go_on.set()
        for thread in threads:
            thread.join(30)
    assert found == [200] * 40
