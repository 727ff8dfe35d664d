"""The HTTP/2 of the gRPC door: header compression by the RFC's own examples, frames and limits against raw sockets,
and the official gRPC client for what only a whole client does."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_kit import adder, echo, heavy, running

from modelworks.serving.rpc import frames
from modelworks.serving.rpc.hpack import _SYMBOLS, BadBlock, HeaderDecoder, decode_text, encode
from modelworks.serving.rpc.messages import messages

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
HEALTH = "/grpc.health.v1.Health/Check"


# -- header compression --------------------------------------------------------------------------------------------


def _text_fields(text: str) -> list[tuple[bytes, bytes]]:
    return [tuple(line.encode().split(b"|", 1)) for line in text.strip().splitlines()]  # type: ignore[misc]


RFC_REQUESTS = [
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", ":method|GET\n:scheme|http\n:path|/\n:authority|www.example.com"),
    (
        "828684be5886a8eb10649cbf",
        ":method|GET\n:scheme|http\n:path|/\n:authority|www.example.com\ncache-control|no-cache",
    ),
    (
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ":method|GET\n:scheme|https\n:path|/index.html\n:authority|www.example.com\ncustom-key|custom-value",
    ),
]
RFC_PLAIN = [
    ("828684410f7777772e6578616d706c652e636f6d", RFC_REQUESTS[0][1]),
    ("828684be58086e6f2d6361636865", RFC_REQUESTS[1][1]),
    ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", RFC_REQUESTS[2][1]),
]


@pytest.mark.parametrize("blocks", [RFC_PLAIN, RFC_REQUESTS], ids=["C.3", "C.4"])
def test_the_examples_of_the_rfc_are_decoded(blocks: list[tuple[str, str]]) -> None:
    decoder = HeaderDecoder(4096)
    for block, expected in blocks:
        assert decoder.decode(bytes.fromhex(block)) == _text_fields(expected)


def test_the_huffman_code_is_complete_and_holds_every_symbol_once() -> None:
    assert sorted(symbol for symbols in _SYMBOLS.values() for symbol in symbols) == list(range(257))
    # A complete prefix code fills the tree exactly: one symbol at a wrong length would not.
    assert sum(len(symbols) * 2 ** (30 - length) for length, symbols in _SYMBOLS.items()) == 2**30


@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=400)), max_size=20))
def test_literal_fields_survive(fields: list[tuple[bytes, bytes]]) -> None:
    assert HeaderDecoder(2**20).decode(encode(fields)) == fields


@given(st.binary(max_size=300))
def test_made_up_blocks_are_decoded_or_refused(block: bytes) -> None:
    decoder = HeaderDecoder(4096)
    try:
        fields = decoder.decode(block)
    except BadBlock:
        return
    assert fields is None or sum(len(name) + len(value) + 32 for name, value in fields) <= 4096
    assert decoder._bytes <= 4096


def test_a_table_too_large_or_a_field_that_is_not_there_is_refused() -> None:
    for block in (b"\x3f\xe2\x1f", b"\xbe", b"\x80", b"\x40\x7f\xff\xff\xff\xff\xff\x01", b"\x82\x20"):
        with pytest.raises(BadBlock):
            HeaderDecoder(4096).decode(block)
    for padded in (b"\x00", b"\xff\xff\xff\xff", b"\x1f\xff\xff"):
        with pytest.raises(BadBlock):
            decode_text(padded)


# -- frames against a raw socket -----------------------------------------------------------------------------------


class Raw:
    """An HTTP/2 client that says exactly what it is told."""

    def __init__(self, server: Any, settings: dict[int, int] | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.address.grpc_port), timeout=10)
        self.token = server.token
        self.decoder = HeaderDecoder(65536)
        self.buffer = b""
        self.socket.sendall(frames.PREFACE + frames.settings(settings or {}))

    def block(self, method: str = INFER, **more: str) -> bytes:
        fields = {
            ":method": "POST", ":scheme": "http", ":path": method, ":authority": "localhost",
            "content-type": "application/grpc", "te": "trailers", "authorization": f"Bearer {self.token}",
        }  # fmt: skip
        fields |= {name.replace("_", "-"): value for name, value in more.items()}
        return encode([(name.encode(), value.encode()) for name, value in fields.items()])

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.socket.sendall(frames.frame(kind, flags, stream, payload))

    def ask(self, stream: int, message: bytes, method: str = INFER, **more: str) -> None:
        self.send(frames.HEADERS, frames.END_HEADERS, stream, self.block(method, **more))
        self.send(frames.DATA, frames.END_STREAM, stream, frames.framed(message))

    def frame(self) -> tuple[int, int, int, bytes]:
        """Return the next frame: type, flags, stream, payload; raises ``EOFError`` at the end."""
        while True:
            if len(self.buffer) >= 9:
                high, low, kind, flags, stream = frames.HEAD.unpack_from(self.buffer)
                length = high << 16 | low
                if len(self.buffer) >= 9 + length:
                    payload = self.buffer[9 : 9 + length]
                    self.buffer = self.buffer[9 + length :]
                    return kind, flags, stream, payload
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self.buffer += data

    def until(self, kind: int) -> tuple[int, int, int, bytes]:
        while True:
            found = self.frame()
            if found[0] == kind and not (kind == frames.SETTINGS and found[1] & frames.ACK):
                return found

    def answer(self, stream: int) -> tuple[int, bytes, dict[bytes, bytes]]:
        """Return grpc-status, message bytes and all fields of a call."""
        fields: dict[bytes, bytes] = {}
        data = b""
        while True:
            kind, flags, number, payload = self.frame()
            assert kind != frames.GOAWAY, payload
            if number != stream:
                continue
            if kind == frames.HEADERS:
                fields |= dict(self.decoder.decode(payload) or [])
            if kind == frames.DATA:
                data += payload
            if kind == frames.RST_STREAM:
                raise ConnectionResetError(int.from_bytes(payload, "big"))
            if flags & frames.END_STREAM and kind in {frames.HEADERS, frames.DATA}:
                return int(fields.get(b"grpc-status", b"-1")), data[5:], fields

    def goaway(self) -> int:
        """Return the code the connection ends with."""
        payload = self.until(frames.GOAWAY)[3]
        with pytest.raises(EOFError):
            self.frame()
        return int.from_bytes(payload[4:8], "big")


def _add(value: float = 1.0, model: str = "adder") -> bytes:
    request = messages().ModelInferRequest(model_name=model)
    request.inputs.add(name="numbers", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(np.array([[value, 0, 0]], np.float32).tobytes())
    return bytes(request.SerializeToString())


def _sum(data: bytes) -> float:
    answer = messages().ModelInferResponse.FromString(data)
    return float(np.frombuffer(answer.raw_output_contents[0], np.float32).ravel()[0])


EXPECTED = 2.0
"""What ``adder`` makes of ``[1, 0, 0]``."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    models = [adder(), echo("FP32"), heavy()]
    with running(tmp_path_factory.mktemp("home"), models, grpc_port=0) as server:
        yield server


@pytest.fixture
def raw(served: Any) -> Iterator[Raw]:
    client = Raw(served)
    yield client
    client.socket.close()
    _assert_clean(served)


def _assert_clean(served: Any) -> None:
    """No bytes of a message are counted that are not there any more."""
    for _ in range(100):
        if served.server._rpc.bodies_bytes == 0 and not any(
            connection.calls for connection in served.server._rpc.connections
        ):
            return
        time.sleep(0.02)
    raise AssertionError("calls or bytes were left behind")


def test_a_call_is_answered_byte_by_byte_and_the_connection_goes_on(served: Any, raw: Raw) -> None:
    message = _add()
    sent = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, raw.block())
    sent += frames.frame(frames.DATA, frames.END_STREAM, 1, frames.framed(message))
    for at in range(len(sent)):
        raw.socket.sendall(sent[at : at + 1])
    status, data, _ = raw.answer(1)
    assert (status, _sum(data)) == (0, EXPECTED)
    raw.ask(3, message)
    assert raw.answer(3)[0] == 0


def test_padding_priority_and_continuations_are_understood(raw: Raw) -> None:
    block = raw.block()
    flags = frames.PADDED | frames.WITH_PRIORITY
    raw.send(frames.HEADERS, flags, 1, b"\x03" + b"\0\0\0\0\x10" + block[:7] + b"\0\0\0")
    raw.send(frames.CONTINUATION, 0, 1, block[7:20])
    raw.send(frames.CONTINUATION, frames.END_HEADERS, 1, block[20:])
    body = frames.framed(_add())
    raw.send(frames.DATA, frames.PADDED, 1, b"\x02" + body[:9] + b"\0\0")
    raw.send(frames.PRIORITY, 0, 1, b"\0\0\0\0\x10")
    raw.send(0xBE, 0, 0, b"a frame nobody knows")
    raw.send(frames.DATA, 0, 1, body[9:])
    raw.send(frames.DATA, frames.END_STREAM, 1)
    status, data, _ = raw.answer(1)
    assert (status, _sum(data)) == (0, EXPECTED)


def test_indexed_headers_mean_what_the_table_says_when_they_come(raw: Raw) -> None:
    """The same bytes mean another model's path once the table moved."""
    added = [(b":path", HEALTH.encode()), (b":path", LIVE.encode())]
    common = raw.block("/x").replace(encode([(b":path", b"/x")]), b"")
    insert = [b"\x44" + bytes([len(value)]) + value for _, value in added]
    pseudo = encode([(b":method", b"POST"), (b":scheme", b"http")])
    rest = common[len(pseudo) :]
    for stream, first in (
        (1, insert[0]),
        (3, b"\xbe"),
        (5, insert[1]),
        (7, b"\xbe"),
        (9, b"\xbf"),
        (11, b"\xbe"),
    ):
        raw.send(frames.HEADERS, frames.END_HEADERS, stream, pseudo + first + rest)
        raw.send(frames.DATA, frames.END_STREAM, stream, frames.framed(b""))
    health, live = b"\x08\x01", b"\x08\x01"
    assert [raw.answer(stream)[1] for stream in (1, 3, 5, 7, 9, 11)] == [
        health,
        health,
        live,
        live,
        health,
        live,
    ]


def test_an_answer_waits_for_the_clients_windows(served: Any) -> None:
    raw = Raw(served, {frames.INITIAL_WINDOW: 10})
    raw.ask(1, _add())
    found = b""
    fields: dict[bytes, bytes] = {}
    while True:
        kind, flags, _, payload = raw.frame()
        if kind == frames.DATA:
            assert len(payload) <= 10
            found += payload
            raw.send(frames.WINDOW_UPDATE, 0, 1, struct.pack(">I", len(payload)))
        if kind == frames.HEADERS:
            fields |= dict(raw.decoder.decode(payload) or [])
            if flags & frames.END_STREAM:
                break
    assert (fields[b"grpc-status"], _sum(found[5:])) == (b"0", EXPECTED)
    # A smaller first window takes from streams that wait, below zero if need be.
    raw.ask(3, _add())
    assert len(raw.until(frames.DATA)[3]) == 10
    raw.send(frames.SETTINGS, 0, 0, struct.pack(">HI", frames.INITIAL_WINDOW, 4))
    raw.send(frames.WINDOW_UPDATE, 0, 3, struct.pack(">I", 6))
    raw.send(frames.PING, 0, 0, b"12345678")
    assert raw.until(frames.PING)[1:] == (frames.ACK, 0, b"12345678")
    raw.send(frames.WINDOW_UPDATE, 0, 3, struct.pack(">I", 5))
    assert len(raw.until(frames.DATA)[3]) == 5
    raw.socket.close()
    _assert_clean(served)


def test_large_messages_pass_both_ways_and_windows_are_given_back(served: Any, raw: Raw) -> None:
    values = np.random.default_rng(0).standard_normal((1, 1_500_000)).astype(np.float32)
    request = messages().ModelInferRequest(model_name="echo_fp32")
    request.inputs.add(name="x", datatype="FP32", shape=values.shape)
    request.raw_input_contents.append(values.tobytes())
    with _channel(served) as channel:
        for _ in range(3):
            data = channel.unary_unary(INFER)(
                request.SerializeToString(), metadata=_bearer(served), timeout=30
            )
            answer = messages().ModelInferResponse.FromString(data)
            assert answer.raw_output_contents[0] == values.tobytes()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_messages_are_taken(raw: Raw, coding: str) -> None:
    import zlib

    packed = gzip.compress(_add()) if coding == "gzip" else zlib.compress(_add())
    raw.send(frames.HEADERS, frames.END_HEADERS, 1, raw.block(grpc_encoding=coding))
    raw.send(frames.DATA, frames.END_STREAM, 1, b"\1" + struct.pack(">I", len(packed)) + packed)
    status, data, _ = raw.answer(1)
    assert (status, _sum(data)) == (0, EXPECTED)


def test_bombs_unknown_codings_and_damaged_messages_get_their_status(raw: Raw) -> None:
    bomb = gzip.compress(b"\0" * 80_000_000)

    def ask(stream: int, body: bytes, **more: str) -> int:
        raw.send(frames.HEADERS, frames.END_HEADERS, stream, raw.block(**more))
        raw.send(frames.DATA, frames.END_STREAM, stream, body)
        return raw.answer(stream)[0]

    head = b"\1" + struct.pack(">I", len(bomb))
    body = head + bomb
    raw.send(frames.HEADERS, frames.END_HEADERS, 1, raw.block(grpc_encoding="gzip"))
    for at in range(0, len(body), 16_000):
        raw.send(frames.DATA, frames.END_STREAM if at + 16_000 >= len(body) else 0, 1, body[at : at + 16_000])
    assert raw.answer(1)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert ask(3, frames.framed(_add()), grpc_encoding="zstd") == grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert ask(5, b"\1" + frames.framed(b"x")[1:]) == grpc.StatusCode.INTERNAL.value[0]
    assert ask(7, frames.framed(_add()) * 2) == grpc.StatusCode.INTERNAL.value[0]
    assert ask(9, b"") == grpc.StatusCode.INTERNAL.value[0]
    assert ask(11, frames.framed(b"\xff\xff")) == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert ask(13, frames.framed(_add()), grpc_timeout="soon") == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert ask(15, frames.framed(_add()), padding="x" * 20_000) == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    raw.send(frames.HEADERS, frames.END_HEADERS, 17, raw.block())
    raw.send(frames.DATA, 0, 17, b"\0" + struct.pack(">I", 2**31))
    assert raw.answer(17)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


def test_what_is_no_grpc_call_gets_an_http_status(raw: Raw) -> None:
    for stream, method, kind, expected in (
        (1, "GET", "application/grpc", b"405"),
        (3, "POST", "application/json", b"415"),
    ):
        fields = [
            (b":method", method.encode()), (b":scheme", b"http"), (b":path", INFER.encode()),
            (b"content-type", kind.encode()),
        ]  # fmt: skip
        raw.send(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, encode(fields))
        assert raw.answer(stream)[2][b":status"] == expected
    raw.send(frames.HEADERS, frames.END_HEADERS, 5, encode([(b":method", b"POST")]))
    with pytest.raises(ConnectionResetError):
        raw.answer(5)


PROTOCOL, FLOW, CLOSED, SIZE, COMPRESSION, CALM = 1, 3, 5, 6, 9, 11


@pytest.mark.parametrize(
    ("kind", "flags", "stream", "payload", "code"),
    [
        (frames.HEADERS, frames.END_HEADERS, 2, b"\x83", PROTOCOL),
        (frames.HEADERS, frames.END_HEADERS, 0, b"\x83", PROTOCOL),
        (frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff", COMPRESSION),
        (frames.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\x09abc", PROTOCOL),
        (frames.DATA, 0, 1, b"x", PROTOCOL),
        (frames.DATA, 0, 0, b"x", PROTOCOL),
        (frames.CONTINUATION, 0, 1, b"", PROTOCOL),
        (frames.PUSH_PROMISE, 0, 1, b"", PROTOCOL),
        (frames.PING, 0, 0, b"short", SIZE),
        (frames.SETTINGS, 0, 0, b"short", SIZE),
        (frames.SETTINGS, 0, 0, struct.pack(">HI", frames.INITIAL_WINDOW, 2**31), FLOW),
        (frames.SETTINGS, 0, 0, struct.pack(">HI", frames.MAX_FRAME, 1), PROTOCOL),
        (frames.WINDOW_UPDATE, 0, 0, struct.pack(">I", 0), FLOW),
        (frames.WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1), FLOW),
        (frames.WINDOW_UPDATE, 0, 0, b"", SIZE),
        (frames.RST_STREAM, 0, 1, struct.pack(">I", 8), PROTOCOL),
        (frames.PING, 0, 0, b"\0" * 70_000, SIZE),
        (frames.HEADERS, frames.END_HEADERS, 1, b"\x83" * 40_000, CALM),
    ],
)
def test_a_peer_that_breaks_the_rules_is_sent_away_with_the_code(
    raw: Raw, kind: int, flags: int, stream: int, payload: bytes, code: int
) -> None:
    raw.send(kind, flags, stream, payload)
    assert raw.goaway() == code


def test_floods_end_the_connection(served: Any) -> None:
    reset = struct.pack(">I", 8)
    first = Raw(served)
    block = first.block()
    first.socket.close()
    floods = {
        "pings": frames.frame(frames.PING, frames.ACK, 0, b"12345678") * 10_001,
        "empty data": frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block)
        + frames.frame(frames.DATA, 0, 1) * 10_001,
        "resets": b"".join(
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)
            + frames.frame(frames.RST_STREAM, 0, stream, reset)
            for stream in range(1, 2401, 2)
        ),
        "a block without an end": frames.frame(frames.HEADERS, 0, 1)
        + frames.frame(frames.CONTINUATION, 0, 1, b"\0" * 1000) * 70,
    }
    for name, flood in floods.items():
        raw = Raw(served)
        raw.socket.sendall(flood)
        assert raw.goaway() == CALM, name
        raw.socket.close()
    _assert_clean(served)


def test_another_protocol_is_turned_away(served: Any) -> None:
    with socket.create_connection(("127.0.0.1", served.address.grpc_port), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(1000).startswith(b"\0\0\x18\x04")
        while sock.recv(1000):
            pass


def test_more_data_than_the_window_allows_ends_the_connection(served: Any) -> None:
    raw = Raw(served)
    raw.send(frames.HEADERS, frames.END_HEADERS, 1, raw.block(STREAM))
    # One message that is never complete: nothing of its window is given back once half of it is used.
    window = served.server._rpc.limits.window_bytes
    served.on_loop(lambda: None)
    connection = next(iter(item for item in served.server._rpc.connections if item.calls), None)
    for _ in range(100):
        if connection is not None:
            break
        time.sleep(0.02)
        connection = next(iter(item for item in served.server._rpc.connections if item.calls), None)
    assert connection is not None
    call = connection.calls[1]
    served.on_loop(lambda: setattr(call, "unread", window))
    raw.send(frames.DATA, 0, 1, b"\0")
    assert raw.goaway() == FLOW
    raw.socket.close()


# -- the official client -------------------------------------------------------------------------------------------


def _channel(served: Any) -> Any:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    return grpc.insecure_channel(f"127.0.0.1:{served.address.grpc_port}", options=options)


def _bearer(served: Any) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {served.token}"),)


def test_hundreds_of_calls_share_one_connection(served: Any) -> None:
    with _channel(served) as channel:
        call = channel.unary_unary(INFER)
        calls = [(i, call.future(_add(float(i)), metadata=_bearer(served), timeout=20)) for i in range(600)]
        for number, future in calls:
            assert _sum(future.result()) == EXPECTED - 1.0 + number
    _assert_clean(served)


@pytest.mark.parametrize("coding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_the_clients_own_compression_works(served: Any, coding: Any) -> None:
    values = np.random.default_rng(0).integers(0, 4, (1, 60_000)).astype(np.float32)
    request = messages().ModelInferRequest(model_name="echo_fp32")
    request.inputs.add(name="x", datatype="FP32", shape=values.shape)
    request.raw_input_contents.append(values.tobytes())
    with _channel(served) as channel:
        data = channel.unary_unary(INFER)(
            request.SerializeToString(), metadata=_bearer(served), compression=coding, timeout=10
        )
    assert len(messages().ModelInferResponse.FromString(data).raw_output_contents[0]) == values.nbytes


def test_deadlines_errors_and_cancelling(served: Any) -> None:
    with _channel(served) as channel:
        call = channel.unary_unary(INFER)
        with pytest.raises(grpc.RpcError) as caught:
            call(_add(model="añder %"), metadata=_bearer(served), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "añder %" in caught.value.details()
        futures = [call.future(_add(), metadata=_bearer(served), timeout=10) for _ in range(50)]
        for future in futures[::2]:
            future.cancel()
        assert all(_sum(future.result()) == EXPECTED for future in futures[1::2])
        rows = np.zeros((4000, 600), np.float32)
        long = messages().ModelInferRequest(model_name="heavy")
        long.inputs.add(name="x", datatype="FP32", shape=rows.shape)
        long.raw_input_contents.append(rows.tobytes())
        with pytest.raises(grpc.RpcError) as caught:
            call(long.SerializeToString(), metadata=_bearer(served), timeout=0.01)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    _assert_clean(served)


def test_a_stream_of_many_requests_is_answered_while_it_is_sent(served: Any) -> None:
    count = 2000
    with _channel(served) as channel:
        answers = channel.stream_stream(STREAM)(
            (_add(float(i)) for i in range(count)), metadata=_bearer(served), timeout=60
        )
        found = [messages().ModelStreamInferResponse.FromString(item) for item in answers]
    assert not any(item.error_message for item in found)
    sums = sorted(
        float(np.frombuffer(item.infer_response.raw_output_contents[0], np.float32).ravel()[0])
        for item in found
    )
    assert sums == [EXPECTED - 1.0 + i for i in range(count)]
    _assert_clean(served)


def test_a_stream_without_a_token_is_refused_at_once(served: Any) -> None:
    with _channel(served) as channel, pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(STREAM)(iter([_add()]), timeout=10))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_server_that_stops_answers_what_is_under_way(tmp_path: Any) -> None:
    results: list[Any] = []
    with running(tmp_path / "home", [adder()], grpc_port=0) as server:
        channel = _channel(server)
        call = channel.unary_unary(INFER)
        metadata = _bearer(server)
        assert _sum(call(_add(), metadata=metadata, timeout=10)) == EXPECTED
        stopping = threading.Event()

        def ask() -> None:
            while True:
                try:
                    results.append(_sum(call(_add(), metadata=metadata, timeout=10)))
                except grpc.RpcError as error:
                    results.append(error.code())
                    return
                stopping.set()

        thread = threading.Thread(target=ask)
        thread.start()
        assert stopping.wait(10)
    thread.join(20)
    channel.close()
    assert set(results[:-1]) == {EXPECTED}
    assert results[-1] is grpc.StatusCode.UNAVAILABLE
