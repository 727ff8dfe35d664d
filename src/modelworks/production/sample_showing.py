"""What a report shows of the sealed samples: confident errors, confusions, neighbours in training, a map."""

from __future__ import annotations

import base64
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelworks.core.task import TaskKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

ERRORS, CONFUSIONS, EACH, NEAR = 12, 3, 6, 3
MAPPED, SEARCHED = 600, 20_000
"""Sealed samples on the map, and training samples among which neighbours are looked for, at most."""

THUMBNAIL, POINTS, LETTERS = 96, 160, 400
DIRECTIONS, POWERS = 16, 4
"""Directions in which the leading components are sought, and how often they are turned towards them."""


class Showing:
    """Picks and prepares samples of one judged task.

    Args:
        table: The whole table.
        payload: Column of the samples.
        kind: Kind of task.
        classes: Class or label names in code order.
        sealed: Row numbers of the sealed samples.
        truth: Their target, as ``data.read_target`` codes it.
        outputs: What the model answered, output name -> array in the order of ``sealed``.
        train: Row numbers of the training samples.
        labels: Target of every row of the table, or ``None``.
        embeddings: ``[rows of the table, width]``, or ``None``.
    """

    def __init__(
        self,
        table: pa.Table,
        payload: str,
        kind: TaskKind,
        classes: Sequence[str],
        *,
        sealed: Rows,
        truth: npt.NDArray[Any],
        outputs: dict[str, npt.NDArray[Any]],
        train: Rows,
        labels: npt.NDArray[Any] | None,
        embeddings: Floats | None,
    ) -> None:
        self._table, self._payload, self._kind, self._classes = table, payload, kind, classes
        self._sealed, self._truth, self._outputs = sealed, truth, outputs
        self._train = train if len(train) <= SEARCHED else train[:: -(-len(train) // SEARCHED)]
        self._labels = labels
        self._embeddings = embeddings
        self._known = (
            unit_rows(embeddings[self._train]) if embeddings is not None and labels is not None else None
        )

    def to_json(self) -> dict[str, Any]:
        """Return the ``samples`` of a model report (see ``packaging.report``)."""
        found: dict[str, Any] = {"groups": [group for group in self._groups() if group["items"]]}
        if self._known is not None:
            found["about"] = (
                "Nearest training samples are those with the largest cosine of the backbone's embeddings."
            )
        if self._embeddings is not None and self._kind in {TaskKind.BINARY, TaskKind.MULTICLASS}:
            found["map"] = self._map(self._embeddings)
        return found

    def _groups(self) -> list[dict[str, Any]]:
        if self._kind in {TaskKind.BINARY, TaskKind.MULTICLASS}:
            return self._classified()
        if self._kind is TaskKind.MULTILABEL:
            return [self._mislabelled()]
        if self._kind is TaskKind.REGRESSION:
            return [self._far_off()]
        return self._strange() if self._kind is TaskKind.ANOMALY else []

    def _classified(self) -> list[dict[str, Any]]:
        said = self._said()
        share = self._outputs["probabilities"][np.arange(len(said)), said]
        wrong = np.flatnonzero(said != self._truth)
        surest = wrong[np.argsort(-share[wrong], kind="stable")]

        def item(place: int) -> dict[str, Any]:
            names = {"truth": self._classes[self._truth[place]], "said": self._classes[said[place]]}
            return self._item(int(place)) | names | {"share": float(share[place])}

        groups = [
            {
                "title": "Most confident errors",
                "note": f"{len(wrong)} of {len(said)} sealed samples are named wrongly; these the model was surest of.",
                "items": [item(place) for place in surest[:ERRORS]],
            }
        ]
        if len(self._classes) > 2:
            pairs = Counter(zip(self._truth[wrong].tolist(), said[wrong].tolist(), strict=True))
            for (true, named), count in pairs.most_common(CONFUSIONS):
                both = surest[(self._truth[surest] == true) & (said[surest] == named)]
                groups.append(
                    {
                        "title": f"{self._classes[true]} named {self._classes[named]}",
                        "note": f"{count} sealed samples.",
                        "items": [item(place) for place in both[:EACH]],
                    }
                )
        return groups

    def _said(self) -> Rows:
        """Return the code of the class the graph named, by its own label (it knows the threshold)."""
        codes = {name: code for code, name in enumerate(self._classes)}
        labels = self._outputs.get("label")
        if labels is None:
            return np.asarray(self._outputs["probabilities"].argmax(axis=1), np.int64)
        return np.array(
            [codes[text.decode() if isinstance(text, bytes) else str(text)] for text in labels], np.int64
        )

    def _mislabelled(self) -> dict[str, Any]:
        probabilities = self._outputs["probabilities"]
        known = self._truth != 255
        wrong = known & (self._outputs["labels"].astype(bool) != (self._truth == 1))
        sure = np.where(self._truth == 1, 1 - probabilities, probabilities) * wrong
        order = np.argsort(-sure, axis=None, kind="stable")[:ERRORS]
        places = [tuple(int(index) for index in np.unravel_index(flat, sure.shape)) for flat in order]
        items = []
        for place, label in places:
            if not wrong[place, label]:
                continue
            name, true = self._classes[label], bool(self._truth[place, label] == 1)
            texts = {"truth": name if true else f"not {name}", "said": f"not {name}" if true else name}
            items.append(self._item(place, near=False) | texts | {"share": float(sure[place, label])})
        return {
            "title": "Most confident errors",
            "note": f"{int(wrong.sum())} of {int(known.sum())} known labels are wrong; these the model was surest of.",
            "items": items,
        }

    def _far_off(self) -> dict[str, Any]:
        predicted = self._outputs["prediction"].astype(np.float64).reshape(len(self._truth), -1)[:, 0]
        error = predicted - self._truth
        items = [
            self._item(int(place)) | {"truth": f"{self._truth[place]:.4g}", "said": f"{predicted[place]:.4g}"}
            for place in np.argsort(-np.abs(error), kind="stable")[:ERRORS]
        ]
        return {"title": "Largest errors", "note": "", "items": items}

    def _strange(self) -> list[dict[str, Any]]:
        """Return what was found, what was missed and what was alarmed for nothing, each with its heat map."""
        from modelworks.compute.pixels import heat_picture

        score, alarm = self._outputs["score"], self._outputs["anomalous"].astype(bool)
        heat, strange = self._outputs.get("heat"), self._truth == 1

        def item(place: int) -> dict[str, Any]:
            found = self._item(place, near=False)
            found |= {"truth": self._classes[self._truth[place]], "said": self._classes[int(alarm[place])]}
            if heat is not None:
                data, media = heat_picture(heat[place], THUMBNAIL)
                found["heat"] = {"media": media, "data": base64.b64encode(data).decode("ascii")}
            return found | {"score": float(score[place])}

        groups = []
        for title, chosen, sign in (
            ("Anomalies found", strange & alarm, -1),
            ("Anomalies missed", strange & ~alarm, 1),
            ("False alarms", ~strange & alarm, -1),
        ):
            places = np.flatnonzero(chosen)
            order = places[np.argsort(sign * score[places], kind="stable")][:EACH]
            note = (
                f"{len(places)} sealed samples. Heat maps: blue is usual, red is above the alarm's threshold."
            )
            groups.append({"title": title, "note": note, "items": [item(int(place)) for place in order]})
        return groups

    def _item(self, place: int, *, near: bool = True) -> dict[str, Any]:
        row = int(self._sealed[place])
        found: dict[str, Any] = {"row": row, **self._content(row)}
        if near and self._known is not None and self._embeddings is not None:
            found["near"] = self._near(row)
        return found

    def _near(self, row: int) -> list[dict[str, Any]]:
        assert self._known is not None and self._embeddings is not None and self._labels is not None
        alike = self._known @ unit_rows(self._embeddings[row : row + 1])[0]
        found = []
        first = np.sort(np.argpartition(-alike, min(NEAR, len(alike)) - 1)[:NEAR])
        for place in first[np.argsort(-alike[first], kind="stable")]:
            other = int(self._train[place])
            label = self._labels[other]
            shown = self._classes[int(label)] if self._classes else f"{float(label):.4g}"
            found.append(
                {"truth": shown, "similarity": max(0.0, float(alike[place])), **self._content(other)}
            )
        return found

    def _content(self, row: int) -> dict[str, Any]:
        """Return the picture, text or curve of one row, small enough for a page; nothing if it cannot be drawn."""
        from modelworks.core.errors import ModelworksError
        from modelworks.data.samples.payload import payload_values

        value = payload_values(self._table, self._payload, np.array([row]))[0]
        if isinstance(value, bytes):
            try:
                return {"picture": _picture(value)}
            except ModelworksError:
                return {}
        if isinstance(value, str):
            return {"text": value[:LETTERS]}
        step = max(1, value.shape[1] // POINTS)
        channels = [channel[np.isfinite(channel)][::step].tolist() for channel in value[:3]]
        return {"series": [channel for channel in channels if channel]}

    def _map(self, embeddings: Floats) -> dict[str, Any]:
        places = np.unique(
            np.linspace(0, len(self._sealed) - 1, min(MAPPED, len(self._sealed))).astype(np.int64)
        )
        points, explained = two_components(embeddings[self._sealed[places]])
        said = self._said()[places]
        truth = self._truth[places]
        return {
            "x": points[:, 0].tolist(),
            "y": points[:, 1].tolist(),
            "truth": [self._classes[code] for code in truth],
            "right": (said == truth).tolist(),
            "explained": explained,
        }


def unit_rows(values: Floats) -> Floats:
    """Return rows scaled to length 1; a row of zeros stays."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(length, 1e-12), np.float32)


def two_components(values: Floats) -> tuple[npt.NDArray[np.float64], float]:
    """Return rows on their first two principal components, ``[rows, 2]``, and the share of the variance they hold.

    The sign of a component makes its largest entry positive, so that equal data gives equal maps.
    """
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    total = float(np.einsum("ij,ij->", centred, centred))
    narrow = _leading(centred)
    left, sizes, _ = np.linalg.svd(narrow, full_matrices=False)
    points = np.zeros((len(values), 2))
    count = min(2, len(sizes))
    points[:, :count] = left[:, :count] * sizes[:count]
    signs = np.sign(points[np.abs(points).argmax(axis=0), [0, 1]])
    share = float((sizes[:2] ** 2).sum() / total) if total > 0 else 0.0
    return points * np.where(signs == 0, 1.0, signs), share


def _leading(centred: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return wide rows in the few directions that hold the leading components; narrow rows as they are.

    Source: Halko, Martinsson & Tropp (2011), Finding structure with randomness.
    """
    if min(centred.shape) <= DIRECTIONS:
        return centred
    found = centred.T @ (centred @ np.random.default_rng(0).standard_normal((centred.shape[1], DIRECTIONS)))
    for _ in range(POWERS):
        found = centred.T @ (centred @ np.linalg.qr(found)[0])
    return np.asarray(centred @ np.linalg.qr(found)[0])


@lru_cache(maxsize=2000)
def _picture(value: bytes) -> dict[str, str]:
    """Return the thumbnail of an image; the tasks of a table show many of the same."""
    from modelworks.compute.pixels import thumbnail

    data, media = thumbnail(value, THUMBNAIL)
    return {"media": media, "data": base64.b64encode(data).decode("ascii")}
