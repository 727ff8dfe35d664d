"""An MLServer runtime around the session; MLServer itself does JSON, binary tensors and gRPC."""

from __future__ import annotations

from typing import Any

import graph as shared
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):
    """Serves one graph in MLServer's own process."""

    async def load(self) -> bool:
        self.graph = shared.Graph()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds: dict[str, Any] = {
            tensor.name: NumpyCodec.decode_input(tensor).astype(shared.DTYPES[tensor.datatype], copy=False)
            for tensor in payload.inputs
        }
        outputs = [
            NumpyCodec.encode_output(name, array)
            for name, array in zip(self.graph.outputs, self.graph.run(feeds), strict=True)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
