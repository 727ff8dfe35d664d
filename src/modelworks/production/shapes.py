"""Shapes of a YAML document: each reads a node with its line number and describes itself as JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from modelworks.core.errors import close_matches

MAX_NODES = 200_000


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a document: ``line`` counts from 1, ``path`` reads like ``tasks[3].gate``."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path or 'the document'}: {self.message}"


class Shape(Protocol):
    """What a value may look like."""

    def read(self, node: yaml.Node, path: str, problems: list[Problem]) -> Any:
        """Return the plain value of ``node``; what is wrong is appended to ``problems``."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema of the shape."""
        ...


def _wrong(node: yaml.Node, path: str, problems: list[Problem], message: str) -> None:
    problems.append(Problem(node.start_mark.line + 1, path, message))


def _scalar(node: yaml.Node) -> Any:
    return yaml.constructor.SafeConstructor().construct_object(node)


def _seen(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"'{node.value}'" if len(str(node.value)) < 60 else f"'{str(node.value)[:57]}...'"


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text; numbers, dates and booleans written without quotes are taken as written."""

    help: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    example: str = ""

    def read(self, node: yaml.Node, path: str, problems: list[Problem]) -> Any:
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
            return _wrong(node, path, problems, f"expected a text, got {_seen(node)}")
        value = str(node.value)
        if self.choices and value not in self.choices:
            known = ", ".join(self.choices)
            return _wrong(
                node, path, problems, f"'{value}' is not one of {known}.{close_matches(value, self.choices)}"
            )
        if self.pattern and re.fullmatch(self.pattern, value) is None:
            like = f", for example {self.example}" if self.example else ""
            return _wrong(node, path, problems, f"'{value}' cannot be read{like}")
        return value

    def describe(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": ["string", "number", "boolean"]}
        if self.choices:
            schema = {"enum": list(self.choices)}
        elif self.pattern:
            schema = {"type": ["string", "number", "boolean"], "pattern": f"^(?:{self.pattern})$"}
        return _described(schema, self.help)


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number between two ends."""

    help: str = ""
    low: float | None = None
    high: float | None = None
    whole: bool = False
    open_low: bool = False

    def read(self, node: yaml.Node, path: str, problems: list[Problem]) -> Any:
        value = _scalar(node) if isinstance(node, yaml.ScalarNode) else None
        kind = "a whole number" if self.whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return _wrong(node, path, problems, f"expected {kind}, got {_seen(node)}")
        low_ok = self.low is None or (value > self.low if self.open_low else value >= self.low)
        if not low_ok or not (self.high is None or value <= self.high):
            ends = (
                f"above {self.low:g}" if self.open_low and self.low is not None else f"at least {self.low}",
                f"at most {self.high:g}" if self.high is not None else "",
            )
            return _wrong(
                node, path, problems, f"{value:g} must be " + " and ".join(end for end in ends if end)
            )
        return value

    def describe(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "integer" if self.whole else "number"}
        if self.low is not None:
            schema["exclusiveMinimum" if self.open_low else "minimum"] = self.low
        if self.high is not None:
            schema["maximum"] = self.high
        return _described(schema, self.help)


@dataclass(frozen=True, kw_only=True)
class Flag:
    """``true`` or ``false``."""

    help: str = ""

    def read(self, node: yaml.Node, path: str, problems: list[Problem]) -> Any:
        value = _scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(value, bool):
            return _wrong(node, path, problems, f"expected true or false, got {_seen(node)}")
        return value

    def describe(self) -> dict[str, Any]:
        return _described({"type": "boolean"}, self.help)


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Any plain value: a text, a number, true or false, a list or a mapping of such."""

    help: str = ""

    def read(self, node: yaml.Node, path: str, problems: list[Problem]) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, f"{path}[{index}]", problems) for index, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            entries = _entries(node, path, problems)
            return {key: self.read(child, f"{path}.{key}", problems) for key, child in entries}
        value = _scalar(node)
        return value if isinstance(value, (str, int, float, bool)) else str(node.value)

    def describe(self) -> dict[str, Any]:
        return _described({}, self.help)


@dataclass(frozen=True)
class ListOf:
    """A list of one shape; ``lone`` also takes a single item without the brackets."""

    item: Shape
    help: str = ""
    lone: bool = False
    least: int = 0

    def read(self, node: yaml.Node, path: str, problems: list[Problem]) -> Any:
        if self.lone and isinstance(node, yaml.ScalarNode):
            return [self.item.read(node, path, problems)]
        if not isinstance(node, yaml.SequenceNode):
            return _wrong(node, path, problems, f"expected a list, got {_seen(node)}")
        if len(node.value) < self.least:
            return _wrong(node, path, problems, f"needs at least {self.least} item")
        return [self.item.read(child, f"{path}[{index}]", problems) for index, child in enumerate(node.value)]

    def describe(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": self.item.describe()}
        if self.least:
            schema["minItems"] = self.least
        if self.lone:
            schema = {"anyOf": [self.item.describe(), schema]}
        return _described(schema, self.help)


@dataclass(frozen=True)
class MapOf:
    """A mapping from free names to one shape."""

    value: Shape
    help: str = ""

    def read(self, node: yaml.Node, path: str, problems: list[Problem]) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return _wrong(node, path, problems, f"expected a mapping, got {_seen(node)}")
        found = {}
        for key, child in _entries(node, path, problems):
            found[key] = self.value.read(child, f"{path}.{key}", problems)
        return found

    def describe(self) -> dict[str, Any]:
        return _described({"type": "object", "additionalProperties": self.value.describe()}, self.help)


@dataclass(frozen=True)
class Record:
    """A mapping with known names; an unknown one is answered with close matches."""

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    help: str = ""

    def read(self, node: yaml.Node, path: str, problems: list[Problem]) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return _wrong(node, path, problems, f"expected a mapping, got {_seen(node)}")
        found: dict[str, Any] = {}
        for key, child in _entries(node, path, problems):
            place = f"{path}.{key}" if path else key
            if key not in self.fields:
                known = ", ".join(self.fields)
                message = (
                    f"there is no field '{key}' here.{close_matches(key, self.fields) or f' Fields: {known}'}"
                )
                _wrong(child, place, problems, message)
                continue
            found[key] = self.fields[key].read(child, place, problems)
        for name in self.required:
            if name not in found:
                _wrong(node, path, problems, f"the field '{name}' is missing")
        if self.one_of and sum(name in found for name in self.one_of) != 1:
            _wrong(
                node, path, problems, "needs exactly one of " + " and ".join(f"'{n}'" for n in self.one_of)
            )
        return found

    def describe(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: shape.describe() for name, shape in self.fields.items()},
        }
        if self.required:
            schema["required"] = list(self.required)
        if self.one_of:
            schema["oneOf"] = [{"required": [name]} for name in self.one_of]
        return _described(schema, self.help)


def _entries(node: yaml.MappingNode, path: str, problems: list[Problem]) -> list[tuple[str, yaml.Node]]:
    written: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in written:
            _wrong(key, f"{path}.{key.value}".lstrip("."), problems, "this field is written twice")
        written.add(str(key.value))
    yaml.constructor.SafeConstructor().flatten_mapping(node)
    found: dict[str, yaml.Node] = {}
    for key, child in node.value:
        if isinstance(key, yaml.ScalarNode):
            found[str(key.value)] = child
        else:
            _wrong(key, path, problems, "a field name must be a text")
    return list(found.items())


def _described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"description": text, **schema} if text else schema


@dataclass
class Reading:
    """A document read by a shape: its plain value, the lines of its parts, and what is wrong."""

    value: Any
    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)


def read_document(text: str, shape: Shape) -> Reading:
    """Read YAML (or JSON) text with ``shape``.

    A document whose aliases unfold to more than 200,000 nodes is refused before it is built.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return Reading(None, [Problem(line, "", f"this is not YAML: {error.problem or error.context}")])
    except (yaml.YAMLError, RecursionError) as error:
        return Reading(None, [Problem(1, "", f"this is not YAML: {str(error).splitlines()[0]}")])
    if root is None:
        return Reading(None, [Problem(1, "", "the file is empty")])
    lines: dict[str, int] = {}
    if not _count(root, "", lines, 0, 0):
        return Reading(None, [Problem(1, "", f"more than {MAX_NODES} values or nested too deeply")])
    problems: list[Problem] = []
    value = shape.read(root, "", problems)
    return Reading(value, sorted(problems, key=lambda problem: problem.line), lines)


def _count(node: yaml.Node, path: str, lines: dict[str, int], depth: int, seen: int) -> int:
    """Return ``seen`` plus the nodes under ``node`` with aliases unfolded; 0 when there are too many."""
    seen += 1
    if seen > MAX_NODES or depth > 50:
        return 0
    lines.setdefault(path, node.start_mark.line + 1)
    children: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(node.value)]
    elif isinstance(node, yaml.MappingNode):
        children = [(f"{path}.{key.value}" if path else str(key.value), child) for key, child in node.value]
    for place, child in children:
        seen = _count(child, place, lines, depth + 1, seen)
        if not seen:
            return 0
    return seen
