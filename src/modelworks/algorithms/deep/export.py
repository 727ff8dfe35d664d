"""A trained network as nodes of our graph: PyTorch's exporter in the middle, preprocessing before, answers after."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from modelworks.algorithms.deep.doors import Door
from modelworks.algorithms.graph import OPSET, Graph
from modelworks.algorithms.tables.outputs import write_outputs
from modelworks.core.errors import ExecutionError, MissingExtra
from modelworks.core.signature import Signature
from modelworks.training.decision import Decision
from modelworks.training.deep.library import load_torch
from modelworks.training.problem import Problem


def exported_body(network: Any, sample: Any) -> Any:
    """Return a network in evaluation mode as an ``onnx.ModelProto`` with free rows; batch norms are folded.

    Equal weights give equal bytes: notes of the exporter about places in the source are left out.

    Raises:
        MissingExtra: ``onnxscript`` is not installed.
        ExecutionError: The exporter cannot write the network, or used other than standard operators.
    """
    return exported_graph(network, (sample,), ("inputs",), free=((0,),), output="scores")


def exported_graph(
    network: Any,
    samples: tuple[Any, ...],
    names: tuple[str, ...],
    *,
    free: tuple[tuple[int, ...], ...],
    output: str = "states",
    most: int = 2**20,
) -> Any:
    """Return a network of any inputs in evaluation mode as an ``onnx.ModelProto``; see ``exported_body``.

    Args:
        network: The network.
        samples: One tensor per input; a free axis has at least two entries.
        names: Names of the inputs.
        free: Free axes of each input: the first is the row, a second the token.
        output: Name of the output.
        most: Most entries of the second free axis.
    """
    torch = load_torch("Exporting a network")
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Exporting a network", "torch") from error
    rows = torch.export.Dim("rows", min=1, max=2**20)
    tokens = torch.export.Dim("tokens", min=2, max=max(most, 3))
    shapes = tuple({axis: (rows, tokens)[place] for place, axis in enumerate(axes)} for axes in free)
    with _quiet():
        try:
            program = torch.onnx.export(
                network.eval(), samples, dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
                input_names=list(names), output_names=[output], verbose=False,
            )  # fmt: skip
        except Exception as error:
            # Every failure of the exporter's many stages means the same: this network has no graph.
            raise ExecutionError(
                f"The network cannot be written as a graph: {str(error).splitlines()[0][:200]}",
                code="MW5022",
                hint="pip install --upgrade 'modelworks[torch]'",
            ) from error
    model = program.model_proto
    domains = {node.domain for node in model.graph.node} | {item.domain for item in model.functions}
    if domains - {"", "ai.onnx"}:
        raise ExecutionError(
            f"The exporter used operators of {sorted(domains)}; only standard ones are shipped.",
            code="MW5023",
        )
    return model


def write_model(
    door: Door,
    column: str,
    body: Any,
    problem: Problem,
    classes: tuple[str, ...],
    decision: Decision,
    scale: float = 1.0,
) -> tuple[bytes, Signature]:
    """Write one graph from the payload tensor to the answers.

    Args:
        door: What stands before the network.
        column: Name of the payload column.
        body: What ``exported_body`` returned.
        problem, classes, decision: How scores become answers.
        scale: Factor of the scores (one over the temperature).
    """
    graph = Graph()
    (scores,) = graph.adopt(body, {body.graph.input[0].name: door.write(graph)})
    outputs = write_outputs(graph, graph.scaled(scores, scale), problem, classes, decision)
    signature = Signature(inputs=(door.tensor(column),), outputs=outputs, classes=classes)
    return graph.finish(signature), signature


def parity(found: dict[str, Any], native: dict[str, Any], spread: float) -> float:
    """Return the largest difference between the graph's numbers and the network's own.

    Raises:
        ExecutionError: They differ by more than 2e-4.
    """
    worst = 0.0
    for name in ("probabilities", "prediction"):
        if name in found:
            apart = np.abs(found[name].astype(np.float64) - native[name])
            scale = spread if name == "prediction" else 1.0
            worst = max(worst, float(np.nan_to_num(apart, nan=np.inf).max()) / scale)
    if worst > 2e-4:
        raise ExecutionError(
            f"The graph differs from the network by {worst:.2g}; it is not shipped.",
            code="MW5021",
            hint="report this with the network's settings",
        )
    return worst


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about packages that are not needed to itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
