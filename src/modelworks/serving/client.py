"""A small typed client of a server: rows or arrays in, answers out. Standard library and numpy only."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from modelworks.core.errors import ExecutionError, ModelworksError, UsageError
from modelworks.serving.access import read_local_token
from modelworks.serving.errors import (
    BadRequest,
    Busy,
    DeadlinePassed,
    Forbidden,
    NotReady,
    RequestTooLarge,
    Unauthenticated,
    UnknownModel,
)
from modelworks.serving.running import find_running
from modelworks.serving.settings import default_home
from modelworks.serving.tensors import Array, datatype_of, from_binary, to_binary

_KINDS: dict[int, type[ModelworksError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: UnknownModel,
    413: RequestTooLarge,
    415: BadRequest,
    422: BadRequest,
    504: DeadlinePassed,
}


class Client:
    """Talks to one server over one kept connection; not for several threads at once.

    Args:
        url: Such as ``http://127.0.0.1:8080``. Default: the environment's ``MODELWORKS_URL``, else the server that
            runs from this installation, else that address.
        token: Default: the environment's ``MODELWORKS_TOKEN``, else the one this machine's first start made.
        timeout_s: Longest wait for an answer.
        retries: How often a request that was refused as busy, or met a closed connection, is sent again.
        certificate: PEM file of the authority that signed the server's certificate.
    """

    def __init__(
        self,
        url: str = "",
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 2,
        certificate: Path | None = None,
    ) -> None:
        url, certificate = _address(url, certificate)
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(
                f"'{url}' is not the address of a server.", code="MW1321", hint="http://127.0.0.1:8080"
            )
        self._token = token or os.environ.get("MODELWORKS_TOKEN") or read_local_token(default_home() / "keys")
        self._retries = retries
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(certificate) if certificate else None)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout_s, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # -- asking models -----------------------------------------------------------------------------------------

    def predict(
        self,
        model: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        key: str | None = None,
        version: str = "",
        explain: bool = False,
    ) -> list[dict[str, Any]]:
        """Return one plain object per row; with ``explain`` each has its ``explanation``.

        Args:
            model: Name of an endpoint.
            rows: Column name -> value; an image is its bytes (JPEG, PNG, ...) or its pixels as an array.
            key: Names the subject.
            version: Which version; the one that answers when empty.
            explain: Whether to say what moved each answer.

        Raises:
            BadRequest: A row does not fit; names row and column.
            Busy: Too much waits at the server.
        """
        body: dict[str, Any] = {"rows": list(rows), "version": version, "explain": explain}
        if key is not None:
            body["key"] = key
        answer = self.call("POST", f"/v1/models/{quote(model, safe='')}/predict", body)
        found: list[dict[str, Any]] = answer["predictions"]
        for item, explanation in zip(found, answer.get("explanations", ()), strict=False):
            item["explanation"] = explanation
        return found

    def predict_many(self, models: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Ask several models of equal inputs at once; returns model -> list of predictions, or its error.

        Heads of one backbone are answered from one pass over it.
        """
        answer = self.call("POST", "/v1/predict", {"models": list(models), "rows": list(rows)})["models"]
        return {name: item.get("predictions", item) for name, item in answer.items()}

    def infer(
        self, model: str, inputs: Mapping[str, Array], *, version: str = "", key: str | None = None
    ) -> dict[str, Array]:
        """Send arrays by the Open Inference Protocol's binary form; returns output name -> array.

        Raises:
            BadRequest: An array does not fit the model's signature.
            Busy: Too much waits at the server.
        """
        tail = []
        tensors = []
        for name, array in inputs.items():
            array = np.ascontiguousarray(array)
            raw = to_binary(array)
            tail.append(raw)
            tensors.append(
                {
                    "name": name,
                    "datatype": datatype_of(array),
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": len(raw)},
                }
            )
        parameters: dict[str, Any] = {"binary_data_output": True}
        if key is not None:
            parameters["key"] = key
        head = json.dumps({"inputs": tensors, "parameters": parameters}).encode()
        path = f"/v2/models/{quote(model, safe='')}"
        if version:
            path += f"/versions/{quote(version, safe='')}"
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
        data, length = self._send("POST", path + "/infer", head + b"".join(tail), headers)
        return _arrays(data, int(length or len(data)))

    def outcome(self, model: str, key: str, value: Any, *, row: int = 0, correction: bool = False) -> None:
        """Report what really happened to the subject of an earlier request, or correct an answer."""
        kind = "correction" if correction else "outcome"
        self.call(
            "POST",
            f"/v1/models/{quote(model, safe='')}/outcomes",
            {"key": key, "value": value, "row": row, "kind": kind},
        )

    # -- looking and changing ----------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Say whether the server takes requests."""
        try:
            self.call("GET", "/v2/health/ready")
        except (ModelworksError, OSError, http.client.HTTPException):
            return False
        return True

    def models(self) -> list[dict[str, Any]]:
        """Return what is served."""
        found: list[dict[str, Any]] = self.call("GET", "/v1/models")["models"]
        return found

    def model(self, name: str) -> dict[str, Any]:
        """Return one model: versions, columns, classes."""
        found: dict[str, Any] = self.call("GET", f"/v1/models/{quote(name, safe='')}")
        return found

    def status(self) -> dict[str, Any]:
        """Return the server's whole state."""
        found: dict[str, Any] = self.call("GET", "/v1/status")
        return found

    def endpoint(self, name: str, verb: str, **body: Any) -> dict[str, Any]:
        """Change an endpoint: ``deploy``, ``promote``, ``canary``, ``shadow``, ``rollback``, ``configure``, ``remove``.

        Returns:
            The endpoint's new state.
        """
        found: dict[str, Any] = self.call("POST", f"/v1/endpoints/{quote(name, safe='')}/{verb}", body)
        return found

    # -- sending -----------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON, return JSON.

        Raises:
            ModelworksError: What the server refused, as the kind its status stands for.
        """
        sent = json.dumps(body, default=_plain).encode() if body is not None else None
        data, _ = self._send(method, path, sent, {"Content-Type": "application/json"} if sent else {})
        return json.loads(data) if data else None

    def _send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[bytes, str | None]:
        headers = {**headers, "Authorization": f"Bearer {self._token}"}
        for attempt in range(self._retries + 1):
            try:
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                data = response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # A kept connection may be closed by the other side at any time.
                self._connection.close()
                if attempt == self._retries:
                    raise
                continue
            if response.status == 429 and attempt < self._retries:
                time.sleep(min(5.0, float(response.getheader("Retry-After") or 1)))
                continue
            if response.status >= 400:
                raise _error(response.status, data, response.getheader("Retry-After"))
            return data, response.getheader("Inference-Header-Content-Length")
        raise AssertionError


def _address(url: str, certificate: Path | None) -> tuple[str, Path | None]:
    """Return where to connect and whom to trust there."""
    url = url or os.environ.get("MODELWORKS_URL", "")
    if certificate is None and os.environ.get("MODELWORKS_CERTIFICATE"):
        certificate = Path(os.environ["MODELWORKS_CERTIFICATE"])
    if not url:
        found = find_running(default_home() / "serving")
        if found is not None:
            return found.url, certificate or (Path(found.certificate) if found.certificate else None)
    return url or "http://127.0.0.1:8080", certificate


def _error(status: int, data: bytes, retry_after: str | None) -> ModelworksError:
    try:
        text = str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        text = f"MW5000: The server answered {status}."
    code, _, message = text.partition(": ")
    if status in {429, 503}:
        kind = Busy if status == 429 else NotReady
        return kind(message, code=code, retry_after_s=float(retry_after or 1))
    return _KINDS.get(status, ExecutionError)(message, code=code)


def _plain(value: Any) -> Any:
    """Return what JSON has no form for: bytes as base64, arrays as lists."""
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


def _arrays(data: bytes, json_length: int) -> dict[str, Array]:
    answer = json.loads(data[:json_length])
    offset = json_length
    arrays = {}
    for output in answer["outputs"]:
        size = output["parameters"]["binary_data_size"]
        raw = memoryview(data)[offset : offset + size]
        arrays[output["name"]] = from_binary(output["name"], output["datatype"], output["shape"], raw)
        offset += size
    return arrays
