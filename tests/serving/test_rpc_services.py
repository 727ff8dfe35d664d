"""Health and reflection of the gRPC door with the official clients, and streams: order, limits, tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from serving_kit import adder, running
from test_http2 import CALM, Raw, _add, _assert_clean, _bearer, _channel, _sum

from modelworks.serving.access import add_token, remove_token
from modelworks.serving.rpc import frames, health
from modelworks.serving.rpc.messages import messages

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
WATCH = "/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"
SERVICES = [
    "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running(tmp_path_factory.mktemp("home"), [adder()], grpc_port=0) as server:
        yield server


class _WithToken(grpc.StreamStreamClientInterceptor):
    """Sends the token, as ``grpcurl -H`` does."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        with_token = grpc.ClientCallDetails()
        with_token.method, with_token.timeout, with_token.credentials = details.method, 10, None
        with_token.wait_for_ready, with_token.compression = None, None
        with_token.metadata = [("authorization", f"Bearer {self._token}")]
        return continuation(with_token, requests)


# -- reflection ----------------------------------------------------------------------------------------------------


def test_a_client_that_knows_no_protocol_files_can_ask_a_model(served: Any) -> None:
    with _channel(served) as plain:
        channel = grpc.intercept_channel(plain, _WithToken(served.token))
        database = ProtoReflectionDescriptorDatabase(channel)
        assert sorted(database.get_services()) == SERVICES
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("inference.GRPCInferenceService")
        method = service.FindMethodByName("ModelInfer")
        kinds = [message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type)]
        request = kinds[0](model_name="adder")
        tensor = request.inputs.add(name="numbers", datatype="FP32", shape=[1, 3])
        tensor.contents.fp32_contents.extend([1, 2, 3])
        call = plain.unary_unary(f"/{service.full_name}/{method.name}")
        answer = kinds[1].FromString(call(request.SerializeToString(), metadata=_bearer(served), timeout=10))
        assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [7.0]
        for name in SERVICES:
            for found in pool.FindServiceByName(name).methods:
                assert found.input_type.fields is not None
        stream = service.FindMethodByName("ModelStreamInfer")
        assert stream.client_streaming and stream.server_streaming
        watch = pool.FindServiceByName("grpc.health.v1.Health").FindMethodByName("Watch")
        assert watch.server_streaming and not watch.client_streaming


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_every_kind_of_question_has_its_answer(served: Any, version: str) -> None:
    kind = reflection_pb2.ServerReflectionRequest
    requests = [
        kind(list_services=""),
        kind(file_by_filename="modelworks/inference.proto"),
        kind(file_containing_symbol="inference.ModelInferRequest.InferInputTensor"),
        kind(file_containing_symbol="grpc.health.v1.HealthCheckResponse.ServingStatus"),
        kind(file_containing_symbol="inference.GRPCInferenceService.ModelInfer"),
        kind(file_by_filename="/etc/passwd"),
        kind(file_containing_symbol="no.such.Thing"),
        kind(all_extension_numbers_of_type="inference.ModelInferRequest"),
        kind(host="x"),
    ]
    with _channel(served) as channel:
        call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
        sent = [item.SerializeToString() for item in requests]
        answers = [
            reflection_pb2.ServerReflectionResponse.FromString(data)
            for data in call(iter(sent), metadata=_bearer(served), timeout=10)
        ]
    assert [answer.original_request for answer in answers] == requests
    assert [answer.WhichOneof("message_response") for answer in answers] == [
        "list_services_response", *["file_descriptor_response"] * 4, *["error_response"] * 4
    ]  # fmt: skip
    assert {answer.error_response.error_code for answer in answers[5:]} == {5}
    assert answers[8].valid_host == "x"


def test_a_stranger_learns_no_service(served: Any) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    with _channel(served) as channel:
        for version in ("v1", "v1alpha"):
            call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
            with pytest.raises(grpc.RpcError) as caught:
                list(call(iter([request]), timeout=10))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter([b"\xff"]), metadata=_bearer(served), timeout=10))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_that_asks_and_does_not_read_gets_few_answers_made(served: Any) -> None:
    raw = Raw(served, {frames.INITIAL_WINDOW: 100})
    raw.send(
        frames.HEADERS,
        frames.END_HEADERS,
        1,
        raw.block("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    )
    question = frames.framed(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
    for _ in range(20):
        raw.send(frames.DATA, 0, 1, question * 5_000)
    raw.send(frames.PING, 0, 0, b"12345678")
    raw.until(frames.PING)
    (connection,) = served.server._rpc.connections
    call = served.on_loop(lambda: connection.calls[1])
    assert sum(len(part) for part in call.waiting) < 2_000
    raw.socket.close()
    _assert_clean(served)


# -- health --------------------------------------------------------------------------------------------------------


def test_the_official_health_client(served: Any) -> None:
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2", reason="needs grpcio-health-checking")
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with _channel(served) as channel:
        stub = HealthStub(channel)
        for name in ("", *SERVICES):
            request = health_pb2.HealthCheckRequest(service=name)
            assert stub.Check(request, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        # The stub of some releases does not have it yet.
        listed = channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=10)
        statuses = health.health_messages().HealthListResponse.FromString(listed).statuses
        assert {name: item.status for name, item in statuses.items()} == dict.fromkeys(("", *SERVICES), 1)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="adder"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watching = stub.Watch(health_pb2.HealthCheckRequest(service="adder"), timeout=10)
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watching.cancel()
    ours = health.health_messages().file
    public = type(ours).FromString(health_pb2.DESCRIPTOR.serialized_pb)
    for method in (*ours.service[0].method, *public.service[0].method):
        # Not streaming is said with a word or without.
        method.client_streaming, method.server_streaming = method.client_streaming, method.server_streaming
    known = {item.name: item for item in (*ours.message_type, *ours.service[0].method)}
    for item in (*public.message_type[:2], *public.service[0].method):
        other = known[item.name]
        for field in getattr(other, "field", ()):
            field.ClearField("json_name")
        assert other == item


def test_who_watches_is_told_that_the_server_ends(tmp_path: Any) -> None:
    seen: list[bytes] = []
    codes: list[Any] = []
    with running(tmp_path, [adder()], grpc_port=0) as server, _channel(server) as channel:
        watching = channel.unary_stream(WATCH)(b"", timeout=30)

        def watch() -> None:
            try:
                seen.extend(watching)
            except grpc.RpcError as error:
                codes.append(error.code())

        thread = threading.Thread(target=watch)
        for message in watching:
            seen.append(message)
            break
        thread.start()
        began = time.monotonic()
        server.wait(server.server.stop())
        assert time.monotonic() - began < 5
        thread.join(10)
    assert seen == [b"\x08\x01", b"\x08\x02"]
    assert codes == [grpc.StatusCode.UNAVAILABLE]


def test_watchers_are_few_and_are_forgotten_when_they_leave(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MOST_WATCHERS", 3)
    watchers = served.server._rpc.service.health._watchers
    raw = Raw(served)
    for stream in (1, 3, 5):
        raw.ask(stream, b"", WATCH, authorization="")
    status, _, _ = (raw.ask(7, b"", WATCH, authorization=""), *raw.answer(7))[1:]
    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert served.on_loop(lambda: len(watchers)) == 3
    raw.send(frames.RST_STREAM, 0, 3, b"\0\0\0\x08")
    raw.ask(9, b"", WATCH, grpc_timeout="50m")
    assert raw.answer(9)[0] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    raw.socket.close()
    _assert_clean(served)
    assert served.on_loop(lambda: len(watchers)) == 0


# -- strangers and floods ------------------------------------------------------------------------------------------


def test_a_stranger_cannot_fill_the_memory_with_messages(served: Any) -> None:
    """A message of more than one frame is taken from those with a token only."""
    raw = Raw(served)
    part = struct_of(50_000_000) + b"\0" * 16_000
    for stream, method, token, code in (
        (1, "/inference.GRPCInferenceService/ModelInfer", "Bearer wrong", grpc.StatusCode.UNAUTHENTICATED),
        (3, "/inference.GRPCInferenceService/Nothing", "", grpc.StatusCode.UNAUTHENTICATED),
        (5, CHECK, "", grpc.StatusCode.RESOURCE_EXHAUSTED),
        (7, STREAM, "", grpc.StatusCode.UNAUTHENTICATED),
    ):
        raw.send(frames.HEADERS, frames.END_HEADERS, stream, raw.block(method, authorization=token))
        raw.send(frames.DATA, 0, stream, part)
        fields = {}
        while True:
            kind, flags, number, payload = raw.frame()
            if number == stream and kind == frames.HEADERS:
                fields |= dict(raw.decoder.decode(payload) or [])
                if flags & frames.END_STREAM:
                    break
        assert int(fields[b"grpc-status"]) == code.value[0], method
        assert served.on_loop(lambda: served.server._rpc.bodies_bytes) == 0
    raw.socket.close()
    _assert_clean(served)


def struct_of(length: int) -> bytes:
    """Return the five bytes before a message."""
    return b"\0" + length.to_bytes(4, "big")


def test_resets_between_calls_that_end_still_are_a_flood(served: Any) -> None:
    """One answered call, or one byte for a call that is over, does not forgive a thousand that were reset."""
    reset = b"\0\0\0\x08"
    for forgiving in ("call", "byte"):
        raw = Raw(served)
        block = raw.block(CHECK, authorization="")
        sent = b""
        stream = 1
        for _ in range(40):
            for _ in range(100):
                sent += frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)
                sent += frames.frame(frames.RST_STREAM, 0, stream, reset)
                stream += 2
            if forgiving == "byte":
                sent += frames.frame(frames.DATA, 0, 1, b"\0")
            else:
                sent += frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)
                sent += frames.frame(frames.DATA, frames.END_STREAM, stream, frames.framed(b""))
                stream += 2
        raw.socket.sendall(sent)
        assert raw.goaway() == CALM, forgiving
        raw.socket.close()
    _assert_clean(served)


def test_a_client_that_cancels_now_and_then_is_no_flood(served: Any) -> None:
    raw = Raw(served)
    stream = 1
    reset = b"\0\0\0\x08"
    for _ in range(400):
        sent = b""
        for _ in range(3):
            sent += frames.frame(frames.HEADERS, frames.END_HEADERS, stream, raw.block())
            sent += frames.frame(frames.RST_STREAM, 0, stream, reset)
            stream += 2
        sent += frames.frame(frames.HEADERS, frames.END_HEADERS, stream, raw.block())
        raw.socket.sendall(sent + frames.frame(frames.DATA, frames.END_STREAM, stream, frames.framed(_add())))
        status, data, _ = raw.answer(stream)
        assert (status, _sum(data)) == (0, 2.0)
        stream += 2
    raw.socket.close()
    _assert_clean(served)


# -- streams -------------------------------------------------------------------------------------------------------


def _request() -> bytes:
    return _add()


def test_a_stream_is_held_to_the_rate_of_its_token(served: Any) -> None:
    keys = served.server.settings.keys
    token = add_token(keys, name="slow", role="infer", rate=5)
    served.on_loop(served.server.access.reload)
    with _channel(served) as channel:
        call = channel.stream_stream(STREAM)
        answers = list(
            call(iter([_request()] * 40), metadata=(("authorization", f"Bearer {token}"),), timeout=20)
        )
    found = [messages().ModelStreamInferResponse.FromString(data).error_message for data in answers]
    assert len(found) == 40
    refused = [text for text in found if text]
    assert len(refused) >= 20 and all(text.startswith("MW2315") for text in refused)


def test_a_stream_ends_to_be_answered_when_its_token_is_revoked(served: Any) -> None:
    keys = served.server.settings.keys
    token = add_token(keys, name="short", role="infer")
    served.on_loop(served.server.access.reload)
    go_on = threading.Event()

    def requests() -> Iterator[bytes]:
        yield _request()
        assert go_on.wait(10)
        yield _request()

    with _channel(served) as channel:
        metadata = (("authorization", f"Bearer {token}"),)
        answers = channel.stream_stream(STREAM)(requests(), metadata=metadata, timeout=20)
        first = messages().ModelStreamInferResponse.FromString(next(answers))
        assert not first.error_message
        remove_token(keys, "short")
        served.on_loop(served.server.access.reload)
        go_on.set()
        second = messages().ModelStreamInferResponse.FromString(next(answers))
        assert second.error_message.startswith("MW3")
