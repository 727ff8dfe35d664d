"""LightGBM through its documented C interface: 10 ms to load, where its Python package costs 2.5 CPU-seconds.

The Python package imports pandas and scikit-learn when they are installed; the shared library it ships needs
neither. Functions and constants follow ``include/LightGBM/c_api.h`` of LightGBM 4.
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import ExecutionError, MissingExtra

_FLOAT32, _INT32 = 0, 2
_RAW_SCORE = 1
_LIBRARIES = {"Windows": "lib_lightgbm.dll", "Darwin": "lib_lightgbm.dylib"}

Parameters = Mapping[str, str | int | float | bool]


@cache
def _library() -> ctypes.CDLL:
    found = importlib.util.find_spec("lightgbm")
    name = _LIBRARIES.get(platform.system(), "lib_lightgbm.so")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for place in ("lib", "bin", "."):
            path = Path(folder) / place / name
            if path.is_file():
                library = ctypes.CDLL(str(path))
                library.LGBM_GetLastError.restype = ctypes.c_char_p
                return library
    raise MissingExtra("LightGBM is not installed.", hint="pip install 'lightgbm>=4.6'")


def _call(name: str, *arguments: Any) -> None:
    library = _library()
    if getattr(library, name)(*arguments) != 0:
        message = library.LGBM_GetLastError().decode(errors="replace")
        raise ExecutionError(f"LightGBM: {message[:300]}", code="MW5010", where=name)


def _text(parameters: Parameters) -> bytes:
    def show(value: str | int | float | bool) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    return " ".join(f"{key}={show(value)}" for key, value in parameters.items()).encode()


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class Bins:
    """A binned feature matrix (LightGBM ``Dataset``).

    Args:
        features: float32 ``[rows, features]``, C order; NaN is missing.
        parameters: LightGBM parameters that decide the bins (``max_bin``, ``categorical_feature``, ...).
    """

    def __init__(self, features: npt.NDArray[np.float32], parameters: Parameters) -> None:
        features = np.ascontiguousarray(features, dtype=np.float32)
        self._parameters = _text(parameters)
        self._handle = ctypes.c_void_p()
        self.rows = len(features)
        _call(
            "LGBM_DatasetCreateFromMat",
            _pointer(features),
            _FLOAT32,
            ctypes.c_int32(features.shape[0]),
            ctypes.c_int32(features.shape[1]),
            1,
            self._parameters,
            None,
            ctypes.byref(self._handle),
        )

    def subset(self, rows: npt.NDArray[Any]) -> Bins:
        """Return some rows (sorted indices) on the same bins; costs no new binning."""
        indices = np.ascontiguousarray(rows, dtype=np.int32)
        part = object.__new__(Bins)
        part._parameters, part._handle, part.rows = self._parameters, ctypes.c_void_p(), len(indices)
        _call(
            "LGBM_DatasetGetSubset",
            self._handle,
            _pointer(indices),
            ctypes.c_int32(len(indices)),
            self._parameters,
            ctypes.byref(part._handle),
        )
        return part

    def with_target(self, label: npt.NDArray[Any], weight: npt.NDArray[Any] | None = None) -> Bins:
        """Set the label (and weights) of every row; returns itself."""
        self._set(b"label", label)
        if weight is not None:
            self._set(b"weight", weight)
        return self

    def with_start(self, scores: npt.NDArray[Any]) -> Bins:
        """Set the score every row starts from, float64 ``[rows, outputs]``; returns itself."""
        values = np.ascontiguousarray(scores.T, dtype=np.float64).ravel()
        _call(
            "LGBM_DatasetSetField",
            self._handle,
            b"init_score",
            _pointer(values),
            ctypes.c_int(len(values)),
            1,
        )
        return self

    def _set(self, field: bytes, values: npt.NDArray[Any]) -> None:
        array = np.ascontiguousarray(values, dtype=np.float32)
        _call(
            "LGBM_DatasetSetField", self._handle, field, _pointer(array), ctypes.c_int(len(array)), _FLOAT32
        )

    def __del__(self) -> None:
        if getattr(self, "_handle", None) and self._handle.value:
            _library().LGBM_DatasetFree(self._handle)
            self._handle = ctypes.c_void_p()


class Booster:
    """Boosted trees in training.

    Args:
        train: Binned rows with a target.
        parameters: LightGBM parameters (objective, learning_rate, metric, ...).
        valid: Binned rows whose metric ``evaluate`` returns.
    """

    def __init__(self, train: Bins, parameters: Parameters, valid: Bins | None = None) -> None:
        self._handle = ctypes.c_void_p()
        self._train, self._valid = train, valid
        _call("LGBM_BoosterCreate", train._handle, _text(parameters), ctypes.byref(self._handle))
        if valid is not None:
            _call("LGBM_BoosterAddValidData", self._handle, valid._handle)
        self._finished = ctypes.c_int(0)
        self._metrics = (ctypes.c_double * 16)()
        self._count = ctypes.c_int(0)

    def step(self) -> bool:
        """Add one round of trees; returns whether nothing more can be split."""
        _call("LGBM_BoosterUpdateOneIter", self._handle, ctypes.byref(self._finished))
        return bool(self._finished.value)

    def evaluate(self) -> float:
        """Return the first metric on the validation rows."""
        _call("LGBM_BoosterGetEval", self._handle, 1, ctypes.byref(self._count), self._metrics)
        return float(self._metrics[0])

    def raw_scores(
        self, features: npt.NDArray[np.float32], outputs: int, rounds: int
    ) -> npt.NDArray[np.float64]:
        """Return the raw scores ``[rows, outputs]`` of the first ``rounds`` rounds (0: of all)."""
        features = np.ascontiguousarray(features, dtype=np.float32)
        scores = np.empty((len(features), outputs), dtype=np.float64)
        length = ctypes.c_int64(0)
        _call(
            "LGBM_BoosterPredictForMat",
            self._handle,
            _pointer(features),
            _FLOAT32,
            ctypes.c_int32(features.shape[0]),
            ctypes.c_int32(features.shape[1]),
            1,
            _RAW_SCORE,
            0,
            ctypes.c_int(rounds),
            b"num_threads=1 verbosity=-1",
            ctypes.byref(length),
            _pointer(scores),
        )
        return scores

    def model_text(self, rounds: int) -> str:
        """Return the first ``rounds`` rounds in LightGBM's text format (0: all of them)."""
        size = 1 << 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            needed = ctypes.c_int64(0)
            _call(
                "LGBM_BoosterSaveModelToString",
                self._handle,
                0,
                ctypes.c_int(rounds),
                0,
                ctypes.c_int64(size),
                ctypes.byref(needed),
                buffer,
            )
            if needed.value <= size:
                return buffer.value.decode()
            size = int(needed.value) + 1

    def __del__(self) -> None:
        if getattr(self, "_handle", None) and self._handle.value:
            _library().LGBM_BoosterFree(self._handle)
            self._handle = ctypes.c_void_p()
