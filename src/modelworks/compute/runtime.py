"""The one door to ONNX Runtime: every score, explanation and answer is computed through this module."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from modelworks.compute.device import gpus
from modelworks.core.errors import TrustError

onnxruntime.set_default_logger_severity(3)

LATENCY_PAUSES_S = (0.05, 0.2, 0.5, 1.0)
"""Waits before a row is timed again that seemed too slow: a burst of a neighbour is often over by then."""


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

GRAPH_FILE, WEIGHTS_FILE = "graph.onnx", "weights.bin"
"""Names under which a session leaves its optimised graph and the tensors above 64 KB, packed for the kernels too."""

_KEPT = {
    "session.save_external_prepacked_constant_initializers": "1",
    "session.optimized_model_external_initializers_file_name": WEIGHTS_FILE,
    "session.optimized_model_external_initializers_min_size_in_bytes": "65536",
}


def provider_options(provider: str, device_bytes: int = 0) -> dict[str, str]:
    """Return what an execution provider is told.

    Args:
        provider: Its name in ONNX Runtime.
        device_bytes: Most bytes of a session's arena on a device: weights, activations and workspaces, not the context
            that CUDA keeps per process; 0 is no cap.
    """
    if provider != CUDA:
        return {}
    options = {
        # Full FP32: TF32 is faster and keeps three digits, fewer than golden examples are compared to.
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        # Grows by what is asked for, where the default doubles.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if device_bytes:
        options["gpu_mem_limit"] = str(device_bytes)
    return options


class GraphSession:
    """A loaded graph.

    Args:
        onnx: Bytes of the graph; never a path, so that no external data can be read (but see ``weights``).
        threads: Intra-op threads; 1 is right for small models.
        providers: ONNX Runtime execution providers in order of preference.
        device_bytes: Most memory on a CUDA device, see ``provider_options``.
        arena: Keep a memory arena; without one a small model takes half the memory and gives all of it back,
            at the same speed.
        keep: Folder in which to leave ``GRAPH_FILE`` and ``WEIGHTS_FILE``, for sessions of this machine.
        weights: Folder of a ``WEIGHTS_FILE`` that belongs to ``onnx``, the bytes of its ``GRAPH_FILE``; it is mapped,
            not copied, and must not change any more. Checking it is the caller's.

    Attributes:
        threads: Intra-op threads of a run.
        shared_bytes: Bytes of its weights that other processes may hold too; told by who gave them.

    Raises:
        TrustError: ONNX Runtime refuses the bytes.
    """

    def __init__(
        self,
        onnx: bytes,
        *,
        threads: int = 1,
        providers: Sequence[str] = (CPU,),
        device_bytes: int = 0,
        arena: bool = True,
        keep: Path | None = None,
        weights: Path | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = arena
        if keep is not None:
            options.optimized_model_filepath = str(keep / GRAPH_FILE)
            for name, value in _KEPT.items():
                options.add_session_config_entry(name, value)
        if weights is not None:
            # It was optimised before it was written.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(weights)
            )
        try:
            chosen = [(name, provider_options(name, device_bytes)) for name in providers]
            self._session = onnxruntime.InferenceSession(onnx, options, providers=chosen)
        except Exception as error:
            raise TrustError(
                f"ONNX Runtime cannot load the graph: {str(error).splitlines()[0][:200]}",
                code="MW3001",
            ) from error
        # The wrapper keeps the whole file to try again on other providers, which is never asked for here.
        if hasattr(self._session, "_model_bytes"):
            self._session._model_bytes = None
        # The wrapper looks at every input in Python, for a third of a small model's time; the core refuses the same.
        core = getattr(self._session, "_sess", None)
        self._run: Callable[..., Any] = self._session.run if core is None else core.run
        self.inputs: tuple[str, ...] = tuple(item.name for item in self._session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(item.name for item in self._session.get_outputs())
        self.threads = threads
        self.shared_bytes = 0
        # A provider whose libraries are missing is left out without an error: only this says what really runs.
        self.device: str = "cuda" if CUDA in self._session.get_providers() else "cpu"

    def run(
        self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once; returns output name -> array."""
        names = list(outputs) if outputs else list(self.outputs)
        return dict(zip(names, self._run(names, dict(feeds), None), strict=True))

    def run_batched(
        self, feeds: Mapping[str, npt.NDArray[Any]], *, rows: int = 4096, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Run the graph over many rows in slices of ``rows``, to bound memory."""
        total = len(next(iter(feeds.values())))
        if total <= rows:
            return self.run(feeds, outputs)
        parts = [
            self.run({name: array[start : start + rows] for name, array in feeds.items()}, outputs)
            for start in range(0, total, rows)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cuda_lacking() -> str:
    """Return why no graph can run on a CUDA device here, as the rest of a sentence; empty if one can.

    Asks ONNX Runtime, then the driver, and then really loads a graph: a missing cuDNN shows only there.
    """
    if CUDA not in onnxruntime.get_available_providers():
        return f"ONNX Runtime {onnxruntime.__version__} here was built without CUDA"
    if not gpus():
        return "NVIDIA's driver reports no device"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(OSError, RuntimeError):
        # Finds the libraries that pip installed beside it.
        onnxruntime.preload_dlls()
    try:
        found = GraphSession(_identity(), providers=(CUDA, CPU)).device
    except TrustError as error:
        return f"the device cannot be used ({error.message})"
    return "" if found == "cuda" else "the CUDA libraries that ONNX Runtime needs cannot be loaded"


def _identity() -> bytes:
    import onnx

    value = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows"]) for name in ("x", "y")
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])], "probe", value[:1], value[1:]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def single_row_latency_ms(
    session: GraphSession,
    feeds: Mapping[str, npt.NDArray[Any]],
    *,
    repeats: int = 200,
    warm_up: int = 20,
    clock: Callable[[], float] = time.thread_time,
    limit_ms: float = math.inf,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, float]:
    """Measure one-row runs; returns ``p50`` and ``p99`` in milliseconds (``repeats`` runs after ``warm_up`` others).

    The clock of this thread does not count what a one-thread session waits for, but caches and cores shared with busy
    neighbours still slow it down. Noise only ever adds, so a ``p99`` over ``limit_ms`` is measured again after a pause
    and the best round is the answer. A round whose fastest run is over the limit ends it: that is the graph itself.
    """
    row = {name: array[:1] for name, array in feeds.items()}
    for _ in range(warm_up):
        session.run(row)
    best = {"p50": math.inf, "p99": math.inf}
    for wait in (0.0, *LATENCY_PAUSES_S):
        if wait:
            pause(wait)
        times = []
        for _ in range(repeats):
            start = clock()
            session.run(row)
            times.append((clock() - start) * 1e3)
        found = {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}
        best = min(best, found, key=lambda measured: measured["p99"])
        if best["p99"] <= limit_ms or min(times) > limit_ms:
            break
    return best
