"""A Triton model repository: ``<model>/config.pbtxt`` and ``<model>/1/model.onnx``, for one of two backends.

Format: Triton's ``ModelConfig`` protobuf text and the documentation of its ONNX Runtime and Python backends.
"""

from __future__ import annotations

import json
from importlib import resources

from modelworks.core.signature import TOKENIZER, Signature, Tensor
from modelworks.packaging.manifest import MANIFEST
from modelworks.packaging.package import Package

DATATYPES = {
    "FP32": "TYPE_FP32", "FP64": "TYPE_FP64", "INT64": "TYPE_INT64", "INT32": "TYPE_INT32", "BYTES": "TYPE_STRING",
    "BOOL": "TYPE_BOOL", "UINT8": "TYPE_UINT8",
}  # fmt: skip
MAX_BATCH = 1024
ONNX_RUNTIME = 'platform: "onnxruntime_onnx"'
PYTHON = 'backend: "python"'
SCRIPT = "triton_model.py"


def triton_files(package: Package) -> dict[str, bytes]:
    """Return path -> bytes of a model repository that holds this one model, for the ONNX Runtime backend."""
    return _files(package, ONNX_RUNTIME)


def triton_python_files(package: Package) -> dict[str, bytes]:
    """Return the same for the Python backend: the same graph, run by ``1/model.py``."""
    return {**_files(package, PYTHON), f"{package.manifest.name}/1/model.py": model_script()}


def model_script() -> bytes:
    """Return what runs ``model.onnx`` in the Python backend."""
    return (resources.files("modelworks.packaging.exporters") / SCRIPT).read_bytes()


def _files(package: Package, backend: str) -> dict[str, bytes]:
    name = package.manifest.name
    files = {
        f"{name}/config.pbtxt": model_config(name, package.signature, backend, package.digest).encode(),
        f"{name}/1/model.onnx": package.onnx,
        f"{name}/{MANIFEST}": package.files[MANIFEST],
    }
    if package.signature.tokenizer is not None:
        files[f"{name}/{TOKENIZER}"] = package.files[TOKENIZER]
    if package.signature.classes:
        lines = "".join(" ".join(label.split()) + "\n" for label in package.signature.classes)
        files[f"{name}/labels.txt"] = lines.encode()
    return files


def model_config(name: str, signature: Signature, backend: str, digest: str) -> str:
    """Return ``config.pbtxt`` of a model.

    Args:
        name: Name of the model.
        signature: Its inputs and outputs.
        backend: ``ONNX_RUNTIME`` or ``PYTHON``.
        digest: Identity of its package, for the parameters.
    """
    lines = [
        f"name: {_text(name)}",
        backend,
        f"max_batch_size: {MAX_BATCH}",
        *(_tensor("input", tensor, "") for tensor in signature.inputs),
        *(_tensor("output", tensor, _labels(signature, tensor)) for tensor in signature.outputs),
        "dynamic_batching { max_queue_delay_microseconds: 500 }",
        "instance_group [ { count: 1, kind: KIND_CPU } ]",
        'parameters { key: "intra_op_thread_count", value: { string_value: "1" } }',
        f'parameters {{ key: "modelworks_package", value: {{ string_value: "{digest}" }} }}',
    ]
    return "\n".join(lines) + "\n"


def _tensor(what: str, tensor: Tensor, more: str) -> str:
    """Return one entry; axis 0 is Triton's batch axis, a tensor without another axis is reshaped to one value."""
    axes = tensor.shape[1:]
    shape = "dims: [ 1 ], reshape: { shape: [ ] }" if not axes else f"dims: [ {', '.join(map(str, axes))} ]"
    return (
        f"{what} [ {{ name: {_text(tensor.name)}, data_type: {DATATYPES[tensor.datatype]}, {shape}{more} }} ]"
    )


def _labels(signature: Signature, tensor: Tensor) -> str:
    return ', label_filename: "labels.txt"' if tensor.name == "probabilities" and signature.classes else ""


def _text(value: str) -> str:
    """Quote for the protobuf text format; JSON's ASCII escapes are read there as well."""
    return json.dumps(value)
