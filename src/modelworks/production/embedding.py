"""Embedding a table of samples: the backbone learns from samples that are never sealed, then looks at all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.backbone import Backbone
from modelworks.core.errors import DataError
from modelworks.core.signature import TOKENIZER
from modelworks.core.task import SplitPolicy, Task
from modelworks.production.fitting import timed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from modelworks.core.backbone import BackboneSource
    from modelworks.core.schema import Schema
    from modelworks.data.samples.parting import Lots

EMBEDDINGS = "embeddings.npy"
GRAPH = "backbone.onnx"
RECORD = "backbone.json"
STEP = 2048
"""Samples read from the table at once."""

LEARN_FROM = {"image": 4000, "text": 100_000, "series": 4000}
"""Unlabelled samples a backbone is fitted on, at most; those with the highest lots."""


def sample_part(task: Task, sealed_from: int | None) -> dict[str, Any]:
    """Return what of a task the embedding of its table depends on: no target, so that all tasks share it."""
    policy = {
        "kind": task.split.kind,
        "group": task.split.group,
        "time": task.split.time,
        "test_share": task.split.test_share,
    }
    return {"policy": policy, "seed": task.seed, "sealed_from": sealed_from}


def lots_of(folder: Path, table: pa.Table, schema: Schema, payload: str, drawn: dict[str, Any]) -> Lots:
    """Return the lots of an ingested table, as ``drawn`` (``sample_part``) says."""
    from modelworks.data.samples.parting import draw_lots, sample_keys

    keys = sample_keys(folder, table, payload)
    return draw_lots(table, schema, keys, SplitPolicy(**drawn["policy"]), drawn["seed"], drawn["sealed_from"])


def embed_table(
    table_folder: Path,
    payload: str,
    name: str,
    settings: dict[str, Any],
    drawn: dict[str, Any],
    folder: Path,
    encoder: Path | None = None,
) -> dict[str, Any]:
    """Make a backbone and embed every row of a table.

    Args:
        table_folder: What ``ingest`` wrote.
        payload: Column of the samples.
        name: Registry name of the backbone, or the name of an encoder.
        settings: Fields of its source's configuration.
        drawn: See ``sample_part``.
        folder: Gets ``embeddings.npy`` (float32 [rows, width]), ``backbone.onnx``, ``backbone.json``.
        encoder: Folder of a Hugging Face encoder, where the backbone is one.

    Returns:
        ``name``, ``digest``, ``width``, ``modality``, ``licence``, ``parts``.

    Raises:
        DataError: Too few samples to learn from.
    """
    import numpy as np

    from modelworks.algorithms.backbones.fusion import payload_inputs
    from modelworks.compute.embedding import embed_column
    from modelworks.data import open_table
    from modelworks.data.samples.payload import payload_values

    parts: dict[str, float] = {}
    table, schema = open_table(table_folder)
    with timed(parts, "backbone"):
        source = backbone_of(name, settings, table, payload, encoder)
        learn = np.flatnonzero(lots_of(table_folder, table, schema, payload, drawn).learn)
        made = source.make(_samples(table, payload, learn, source), drawn["seed"])
    with timed(parts, "embed"):
        inputs = payload_inputs(made, payload)
        found = []
        for start in range(0, table.num_rows, STEP):
            rows = np.arange(start, min(start + STEP, table.num_rows))
            values = payload_values(table, payload, rows)
            found.append(embed_column(made.onnx, inputs, values, tokenizer=made.tokenizer))
        np.save(folder / EMBEDDINGS, np.concatenate(found), allow_pickle=False)
    save_backbone(made, folder)
    return {
        "name": made.name,
        "digest": made.digest,
        "width": made.width,
        "modality": made.modality,
        "licence": made.licence,
        "parts": parts,
    }


def backbone_of(
    name: str, settings: dict[str, Any], table: pa.Table, payload: str, encoder: Path | None = None
) -> BackboneSource:
    """Return a configured source; one that takes a ``length`` is told the longest series of the table."""
    from modelworks.algorithms.backbones.huggingface import HuggingFaceSource
    from modelworks.algorithms.plugins import backbone_source

    source = HuggingFaceSource if encoder is not None else backbone_source(name)
    fixed: dict[str, Any] = {"folder": str(encoder), "name": name} if encoder is not None else {}
    known = {item.name for item in fields(source)} - set(fixed)
    strange = sorted(set(settings) - known)
    if strange:
        raise DataError(
            f"The backbone '{name}' has no setting '{strange[0]}'.",
            code="MW1236",
            hint="settings: " + ", ".join(sorted(known)),
        )
    if "length" in known and "length" not in settings:
        settings = {**settings, "length": longest_series(table, payload)}
    made: BackboneSource = source(**settings, **fixed)
    return made


def longest_series(table: pa.Table, payload: str) -> int:
    """Return the number of values of the longest series."""
    import pyarrow.compute as pc

    inner = table.column(payload).combine_chunks().flatten()
    return int(pc.max(pc.list_value_length(inner)).as_py() or 0)


def _samples(
    table: pa.Table, payload: str, learn: npt.NDArray[np.int64], source: BackboneSource
) -> Sequence[Any]:
    """Return decoded samples to learn from; a ready-made encoder gets the one that tells it their shape."""
    import numpy as np

    from modelworks.compute.payloads import image_pixels
    from modelworks.data.samples.payload import payload_values

    card = source.card
    most = LEARN_FROM[card.modality] if card.fitted else 1
    if len(learn) < max(1, card.min_samples):
        raise DataError(
            f"The backbone '{card.name}' needs at least {card.min_samples} samples to learn from, "
            f"there are {len(learn)}.",
            code="MW1237",
            hint="collect more samples; labels are not needed",
        )
    chosen = learn if len(learn) <= most else learn[np.linspace(0, len(learn) - 1, most).astype(np.int64)]
    values = payload_values(table, payload, chosen)
    if card.modality == "image":
        return [image_pixels(value) for value in values]
    return list(values)


def save_backbone(made: Backbone, folder: Path) -> None:
    """Write a backbone as plain files."""
    (folder / GRAPH).write_bytes(made.onnx)
    if made.preprocessor is not None:
        (folder / TOKENIZER).write_bytes(made.preprocessor)
    record = {
        "name": made.name,
        "modality": made.modality,
        "width": made.width,
        "licence": made.licence,
        "about": made.about,
        "digest": made.digest,
    }
    (folder / RECORD).write_text(json.dumps(record, sort_keys=True), encoding="utf-8")


def load_backbone(folder: Path) -> Backbone:
    """Read what ``save_backbone`` wrote."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    del record["digest"]
    return Backbone(
        **record,
        onnx=(folder / GRAPH).read_bytes(),
        preprocessor=load_tokenizer(folder),
    )


def load_tokenizer(folder: Path) -> bytes | None:
    """Read the preprocessor of a backbone or of a package, if there is one."""
    file = folder / TOKENIZER
    return file.read_bytes() if file.exists() else None


def load_embeddings(folder: Path) -> npt.NDArray[np.float32]:
    """Map the embeddings of every row into memory."""
    import numpy as np

    found: npt.NDArray[np.float32] = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
    return found
