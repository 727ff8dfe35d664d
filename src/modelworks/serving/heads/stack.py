"""Heads of one backbone side by side in memory: one product answers one of them, some, or all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import finalize

import numpy as np

from modelworks.serving.heads.split import Head
from modelworks.serving.model import Answer
from modelworks.serving.tensors import Array

Shape = tuple[int, int, int]


@dataclass(eq=False)
class _Group:
    """Heads of one shape. Arrays only grow; a slot is used again once nobody holds its place any more."""

    weights: Array
    bias: Array
    hidden: Array
    hidden_bias: Array
    count: int = 0
    free: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a head stands, for as long as somebody holds this: its user, or a work that is still to be answered.

    Attributes:
        head: The head.
        shape: Its group.
        slot: Its place within the group.
    """

    head: Head
    shape: Shape
    slot: int


class HeadStack:
    """The heads of one backbone.

    Adding happens on the event loop; ``answer`` may run in any thread at the same time: it reads arrays that are
    replaced as a whole or written only where no reader looks. A head leaves when its last ``Place`` is let go of,
    which needs no quiet moment: works under way hold the places they ask for.
    """

    def __init__(self) -> None:
        self._groups: dict[Shape, _Group] = {}

    def add(self, head: Head) -> Place:
        """Take in a head."""
        shape = head.shape
        group = self._groups.get(shape)
        if group is None:
            group = self._groups[shape] = _empty(shape, 4)
        if group.free:
            slot = group.free.pop()
        else:
            if group.count == len(group.weights):
                _grow(group, shape)
            slot = group.count
        group.weights[slot] = head.weights
        group.bias[slot] = head.bias
        if head.hidden is not None:
            group.hidden[slot], group.hidden_bias[slot] = head.hidden
        group.count = max(group.count, slot + 1)
        place = Place(head, shape, slot)
        finalize(place, group.free.append, slot).atexit = False
        return place

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(
            group.weights.nbytes + group.bias.nbytes + group.hidden.nbytes + group.hidden_bias.nbytes
            for group in self._groups.values()
        )

    def answer(self, place: Place, embeddings: Array) -> Answer:
        """Return one head's outputs for ``embeddings [rows, d]``."""
        head = place.head
        group = self._groups[place.shape]
        values = embeddings
        if head.hidden is not None:
            values = np.maximum(values @ group.hidden[place.slot].T + group.hidden_bias[place.slot], 0)
        logits = values @ group.weights[place.slot].T + group.bias[place.slot]
        return finish(head, logits)

    def answer_each(self, places: Sequence[Place], embeddings: Array) -> list[Answer]:
        """Return the outputs of ``places[i]`` for row ``i``: different heads in one product per shape."""
        answers: list[Answer] = [{} for _ in places]
        for shape in {place.shape for place in places}:
            rows = [index for index, place in enumerate(places) if place.shape == shape]
            group = self._groups[shape]
            slots = np.array([places[index].slot for index in rows])
            values = embeddings[rows][:, :, None]
            if shape[1]:
                values = np.maximum(group.hidden[slots] @ values + group.hidden_bias[slots][:, :, None], 0)
            logits = (group.weights[slots] @ values)[:, :, 0] + group.bias[slots]
            for number, index in enumerate(rows):
                answers[index] = finish(places[index].head, logits[number : number + 1])
        return answers

    def answer_many(self, places: Sequence[Place], embeddings: Array) -> list[Answer]:
        """Return the outputs of every one of ``places`` for all rows of ``embeddings``."""
        answers: list[Answer] = [{} for _ in places]
        for shape in {place.shape for place in places}:
            mine = [index for index, place in enumerate(places) if place.shape == shape]
            logits = self._all_logits(shape, [places[index].slot for index in mine], embeddings)
            for kind in {places[index].head.kind for index in mine}:
                chosen = [number for number, index in enumerate(mine) if places[index].head.kind == kind]
                finished = _finish_many(kind, logits[:, chosen] if len(chosen) < len(mine) else logits)
                for number, position in enumerate(chosen):
                    index = mine[position]
                    answers[index] = _named(places[index].head, finished[:, number])
        return answers

    def _all_logits(self, shape: Shape, slots: list[int], embeddings: Array) -> Array:
        """Return ``[rows, heads, outputs]`` of some heads of one shape in one product."""
        group = self._groups[shape]
        outputs, width, size = shape
        whole = slots == list(range(group.count))
        weights = group.weights[: group.count] if whole else group.weights[slots]
        bias = group.bias[: group.count] if whole else group.bias[slots]
        heads = len(slots)
        if width == 0:
            logits = embeddings @ weights.reshape(heads * outputs, size).T
            return logits.reshape(-1, heads, outputs) + bias
        hidden = group.hidden[: group.count] if whole else group.hidden[slots]
        hidden_bias = group.hidden_bias[: group.count] if whole else group.hidden_bias[slots]
        values = (embeddings @ hidden.reshape(heads * width, size).T).reshape(-1, heads, width) + hidden_bias
        logits = np.matmul(np.maximum(values, 0).transpose(1, 0, 2), weights.transpose(0, 2, 1))
        return np.asarray(logits.transpose(1, 0, 2) + bias)


def finish(head: Head, logits: Array) -> Answer:
    """Turn one head's logits ``[rows, outputs]`` into its named outputs."""
    return _named(head, _finish_many(head.kind, logits))


def _finish_many(kind: str, logits: Array) -> Array:
    """Turn logits ``[..., outputs]`` into probabilities over the last axis, or leave them."""
    if kind == "identity":
        return logits
    if kind == "sigmoid":
        positive = 0.5 * (1.0 + np.tanh(0.5 * logits))
        return np.concatenate([1.0 - positive, positive], axis=-1)
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _named(head: Head, values: Array) -> Answer:
    answer: dict[str, Array] = {}
    for tensor in head.signature.outputs:
        if tensor.name == "probabilities":
            answer["probabilities"] = values
        elif tensor.name == "label":
            classes = np.array(head.signature.classes, dtype=object)
            answer["label"] = classes[values.argmax(axis=-1)]
        else:
            answer[tensor.name] = values[:, 0] if len(tensor.shape) == 1 else values
    return answer


def _empty(shape: Shape, capacity: int) -> _Group:
    outputs, width, size = shape
    return _Group(
        weights=np.zeros((capacity, outputs, width or size), np.float32),
        bias=np.zeros((capacity, outputs), np.float32),
        hidden=np.zeros((capacity, width, size), np.float32),
        hidden_bias=np.zeros((capacity, width), np.float32),
    )


def _grow(group: _Group, shape: Shape) -> None:
    """Double the arrays; readers keep the old ones until they are done."""
    larger = _empty(shape, max(4, len(group.weights) + max(4, len(group.weights) // 4)))
    used = len(group.weights)
    for name in ("weights", "bias", "hidden", "hidden_bias"):
        array = getattr(larger, name)
        array[:used] = getattr(group, name)
        setattr(group, name, array)
