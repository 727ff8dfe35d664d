"""Runs ``model.onnx`` beside this file in Triton's Python backend; its Python needs numpy and onnxruntime."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph, after its digest was checked against the manifest of the package."""
        folder = Path(args["model_repository"])
        config = json.loads(args["model_config"])
        manifest = json.loads((folder / "manifest.json").read_bytes())
        graph = (folder / args["model_version"] / "model.onnx").read_bytes()
        if hashlib.sha256(graph).hexdigest() != manifest["files"]["model.onnx"]["sha256"]:
            raise triton.TritonModelException("model.onnx is not the file the manifest names")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["intra_op_thread_count"]["string_value"])
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._inputs = [(item["name"], item["data_type"] == "TYPE_STRING") for item in config["input"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests: those of equal shapes go through the graph together, an error spoils one request."""
        responses: list[Any] = [None] * len(requests)
        groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for index, request in enumerate(requests):
            try:
                feeds = self._feeds(request)
            except UnicodeDecodeError:
                responses[index] = _failed("a text is not UTF-8")
                continue
            shape = tuple(array.shape[1:] for array in feeds.values())
            names = frozenset(request.requested_output_names())
            groups.setdefault((shape, names), []).append((index, feeds))
        for (_, names), members in groups.items():
            for index, response in self._run(sorted(names), members):
                responses[index] = response
        return responses

    def _feeds(self, request: Any) -> dict[str, Any]:
        feeds = {}
        for name, text in self._inputs:
            array = triton.get_input_tensor_by_name(request, name).as_numpy()
            if text:
                texts = np.empty(array.size, object)
                texts[:] = [value.decode() for value in array.ravel()]
                array = texts.reshape(array.shape)
            feeds[name] = array
        return feeds

    def _run(self, names: list[str], members: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, Any]]:
        feeds = {name: np.concatenate([feeds[name] for _, feeds in members]) for name, _ in self._inputs}
        try:
            outputs = self._session.run(names, feeds)
        except Exception as error:
            if len(members) == 1:
                return [(members[0][0], _failed(f"the graph refused this input ({type(error).__name__})"))]
            return [found for member in members for found in self._run(names, [member])]
        responses = []
        start = 0
        for index, own in members:
            end = start + len(next(iter(own.values())))
            tensors = [
                triton.Tensor(name, _sent(array[start:end]))
                for name, array in zip(names, outputs, strict=True)
            ]
            responses.append((index, triton.InferenceResponse(output_tensors=tensors)))
            start = end
        return responses


def _sent(array: Any) -> Any:
    """Return an array as the backend takes it: texts as bytes, values side by side."""
    if array.dtype == object:
        texts = np.empty(array.size, object)
        texts[:] = [str(value).encode() for value in array.ravel()]
        return texts.reshape(array.shape)
    return np.ascontiguousarray(array)


def _failed(text: str) -> Any:
    return triton.InferenceResponse(error=triton.TritonError(text))
