"""Distillation: the teacher never teaches what it saw, the student learns from it, no share means no teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelworks.compute.embedding import objects
from modelworks.core.budget import Budget
from modelworks.core.errors import DataError
from modelworks.core.task import TaskKind
from modelworks.data.samples.training import TrainingSamples

pytest.importorskip("torch", reason="needs the extra 'torch'")

from modelworks.algorithms.deep.distil import Teacher, ensemble_teacher, fit_student, head_teacher
from modelworks.algorithms.deep.series import DeepSeries
from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession

TEACHER = DeepSeries(width=6, epochs=8)
STUDENT = DeepSeries(width=3, epochs=8, trials=0)


def _series(rows: int, seed: int, *, noise: bool = False) -> TrainingSamples:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, rows)
    values = rng.normal(0, 0.4, (rows, 1, 32)).astype(np.float32)
    values[:, 0, 8:16] += 1.5 * codes[:, None]
    if noise:
        codes = rng.integers(0, 2, rows)
    return TrainingSamples(
        payload=objects(list(values)), column="x", modality="series", kind=TaskKind.BINARY, target=codes,
        classes=("no", "yes"), weight=None, folds=(np.arange(rows) % 4).astype(np.int8),
    )  # fmt: skip


@pytest.mark.slow
def test_on_labels_of_chance_the_teacher_out_of_fold_knows_nothing() -> None:
    train = _series(160, 0, noise=True)
    rows = TEACHER.rows(train, None, Budget(60))
    teacher = ensemble_teacher(replace(TEACHER, epochs=25), rows, Budget(600), 0)
    right = (teacher.chances[:, 0] > 0.5) == (rows.problem.target == 1)
    assert right.mean() < 0.65


def test_a_student_learns_from_its_teacher_alone() -> None:
    train, fresh = _series(160, 0), _series(200, 1)
    rows = STUDENT.rows(train, None, Budget(60))
    teacher = ensemble_teacher(TEACHER, rows, Budget(600), 0)
    assert ((teacher.chances[:, 0] > 0.5) == (rows.problem.target == 1)).mean() > 0.85
    assert len(teacher.networks) == 4
    model = fit_student(STUDENT, rows, teacher, Budget(600), 0, share=1.0)
    found = answer(GraphSession(model.onnx), model.signature, {"x": fresh.payload}, fresh.rows)
    assert np.mean(found["label"] == np.array(fresh.classes, object)[fresh.target]) > 0.85
    assert model.diagnostics["teacher"]["share"] == 1.0


@pytest.mark.slow
def test_without_a_share_there_is_no_teacher() -> None:
    train = _series(80, 0)
    rows = STUDENT.rows(train, None, Budget(60))
    wrong = Teacher("wrong", 1 - rows.examples.target, 9.0)
    student = fit_student(STUDENT, rows, wrong, Budget(600), 0, share=0.0)
    assert student.onnx == STUDENT.fit(train, None, Budget(600), 0).onnx


def test_a_head_teaches_by_its_leave_one_out_answers() -> None:
    train = _series(120, 0)
    flat = np.stack([item[0] for item in train.payload]).astype(np.float32)
    rows = STUDENT.rows(replace(train, embeddings={"plain": flat}), None, Budget(60))
    teacher = head_teacher(rows)
    assert teacher.name == "ridge head on plain"
    assert ((teacher.chances[:, 0] > 0.5) == (rows.problem.target == 1)).mean() > 0.85
    with pytest.raises(DataError, match="embeddings"):
        head_teacher(STUDENT.rows(train, None, Budget(60)))
