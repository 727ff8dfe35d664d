"""What is seen from outside: traces at a collector, the live view, the ready-made board."""

from __future__ import annotations

import http.server
import json
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_kit import adder, logarithm, running

from modelworks.core.errors import UsageError
from modelworks.serving.counters import Histogram
from modelworks.serving.foreground import address_for_people
from modelworks.serving.metrics import _HELP, exposition
from modelworks.serving.settings import ServeSettings
from modelworks.serving.top import top_lines
from modelworks.serving.tracing import Parent, Tracer

BOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "serving.json"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    spans: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in data["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    spans.extend(scope["spans"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", spans
    server.shutdown()
    server.server_close()
    thread.join()


def test_spans_reach_a_collector_under_the_callers_trace(tmp_path: Path, collector: Any) -> None:
    url, spans = collector
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with running(tmp_path, [adder(), logarithm()], otlp=url, trace_share=0.0) as server:
        server.infer("adder", [[1, 2, 3]])
        assert server.infer("adder", [[1, 2, 3]], headers={"traceparent": f"00-{trace}-{span}-01"})[0] == 200
        server.infer("adder", [[1, 2, 3]], headers={"traceparent": f"00-{trace}-{span}-00"})
        server.infer("logarithm", [[-1]], headers={"traceparent": f"00-{trace}-{span}-01"})
    assert len(spans) == 6
    assert {item["traceId"] for item in spans} == {trace}
    roots = [item for item in spans if item["name"] == "infer"]
    assert [item["parentSpanId"] for item in roots] == [span, span]
    children = [item for item in spans if item["parentSpanId"] == roots[0]["spanId"]]
    assert {item["name"] for item in children} == {"queue", "run"}
    assert all(int(item["startTimeUnixNano"]) <= int(item["endTimeUnixNano"]) for item in spans)
    attributes = {item["key"]: next(iter(item["value"].values())) for item in roots[0]["attributes"]}
    assert attributes["model"] == "adder" and attributes["rows"] == "1"
    assert roots[1]["status"] == {"code": 2, "message": "MW5410"}


def test_a_collector_that_is_away_costs_spans_only(tmp_path: Path) -> None:
    with running(tmp_path, [adder()], otlp="http://127.0.0.1:9", trace_share=1.0) as server:
        for _ in range(5):
            assert server.infer("adder", [[1, 2, 3]])[0] == 200
        tracer = server.server.tracer
    assert tracer is not None and tracer.dropped == 15 and tracer.sent == 0
    with pytest.raises(UsageError):
        Tracer("collector", share=1.0)


@given(st.text(max_size=60))
def test_any_header_is_a_parent_or_none(text: str) -> None:
    assert Parent.of(text) is None or len(text) == 55
    assert Parent.of("00-" + "0" * 32 + "-" + "1" * 16 + "-01") is None


def test_top_turns_two_readings_into_rates(tmp_path: Path) -> None:
    with running(tmp_path, [adder(), adder("idle", 2.0)]) as server:
        server.infer("adder", [[1, 2, 3]])
        before = server.request("GET", "/v1/status")[1]
        for _ in range(20):
            server.infer("adder", [[1, 2, 3]])
        server.request("POST", "/v2/models/adder/infer", b"{}")
        time.sleep(0.05)
        after = server.request("GET", "/v1/status")[1]
    lines = top_lines(before, after)
    assert [line.name for line in lines] == ["adder", "idle"]
    elapsed = after["wall"] - before["wall"]
    assert lines[0].requests_per_s == pytest.approx(20 / elapsed)
    assert lines[0].version == "1*" and lines[0].state == "ready" and lines[0].p99_ms > 0
    assert lines[1].requests_per_s == 0 and lines[1].p99_ms == 0
    first = top_lines(after, after)
    assert all(line.requests_per_s == 0 for line in first)


@given(st.lists(st.floats(1e-5, 20.0), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_quantiles_lie_in_the_right_bucket(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    ordered = sorted(values)
    exact = ordered[math.ceil(share * len(ordered)) - 1]
    found = histogram.quantile(share)
    bounds = [0.0, *histogram.bounds]
    index = next(place for place, bound in enumerate(bounds) if bound >= found - 1e-12)
    assert bounds[max(0, index - 1)] <= exact <= bounds[index]


def test_what_is_refused_before_a_model_is_asked_is_counted_too(tmp_path: Path) -> None:
    with running(tmp_path, [adder()], grpc_port=0) as server:
        assert server.request("GET", "/v2/models/adder", token=None)[0] == 401
        assert server.request("GET", "/v2/nothing")[0] == 404
        assert server.request("GET", "/v1/models/adder/predict")[0] == 405
        assert server.request("POST", "/v1/models/adder/predict", {"rows": [{"c0": "x"}]})[0] == 400
        with socket.create_connection((server.address.host, server.address.port), timeout=5) as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            sock.recv(1024)
        with grpc.insecure_channel(f"127.0.0.1:{server.address.grpc_port}") as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=5)
        lines = exposition(server.on_loop(server.server.status)).decode().splitlines()
    name = "modelworks_error_answers_total"
    for door, code in (
        ("http", "MW3410"), ("http", "MW4210"), ("http", "MW1411"), ("http", "MW1105"), ("http", "MW1410"),
        ("grpc", "MW3410"),
    ):  # fmt: skip
        assert f'{name}{{door="{door}",code="{code}"}} 1' in lines


def test_a_person_is_told_an_address_that_a_browser_can_go_to() -> None:
    report = {"url": "http://0.0.0.0:80", "port": 80}
    assert address_for_people(ServeSettings(host="0.0.0.0", insecure=True), report) == "http://localhost:80"
    named = ServeSettings(host="::", insecure=True, host_names=("models.example.org",))
    assert address_for_people(named, report) == "http://models.example.org:80"
    assert (
        address_for_people(ServeSettings(), {**report, "url": "http://127.0.0.1:80"}) == "http://127.0.0.1:80"
    )


def test_the_board_asks_only_for_metrics_that_exist() -> None:
    board = json.loads(BOARD.read_text())
    asked = set(re.findall(r"modelworks_\w+", json.dumps(board["panels"])))
    known = set(_HELP) | {f"{name}{suffix}" for name in _HELP for suffix in ("_bucket", "_sum", "_count")}
    assert asked <= known
    assert len(board["panels"]) == len({panel["id"] for panel in board["panels"]})
