"""The durable steps of the line: thin calls into the rooms below, each a pure function of hashed inputs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from modelworks.compute.memory import own_cpu_s
from modelworks.production.sources import with_secrets
from modelworks.production.task_data import task_from_json
from modelworks.workflow.step import KEPT, step

HOUSE = "modelworks.production"


@step(
    version=5,
    outputs=("table.arrow", "schema.json", "profile.json"),
    sources=(f"{HOUSE}.reading", f"{HOUSE}.sources", f"{HOUSE}.survey", f"{HOUSE}.fitting"),
)
def ingest(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read a source once for all its tasks: typed table, schema, profile, what each column would be as a target."""
    from modelworks.data import open_table, profile
    from modelworks.production.fitting import finite
    from modelworks.production.reading import SEALED_FROM, read_table
    from modelworks.production.survey import target_facts

    mark = time.process_time()
    source = inputs.get("source") or with_secrets(params["url"])
    test = inputs.get("test") or (with_secrets(params["test_url"]) if "test_url" in params else None)
    report = read_table(source, test, params["reading"], folder, files=inputs.get("files"), isolate=False)
    table, schema = open_table(folder)
    parts = {"ingest": time.process_time() - mark}
    mark = time.process_time()
    described = finite(profile(table, schema, ()))
    (folder / "profile.json").write_text(json.dumps(described), encoding="utf-8")
    facts = target_facts(table, schema)
    parts["profile"] = time.process_time() - mark
    size = {"rows": table.num_rows, "bytes": (folder / "table.arrow").stat().st_size}
    return {
        "schema": schema.to_json(),
        "targets": facts,
        "sealed_from": report.get(SEALED_FROM),
        "report": finite(report) | size,
        "parts": parts,
    }


@step(version=3, outputs=("model.onnx", "fit.json"), sources=(f"{HOUSE}.fitting", f"{HOUSE}.survey"))
def fit(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Part the rows, let the guard look, fit the recipe and the baselines."""
    from modelworks.production.fitting import fit_task

    task = task_from_json({"name": "task", "data": "", **params["task"]})
    return fit_task(inputs["table"], task, tuple(params["order"]), params["sealed_from"], folder)


@step(version=6, outputs=("judged.json",), sources=(f"{HOUSE}.judging", f"{HOUSE}.papers"))
def judge(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Score the shipped graph on the sealed rows, hold it to the gate, and write its package or its report.

    One step and not two: the graph is loaded once, and what was judged is what is packed.
    """
    from modelworks.production.judging import judge_task
    from modelworks.production.papers import write_papers

    task = task_from_json(params["task"])
    facts = params["facts"]
    table, fitted = inputs["table"], inputs["fit"]
    judged = judge_task(table, fitted, inputs.get("champion"), task, facts["looks"], folder)
    mark = own_cpu_s()
    papers = write_papers(judged, table, inputs["key"].parent, task, facts, folder)
    return {**judged.to_json(), **papers, "parts": {**judged.parts, "papers": own_cpu_s() - mark}}


@step(
    version=7,
    outputs=("embeddings.npy", "backbone.onnx", "backbone.json"),
    sources=(
        f"{HOUSE}.embedding",
        "modelworks.data.samples.parting",
        "modelworks.algorithms.backbones",
        "modelworks.algorithms.deep.export",
        "modelworks.training.deep.pretrained",
    ),
)
def embed(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make a backbone and embed every sample of a table, once for all tasks over it."""
    from modelworks.production.embedding import embed_table
    from modelworks.production.encoders import encoder_folder

    return embed_table(
        inputs["table"],
        params["payload"],
        params["backbone"],
        params["settings"],
        params["drawn"],
        folder,
        encoder_folder(inputs),
    )


@step(
    version=12,
    sources=(
        f"{HOUSE}.heads",
        f"{HOUSE}.embedding",
        "modelworks.data.samples.parting",
        "modelworks.algorithms.samples",
        "modelworks.training.heads",
        "modelworks.training.ridge",
        "modelworks.training.calibration",
        "modelworks.training.decision",
    ),
)
def heads(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fit the heads of all tasks of a line in one pass, with their baselines."""
    from modelworks.production.heads import fit_line

    shared = {"name": "task", "data": "", **params["task"]}
    tasks = [task_from_json({**shared, "target": target}) for target in params["targets"]]
    embedded = {name: inputs[f"embed.{name}"] for name in params["backbones"]}
    return fit_line(
        inputs["table"], embedded, inputs["reference"], tasks, params["payload"], params["drawn"], folder
    )


@step(
    version=7,
    outputs=("model.onnx", "fit.json", "first.npy"),
    sources=(
        f"{HOUSE}.stream_fitting",
        f"{HOUSE}.streams",
        "modelworks.data.samples.panel",
        "modelworks.algorithms.series",
    ),
)
def fit_stream(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Seal the end of each running series, fit the recipe and the baselines on the rest."""
    from modelworks.production.stream_fitting import fit_stream as fit_on_stream

    task = task_from_json({"name": "task", "data": "", **params["task"]})
    return fit_on_stream(inputs["table"], task, folder)


@step(
    version=4,
    outputs=("judged.json",),
    sources=(
        f"{HOUSE}.stream_judging",
        f"{HOUSE}.stream_alarms",
        f"{HOUSE}.judging",
        f"{HOUSE}.papers",
        f"{HOUSE}.streams",
    ),
)
def judge_stream(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Score the shipped graph on the sealed end of time, hold it to the gate, and write its package or its report."""
    from modelworks.production.papers import write_papers
    from modelworks.production.stream_judging import judge_stream as judge_on_stream

    task = task_from_json(params["task"])
    facts = params["facts"]
    judged = judge_on_stream(
        inputs["table"], inputs["fit"], inputs.get("champion"), task, facts["looks"], folder
    )
    mark = own_cpu_s()
    papers = write_papers(judged, inputs["table"], inputs["key"].parent, task, facts, folder)
    return {**judged.to_json(), **papers, "parts": {**judged.parts, "papers": own_cpu_s() - mark}}


@step(
    version=6,
    outputs=("fit.json",),
    sources=(
        f"{HOUSE}.escalating",
        "modelworks.algorithms.deep",
        "modelworks.algorithms.text",
        "modelworks.training.calibration",
        "modelworks.training.deep",
    ),
    keeps=True,
)
def escalate(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Try more than a head for one task; a training that was killed goes on from its checkpoint."""
    from modelworks.production.escalating import escalate_task

    task = task_from_json({"name": "task", "data": "", **params["task"]})
    embedded = {name: inputs[f"embed.{name}"] for name in params["backbones"]}
    return escalate_task(inputs, embedded, task, inputs[KEPT], folder)


@step(
    version=4,
    outputs=("model.onnx", "fit.json"),
    sources=(
        f"{HOUSE}.sample_fitting",
        f"{HOUSE}.embedding",
        "modelworks.data.samples.parting",
        "modelworks.data.samples.normal",
        "modelworks.algorithms.images",
        "modelworks.algorithms.backbones.patches",
        "modelworks.algorithms.backbones.formula",
    ),
)
def fit_sample(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fit one task over samples that has a recipe of its own, with its baselines."""
    from modelworks.production.sample_fitting import fit_samples

    task = task_from_json({"name": "task", "data": "", **params["task"]})
    return fit_samples(inputs["table"], task, params["payload"], params["drawn"], folder)


@step(
    version=9,
    outputs=("judged.json",),
    sources=(
        f"{HOUSE}.sample_judging",
        f"{HOUSE}.sample_showing",
        f"{HOUSE}.halves",
        f"{HOUSE}.judging",
        f"{HOUSE}.papers",
        "modelworks.algorithms.backbones.fusion",
    ),
)
def judge_sample(inputs: dict[str, Path], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Score the shipped graph on the sealed samples, hold it to the gate, and write its package or its report."""
    from modelworks.production.papers import write_papers
    from modelworks.production.sample_judging import Files, judge_samples

    task = task_from_json(params["task"])
    facts = params["facts"]
    files = Files(**{name: path for name, path in inputs.items() if name != "key"})
    judged = judge_samples(files, task, facts["looks"], folder)
    mark = own_cpu_s()
    papers = write_papers(judged, inputs["table"], inputs["key"].parent, task, facts, folder)
    return {**judged.to_json(), **papers, "parts": {**judged.parts, "papers": own_cpu_s() - mark}}
