"""A plain ``grpc.aio`` server of the protocol's ``ModelInfer`` with the public message classes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import graph as shared
import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

GRAPH = shared.Graph()


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers raw contents with raw contents."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        feeds = {
            tensor.name: np.frombuffer(data, shared.DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, data in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        response = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        for name, array in zip(GRAPH.outputs, GRAPH.run(feeds), strict=True):
            response.outputs.add(name=name, datatype="FP32", shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


async def main() -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    server.add_insecure_port(f"127.0.0.1:{os.environ['BENCH_GRPC_PORT']}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
