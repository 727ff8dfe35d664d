"""Heads of one backbone side by side in memory: one product answers one of them, some, or all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload
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
        group: Equal for heads of one stack that are of one shape and kind.
    """

    head: Head
    shape: Shape
    slot: int
    group: int = 0


class HeadBlock(Sequence[Answer]):
    """The answers of many heads for the same rows, as they came out of their products.

    An answer with its named outputs is made when it is asked for: a thousand of them cost more than the products.

    Attributes:
        groups: Positions of heads of one shape and kind, the kind, and their values ``[rows, heads, outputs]``.
    """

    __slots__ = ("_places", "_where", "groups")

    def __init__(self, places: Sequence[Place], groups: list[tuple[Sequence[int], str, Array]]) -> None:
        self._places = places
        self.groups = groups
        self._where: dict[int, tuple[Array, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Answer: ...

    @overload
    def __getitem__(self, index: slice) -> list[Answer]: ...

    def __getitem__(self, index: int | slice) -> Answer | list[Answer]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not self._where:
            self._where = {
                position: (values, number)
                for positions, _, values in self.groups
                for number, position in enumerate(positions)
            }
        values, number = self._where[range(len(self))[index]]
        return _named(self._places[index].head, values[:, number])

    def joined(self, others: Sequence[HeadBlock], order: Array) -> HeadBlock:
        """Return one block of the rows of this and of other blocks of the same heads, in another order."""
        groups: list[tuple[Sequence[int], str, Array]] = []
        for number, (positions, kind, values) in enumerate(self.groups):
            parts = [values, *(other.groups[number][2] for other in others)]
            groups.append((positions, kind, np.concatenate(parts)[order]))
        return HeadBlock(self._places, groups)

    def not_finite(self) -> list[int]:
        """Return the positions of heads with a value that is not finite."""
        return sorted(
            positions[number]
            for positions, _, values in self.groups
            if not np.isfinite(values).all()
            for number in np.flatnonzero(~np.isfinite(values).all(axis=(0, 2))).tolist()
        )


class HeadStack:
    """The heads of one backbone.

    Adding happens on the event loop; ``answer`` may run in any thread at the same time: it reads arrays that are
    replaced as a whole or written only where no reader looks. A head leaves when its last ``Place`` is let go of,
    which needs no quiet moment: works under way hold the places they ask for.
    """

    def __init__(self) -> None:
        self._groups: dict[Shape, _Group] = {}
        self._kinds: dict[tuple[Shape, str], int] = {}

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
        place = Place(head, shape, slot, self._kinds.setdefault((shape, head.kind), len(self._kinds)))
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

    def answer_many(self, places: Sequence[Place], embeddings: Array) -> HeadBlock:
        """Return the outputs of every one of ``places`` for all rows of ``embeddings``."""
        groups: list[tuple[Sequence[int], str, Array]] = []
        kinds = {place.group for place in places}
        for group in kinds:
            mine: Sequence[int] = range(len(places))
            chosen = places
            if len(kinds) > 1:
                mine = [index for index, place in enumerate(places) if place.group == group]
                chosen = [places[index] for index in mine]
            first = chosen[0]
            logits = self._all_logits(first.shape, [place.slot for place in chosen], embeddings)
            groups.append((mine, first.head.kind, _finish_many(first.head.kind, logits)))
        return HeadBlock(places, groups)

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
