"""A LitServe API: its own API process and one model worker."""

from __future__ import annotations

import os
from typing import Any

import graph as shared
import litserve


class Api(litserve.LitAPI):
    """Answers the protocol's JSON."""

    def setup(self, device: str) -> None:
        self.graph = shared.Graph()

    def decode_request(self, request):  # LitServe reads an annotation here as a query parameter
        return request["inputs"]

    def predict(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return self.graph.answer(inputs)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(api_path="/infer"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), num_api_servers=1, generate_client_file=False,
        log_level="warning", access_log=False,
    )  # fmt: skip
