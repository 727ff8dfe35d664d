"""An order: YAML text to checked lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelworks.core.digest import digest_json
from modelworks.core.errors import TaskError
from modelworks.core.task import Bound, Limits, SplitPolicy, TaskKind
from modelworks.production.order_fields import ORDER
from modelworks.production.shapes import Problem, read_document
from modelworks.production.sources import find_sources, safe_name, source_stem

_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of an order, before its table was read.

    Attributes:
        name: Name of the line, the stem of its tasks' names.
        data: Path or URL of one source.
        targets: Columns that become one task each; ``("*",)`` for every column that can be predicted.
        joint: All targets together make one multi-label task.
        settings: Checked settings of the order file, defaults merged in.
        priority: Higher is made first.
        due: Seconds since the epoch, or ``None``.
        where: File and line, for messages.
    """

    name: str
    data: str
    targets: tuple[str, ...]
    joint: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    due: float | None = None
    where: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "data": self.data,
            "targets": list(self.targets),
            "joint": self.joint,
            "settings": dict(self.settings),
            "priority": self.priority,
            "due": self.due,
            "where": self.where,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Line:
        return Line(**{**data, "targets": tuple(data["targets"])})

    @property
    def reading(self) -> dict[str, Any]:
        """Overrides for reading the source, plain data."""
        found = dict(self.settings.get("reading", {}))
        if "query" in self.settings:
            found["query"] = self.settings["query"]
        if self.settings.get("kinds"):
            found["kinds"] = dict(self.settings["kinds"])
        if "file_column" in self.settings:
            found["file_column"] = self.settings["file_column"]
        return found


@dataclass(frozen=True, kw_only=True)
class Order:
    """A checked order.

    Attributes:
        name: Name of the order.
        lines: One source and its targets each.
        prices: Price list of this order, or empty for the machine's.
        budget_s: CPU-seconds of the whole order, or ``None``.
    """

    name: str
    lines: tuple[Line, ...]
    prices: Mapping[str, Any] = field(default_factory=dict)
    budget_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "lines": [line.to_json() for line in self.lines],
            "prices": dict(self.prices),
            "budget_s": self.budget_s,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Order:
        return Order(
            name=data["name"],
            lines=tuple(Line.from_json(line) for line in data["lines"]),
            prices=data["prices"],
            budget_s=data["budget_s"],
        )

    @property
    def run(self) -> str:
        """Id of the order's run: the same order goes on with the same run."""
        return f"{self.name[:24]}-{self.digest[:12]}"

    @property
    def digest(self) -> str:
        """Name by content; budget and prices do not change what is made, so they are left out."""
        return digest_json(
            [
                self.name,
                [[line.name, line.data, line.targets, line.joint, line.settings] for line in self.lines],
            ]
        )


def parse_duration(text: str | float) -> float:
    """Return the seconds of ``90``, ``60s``, ``10m`` or ``1h30m``.

    Raises:
        TaskError: The text is no duration, or not above zero.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", str(text))
    whole = re.fullmatch(r"\s*(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)?\s*)+", str(text))
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if whole is None or seconds <= 0:
        raise TaskError(f"'{text}' is not a duration.", code="MW1217", hint="write it as 60s, 10m or 1h30m")
    return seconds


def load_order(path: Path) -> Order:
    """Read and check an order file.

    Raises:
        TaskError: The file cannot be read, or something in it is wrong; every problem is named with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(
            f"The order '{path}' cannot be read: {error}.", code="MW1206", hint="mw order schema"
        ) from None
    return parse_order(text, folder=path.parent, source=path.name, name=safe_name(path.stem))


def parse_order(text: str, *, folder: Path, source: str = "order.yaml", name: str = "order") -> Order:
    """Check the text of an order and return its lines.

    Args:
        text: YAML or JSON.
        folder: Folder that relative paths in ``data`` start from.
        source: File name, for messages.
        name: Name of the order when the text gives none.

    Raises:
        TaskError: Something is wrong; every problem is named with its line and field.
    """
    reading = read_document(text, ORDER)
    problems = list(reading.problems)
    lines: list[Line] = []
    if not problems:
        lines = _lines(reading.value, reading.lines, folder, source, problems)
    if problems:
        raise _wrong(problems, source)
    document = reading.value
    budget = document.get("budget")
    return Order(
        name=document.get("name", name),
        lines=tuple(lines),
        prices=document.get("prices", {}),
        budget_s=parse_duration(budget) if budget is not None else None,
    )


def _wrong(problems: list[Problem], source: str) -> TaskError:
    """Return the error that lists what is wrong; without a file there are no lines to name."""
    if not source:
        text = "; ".join(
            f"{problem.path.removeprefix('tasks[0].')}: {problem.message}" for problem in problems
        )
        return TaskError(text.removeprefix("tasks[0]: ").removeprefix(": "), code="MW1207")
    listed = "\n  ".join(f"{source}, {problem}" for problem in problems[:20])
    more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
    plural = "s" if len(problems) > 1 else ""
    return TaskError(
        f"The order has {len(problems)} problem{plural}:\n  {listed}{more}",
        code="MW1207",
        hint=f"mw order check {source}",
    )


def _lines(
    document: Mapping[str, Any], places: Mapping[str, int], folder: Path, source: str, problems: list[Problem]
) -> list[Line]:
    defaults = document.get("defaults", {})
    lines: list[Line] = []
    names: dict[str, int] = {}
    for index, task in enumerate(document["tasks"]):
        place = f"tasks[{index}]"
        number = places.get(place, 1)
        try:
            settings = _with_sources(merge_settings(defaults, task), folder)
            sources = find_sources(str(task["data"]), folder)
            for path in sources:
                line = _line(task, settings, path, alone=len(sources) == 1, where=f"{source}:{number}")
                _ = check_settings(line.settings)
                lines.append(line)
                if line.name in names:
                    raise TaskError(f"the name '{line.name}' is already used in line {names[line.name]}")
                names[line.name] = number
        except TaskError as error:
            problems.append(Problem(number, place, error.message))
    return lines


def _with_sources(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings with the paths of a ready-made test table and of image files made whole."""
    split = settings.get("split", {})
    if split.get("test_data"):
        split = {**split, "test_data": _one_source(split["test_data"], folder, "a test table")}
        settings = {**settings, "split": split}
    if settings.get("files"):
        path = Path(settings["files"]).expanduser()
        path = (path if path.is_absolute() else folder / path).resolve()
        if not path.exists():
            raise TaskError(f"there is no folder or zip file '{settings['files']}'", code="MW1208")
        settings = {**settings, "files": str(path)}
    return settings


def _one_source(data: str, folder: Path, what: str) -> str:
    found = find_sources(str(data), folder)
    if len(found) != 1:
        raise TaskError(f"'{data}' names {len(found)} files; {what} is one", code="MW1208")
    return found[0]


def _line(task: Mapping[str, Any], settings: dict[str, Any], path: str, *, alone: bool, where: str) -> Line:
    joint = "target" in task and len(task["target"]) > 1
    stem = source_stem(path)
    name = str(task["name"]) if "name" in task else stem
    if "name" in task and not alone:
        name = f"{name}-{stem}"
    due = settings.get("due")
    return Line(
        name=safe_name(name),
        data=path,
        targets=tuple(task.get("target") or task["targets"]),
        joint=joint,
        settings={key: value for key, value in settings.items() if key not in {"priority", "due"}},
        priority=int(settings.get("priority", 0)),
        due=parse_moment(due) if due is not None else None,
        where=where,
    )


def merge_settings(defaults: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task's settings over the defaults; mappings are merged one level deep."""
    merged = dict(defaults)
    for key, value in task.items():
        if key in {"name", "data", "target", "targets"}:
            continue
        old = merged.get(key)
        merged[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def parse_moment(text: str) -> float:
    """Return seconds since the epoch of an ISO 8601 date or date and time; UTC when no zone is given."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise TaskError(f"'{text}' is not a date.", code="MW1217", hint="write it as 2026-12-01") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as arguments of ``Task``.

    Raises:
        TaskError: A gate, a duration or a limit cannot be read.
    """
    limits = dict(settings.get("limits", {}))
    if "budget" in settings:
        limits["budget_s"] = parse_duration(settings["budget"])
    values: dict[str, Any] = {
        "gate": tuple(Bound.parse(metric, text) for metric, text in settings.get("gate", {}).items()),
        "limits": Limits(**limits),
        "split": SplitPolicy(**settings.get("split", {})),
    }
    for key in ("slices", "exclude", "quantiles"):
        values[key] = tuple(settings.get(key, ()))
    for key in ("metric", "weight", "positive", "kinds", "seed", "explain", "options", "modality"):
        if key in settings:
            values[key] = settings[key]
    if "kind" in settings:
        values["kind"] = TaskKind(settings["kind"])
    return values


def in_order_of_work(lines: Sequence[Line]) -> list[Line]:
    """Return the lines as they should be made: higher priority, then earlier due date, then as written."""
    return sorted(
        lines, key=lambda line: (-line.priority, line.due if line.due is not None else float("inf"))
    )
