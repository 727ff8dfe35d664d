"""Asking a package: opening it with trust, answering tables, explaining rows; all through the shipped graph."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import NotFound, UsageError, close_matches
from modelworks.core.schema import Column, Schema
from modelworks.core.signature import HISTORY, PIXELS
from modelworks.core.task import TaskKind

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from modelworks.control.workspace import Workspace
    from modelworks.packaging import Package

GOLDEN_MADE_UP = 3
"""The last golden rows are made up (all missing, unseen, half missing) and typical of nothing."""


def open_named(workspace: Workspace, name: str, *, signed: bool = True) -> Package:
    """Open a package: a folder, a ``.mwpkg`` file, a model's name (``name@2`` for a version) or a digest.

    Args:
        workspace: Whose models, store and trusted keys.
        name: Which.
        signed: Whether an unknown maker is refused.

    Raises:
        NotFound: There is none; names close matches.
        TrustError: A byte is not as it was signed.
    """
    from modelworks.packaging import SigningKey, TrustPolicy, open_package
    from modelworks.packaging.package import verify_files
    from modelworks.production.release import SPACE

    SigningKey.load_or_create(workspace.keys)
    trust = TrustPolicy.of_folder(workspace.keys, require_signed=signed)
    path = Path(name).expanduser()
    if path.is_dir() or path.is_file():
        return open_package(path, trust)
    stem, _, version = name.partition("@")
    models = {item.name: item for item in workspace.catalog.names.newest(SPACE)}
    if stem in models and (version.isdigit() or not version):
        folder = workspace.models / stem / f"v{version or models[stem].version}"
        if folder.is_dir():
            return open_package(folder, trust)
    store = workspace.store
    for row in workspace.catalog.packages.find():
        if len(name) >= 6 and (
            row.digest.startswith(name) or str(row.manifest.get("package", "")).startswith(name)
        ):
            files = {entry: store.read(item.digest) for entry, item in store.listing(row.digest).items()}
            return verify_files(files, trust)
    raise NotFound(
        f"There is no package or model '{name}'.{close_matches(stem, models)}",
        code="MW4211",
        hint="mw model list",
    )


def _texts(texts: Sequence[str]) -> npt.NDArray[Any]:
    import numpy as np

    return np.array(texts, dtype=object)


@dataclass(frozen=True)
class Answers:
    """What a package says about the rows of a table.

    Attributes:
        table: One row per row: ``label`` and one probability per class, ``prediction`` and quantiles, or ``score`` and
            ``anomalous`` (the engine also gives the heat map of an image).
    """

    table: pa.Table

    @property
    def rows(self) -> int:
        """How many rows were answered."""
        return int(self.table.num_rows)

    def to_json(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows

    def csv(self) -> str:
        """Return the answers as CSV text."""
        import io

        import pyarrow.csv

        stream = io.BytesIO()
        pyarrow.csv.write_csv(self.table, stream)
        return stream.getvalue().decode()

    def write(self, path: Path) -> None:
        """Write the answers as Parquet (``.parquet``) or CSV (any other ending)."""
        if path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(self.table, path)
        else:
            path.write_text(self.csv(), encoding="utf-8")


def _named(answers: pa.Table, table: pa.Table, reading: Mapping[str, Any]) -> pa.Table:
    """Put what tells samples apart before their answers: file names, or the series and moment of a window."""
    from modelworks.data.samples.images import FILE

    names = (FILE, reading.get("series_key"), reading.get("series_time"))
    found = [name for name in names if name in table.column_names and name not in answers.column_names]
    for place, name in enumerate(found):
        column = table.column(name)
        plain = column.cast(column.type.value_type) if hasattr(column.type, "value_type") else column
        answers = answers.add_column(place, name, plain)
    return answers


class Asker:
    """A loaded model: its graph in ONNX Runtime and the typing of its columns.

    Args:
        package: An opened package.
    """

    def __init__(self, package: Package) -> None:
        from modelworks.compute.runtime import GraphSession

        self.package = package
        self.schema = Schema(tuple(Column.from_json(item) for item in package.manifest.columns))
        self._session = GraphSession(package.onnx)

    def answer_table(self, source: Any, reading: Mapping[str, Any] | None = None) -> Answers:
        """Answer every row of a file, URL or table object.

        Raises:
            DataError: It cannot be read, or lacks a column the model reads.
        """
        from modelworks.control.stream_answers import alarm_table, forecast_table
        from modelworks.data import ReadOptions, ingest, open_table, typed_columns
        from modelworks.data.samples.payload import payload_values
        from modelworks.production.reading import read_options, read_source

        given: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(prefix="modelworks-") as folder:
            if isinstance(source, (str, Path)):
                given = {**self.package.manifest.dataset.get("reading", {}), **(reading or {})}
                files = given.pop("files", None)
                read_source(source, Path(folder), given, files=Path(files) if files else None)
            else:
                ingest(source, folder, read_options(reading) if reading else ReadOptions())
            table, schema = open_table(folder)
            if self.package.manifest.task.get("kind") == TaskKind.FORECAST:
                return Answers(forecast_table(self.package, table, schema, self.outputs))
            if any(tensor.name == HISTORY for tensor in self.package.signature.inputs):
                return Answers(alarm_table(self.package, table, schema))
            present = [name for name in self.schema.names if name in table.column_names]
            if self.samples:
                columns = {name: payload_values(table, name) for name in present}
                answers = self._tabulate(self.outputs(columns, table.num_rows))
                return Answers(_named(answers, table, given))
            columns = typed_columns(table.select(present), self.schema, present)
            return Answers(self._tabulate(self.outputs(columns, table.num_rows)))

    def answer_rows(self, rows: Sequence[Mapping[str, Any]]) -> Answers:
        """Answer rows of JSON values.

        Raises:
            DataError: A value has the wrong type, or a column is unknown.
        """
        from modelworks.compute.feeds import pack_rows, sample_columns

        signature = self.package.signature
        if any(tensor.name == PIXELS for tensor in signature.inputs):
            # Images need not be of one size.
            return Answers(self._tabulate(self.outputs(sample_columns(signature, rows), len(rows))))
        return Answers(self._tabulate(self._session.run_batched(pack_rows(signature, rows))))

    def outputs(self, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> dict[str, npt.NDArray[Any]]:
        """Return the graph's outputs for typed columns."""
        from modelworks.compute.feeds import answer, pack_columns

        if self.samples:
            return answer(self._session, self.package.signature, columns, rows)
        return self._session.run_batched(pack_columns(self.package.signature, columns, rows))

    @property
    def samples(self) -> bool:
        """Whether the model reads images, texts or series, and not rows of columns."""
        return any(tensor.payload for tensor in self.package.signature.inputs)

    def explain(self, row: str, *, out: Path | None = None) -> dict[str, Any]:
        """Say what moved the answer for one row against the package's typical rows.

        Args:
            row: JSON object, the number of a golden example, or the file of an image.
            out: Also write a static page to look at here.

        Returns:
            ``{model, row, class}`` and what ``evaluation.explain`` returns.

        Raises:
            UsageError: It is none of them.
        """
        from modelworks.compute.feeds import pack_rows
        from modelworks.evaluation import explain

        examples = self.package.examples["rows"]
        values = self._row(row, examples)
        signature = self.package.signature
        if self.samples:
            found, shown, seen = self._explain_sample(values)
            return self._explained(found, shown, seen, out)
        typical = [example for example in examples[:-GOLDEN_MADE_UP] if example != values] or examples[:1]

        def unpacked(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
            feeds = pack_rows(signature, rows)
            return {
                name: feeds[tensor.name][:, index]
                for tensor in signature.inputs
                for index, name in enumerate(tensor.columns)
            }

        def predict(columns: Mapping[str, Any]) -> dict[str, Any]:
            return self.outputs(columns, len(next(iter(columns.values()))))

        (found,) = explain(predict, unpacked([values]), unpacked(typical))
        return self._explained(found, values, {}, out)

    def _explained(
        self, found: Mapping[str, Any], row: Mapping[str, Any], seen: Mapping[str, Any], out: Path | None
    ) -> dict[str, Any]:
        from modelworks.packaging import render_explanation

        answer, classes = found["answer"], self.package.signature.classes
        name = classes[answer] if answer is not None and classes else ""
        explained = {"model": self.package.manifest.name, "row": row, "class": name, **found}
        if out is not None:
            fresh = out.with_name(f".{out.name}.{os.getpid()}")
            fresh.write_text(render_explanation({**explained, **seen}), encoding="utf-8")
            fresh.replace(out)
        return explained

    def _explain_sample(
        self, values: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Mapping[str, Any], dict[str, Any]]:
        """Return what explains an image, a text or a series, how the row is named and what a page shows of it."""
        from modelworks.compute.feeds import pack_rows
        from modelworks.compute.payloads import image_pixels
        from modelworks.compute.pixels import small_picture
        from modelworks.evaluation.sample_explanation import explain_image, explain_text
        from modelworks.evaluation.series_explanation import explain_series, of_series

        signature = self.package.signature
        if of_series(signature):
            feeds = pack_rows(signature, [values])
            return explain_series(signature, self._session.run_batched, feeds), values, {}
        (name,) = signature.columns
        if any(tensor.name == PIXELS for tensor in signature.inputs):
            pixels = image_pixels(values.get(name))
            found = explain_image(pixels, lambda images: self._session.run_batched({PIXELS: images}))
            height, width, _ = pixels.shape
            return found, {name: f"{width} x {height} pixels"}, {"picture": small_picture(pixels)}
        text = str(values.get(name) or "")
        found = explain_text(text, lambda texts: self.outputs({name: _texts(texts)}, len(texts)))
        return found, values, {"text": text}

    def _row(self, text: str, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if text.strip().isdigit():
            number = int(text)
            if number >= len(examples):
                raise UsageError(
                    f"The package has {len(examples)} golden examples, counted from 0.", code="MW1328"
                )
            return dict(examples[number])
        if any(tensor.name == PIXELS for tensor in self.package.signature.inputs) and Path(text).is_file():
            return {self.package.signature.columns[0]: Path(text).read_bytes()}
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UsageError(
                f"--row is not JSON: {error}.", code="MW1327", hint="--row '{\"age\": 31}' or --row 0"
            ) from None
        if not isinstance(values, dict):
            raise UsageError("--row must be one JSON object.", code="MW1327", hint="--row '{\"age\": 31}'")
        return values

    def _tabulate(self, outputs: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
        import pyarrow as pa

        signature = self.package.signature
        found: dict[str, Any] = {}
        if "prediction" in outputs and outputs["prediction"].ndim > 1:
            found["prediction"] = list(outputs["prediction"])
            for index, level in enumerate(signature.quantiles):
                found[f"q{level:g}"] = list(outputs["quantiles"][:, :, index])
        elif "prediction" in outputs:
            found["prediction"] = outputs["prediction"].reshape(-1)
            for index, level in enumerate(signature.quantiles):
                found[f"q{level:g}"] = outputs["quantiles"][:, index]
        for name in ("score", "anomalous"):
            if name in outputs:
                found[name] = outputs[name].reshape(-1)
        if "label" in outputs:
            found["label"] = [str(label) for label in outputs["label"].reshape(-1)]
        if "probabilities" in outputs:
            for index, name in enumerate(signature.classes):
                if "labels" in outputs:
                    found[name] = outputs["labels"][:, index]
                found[f"p({name})"] = outputs["probabilities"][:, index]
        return pa.table(found)
