"""Heads of one backbone side by side in memory: one product answers one of them, some, or all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload
from weakref import finalize

import numpy as np

from modelworks.core.errors import ModelworksError
from modelworks.core.signature import Signature
from modelworks.serving.errors import NonFiniteAnswer
from modelworks.serving.heads.split import Head
from modelworks.serving.model import Answer
from modelworks.serving.tensors import Array
from modelworks.serving.work import finite

Shape = tuple[int, int, int]
_NEAR = 2
_FEW = 8


@dataclass(eq=False)
class _Group:
    """Heads of one shape. Arrays only grow; a slot is used again once nobody holds its place any more."""

    weights: Array
    bias: Array
    hidden: Array
    hidden_bias: Array
    count: int = 0
    free: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Place:
    """Where a head stands, for as long as somebody holds this: its user, or a work that is still to be answered.

    Attributes:
        kind: What becomes of its logits.
        signature: Of its fused graph.
        shape: Its group, which holds its weights.
        slot: Its place within the group.
        group: Equal for heads of one stack that are of one shape and kind.
    """

    kind: str
    signature: Signature
    shape: Shape
    slot: int
    group: int = 0


@dataclass(frozen=True, eq=False)
class _Part:
    """Heads of one shape and kind within a selection.

    Attributes:
        positions: Where their answers stand in the request.
        slots: Where their weights stand: a slice, which copies nothing, or their slots.
        chosen: Which heads of the slice are asked for; ``None``: all, in order.
    """

    positions: Sequence[int]
    kind: str
    shape: Shape
    slots: slice | Array
    chosen: Array | None


class Selection:
    """Heads of one stack that are asked for together; worked out once for many requests.

    Args:
        places: The heads; they stay in memory for as long as this is held.
        positions: Where the answer of each stands in the request; by default in order.
        total: Answers of the request, those of other models included.
    """

    __slots__ = ("_where", "parts", "places", "total")

    def __init__(
        self, places: Sequence[Place], positions: Sequence[int] | None = None, total: int | None = None
    ) -> None:
        self.places = tuple(places)
        self.total = len(places) if total is None else total
        positions = range(len(places)) if positions is None else positions
        by_group: dict[int, list[int]] = {}
        for number, place in enumerate(self.places):
            by_group.setdefault(place.group, []).append(number)
        self.parts = [
            _part([self.places[number] for number in mine], [positions[number] for number in mine])
            for mine in by_group.values()
        ]
        self._where: dict[int, tuple[int, int, Signature]] = {}

    def find(self, position: int) -> tuple[int, int, Signature]:
        """Return the part, the place within it and the signature of the head whose answer stands at a position."""
        if not self._where:
            by_group: dict[int, list[Signature]] = {}
            for place in self.places:
                by_group.setdefault(place.group, []).append(place.signature)
            self._where = {
                position: (index, number, signature)
                for index, (part, mine) in enumerate(zip(self.parts, by_group.values(), strict=True))
                for number, (position, signature) in enumerate(zip(part.positions, mine, strict=True))
            }
        return self._where[position]


def _part(places: list[Place], positions: list[int]) -> _Part:
    slots = np.array([place.slot for place in places])
    low, high = int(slots.min()), int(slots.max()) + 1
    chosen = None if (slots == np.arange(low, low + len(slots))).all() else slots - low
    # A product with heads nobody asked for costs less than gathering the weights of those that are.
    near = high - low <= _NEAR * len(slots)
    first, last = positions[0], positions[-1]
    in_order: Sequence[int] = range(first, last + 1)
    return _Part(
        positions=in_order if list(in_order) == positions else tuple(positions),
        kind=places[0].kind,
        shape=places[0].shape,
        slots=slice(low, high) if near else slots,
        chosen=chosen if near else None,
    )


class HeadBlock(Sequence[Answer | ModelworksError]):
    """The answers of many heads for the same rows, as they came out of their products.

    An answer with its named outputs is made when it is asked for: a thousand of them cost more than the products.

    Attributes:
        errors: Position -> error, for those that have no answer.

    Args:
        selection: The heads.
        values: ``[rows, heads, outputs]`` of every part of the selection.
    """

    __slots__ = ("_bad", "_selection", "_values", "errors")

    def __init__(self, selection: Selection, values: list[Array]) -> None:
        self._selection = selection
        self._values = values
        self._bad = self._not_finite()
        self.errors: dict[int, ModelworksError] = {
            position: NonFiniteAnswer("The head's output is not finite for this input; no answer is given.")
            for position in self._bad
        }

    def __len__(self) -> int:
        return self._selection.total

    @overload
    def __getitem__(self, index: int) -> Answer | ModelworksError: ...

    @overload
    def __getitem__(self, index: slice) -> list[Answer | ModelworksError]: ...

    def __getitem__(self, index: int | slice) -> Answer | ModelworksError | list[Answer | ModelworksError]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        error = self.errors.get(position)
        if error is not None:
            return error
        part, number, signature = self._selection.find(position)
        return _named(signature, self._values[part][:, number])

    def joined(self, others: Sequence[HeadBlock], order: Array) -> HeadBlock:
        """Return one block of the rows of this and of other blocks of the same heads, in another order."""
        blocks = zip(*(block._values for block in (self, *others)), strict=True)
        return HeadBlock(self._selection, [np.concatenate(parts)[order] for parts in blocks])

    @property
    def groups(self) -> list[tuple[Sequence[int], str, Array]]:
        """Positions of the heads of one shape and kind that have answers, the kind, and their values."""
        found: list[tuple[Sequence[int], str, Array]] = []
        for part, values in zip(self._selection.parts, self._values, strict=True):
            positions = part.positions
            if self._bad:
                good = [number for number, position in enumerate(positions) if position not in self._bad]
                positions, values = tuple(positions[number] for number in good), values[:, good]
            if positions:
                found.append((positions, part.kind, values))
        return found

    def _not_finite(self) -> frozenset[int]:
        return frozenset(
            part.positions[number]
            for part, values in zip(self._selection.parts, self._values, strict=True)
            if not finite(values)
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
        """Take in a head: its weights are copied."""
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
        place = Place(
            head.kind,
            head.signature,
            shape,
            slot,
            self._kinds.setdefault((shape, head.kind), len(self._kinds)),
        )
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
        group = self._groups[place.shape]
        values = embeddings
        if place.shape[1]:
            values = np.maximum(values @ group.hidden[place.slot].T + group.hidden_bias[place.slot], 0)
        logits = values @ group.weights[place.slot].T + group.bias[place.slot]
        return _finish(place, logits)

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
                answers[index] = _finish(places[index], logits[number : number + 1])
        return answers

    def answer_many(self, selection: Selection, embeddings: Array) -> list[Array]:
        """Return ``[rows, heads, outputs]`` of every part of a selection, in one product each."""
        return [_finish_many(part.kind, self._logits(part, embeddings)) for part in selection.parts]

    def _logits(self, part: _Part, embeddings: Array) -> Array:
        group = self._groups[part.shape]
        outputs, width, size = part.shape
        weights, bias = group.weights[part.slots], group.bias[part.slots]
        heads = len(bias)
        if width == 0:
            products = embeddings @ weights.reshape(heads * outputs, size).T
            logits = products.reshape(-1, heads, outputs) + bias
        else:
            hidden, hidden_bias = group.hidden[part.slots], group.hidden_bias[part.slots]
            values = (embeddings @ hidden.reshape(heads * width, size).T).reshape(
                -1, heads, width
            ) + hidden_bias
            found = np.matmul(np.maximum(values, 0).transpose(1, 0, 2), weights.transpose(0, 2, 1))
            logits = np.asarray(found.transpose(1, 0, 2) + bias)
        return logits if part.chosen is None else logits[:, part.chosen]


def _finish(place: Place, logits: Array) -> Answer:
    """Turn one head's logits ``[rows, outputs]`` into its named outputs."""
    return _named(place.signature, _finish_many(place.kind, logits))


def _finish_many(kind: str, logits: Array) -> Array:
    """Turn logits ``[..., outputs]`` into probabilities over the last axis, or leave them."""
    if kind == "identity":
        return logits
    if kind == "sigmoid":
        positive = 0.5 * (1.0 + np.tanh(0.5 * logits))
        return np.concatenate([1.0 - positive, positive], axis=-1)
    # Over a few outputs each, the reductions of numpy take several times as long as going through the outputs.
    raised = np.exp(logits - _over_outputs(np.maximum, logits))
    return np.asarray(raised / _over_outputs(np.add, raised))


def _over_outputs(operation: np.ufunc, values: Array) -> Array:
    """Reduce the last axis and keep it with one entry."""
    if values.shape[-1] > _FEW:
        return np.asarray(operation.reduce(values, axis=-1, keepdims=True))
    found = values[..., 0]
    for index in range(1, values.shape[-1]):
        found = operation(found, values[..., index])
    return np.asarray(found[..., None])


def _named(signature: Signature, values: Array) -> Answer:
    answer: dict[str, Array] = {}
    for tensor in signature.outputs:
        if tensor.name == "probabilities":
            answer["probabilities"] = values
        elif tensor.name == "label":
            classes = np.array(signature.classes, dtype=object)
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
