"""predict.py in an environment that holds onnxruntime and numpy and nothing else."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from modelworks.packaging import Package, export

MODULES = ("numpy", "onnxruntime")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an empty environment into which only numpy and onnxruntime are linked."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    for name in MODULES:
        found = importlib.util.find_spec(name)
        assert found and found.origin
        home = Path(found.origin).parent
        for path in [home, *home.parent.glob(f"{name}.libs")]:
            (packages / path.name).symlink_to(path)
    return folder / "bin" / "python"


@pytest.fixture
def exported(package: Package, tmp_path: Path) -> Path:
    return export(package, "predict", tmp_path / "predict")


def run(python: Path, folder: Path, rows: Path) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-I", "predict.py", str(rows)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def expected(package: Package, index: int) -> dict[str, Any]:
    return {name: values[index] for name, values in package.examples["expected"].items()}


def test_the_environment_is_bare(bare_python: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('onnx', 'pyarrow', 'modelworks', 'pip') if u.find_spec(n)])"
    shown = subprocess.run(
        [bare_python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_json_rows_give_the_golden_answers(
    bare_python: Path, exported: Path, package: Package, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps(package.examples["rows"]), encoding="utf-8")
    shown = run(bare_python, exported, rows)
    assert shown.returncode == 0, shown.stderr
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    assert found == [expected(package, index) for index in range(len(package.examples["rows"]))]


def test_csv_rows_give_the_golden_answers(
    bare_python: Path, exported: Path, package: Package, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    with rows.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[*package.signature.columns, "ignored"])
        writer.writeheader()
        writer.writerows({**row, "ignored": "x"} for row in package.examples["rows"])
    shown = run(bare_python, exported, rows)
    assert shown.returncode == 0, shown.stderr
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    assert found == [expected(package, index) for index in range(len(found))]
    assert len(found) == len(package.examples["rows"])


def test_another_graph_is_refused(bare_python: Path, exported: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[]")
    (exported / "model.onnx").write_bytes((exported / "model.onnx").read_bytes() + b"\0")
    shown = run(bare_python, exported, rows)
    assert shown.returncode == 1
    assert "not the file the manifest names" in shown.stderr


def test_it_works_from_the_package_folder_itself(
    bare_python: Path, package_folder: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text('[{"age": 31, "city": "Bern"}]')
    shown = run(bare_python, package_folder, rows)
    assert json.loads(shown.stdout)["label"] in ("no", "yes")


def test_it_is_short_and_imports_nothing_else() -> None:
    import ast

    import modelworks.packaging.predict as predict

    source = Path(predict.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 100
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {*MODULES, "tokenizers"}


def test_a_history_of_any_length_ends_with_its_newest_value() -> None:
    from modelworks.packaging.predict import pack

    tensor = {"name": "history", "datatype": "FP32", "shape": [-1, 1, 4], "columns": ["history"]}
    short, long = (pack(tensor, {"history": list(range(size))})[0, 0].tolist() for size in (2, 6))
    assert short[2:] == [0, 1] and short[0] != short[0]
    assert long == [2, 3, 4, 5]
    (series,) = pack({**tensor, "name": "series"}, {"history": [7, 8]})[0].tolist()
    assert series[:2] == [7, 8] and series[2] != series[2]
