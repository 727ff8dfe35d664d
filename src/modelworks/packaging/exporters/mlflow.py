"""An MLflow model folder: ``MLmodel`` with the onnx flavour and a tensor signature.

Format: MLflow's ``Model`` (``MLmodel`` YAML) and ``mlflow.onnx``.
"""

from __future__ import annotations

import json
from typing import Any

from modelworks.core.signature import TOKENIZER, Tensor
from modelworks.packaging.manifest import MANIFEST, MODEL
from modelworks.packaging.package import Package

DTYPES = {
    "FP32": "float32", "FP64": "float64", "INT64": "int64", "INT32": "int32", "BYTES": "object", "BOOL": "bool",
    "UINT8": "uint8",
}  # fmt: skip
REQUIREMENTS = ("mlflow", "onnx", "onnxruntime", "numpy")


def mlflow_files(package: Package) -> dict[str, bytes]:
    """Return path -> bytes of a folder that ``mlflow.onnx.load_model`` and ``mlflow models serve`` read."""
    requirements = "".join(f"{name}\n" for name in REQUIREMENTS)
    python_env = {"python": "3.11", "dependencies": ["-r requirements.txt"]}
    conda = {"name": "mlflow-env", "dependencies": ["python=3.11", "pip", {"pip": list(REQUIREMENTS)}]}
    tokenizer = {TOKENIZER: package.files[TOKENIZER]} if package.signature.tokenizer is not None else {}
    return {
        **tokenizer,
        "MLmodel": _yaml(_mlmodel(package)),
        MODEL: package.onnx,
        MANIFEST: package.files[MANIFEST],
        "requirements.txt": requirements.encode(),
        "python_env.yaml": _yaml(python_env),
        "conda.yaml": _yaml(conda),
    }


def _mlmodel(package: Package) -> dict[str, Any]:
    signature = package.signature
    return {
        "flavors": {
            "onnx": {"code": None, "data": MODEL, "onnx_version": "1", "providers": ["CPUExecutionProvider"]},
            "python_function": {
                "data": MODEL,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.onnx",
                "python_version": "3.11",
            },
        },
        "metadata": {"modelworks_package": package.digest},
        "model_size_bytes": len(package.onnx),
        "model_uuid": package.digest[:32],
        "signature": {
            "inputs": json.dumps([_tensor(tensor) for tensor in signature.inputs]),
            "outputs": json.dumps([_tensor(tensor) for tensor in signature.outputs]),
            "params": None,
        },
        "utc_time_created": package.manifest.created.replace("T", " ").rstrip("Z"),
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    spec = {"dtype": DTYPES[tensor.datatype], "shape": list(tensor.shape)}
    return {"name": tensor.name, "type": "tensor", "tensor-spec": spec}


def _yaml(value: Any) -> bytes:
    """JSON with line ends is YAML, and nothing in it is mistaken for another type."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
