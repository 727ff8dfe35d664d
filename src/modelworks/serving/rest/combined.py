"""``/v1/predict``: the same rows for several models at once; heads of one backbone come from one pass over it, and
their answers are written as text for all of them together."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from modelworks.core.errors import ModelworksError
from modelworks.core.signature import Signature
from modelworks.serving.access import Principal
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
from modelworks.serving.tensors import UNREADABLE, Array

_ENCODE = msgspec.json.Encoder().encode
_MOST_MODELS = 10_000
_REMEMBERED = 16
_LONGEST_KEY = 2**20
_TEXTS = frozenset({"softmax", "sigmoid"})


class PredictManyBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``/v1/predict``: several models of equal inputs at once; ``models`` is a list of names."""

    models: msgspec.Raw
    rows: msgspec.Raw
    timeout_ms: float | None = None


_BODY = msgspec.json.Decoder(PredictManyBody)
_NAMES = msgspec.json.Decoder(list[str])


@dataclass(frozen=True, eq=False)
class _Form:
    """The text of the answers of some heads.

    Attributes:
        text: With a gap for every probability and label.
        labels: ``[heads, classes]``: the classes of every head as JSON.
    """

    text: bytes
    labels: Array


@dataclass(eq=False)
class _Plan:
    """What follows from the names of a request while the endpoints stay as they are.

    Attributes:
        targets: Which versions answer.
        names: What was asked for, for those whose token sees only some endpoints.
        generation: The data plane's, when this was worked out.
        drawn: Positions of endpoints with a canary: each request draws which of their versions answers.
        forms: Positions of a group's heads and rows -> its form; ``None`` if a head answers with other things.
        allowed: The endpoint patterns of tokens that may ask all of it.
        variants: Versions that were drawn instead of champions -> the plan of that.
    """

    targets: tuple[Target, ...]
    names: tuple[str, ...]
    generation: int
    drawn: tuple[int, ...]
    forms: dict[tuple[Sequence[int], int], _Form | None] = field(default_factory=dict)
    allowed: set[tuple[str, ...]] = field(default_factory=lambda: {("*",)})
    variants: dict[tuple[tuple[int, str], ...], _Plan] = field(default_factory=dict)


class CombinedRoutes:
    """The handler of ``/v1/predict``.

    Args:
        application: Where the route is added.
        plane: Where requests are answered.
        reader: Returns the reader of a package's rows.
        aside: Where rows with images are read.
        body_bytes: Longest body.
    """

    def __init__(
        self,
        application: Application,
        plane: DataPlane,
        reader: Callable[[str, Signature], RowReader],
        aside: Executor,
        body_bytes: int,
    ) -> None:
        self._plane = plane
        self._reader = reader
        self._aside = aside
        self._body_bytes = body_bytes
        self._plans: OrderedDict[bytes, _Plan] = OrderedDict()
        application.add(
            Route(
                method="POST", pattern="/v1/predict", policy="infer", handler=self.predict,
                body_bytes=body_bytes, summary="Predict rows with several models at once",
            )
        )  # fmt: skip

    async def predict(self, call: Call) -> Response:
        """Answer rows with several models of equal inputs."""
        form = BodyForm.of(call.head.headers)
        body = call.body
        if form.encoding:
            decompress = coding.decompress
            if len(body) > coding.THREAD_FROM:
                body = await asyncio.to_thread(decompress, body, form.encoding, self._body_bytes)
            else:
                body = decompress(body, form.encoding, self._body_bytes)
        try:
            asked = _BODY.decode(body)
            plan = self._plan(bytes(asked.models), call.principal)
        except UNREADABLE as error:
            raise BadRequest(
                f'The body is not {{"models": [name, ...], "rows": [...]}}: {str(error)[:150]}.',
                code="MW1402",
            ) from None
        first = plan.targets[0]
        reader = self._reader(first.digest, first.signature)
        timeout_s = asked.timeout_ms / 1e3 if asked.timeout_ms else None
        if reader.slow:
            until = time.monotonic() + (timeout_s or self._plane.limits.deadline_s)
            feeds = await self._plane.loop.run_in_executor(self._aside, reader.read, asked.rows, until)
            timeout_s = max(0.0, until - time.monotonic())
        else:
            feeds = reader.read(asked.rows)
        answers = await self._plane.infer_many(plan.targets, feeds, timeout_s=timeout_s)
        return Response(200, b'{"models":{' + b",".join(_texts(plan, answers)) + b"}}")

    def _plan(self, models: bytes, principal: Principal) -> _Plan:
        """Return what follows from a list of names as it was sent.

        Raises:
            BadRequest: It is no such list, or the models take different inputs.
            UnknownModel: There is no such model, or the token may not see it.
        """
        plane = self._plane
        plan = self._plans.get(models)
        if plan is None or plan.generation != plane.generation:
            names = tuple(_NAMES.decode(models))
            if not 0 < len(names) <= _MOST_MODELS:
                raise BadRequest(f"1 to {_MOST_MODELS} models are asked at once.", code="MW1421")
            _require(principal, names, plane.routes)
            plan = _plan(plane, names)
            if len(models) <= _LONGEST_KEY:
                self._plans[models] = plan
            while len(self._plans) > _REMEMBERED:
                self._plans.popitem(last=False)
        elif principal.endpoints not in plan.allowed:
            _require(principal, plan.names, plane.routes)
        if models in self._plans:
            self._plans.move_to_end(models)
        plan.allowed.add(principal.endpoints)
        return self._draw(plan) if plan.drawn else plan

    def _draw(self, plan: _Plan) -> _Plan:
        """Return the plan of the versions that answer this request where canaries have their share."""
        drawn = [(position, self._plane.resolve(plan.names[position])) for position in plan.drawn]
        others = [(position, target) for position, target in drawn if target is not plan.targets[position]]
        if not others:
            return plan
        key = tuple((position, target.number) for position, target in others)
        variant = plan.variants.get(key)
        if variant is None:
            if len(plan.variants) >= _REMEMBERED:
                plan.variants.clear()
            targets = list(plan.targets)
            for position, target in others:
                targets[position] = target
            variant = plan.variants[key] = _plan_of(tuple(targets), plan.names, plan.generation, ())
        return variant


def _require(principal: Principal, names: Sequence[str], known: Container[str]) -> None:
    if principal.endpoints != ("*",):
        for name in names:
            principal.require(name, known)


def _plan(plane: DataPlane, names: tuple[str, ...]) -> _Plan:
    # The same model twice is one answer.
    names = tuple(dict.fromkeys(names))
    for name in names:
        plane.resolve(name)
    routes = [plane.routes[name] for name in names]
    drawn = tuple(position for position, route in enumerate(routes) if route.canary is not None)
    return _plan_of(tuple(route.champion for route in routes), names, plane.generation, drawn)


def _plan_of(
    targets: tuple[Target, ...], names: tuple[str, ...], generation: int, drawn: tuple[int, ...]
) -> _Plan:
    first = targets[0]
    for target in targets:
        if target.signature.inputs != first.signature.inputs:
            raise BadRequest(
                f"Models '{first.endpoint}' and '{target.endpoint}' take different inputs.", code="MW1421"
            )
    return _Plan(targets, names, generation, drawn)


def _texts(plan: _Plan, answers: Sequence[Answer | ModelworksError]) -> list[bytes]:
    """Return ``"model": answer`` as JSON, one or more models in each text."""
    if not isinstance(answers, HeadBlock):
        return [_text(target, answer) for target, answer in zip(plan.targets, answers, strict=True)]
    texts = [_text(plan.targets[position], error) for position, error in answers.errors.items()]
    for positions, kind, values in answers.groups:
        form = _form_of(plan, positions, kind, values)
        if form is not None:
            texts.append(form.text % _gaps(form, values))
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


def _form_of(plan: _Plan, positions: Sequence[int], kind: str, values: Array) -> _Form | None:
    """Return the text of a group's answers with gaps for the values; ``None`` if a head answers with other things."""
    rows, _, classes = values.shape
    key = (positions, rows)
    if key not in plan.forms:
        # Only one number of rows is remembered: a form holds every name and class.
        plan.forms = {old: form for old, form in plan.forms.items() if old[1] == rows}
        if len(plan.forms) >= _REMEMBERED:
            plan.forms.clear()
        targets = [plan.targets[position] for position in positions]
        plain = kind in _TEXTS and all(_is_plain(target.signature, classes) for target in targets)
        plan.forms[key] = _form(targets, rows, classes) if plain else None
    return plan.forms[key]


def _form(targets: list[Target], rows: int, classes: int) -> _Form:
    labels = np.empty((len(targets), classes), object)
    labels[:] = [[_ENCODE(str(name)) for name in target.signature.classes] for target in targets]
    return _Form(b",".join(_template(target, rows) for target in targets), labels)


def _gaps(form: _Form, values: Array) -> tuple[bytes, ...]:
    """Return what goes into the gaps; ``values`` are probabilities ``[rows, heads, classes]``."""
    rows, heads, classes = values.shape
    by_head = values.transpose(1, 0, 2)
    numbers = _ENCODE(by_head.ravel().tolist())[1:-1].split(b",")
    gaps: list[bytes] = [b""] * (heads * rows * (classes + 1))
    for index in range(classes):
        gaps[index :: classes + 1] = numbers[index::classes]
    best = by_head.argmax(axis=2)
    gaps[classes :: classes + 1] = form.labels[np.arange(heads)[:, None], best].ravel().tolist()
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
