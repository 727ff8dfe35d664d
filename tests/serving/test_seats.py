"""How many connections a door and an address may hold, before and after the TLS handshake; what the others are told."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving_kit import adder, running, self_signed

from modelworks.serving.seats import Full, Seat, Seats, counted_as
from modelworks.serving.tls import TlsListener, tls_context

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("local", ""),
    ],
)
def test_whom_an_address_counts_for(address: str, name: str) -> None:
    assert counted_as(address) == name


def test_seats_are_given_and_come_back() -> None:
    seats = Seats()
    first = seats.take("10.0.0.1", most=3, per_address=1)
    assert isinstance(first, Seat)
    refused = seats.take("10.0.0.1", most=3, per_address=1)
    assert isinstance(refused, Full) and refused.cause == "address" and "10.0.0.1" in refused.text
    others = [seats.take(address, most=3, per_address=1) for address in ("10.0.0.2", "local", "10.0.0.3")]
    assert [isinstance(item, Seat) for item in others] == [True, True, False]
    assert seats.refused == {"connections": 1, "address": 1, "handshake": 0}
    first.leave()
    first.leave()
    assert seats.taken == 2
    assert isinstance(seats.take("10.0.0.1", most=3, per_address=1), Seat)


def test_no_limit_for_an_address_is_zero() -> None:
    seats = Seats()
    assert all(isinstance(seats.take("10.0.0.1", most=9, per_address=0), Seat) for _ in range(9))


def _open(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(count)]


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _until(holds: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.02)


def _metric(server: Any, line: str) -> float:
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=10) as sock:
        sock.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer %b\r\n\r\n"
            % server.token.encode()
        )
        text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    return float(next(found for found in text.splitlines() if found.startswith(line)).split()[-1])


def test_an_address_holds_so_many_http_connections_and_the_next_is_told_and_cut_off(tmp_path: Path) -> None:
    with running(tmp_path, [adder()], connections_per_address=3) as server:
        held = _open(server.address.port, 3)
        _until(lambda: server.server.http.seats.taken == 3)
        (late,) = _open(server.address.port, 1)
        answer = late.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429") and b"retry-after: 1" in head
        assert json.loads(body)["error"].startswith("MW2311: 127.0.0.1 holds the 3 connections")
        assert late.recv(1) == b""
        # It stays open on the client's side; the server does not keep it.
        _until(lambda: _reset(late), 5.0)
        _close(held)
        _until(lambda: server.server.http.seats.taken == 0)
        again = _open(server.address.port, 1)
        again[0].sendall(LIVE)
        assert again[0].recv(65536).startswith(b"HTTP/1.1 200")
        assert _metric(server, 'modelworks_connections_refused_total{door="http",cause="address"}') == 1
        assert _metric(server, 'modelworks_connections{door="http"}') == 2
        _close([late, *again])


def _reset(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"x")
    except OSError:
        return True
    return False


def test_behind_a_proxy_one_address_may_hold_them_all(tmp_path: Path) -> None:
    with running(tmp_path, [adder()], connections_per_address=0) as server:
        held = _open(server.address.port, 300)
        held[-1].sendall(LIVE)
        assert held[-1].recv(65536).startswith(b"HTTP/1.1 200")
        _close(held)


def test_a_grpc_client_over_the_limit_is_told(tmp_path: Path) -> None:
    with running(tmp_path, [adder()], grpc_port=0, connections_per_address=2) as server:
        held = _open(server.address.grpc_port, 2)
        _until(lambda: server.server.status()["doors"]["grpc"]["open"] == 2)
        with grpc.insecure_channel(f"127.0.0.1:{server.address.grpc_port}") as channel:
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            with pytest.raises(grpc.RpcError) as caught:
                live(b"", timeout=5)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        _close(held)
        _until(lambda: server.server.status()["doors"]["grpc"]["open"] == 0)
        with grpc.insecure_channel(f"127.0.0.1:{server.address.grpc_port}") as channel:
            assert channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=5)
        assert server.server.status()["doors"]["grpc"]["address"] >= 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


@contextmanager
def _tls(tmp_path: Path, certificate: tuple[Path, Path], **settings: Any) -> Iterator[Any]:
    with running(
        tmp_path, [adder()], grpc_port=0, tls_certificate=certificate[0], tls_key=certificate[1], **settings
    ) as server:
        yield server


def _trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_who_has_not_shaken_hands_counts_too(
    tmp_path: Path, certificate: tuple[Path, Path], door: str
) -> None:
    with _tls(tmp_path, certificate, connections_per_address=3) as server:
        port = server.address.port if door == "http" else server.address.grpc_port
        silent = _open(port, 3)
        _until(lambda: server.server.status()["doors"][door]["open"] == 3)
        (late,) = _open(port, 1)
        assert late.recv(1) == b""
        assert server.server.status()["doors"][door]["address"] == 1
        _close([late, *silent])
        _until(lambda: server.server.status()["doors"][door]["open"] == 0)
        assert server.server.status()["doors"][door]["handshake"] == 3
        with _trusting(certificate).wrap_socket(_open(port, 1)[0], server_hostname="localhost") as sock:
            assert sock.version() in {"TLSv1.2", "TLSv1.3"}
            _until(lambda: server.server.status()["doors"][door]["open"] == 1)
        _until(lambda: server.server.status()["doors"][door]["open"] == 0)


def test_a_handshake_that_trickles_in_is_ended(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with _tls(tmp_path, certificate) as server:
        http = server.server.http
        listening = socket.create_server(("127.0.0.1", 0))
        made: list[TlsListener] = []
        server.on_loop(
            lambda: made.append(
                TlsListener(
                    server.loop, listening, tls_context(*certificate, "http/1.1"), seats=http.seats,
                    seat=http.seat, connection=http.connection, handshake_s=0.5,
                )
            )
        )  # fmt: skip
        (sock,) = _open(listening.getsockname()[1], 1)
        ended = threading.Event()

        def trickle() -> None:
            # The beginning of a ClientHello that would be 512 bytes long.
            for byte in bytes.fromhex("16030102000100") + bytes(500):
                if ended.is_set():
                    return
                try:
                    sock.sendall(bytes([byte]))
                except OSError:
                    return
                time.sleep(0.05)

        thread = threading.Thread(target=trickle)
        thread.start()
        started = time.monotonic()
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
        finally:
            ended.set()
            thread.join()
        assert time.monotonic() - started < 5
        assert http.seats.refused["handshake"] == 1 and http.seats.taken == 0
        server.on_loop(made[0].close)
        sock.close()
