"""The OpenAPI 3.1 document of the HTTP door, written from the routes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from modelworks.serving.rest.application import Route
from modelworks.serving.tensors import DTYPES

_ERROR = {"$ref": "#/components/schemas/Error"}
_VALUES: dict[str, Any] = {"type": "array", "items": {}, "description": "Row-major values, flat or nested."}
_PARAMETERS: dict[str, Any] = {"type": "object", "additionalProperties": True}

SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"type": "string", "examples": ["MW1105: Row 0, column 'age': expected a number."]}
        },
    },
    "Tensor": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string", "enum": list(DTYPES)},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "parameters": _PARAMETERS,
            "data": _VALUES,
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
                },
            },
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
    "PredictRequest": {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {
            "rows": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "object", "additionalProperties": True},
            },
            "version": {"type": "string", "description": "Empty: whichever version answers."},
            "key": {"type": "string", "description": "Names the subject: sticky canaries, later outcomes."},
            "id": {"type": "string"},
            "explain": {"type": "boolean", "default": False},
            "timeout_ms": {"type": "number", "exclusiveMinimum": 0},
        },
    },
    "PredictResponse": {
        "type": "object",
        "required": ["model", "version", "predictions"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "id": {"type": "string"},
            "predictions": {"type": "array", "items": {"type": "object"}},
            "explanations": {"type": "array", "items": {"type": "object"}},
        },
    },
    "PredictManyRequest": {
        "type": "object",
        "required": ["models", "rows"],
        "additionalProperties": False,
        "properties": {
            "models": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "rows": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "object", "additionalProperties": True},
            },
            "timeout_ms": {"type": "number", "exclusiveMinimum": 0},
        },
    },
    "Outcome": {
        "type": "object",
        "required": ["key", "value"],
        "additionalProperties": False,
        "properties": {
            "key": {"type": "string", "minLength": 1, "maxLength": 200},
            "value": {},
            "row": {"type": "integer", "minimum": 0, "default": 0},
            "kind": {"type": "string", "enum": ["outcome", "correction"], "default": "outcome"},
        },
    },
    "Deploy": {
        "type": "object",
        "required": ["digest"],
        "additionalProperties": False,
        "properties": {
            "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "canary": {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 1},
            "shadow": {"type": "boolean"},
            "sticky": {"type": "boolean"},
            "change_signature": {
                "type": "boolean",
                "description": "It may take or give other tensors than the version that answers; default false.",
            },
        },
    },
    "Prepare": {
        "type": "object",
        "required": ["digest"],
        "additionalProperties": False,
        "properties": {"digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
    },
    "Version": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"version": {"type": ["string", "null"]}},
    },
    "Canary": {
        "type": "object",
        "required": ["version", "share"],
        "additionalProperties": False,
        "properties": {
            "version": {"type": "string"},
            "share": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            "sticky": {"type": "boolean"},
        },
    },
    "Settings": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "nan": {"type": ["string", "null"], "enum": ["missing", "refuse", None]},
            "priority": {"type": ["string", "null"], "enum": ["interactive", "background", None]},
            "deadline_ms": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e9},
            "pin": {"type": ["boolean", "null"]},
            "guard": {
                "type": ["boolean", "null"],
                "description": "End a canary that fails hard; default true.",
            },
            "observe": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
            "audit": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
            "redact": {"type": ["array", "null"], "items": {"type": "string"}},
            "retention_days": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e9},
        },
    },
    "Any": {"type": "object", "additionalProperties": True},
}

_BODIES = {
    "/infer": ("InferRequest", "InferResponse"),
    "/predict": ("PredictRequest", "PredictResponse"),
    "/v1/predict": ("PredictManyRequest", "Any"),
    "/outcomes": ("Outcome", "Any"),
    "/deploy": ("Deploy", "Any"),
    "/promote": ("Version", "Any"),
    "/shadow": ("Version", "Any"),
    "/canary": ("Canary", "Any"),
    "/configure": ("Settings", "Any"),
    "/prepare": ("Prepare", "Any"),
    "/index": ("Any", "List"),
}
_ERRORS = {
    "400": "The request does not fit.",
    "401": "No known token.",
    "403": "Not allowed.",
    "404": "Not there.",
    "409": "Changed by somebody else.",
    "413": "Too large.",
    "415": "Media type not taken.",
    "422": "The model has no finite answer.",
    "429": "Too much waits; see Retry-After.",
    "503": "Not ready.",
    "504": "The deadline passed.",
    "507": "The model does not fit.",
}


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of these routes."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Modelworks serving",
            "version": version,
            "description": "Open Inference Protocol v2 under /v2; rows, endpoints and state under /v1.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**SCHEMAS, "List": {"type": "array", "items": {"type": "object"}}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    tail = "/" + route.pattern.rpartition("/")[2]
    forms = _BODIES.get(route.pattern) or _BODIES.get(tail)
    sent, answered = forms if forms is not None and route.method == "POST" else (None, "Any")
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.pattern}").strip("_"),
        "tags": [route.pattern.split("/")[1] or "page"],
        "x-token": route.policy,
        "security": [] if route.policy == "open" else [{"token": []}],
        "responses": {"200": _response(route, answered)},
    }
    if tail == "/outcomes":
        operation["responses"] = {"202": _response(route, answered)}
    for status, text in _ERRORS.items():
        operation["responses"][status] = {
            "description": text,
            "content": {"application/json": {"schema": _ERROR}},
        }
    if sent is not None:
        content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{sent}"}}}
        if tail == "/infer":
            content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": sent != "Any", "content": content}
    names = re.findall(r"\{(\w+)\}", route.pattern)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    return operation


def _response(route: Route, schema: str) -> dict[str, Any]:
    if route.media != "application/json":
        return {"description": "OK", "content": {route.media: {"schema": {"type": "string"}}}}
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if schema == "InferResponse":
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return {"description": "OK", "content": content}
