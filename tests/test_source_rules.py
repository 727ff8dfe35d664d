"""Rules of the house that are read off the source: no code in data, small files, light import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "modelworks").rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec"}
HEAVY = (
    "numpy",
    "pyarrow",
    "sqlalchemy",
    "onnx",
    "onnxruntime",
    "sklearn",
    "lightgbm",
    "scipy",
    "torch",
    "ray",
)


def _names(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [
                f"imports {alias.name}"
                for alias in node.names
                if alias.name.split(".")[0] in FORBIDDEN_MODULES
            ]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"imports from {node.module}")
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                found.append(f"calls {node.func.id}")
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in {
                "yaml.load",
                "np.load_pickle",
            }:
                found.append(f"calls {ast.unparse(node.func)}")
            for keyword in node.keywords:
                if keyword.arg in {"shell", "allow_pickle"} and getattr(keyword.value, "value", None) is True:
                    found.append(f"passes {keyword.arg}=True")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "modelworks")))
def test_no_code_in_data(path: Path) -> None:
    assert _names(path) == []


def test_the_rule_sees_a_planted_pickle(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("import pickle\nimport yaml\nyaml.load('x')\neval('1')\nrun('ls', shell=True)\n")
    assert len(_names(planted)) == 4


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "modelworks")))
def test_files_hold_one_idea(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 600, f"{path.name} has {len(lines)} lines; 400 is the aim and 600 the limit"
    if lines:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.name} does not say what it is for"


def test_the_core_stays_small() -> None:
    files = [path for path in SOURCES if path.parent.name == "core" and path.name != "__init__.py"]
    assert len(files) <= 12
    assert sum(len(path.read_text().splitlines()) for path in files) <= 2000


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, modelworks; print([name for name in {HEAVY!r} if name in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from modelworks.cli.main import main\n"
        "sys.argv = ['mw', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stderr.strip().endswith("[]")
