"""``/v1/predict``: the same rows for several models at once; heads of one backbone come from one pass over it, and
their answers are written as text for all of them together."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from modelworks.core.errors import ModelworksError
from modelworks.core.signature import Signature
from modelworks.serving.dataplane import DataPlane
from modelworks.serving.errors import BadRequest
from modelworks.serving.heads.stack import HeadBlock
from modelworks.serving.model import Answer
from modelworks.serving.rest import coding
from modelworks.serving.rest.application import Application, Call, Route
from modelworks.serving.rest.message import Response
from modelworks.serving.rest.protocol import BodyForm
from modelworks.serving.rest.statuses import error_text
from modelworks.serving.routing import Target
from modelworks.serving.rows import RowReader, predictions
from modelworks.serving.tensors import Array

_ENCODE = msgspec.json.Encoder().encode
_MOST_MODELS = 10_000
_REMEMBERED = 16
_TEXTS = frozenset({"softmax", "sigmoid"})


class PredictManyBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``/v1/predict``: several models of equal inputs at once."""

    models: list[str]
    rows: msgspec.Raw
    timeout_ms: float | None = None


_BODY = msgspec.json.Decoder(PredictManyBody)


@dataclass(eq=False)
class _Plan:
    """What follows from the names of a request while the endpoints stay as they are.

    Attributes:
        targets: Which versions answer.
        generation: The data plane's, when this was worked out.
        classes: The classes of every target as JSON.
        templates: Position of a group's first head, and rows -> the text of its answers with gaps for the values.
    """

    targets: tuple[Target, ...]
    generation: int
    classes: list[list[bytes]]
    templates: dict[tuple[int, int, int], bytes | None] = field(default_factory=dict)


class CombinedRoutes:
    """The handler of ``/v1/predict``.

    Args:
        application: Where the route is added.
        plane: Where requests are answered.
        reader: Returns the reader of a package's rows.
        body_bytes: Longest body.
    """

    def __init__(
        self,
        application: Application,
        plane: DataPlane,
        reader: Callable[[str, Signature], RowReader],
        body_bytes: int,
    ) -> None:
        self._plane = plane
        self._reader = reader
        self._body_bytes = body_bytes
        self._plans: OrderedDict[tuple[str, ...], _Plan] = OrderedDict()
        application.add(
            Route(
                method="POST", pattern="/v1/predict", policy="infer", handler=self.predict,
                body_bytes=body_bytes, summary="Predict rows with several models at once",
            )
        )  # fmt: skip

    async def predict(self, call: Call) -> Response:
        """Answer rows with several models of equal inputs."""
        form = BodyForm.of(call.head.headers)
        body = coding.decompress(call.body, form.encoding, self._body_bytes)
        try:
            asked = _BODY.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise BadRequest(
                f'The body is not {{"models": [name, ...], "rows": [...]}}: {str(error)[:150]}.',
                code="MW1402",
            ) from None
        if not 0 < len(asked.models) <= _MOST_MODELS:
            raise BadRequest(f"1 to {_MOST_MODELS} models are asked at once.", code="MW1421")
        if call.principal.endpoints != ("*",):
            for name in asked.models:
                call.principal.require(name, self._plane.routes)
        plan = self._plan(tuple(asked.models))
        first = plan.targets[0]
        reader = self._reader(first.digest, first.signature)
        timeout_s = asked.timeout_ms / 1e3 if asked.timeout_ms else None
        if reader.slow:
            until = time.monotonic() + (timeout_s or self._plane.limits.deadline_s)
            feeds = await asyncio.to_thread(reader.read, asked.rows, until)
            timeout_s = max(0.0, until - time.monotonic())
        else:
            feeds = reader.read(asked.rows)
        answers = await self._plane.infer_many(plan.targets, feeds, timeout_s=timeout_s)
        return Response(200, b'{"models":{' + b",".join(_texts(plan, answers)) + b"}}")

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        plane = self._plane
        found = self._plans.get(names)
        if found is not None and found.generation == plane.generation:
            self._plans.move_to_end(names)
            return found
        targets = tuple(plane.resolve(name) for name in names)
        first = targets[0]
        for target in targets:
            if target.signature.inputs != first.signature.inputs:
                raise BadRequest(
                    f"Models '{first.endpoint}' and '{target.endpoint}' take different inputs.", code="MW1421"
                )
        classes = [[_ENCODE(str(name)) for name in target.signature.classes] for target in targets]
        plan = _Plan(targets, plane.generation, classes)
        if len(set(names)) < len(names):
            # The same model twice is one answer.
            return self._plan(tuple(dict.fromkeys(names)))
        if all(plane.routes[name].canary is None for name in names):
            self._plans[names] = plan
            while len(self._plans) > _REMEMBERED:
                self._plans.popitem(last=False)
        return plan


def _texts(plan: _Plan, answers: Sequence[Answer | ModelworksError]) -> list[bytes]:
    """Return ``"model": answer`` as JSON, one or more models in each text."""
    if not isinstance(answers, HeadBlock):
        return [_text(target, answer) for target, answer in zip(plan.targets, answers, strict=True)]
    texts = []
    for positions, kind, values in answers.groups:
        template = _template_of(plan, positions, kind, values)
        if template is not None:
            texts.append(template % _gaps(plan, positions, values))
        else:
            texts += [_text(plan.targets[position], answers[position]) for position in positions]
    return texts


def _text(target: Target, answer: Answer | ModelworksError) -> bytes:
    if isinstance(answer, ModelworksError):
        found: dict[str, Any] = {"error": error_text(answer)}
    else:
        found = {"version": target.number, "predictions": predictions(target.signature, answer)}
    return _ENCODE({target.endpoint: found})[1:-1]


def _is_plain(signature: Signature, classes: int) -> bool:
    """Say whether a head answers with a label and the probability of each class by name, and nothing else."""
    outputs = signature.outputs
    return (
        len(outputs) == 2
        and outputs[0].name == "probabilities"
        and outputs[1].name == "label"
        and len(signature.classes) == classes
    )


def _template_of(plan: _Plan, positions: Sequence[int], kind: str, values: Array) -> bytes | None:
    """Return the text of a group's answers with gaps for the values; ``None`` if a head answers with other things."""
    rows, heads, classes = values.shape
    key = (positions[0], heads, rows)
    if key not in plan.templates:
        # Only one number of rows is remembered: a template holds every name and class.
        plan.templates = {old: text for old, text in plan.templates.items() if old[2] == rows}
        targets = [plan.targets[position] for position in positions]
        plain = kind in _TEXTS and all(_is_plain(target.signature, classes) for target in targets)
        plan.templates[key] = b",".join(_template(target, rows) for target in targets) if plain else None
    return plan.templates[key]


def _gaps(plan: _Plan, positions: Sequence[int], values: Array) -> tuple[bytes, ...]:
    """Return what goes into the gaps; ``values`` are probabilities ``[rows, heads, classes]``."""
    rows, heads, classes = values.shape
    by_head = values.transpose(1, 0, 2)
    numbers = _ENCODE(by_head.ravel().tolist())[1:-1].split(b",")
    best = by_head.argmax(axis=2).tolist()
    gaps: list[bytes] = [b""] * (heads * rows * (classes + 1))
    for index in range(classes):
        gaps[index :: classes + 1] = numbers[index::classes]
    gaps[classes :: classes + 1] = [
        plan.classes[position][index]
        for position, chosen in zip(positions, best, strict=True)
        for index in chosen
    ]
    return tuple(gaps)


def _template(target: Target, rows: int) -> bytes:
    classes = b",".join(_escaped(str(name)) + b":%b" for name in target.signature.classes)
    row = b'{"probabilities":{' + classes + b'},"label":%b}'
    version = _escaped(target.number)
    return (
        _escaped(target.endpoint)
        + b':{"version":' + version + b',"predictions":[' + b",".join([row] * rows) + b"]}"
    )  # fmt: skip


def _escaped(text: str) -> bytes:
    return _ENCODE(text).replace(b"%", b"%%")
