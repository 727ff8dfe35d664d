"""A Ray Serve deployment with one replica behind its HTTP proxy, on a local one-CPU cluster."""

from __future__ import annotations

import os
import signal
from typing import Any

import graph as shared
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.1})
class Deployment:
    """Answers the protocol's JSON."""

    def __init__(self) -> None:
        self.graph = shared.Graph()

    async def __call__(self, request: Request) -> dict[str, Any]:
        return self.graph.answer((await request.json())["inputs"])


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    names = ("BENCH_MODELS", "BENCH_MODEL")
    environment = {"PYTHONPATH": here, **{key: os.environ[key] for key in names}}
    ray.init(
        num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20,
        runtime_env={"env_vars": environment},
    )  # fmt: skip
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"]), "access_log": False}
    )
    serve.run(Deployment.bind(), route_prefix="/infer")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
