"""The call that judges a fitted task: which step, which files it reads, which facts go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelworks.algorithms.plugins import REFERENCES
from modelworks.core.task import Task
from modelworks.production import steps
from modelworks.production.fitting import MODEL
from modelworks.production.reading import series_settings
from modelworks.production.sample_calls import judge_inputs, model_of, own_judge_inputs
from modelworks.production.sample_fitting import learns_normal
from modelworks.production.streams import is_stream
from modelworks.production.work import Work
from modelworks.workflow.call import Artifact, Handle, Input
from modelworks.workflow.step import Step


def judge_step(task: Task) -> Step:
    """Return the step that judges a task of this kind."""
    if is_stream(task):
        return steps.judge_stream
    return steps.judge if task.modality == "table" else steps.judge_sample


def judged(work: Work, fit: Handle, key: Path) -> tuple[str, dict[str, Input]]:
    """Return the digest of the model that is judged and what its judge reads.

    Args:
        work: A task whose fit has ended well.
        fit: That fit; of all heads of its line, for a task on samples.
        key: File of the signing key.
    """
    if work.peers:
        return model_of(work, fit), judge_inputs(work, fit, work.fitted, REFERENCES[work.task.modality], key)
    if learns_normal(work.task):
        return fit.outputs[MODEL][0], own_judge_inputs(work, fit, key)
    inputs: dict[str, Input] = {"table": work.table.all_outputs(), "fit": fit.all_outputs(), "key": key}
    if work.champion:
        inputs["champion"] = Artifact(work.champion, tree=True)
    return fit.tree, inputs


def facts_of_model(work: Work, fit: Handle) -> dict[str, Any]:
    """Return where a model comes from, as its manifest will say."""
    series = series_settings(work.planned.line.reading)
    return {
        "dataset": {
            "digest": work.table.tree,
            "name": work.task.data,
            **({"reading": series} if series else {}),
        },
        "steps": {"fit": fit.key},
        "test": work.fitted["test"],
        "looks": work.look,
        "created": work.created,
    }
