"""Protocol files of gRPC services written as lines of text, and message classes made of them in a pool of our own.

A private pool lets a program load another copy of the same protocol, such as a client library's, beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

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


@dataclass(frozen=True)
class Messages:
    """The message classes by name, and the file that describes them.

    Attributes:
        classes: Name without the package -> class.
        file: The file.
    """

    classes: dict[str, Any]
    file: Any

    def __getattr__(self, name: str) -> Any:
        try:
            return self.classes[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def services(self) -> list[str]:
        """Full names of the services."""
        return [f"{self.file.package}.{service.name}" for service in self.file.service]


def messages_of(file_name: str, package: str, text: str, services: dict[str, str]) -> Messages:
    """Build the classes of a file.

    Args:
        file_name: Name of the file.
        package: Its package.
        text: One line per message: name, then "type name" in field-number order from 1, or "type name@number". "*"
            repeats, "%" is a map from string, "?" belongs to the message's oneof (whose name follows the message's in
            brackets), a capital letter starts a message type, "#" an enum. A line "#Message.Name: A, B" is an enum.
        services: Name -> methods, "Name Request Response"; "~" before a type marks a stream.
    """
    file = descriptor_pb2.FileDescriptorProto(name=file_name, package=package, syntax="proto3")
    made: dict[str, Any] = {}
    for line in text.strip().splitlines():
        name, _, rest = line.partition(":")
        parts = [part.strip() for part in rest.split(",") if part.strip()]
        if name.startswith("#"):
            owner, _, child = name[1:].partition(".")
            enum = made[owner].enum_type.add(name=child)
            for number, value in enumerate(parts):
                enum.value.add(name=value, number=number)
            continue
        name, _, oneof = name.strip().removesuffix("]").partition("[")
        parent, _, child = name.partition(".")
        if parent not in made:
            made[parent] = file.message_type.add(name=parent)
        message = made[parent].nested_type.add(name=child) if child else made[parent]
        if oneof:
            message.oneof_decl.add(name=oneof)
        number = 0
        for part in parts:
            field, _, given = part.partition("@")
            number = int(given) if given else number + 1
            _add_field(message, f".{package}.", name, field, number)
    for service, methods in services.items():
        _add_service(file, service, methods)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    classes = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in made
    }
    return Messages(classes, file)


def _add_field(message: Any, prefix: str, owner: str, text: str, number: int) -> None:
    kind, name = text.split()
    mark = kind[0] if kind[0] in "*%?" else ""
    kind = kind.removeprefix(mark)
    first, *more = name.split("_")
    json_name = first + "".join(map(str.capitalize, more))
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL, json_name=json_name)
    if mark == "*":
        field.label = _FIELD.LABEL_REPEATED
    if mark == "?":
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
            type_name=prefix + kind,
        )
        field.label = _FIELD.LABEL_REPEATED
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f"{prefix}{owner}.{entry_name}"
    elif kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type = _FIELD.TYPE_ENUM if kind.startswith("#") else _FIELD.TYPE_MESSAGE
        field.type_name = prefix + kind.removeprefix("#")


def _add_service(file: Any, name: str, methods: str) -> None:
    service = file.service.add(name=name)
    for line in methods.strip().splitlines():
        method, request, response = line.split()
        service.method.add(
            name=method,
            input_type=f".{file.package}.{request.removeprefix('~')}",
            output_type=f".{file.package}.{response.removeprefix('~')}",
            client_streaming=request.startswith("~"),
            server_streaming=response.startswith("~"),
        )
