"""The Open Inference Protocol's gRPC messages, described here and built at run time.

Names and numbers are those of the public ``inference.GRPCInferenceService``.
"""

from __future__ import annotations

import functools

from modelworks.serving.rpc.descriptors import Messages, messages_of

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

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
InferParameter[parameter_choice]: ?bool bool_param, ?int64 int64_param, ?string string_param, ?double double_param, \
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
ModelRepositoryParameter[parameter_choice]: ?bool bool_param, ?int64 int64_param, ?string string_param, \
?bytes bytes_param
RepositoryIndexRequest: string repository_name, bool ready
RepositoryIndexResponse.ModelIndex: string name, string version, string state, string reason
RepositoryIndexResponse: *RepositoryIndexResponse.ModelIndex models
RepositoryModelLoadRequest: string repository_name, string model_name, %ModelRepositoryParameter parameters
RepositoryModelLoadResponse
RepositoryModelUnloadRequest: string repository_name, string model_name, %ModelRepositoryParameter parameters
RepositoryModelUnloadResponse
"""

METHODS = (
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
"""Those that take one message and answer with one."""


@functools.cache
def messages() -> Messages:
    """Build the message classes once."""
    lines = [f"{name} {name}Request {name}Response" for name in METHODS]
    lines.append("ModelStreamInfer ~ModelInferRequest ~ModelStreamInferResponse")
    service = SERVICE.rpartition(".")[2]
    return messages_of("modelworks/inference.proto", PACKAGE, _MESSAGES, {service: "\n".join(lines)})
