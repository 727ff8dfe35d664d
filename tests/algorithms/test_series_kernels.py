"""The series encoder: shapes, seeds, missing values, and accuracy on public sets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from modelworks.algorithms.backbones.kernels import KERNELS, fit_kernel_encoder
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import DataError
from modelworks.training.heads.ridge import fit_heads
from modelworks.training.heads.task import HeadTask

SHARED = Path(os.environ.get("MODELWORKS_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def _series(n: int = 20, channels: int = 2, length: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, channels, length)).astype(np.float32)


def test_one_seed_gives_equal_bytes() -> None:
    assert fit_kernel_encoder(_series(), features=168, seed=1) == fit_kernel_encoder(
        _series(), features=168, seed=1
    )
    assert fit_kernel_encoder(_series(), features=168, seed=1) != fit_kernel_encoder(
        _series(), features=168, seed=2
    )


def test_features_are_shares_and_one_row_equals_a_batch() -> None:
    x = _series()
    session = GraphSession(fit_kernel_encoder(x, features=420))
    batch = session.run({"series": x})["embedding"]
    assert batch.shape == (20, 420)
    assert batch.shape[1] % len(KERNELS) == 0
    assert batch.min() >= 0
    assert batch.max() <= 1
    np.testing.assert_allclose(session.run({"series": x[7:8]})["embedding"][0], batch[7], atol=1e-6)


def test_a_missing_value_is_read_as_the_mean_of_its_series() -> None:
    x = _series(channels=1)
    session = GraphSession(fit_kernel_encoder(x, features=168))
    holed, filled = x.copy(), x.copy()
    holed[0, 0, 5] = np.nan
    filled[0, 0, 5] = np.delete(x[0, 0], 5).mean()
    np.testing.assert_allclose(
        session.run({"series": holed})["embedding"], session.run({"series": filled})["embedding"], atol=0.03
    )


def test_too_short_series_are_refused() -> None:
    with pytest.raises(DataError, match="length >= 9"):
        fit_kernel_encoder(_series(length=8))


def _read_ts(path: Path) -> tuple[np.ndarray, list[str]]:
    rows = [line.strip().split(":") for line in path.read_text().splitlines() if line and line[0] not in "#@"]
    return (
        np.array([[[float(v) for v in part.split(",")] for part in row[:-1]] for row in rows], np.float32),
        [row[-1] for row in rows],
    )


@pytest.mark.parametrize(
    ("name", "least"),
    [("GunPoint", 0.97), ("ItalyPowerDemand", 0.94), ("ArrowHead", 0.80), ("BasicMotions", 0.97)],
)
def test_public_sets(name: str, least: float) -> None:
    folder = SHARED / "data" / "ucr_tsc_a"
    if not folder.exists():
        pytest.skip("the shared public datasets are not beside the project")
    x, y = _read_ts(folder / f"{name}_TRAIN.ts")
    x_test, y_test = _read_ts(folder / f"{name}_TEST.ts")
    classes = sorted(set(y))
    session = GraphSession(fit_kernel_encoder(x, features=2016))
    task = HeadTask(name=name, labels=np.array([classes.index(v) for v in y]), classes=len(classes))
    head = fit_heads(session.run_batched({"series": x}, rows=64)["embedding"], [task])[0]
    logits = (
        session.run_batched({"series": x_test}, rows=64)["embedding"] @ head.form.weights + head.form.bias
    )
    found = logits.argmax(axis=1) if len(classes) > 2 else (logits[:, 0] > 0).astype(int)
    assert np.mean(found == [classes.index(v) for v in y_test]) >= least
