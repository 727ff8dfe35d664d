"""Server reflection (``grpc.reflection.v1`` and ``v1alpha``): a client that knows no protocol files asks for them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from modelworks.serving.rpc.descriptors import Messages, messages_of

METHOD = "ServerReflectionInfo"
_NOT_FOUND = 5
_MESSAGES = """
ExtensionRequest: string containing_type, int32 extension_number
ServerReflectionRequest[message_request]: string host, ?string file_by_filename@3, ?string file_containing_symbol, \
?ExtensionRequest file_containing_extension, ?string all_extension_numbers_of_type, ?string list_services
FileDescriptorResponse: *bytes file_descriptor_proto
ExtensionNumberResponse: string base_type_name, *int32 extension_number
ServiceResponse: string name
ListServiceResponse: *ServiceResponse service
ErrorResponse: int32 error_code, string error_message
ServerReflectionResponse[message_response]: string valid_host, ServerReflectionRequest original_request, \
?FileDescriptorResponse file_descriptor_response@4, ?ExtensionNumberResponse all_extension_numbers_response, \
?ListServiceResponse list_services_response, ?ErrorResponse error_response
"""


@functools.cache
def reflection_messages(version: str) -> Messages:
    """Build the message classes of ``v1`` or ``v1alpha`` once."""
    return messages_of(
        f"grpc/reflection/{version}/reflection.proto",
        f"grpc.reflection.{version}",
        _MESSAGES,
        {"ServerReflection": f"{METHOD} ~ServerReflectionRequest ~ServerReflectionResponse"},
    )


class Reflection:
    """Answers what is asked about the services of the port.

    Args:
        described: The files of all services.
    """

    def __init__(self, described: list[Messages]) -> None:
        self._services = sorted(name for item in described for name in item.services)
        self._files = {item.file.name: item.file.SerializeToString() for item in described}
        self._symbols = {symbol: item.file.name for item in described for symbol in _symbols(item.file)}
        # Both versions have the same bytes on the wire.
        self._messages = reflection_messages("v1")

    def answer(self, request: Any) -> bytes:
        """Return the response to a ``ServerReflectionRequest``."""
        response = self._messages.ServerReflectionResponse(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        if asked == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
            return bytes(response.SerializeToString())
        file = None
        if asked == "file_by_filename":
            file = self._files.get(request.file_by_filename)
        elif asked == "file_containing_symbol":
            file = self._files.get(self._symbols.get(request.file_containing_symbol.lstrip("."), ""))
        if file is None:
            response.error_response.error_code = _NOT_FOUND
            response.error_response.error_message = "There is no such file, symbol or extension."
        else:
            response.file_descriptor_response.file_descriptor_proto.append(file)
        return bytes(response.SerializeToString())


def _symbols(file: Any) -> Iterator[str]:
    """Yield the full names of messages, enums, services and methods."""

    def inside(prefix: str, messages: Any, enums: Any) -> Iterator[str]:
        for enum in enums:
            yield f"{prefix}.{enum.name}"
        for message in messages:
            name = f"{prefix}.{message.name}"
            yield name
            yield from inside(name, message.nested_type, message.enum_type)

    yield from inside(file.package, file.message_type, file.enum_type)
    for service in file.service:
        yield f"{file.package}.{service.name}"
        yield from (f"{file.package}.{service.name}.{method.name}" for method in service.method)
