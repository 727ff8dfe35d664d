"""The Open Inference Protocol's gRPC messages, described here and built at run time in a pool of our own.

Names and numbers are those of the public ``inference.GRPCInferenceService``; a private pool lets a program load
another copy of the same protocol, such as a client library's, beside this one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}

# One line per message: name, then "type name" in field-number order from 1. "*" repeats, "%" is a map from string,
# "?" belongs to the message's oneof, a capital letter starts a message type.
_MESSAGES = """
ServerLiveRequest
ServerLiveResponse: bool live
ServerReadyRequest
ServerReadyResponse: bool ready
ModelReadyRequest: string name, string version
ModelReadyResponse: bool ready
ServerMetadataRequest
ServerMetadataResponse: string name, string version, *string extensions
ModelMetadataRequest: string name, string version
ModelMetadataResponse.TensorMetadata: string name, string datatype, *int64 shape
ModelMetadataResponse: string name, *string versions, string platform, *ModelMetadataResponse.TensorMetadata inputs, \
*ModelMetadataResponse.TensorMetadata outputs
InferParameter: ?bool bool_param, ?int64 int64_param, ?string string_param, ?double double_param, \
?uint64 uint64_param
InferTensorContents: *bool bool_contents, *int32 int_contents, *int64 int64_contents, *uint32 uint_contents, \
*uint64 uint64_contents, *float fp32_contents, *double fp64_contents, *bytes bytes_contents
ModelInferRequest.InferInputTensor: string name, string datatype, *int64 shape, %InferParameter parameters, \
InferTensorContents contents
ModelInferRequest.InferRequestedOutputTensor: string name, %InferParameter parameters
ModelInferRequest: string model_name, string model_version, string id, %InferParameter parameters, \
*ModelInferRequest.InferInputTensor inputs, *ModelInferRequest.InferRequestedOutputTensor outputs, \
*bytes raw_input_contents
ModelInferResponse.InferOutputTensor: string name, string datatype, *int64 shape, %InferParameter parameters, \
InferTensorContents contents
ModelInferResponse: string model_name, string model_version, string id, %InferParameter parameters, \
*ModelInferResponse.InferOutputTensor outputs, *bytes raw_output_contents
ModelStreamInferResponse: string error_message, ModelInferResponse infer_response
ModelRepositoryParameter: ?bool bool_param, ?int64 int64_param, ?string string_param, ?bytes bytes_param
RepositoryIndexRequest: string repository_name, bool ready
RepositoryIndexResponse.ModelIndex: string name, string version, string state, string reason
RepositoryIndexResponse: *RepositoryIndexResponse.ModelIndex models
RepositoryModelLoadRequest: string repository_name, string model_name, %ModelRepositoryParameter parameters
RepositoryModelLoadResponse
RepositoryModelUnloadRequest: string repository_name, string model_name, %ModelRepositoryParameter parameters
RepositoryModelUnloadResponse
"""

METHODS = {
    name: (f"{name}Request", f"{name}Response")
    for name in (
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelInfer",
        "RepositoryIndex",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    )
}


@dataclass(frozen=True)
class Messages:
    """The message classes by name."""

    classes: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.classes[name]
        except KeyError:
            raise AttributeError(name) from None


@functools.cache
def messages() -> Messages:
    """Build the message classes once."""
    file = descriptor_pb2.FileDescriptorProto(
        name="modelworks/inference.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, Any] = {}
    for line in _MESSAGES.strip().splitlines():
        name, _, fields = line.partition(":")
        parent, _, child = name.strip().partition(".")
        if parent not in made:
            made[parent] = file.message_type.add(name=parent)
        message = made[parent].nested_type.add(name=child) if child else made[parent]
        for number, field in enumerate(filter(None, (part.strip() for part in fields.split(","))), start=1):
            _add_field(message, parent if not child else f"{parent}.{child}", field, number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return Messages(
        {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
            for name in made
        }
    )


def _add_field(message: Any, owner: str, text: str, number: int) -> None:
    kind, name = text.split()
    mark = kind[0] if kind[0] in "*%?" else ""
    kind = kind.removeprefix(mark)
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL, json_name=name)
    if mark == "*":
        field.label = _FIELD.LABEL_REPEATED
    if mark == "?":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if mark == "%":
        entry_name = name.title().replace("_", "") + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
        entry.field.add(
            name="value",
            number=2,
            label=_FIELD.LABEL_OPTIONAL,
            type=_FIELD.TYPE_MESSAGE,
            type_name=f".{PACKAGE}.{kind}",
        )
        field.label = _FIELD.LABEL_REPEATED
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{owner}.{entry_name}"
    elif kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
