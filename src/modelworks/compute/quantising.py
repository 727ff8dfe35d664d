"""Graphs in int8: weights and activations of convolutions and products as bytes, calibrated on given inputs."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import ExecutionError

Feeds = Mapping[str, npt.NDArray[Any]]

HEAVY = ("Conv", "MatMul", "Gemm")
_ADDED = "com.microsoft"


def quantised(onnx: bytes, calibration: Sequence[Feeds], *, whole_first: bool = False) -> bytes:
    """Return the graph with its convolutions and matrix products in int8 between quantise and dequantise nodes.

    Weights get a scale per output channel, activations one scale each, from their range on the calibration inputs.
    Nodes that prepare inputs or write answers stay as they are, and only standard operators are used.

    Args:
        onnx: The graph.
        calibration: Feeds as the graph takes them; training samples, never the sealed test rows.
        whole_first: Leave the first convolution or product in FP32: one that whitens its inputs makes much of their
            smallest steps.

    Raises:
        ExecutionError: The graph holds nothing that could be quantised, or ONNX Runtime cannot do it.

    Source: Jacob et al. (2018), Quantization and training of neural networks for efficient integer-arithmetic-only
    inference.
    """
    import onnx as library
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantise

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            feeds = next(self.left, None)
            return None if feeds is None else dict(feeds)

    model = library.load_model_from_string(onnx)
    heavy = [node for node in model.graph.node if node.op_type in HEAVY][1 if whole_first else 0 :]
    if not heavy:
        raise ExecutionError(
            "The graph has no convolution or product that int8 could speed up.", code="MW5030"
        )
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}.{index}"
    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory(prefix="modelworks-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model.SerializeToString(deterministic=True))
        try:
            quantise(
                str(source), str(target), Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=list(HEAVY),
                nodes_to_quantize=[node.name for node in heavy], per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax, reduce_range=not _has_byte_products(),
            )  # fmt: skip
            made = library.load_model(str(target))
        except Exception as error:
            # The quantiser raises whatever its parts raise; all of it means that there is no int8 graph.
            raise ExecutionError(
                f"The graph cannot be quantised: {type(error).__name__}: {str(error).splitlines()[0][:160]}",
                code="MW5031",
            ) from error
        finally:
            root.setLevel(level)
    if any(node.domain == _ADDED for node in made.graph.node):
        raise ExecutionError("The int8 graph needs operators that are not standard.", code="MW5032")
    del made.opset_import[:]
    made.opset_import.extend(model.opset_import)
    made.producer_name = "modelworks"
    return bytes(made.SerializeToString(deterministic=True))


def _has_byte_products() -> bool:
    """Say whether the processor adds products of bytes without overflow; without it weights keep seven bits."""
    from modelworks.compute.device import this_machine

    return bool({"avx512_vnni", "amx_tile", "asimd"} & set(this_machine().features))


def side_by_side_ms(
    first: bytes, second: bytes, feeds: Feeds, *, blocks: int = 15, repeats: int = 20
) -> dict[str, Any]:
    """Time two graphs in turns on the same inputs, one thread, CPU time of this thread.

    Returns:
        ``first_ms, second_ms`` (medians), ``ratio`` (second / first, median over the blocks), ``low, high`` (its 95 %
        interval by the order statistics of the blocks).
    """
    sessions = [GraphSession(item) for item in (first, second)]
    times: list[list[float]] = [[], []]
    for session in sessions:
        for _ in range(5):
            session.run(feeds)
    for block in range(blocks):
        for which in (0, 1) if block % 2 == 0 else (1, 0):
            start = time.thread_time()
            for _ in range(repeats):
                sessions[which].run(feeds)
            times[which].append((time.thread_time() - start) / repeats * 1e3)
    ratios = np.sort(np.array(times[1]) / np.array(times[0]))
    # The interval of a median that leaves out 2.5 % on either side (binomial, one half).
    from scipy.stats import binom

    cut = int(binom.ppf(0.025, blocks, 0.5))
    return {
        "first_ms": float(np.median(times[0])),
        "second_ms": float(np.median(times[1])),
        "ratio": float(np.median(ratios)),
        "low": float(ratios[max(cut - 1, 0)]),
        "high": float(ratios[min(blocks - cut, blocks - 1)]),
    }
