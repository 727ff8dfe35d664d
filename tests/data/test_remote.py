"""Bytes from elsewhere: S3 from a local server, the web only at public addresses, nothing by odd schemes."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelworks.core.errors import DataError, LimitError, MissingExtra
from modelworks.data import ReadOptions, TableLimits, remote
from modelworks.data.remote import fetch_url, hide_secrets, public_address

CSV = b"value,colour\n" + b"".join(b"%d,red\n%d,blue\n" % (index, index) for index in range(30))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    ],
)  # fmt: skip
def test_addresses_inside_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    def answer(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]

    monkeypatch.setattr(remote.socket, "getaddrinfo", answer)
    with pytest.raises(DataError) as caught:
        public_address("innocent.example", 80, "http://innocent.example/")
    assert caught.value.error_code == "MW1142"


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: object, **__: object) -> list[Any]:
        return [(2, 1, 6, "", (address, 80)) for address in ("93.184.216.34", "127.0.0.1")]

    monkeypatch.setattr(remote.socket, "getaddrinfo", answer)
    with pytest.raises(DataError):
        public_address("rebind.example", 80, "http://rebind.example/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a.csv",
        "local:///etc/passwd",
        "zip://a.csv::file:///x.zip",
        "simplecache::s3://b/k",
        "github://a:b@c/d",
    ],
)
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError) as caught:
        fetch_url(url, ReadOptions(), tmp_path)
    assert caught.value.error_code == "MW1140"


def test_secrets_in_urls_are_not_shown() -> None:
    assert hide_secrets("https://anna:pw@host/x.csv?token=abc") == "https://host/x.csv"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/jump":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest")
            self.end_headers()
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CSV)))
            self.end_headers()
            self.wfile.write(CSV[:50])
        elif self.path.split("?")[0] == "/t.csv":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CSV)))
            self.end_headers()
            self.wfile.write(CSV)
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server on this machine, its one address let through the guard."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    real = remote.public_address

    def let_through(host: str, port: int, url: str) -> str:
        return host if host == "127.0.0.1" else real(host, port, url)

    monkeypatch.setattr(remote, "public_address", let_through)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_web_file_is_read_and_redirects_are_checked_again(web: str, read, tmp_path: Path) -> None:
    table, _, report = read(f"{web}/t.csv?token=abc")
    assert table.num_rows == 60
    assert "abc" not in str(report)
    with pytest.raises(DataError) as caught:
        fetch_url(f"{web}/jump", ReadOptions(), tmp_path)
    assert caught.value.error_code == "MW1142"
    with pytest.raises(DataError, match="404"):
        fetch_url(f"{web}/none", ReadOptions(), tmp_path)
    with pytest.raises(DataError, match=r"cut off|cannot be read"):
        fetch_url(f"{web}/cut", ReadOptions(), tmp_path)
    with pytest.raises(LimitError):
        fetch_url(f"{web}/t.csv", ReadOptions(limits=TableLimits(file_bytes=10)), tmp_path)


def test_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    import fsspec

    assert "s3" in fsspec.available_protocols()
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(MissingExtra, match="extra 's3'"):
        fetch_url("s3://bucket/key.csv", ReadOptions(), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
def test_s3_from_a_local_server(monkeypatch: pytest.MonkeyPatch, read) -> None:
    moto_server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    storage = {"endpoint_url": f"http://{host}:{port}"}
    try:
        system = s3fs.S3FileSystem(**storage)
        system.mkdir("bucket")
        system.pipe("bucket/folder/t.csv", CSV)
        table, _, report = read("s3://bucket/folder/t.csv", storage=storage)
        assert table.num_rows == 60
        assert report["source"] == "s3://bucket/folder/t.csv"
        with pytest.raises(DataError) as caught:
            read("s3://bucket/none.csv", storage=storage)
        assert caught.value.error_code in {"MW1111", "MW1141"}
    finally:
        server.stop()
