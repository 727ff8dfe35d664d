"""Reads every error code off the source; as a hook of MkDocs it writes the page ``reference/errors.md`` from it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).resolve().parents[2] / "src" / "modelworks"
HEAD = """# Error codes

Every error says its code, what happened and the next command; `--json` gives the same as data. The first digit is the
family: 1 input, 2 a limit, 3 trust, 4 storage, 5 a job, 6 a part that is not installed. `...` stands for names and
numbers. This page is made from the source.

| code | says | room |
|---|---|---|
"""


class Use(NamedTuple):
    """One place that raises a code."""

    code: str
    says: str
    path: str
    line: int

    @property
    def room(self) -> str:
        """The room on its floor, such as ``data``."""
        return self.path.split("/")[0].removesuffix(".py")


def uses(source: Path = SOURCE) -> list[Use]:
    """Return every use of a code in the source, by code."""
    found: list[Use] = []
    for path in sorted(source.rglob("*.py")):
        name = str(path.relative_to(source))
        if not name.startswith("testing/"):
            found += _uses_of(ast.parse(path.read_text(encoding="utf-8")), name)
    return sorted(found)


def _uses_of(tree: ast.Module, name: str) -> Iterator[Use]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "code" and _is_code(keyword.value):
                    says = _text(node.args[0]) if node.args else ""
                    yield Use(keyword.value.value, says, name, node.lineno)  # type: ignore[attr-defined]
        elif isinstance(node, ast.ClassDef):
            for line in node.body:
                if (
                    isinstance(line, ast.Assign | ast.AnnAssign)
                    and line.value is not None
                    and _is_code(line.value)
                ):
                    says = (ast.get_docstring(node) or "").split("\n")[0]
                    yield Use(line.value.value, says, name, line.lineno)  # type: ignore[attr-defined]


def _is_code(node: ast.expr) -> bool:
    value = getattr(node, "value", None)
    return isinstance(value, str) and len(value) == 6 and value.startswith("MW") and value[2:].isdigit()


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "..." for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "..."


def page() -> str:
    """Return the page of all codes as Markdown."""
    rows: dict[tuple[str, str], set[str]] = {}
    for use in uses():
        says = " ".join(use.says.split()).replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")
        rows.setdefault((use.code, says), set()).add(use.room)
    return HEAD + "".join(
        f"| {code} | {says} | {', '.join(sorted(rooms))} |\n" for (code, says), rooms in sorted(rows.items())
    )


def on_files(files: Any, config: Any) -> Any:
    """Add the page to those that MkDocs builds."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "reference/errors.md", content=page()))
    return files
