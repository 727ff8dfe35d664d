"""The Python API: the verbs of the service as functions, their results as objects a notebook can show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.control.asking import Asker
from modelworks.control.service import Service
from modelworks.core.errors import NotFound, TaskError
from modelworks.core.verdict import Measure, Verdict
from modelworks.production.results import LineResult, OrderResult

if TYPE_CHECKING:
    from modelworks.packaging import Package


class Model:
    """A released model: a package whose bytes and signature held, loaded into ONNX Runtime.

    Args:
        asker: A loaded package.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def __repr__(self) -> str:
        return f"<Model {self.name} {self.package.digest[:12]}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(item['name'])}</td><td>{item['value']:.4g}</td>"
            f"<td>{item['low']:.4g} to {item['high']:.4g}</td></tr>"
            for item in self.package.manifest.metrics
        )
        return _html(self.name, "", ("metric", "value", "interval"), rows)

    @property
    def name(self) -> str:
        """Name of its task."""
        return self.package.manifest.name

    @property
    def package(self) -> Package:
        """The opened package: manifest, signature, files."""
        return self._asker.package

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns the model reads."""
        return self.package.signature.columns

    def predict(self, rows: Any) -> Any:
        """Answer rows.

        Args:
            rows: A pandas, polars or Arrow table, a path or URL, or a list of dictionaries.

        Returns:
            The same kind of table that came in (Arrow for a path), or a list of dictionaries: ``label`` and a
            probability per class, or ``prediction`` and quantiles.

        Raises:
            DataError: A column the model reads is absent, or a value has the wrong type.
        """
        if isinstance(rows, Mapping):
            return self._asker.answer_rows([rows]).to_json()[0]
        if isinstance(rows, Sequence) and not isinstance(rows, (str, bytes)):
            return self._asker.answer_rows(rows).to_json()
        answers = self._asker.answer_table(rows).table
        home = type(rows).__module__.partition(".")[0]
        if home == "pandas":
            frame = answers.to_pandas()
            frame.index = rows.index
            return frame
        if home == "polars":
            import polars

            return polars.from_arrow(answers)
        return answers

    def explain(
        self, row: Mapping[str, Any] | int | str | Path = 0, *, out: str | Path | None = None
    ) -> dict[str, Any]:
        """Say what moved the answer for one row.

        Args:
            row: The row, the number of a golden example of the package, or the file of an image.
            out: Also write a static page to look at here.

        Raises:
            UsageError: The row is none of these, or empty.
        """
        text = json.dumps(row) if isinstance(row, Mapping) else str(row)
        return self._asker.explain(text, out=Path(out) if out is not None else None)

    def verify(self) -> dict[str, Any]:
        """Replay the golden examples in a limited clean process.

        Raises:
            TrustError: The graph answers otherwise than it did when it was made.
        """
        replayed = self.package.verify()
        return {"rows": replayed.rows, "protections": replayed.protections}


def _html(title: str, text: str, headings: Sequence[str], rows: str) -> str:
    """Return a small table for notebooks; ``rows`` is escaped already."""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = f"<p>{escape(text)}</p>" if text else ""
    return f"<h4>{escape(title)}</h4>{body}<table><tr>{head}</tr>{rows}</table>"


class Result:
    """How one task ended.

    Args:
        line: Its line of the order.
        service: The installation that made it.
    """

    def __init__(self, line: LineResult, service: Service) -> None:
        self.line = line
        self._service = service

    def __repr__(self) -> str:
        return f"<Result {self.line.task}: {self.verdict.kind} ({self.verdict.cause})>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(item.name)}</td><td>{item.value:.4g}</td><td>{item.low:.4g} to {item.high:.4g}</td></tr>"
            for item in self.line.measures
        )
        title = f"{self.line.task}: {self.verdict.kind}"
        return _html(title, self.verdict.cause, ("metric", "value", "interval"), rows)

    @property
    def verdict(self) -> Verdict:
        """How it ended, on which evidence."""
        return self.line.verdict

    @property
    def measures(self) -> dict[str, Measure]:
        """Metrics with intervals on the sealed rows, by name."""
        return {item.name: item for item in self.line.measures}

    @property
    def cost(self) -> dict[str, Any]:
        """The bill, with the share of shared work."""
        return self.line.cost

    @property
    def package(self) -> Path:
        """Folder of the released package.

        Raises:
            NotFound: It was not released.
        """
        if not self.line.path:
            raise NotFound(
                f"'{self.line.task}' has no package: it is {self.verdict.kind}. {self.verdict.cause}",
                code="MW4212",
                hint=self.verdict.fix or None,
            )
        return Path(self.line.path)

    @cached_property
    def model(self) -> Model:
        """The released model, loaded."""
        return Model(self._service.load(str(self.package)))

    def predict(self, rows: Any) -> Any:
        """Answer rows with the released model; see ``Model.predict``."""
        return self.model.predict(rows)

    def report(self) -> Path:
        """Return the HTML report of the task."""
        return Path(self.line.report)


class Order:
    """How an order ended: its results by task name.

    Args:
        result: The order's result.
        service: The installation that made it.
    """

    def __init__(self, result: OrderResult, service: Service) -> None:
        self.result = result
        self.tasks = {line.task: Result(line, service) for line in result.lines}

    def __repr__(self) -> str:
        kinds = ", ".join(
            f"{count} {kind}" for kind, count in self.result.to_json()["verdicts"].items() if count
        )
        return f"<Order {self.result.name}: {kinds}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{item.verdict.kind}</td><td>{escape(item.verdict.cause)}</td></tr>"
            for name, item in self.tasks.items()
        )
        return _html(self.result.name, "", ("task", "verdict", "cause"), rows)

    def __getitem__(self, task: str) -> Result:
        return self.tasks[task]

    def __iter__(self) -> Any:
        return iter(self.tasks.values())

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def cost(self) -> dict[str, Any]:
        """The bill of the whole order."""
        whole: dict[str, Any] = self.result.cost["whole"]
        return whole

    def report(self) -> Path:
        """Return the HTML report of the order."""
        return Path(self.result.report)


def produce(
    data: Any,
    target: str | Sequence[str] = "",
    *,
    name: str = "",
    home: str | Path | None = None,
    slots: int = 0,
    memory: bool = True,
    **settings: Any,
) -> Result:
    """Make a model of a table.

    Args:
        data: Path, URL, or a pandas, polars or Arrow table.
        target: Column to predict; several make one multi-label task. Images, series and texts beside a column ``label``
            need none.
        name: Name of the model.
        home: Folder of the installation; ``MODELWORKS_HOME`` by default.
        slots: Jobs side by side.
        memory: Whether what earlier tasks taught is used.
        settings: Anything a task of an order file may set: ``gate``, ``metric``, ``budget``, ``slices``, ...

    Returns:
        The result with ``verdict``, ``report()``, ``package`` and ``predict``.

    Raises:
        InputError: The table or the task cannot be used.
    """
    service = Service.open(home=Path(home) if home is not None else None, slots=slots, memory=memory)
    source, kept = service.source_of(data)
    target = target or service.only_target(source, settings)
    targets = [target] if isinstance(target, str) else list(target)
    order = service.single(source, targets, name=name or ("" if kept else "table"), settings=settings)
    return Result(service.produce(order, strict=True).lines[0], service)


def order(
    what: str | Path | Mapping[str, Any],
    *,
    home: str | Path | None = None,
    slots: int = 0,
    memory: bool = True,
) -> Order:
    """Make all models of an order.

    Args:
        what: An order file, or its content as a dictionary.
        home: Folder of the installation; ``MODELWORKS_HOME`` by default.
        slots: Jobs side by side.
        memory: Whether what earlier tasks taught is used.

    Raises:
        TaskError: The order cannot be used; every problem is named.
    """
    service = Service.open(home=Path(home) if home is not None else None, slots=slots, memory=memory)
    if isinstance(what, Mapping):
        given = service.order_from(what)
    elif isinstance(what, (str, Path)):
        given = service.read_order(Path(what))
    else:
        raise TaskError("An order is a path or a dictionary.", code="MW1206", hint="mw.order('order.yaml')")
    return Order(service.produce(given), service)


def load(package: str | Path, *, home: str | Path | None = None) -> Model:
    """Open a package (folder, ``.mwpkg``, name of a released model) and load its graph.

    Raises:
        TrustError: A byte is not as it was signed, or its maker is not trusted.
    """
    return Model(Service.open(home=Path(home) if home is not None else None).load(str(package)))
