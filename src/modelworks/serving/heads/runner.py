"""Running works of different heads on one backbone: embed each distinct row once, then the heads asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import ModelworksError
from modelworks.serving.errors import NonFiniteAnswer, RunFailed
from modelworks.serving.heads.embeddings import EmbeddingCache, row_keys
from modelworks.serving.heads.split import EMBEDDING, Head
from modelworks.serving.heads.stack import HeadBlock, HeadStack
from modelworks.serving.model import Answer
from modelworks.serving.tensors import Array, same_values
from modelworks.serving.work import Outcome, Work, finite


class BackboneRunner:
    """The shared session of a backbone, its heads and its cache.

    Args:
        session: The backbone.
        cache_bytes: Bytes of embeddings that are kept; 0 keeps none.
    """

    def __init__(self, session: GraphSession, cache_bytes: int) -> None:
        self.session = session
        self.stack = HeadStack()
        self.cache = EmbeddingCache(cache_bytes) if cache_bytes else None

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        """Answer works; ``work.places`` are the heads each asks for."""
        # What is not finite is found and told below.
        with np.errstate(all="ignore"):
            return self._run(works)

    def _run(self, works: Sequence[Work]) -> list[Outcome]:
        try:
            embeddings = self._embed(works)
        except Exception:
            return [self._alone(work) for work in works]
        if not finite(embeddings):
            return [self._alone(work) for work in works]
        if len(works) > 1 and all(work.rows == 1 and work.several is None for work in works):
            answers = self.stack.answer_each([work.places[0] for work in works], embeddings)
            return [_checked(work, answer) for work, answer in zip(works, answers, strict=True)]
        outcomes: list[Outcome] = []
        start = 0
        for several, group in groupby(works, key=lambda work: work.several):
            together = list(group)
            end = start + sum(work.rows for work in together)
            outcomes += self._answer(several, together, embeddings[start:end])
            start = end
        return outcomes

    def embed(self, feeds: Mapping[str, Array]) -> Array:
        """Return the embeddings of some rows, without the cache."""
        return self.session.run(feeds, [EMBEDDING])[EMBEDDING]

    def _embed(self, works: Sequence[Work]) -> Array:
        first = works[0].feeds
        feeds = first
        if len(works) > 1:
            feeds = {name: np.concatenate([work.feeds[name] for work in works]) for name in first}
        if self.cache is None:
            return self.embed(feeds)
        keys = row_keys(feeds)
        known = self.cache.get(keys)
        # Rows that are asked for several times in one batch are embedded once.
        fresh: dict[bytes, int] = {}
        for row, (key, value) in enumerate(zip(keys, known, strict=True)):
            if value is None:
                fresh.setdefault(key, row)
        if not fresh:
            return np.stack([value for value in known if value is not None])
        rows = list(fresh.values())
        computed = self.embed({name: array[rows] for name, array in feeds.items()})
        self.cache.put(list(fresh), computed)
        place = {key: number for number, key in enumerate(fresh)}
        return np.stack(
            [computed[place[key]] if value is None else value for key, value in zip(keys, known, strict=True)]
        )

    def _alone(self, work: Work) -> Outcome:
        try:
            embeddings = self.embed(work.feeds)
        except ModelworksError as error:
            return None, error
        except Exception as error:
            return None, RunFailed(f"The runtime refused this input ({type(error).__name__}).")
        if work.several is not None and not finite(embeddings):
            return None, NonFiniteAnswer("The backbone's embedding is not finite for this input.")
        return self._answer(work.several, [work], embeddings)[0]

    def _answer(self, several: Any, works: Sequence[Work], embeddings: Array) -> list[Outcome]:
        """Answer works that ask for the same heads, in one product for all their rows, or for one head each."""
        values = self.stack.answer_many(several.selection, embeddings) if several is not None else []
        outcomes: list[Outcome] = []
        start = 0
        for work in works:
            end = start + work.rows
            if several is not None:
                block = HeadBlock(several.selection, [part[start:end] for part in values])
                outcomes.append(({"heads": block}, None))
            else:
                outcomes.append(_checked(work, self.stack.answer(work.places[0], embeddings[start:end])))
            start = end
        return outcomes


class HeadOnBackbone:
    """One head on a backbone, answering as the fused graph of both does.

    Args:
        runner: The backbone.
        head: The head; nobody else sees it.
    """

    def __init__(self, runner: BackboneRunner, head: Head) -> None:
        self._runner = runner
        self._stack = HeadStack()
        self._place = self._stack.add(head)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Answer some rows; returns output name -> array."""
        answer = self._stack.answer(self._place, self._runner.embed(feeds))
        return {name: answer[name] for name in (answer if outputs is None else outputs)}


def _checked(work: Work, answer: Answer) -> Outcome:
    for name, array in answer.items():
        if not finite(array):
            return None, NonFiniteAnswer(
                f"The model's output '{name}' is not finite for this input; no answer is given."
            )
    if work.outputs is not None:
        answer = {name: answer[name] for name in work.outputs}
    return answer, None


def agrees(runner: BackboneRunner, head: Head, fused: GraphSession, samples: list[dict[str, Array]]) -> bool:
    """Say whether backbone and head together answer as the fused graph does, on real rows."""
    stack = HeadStack()
    place = stack.add(head)
    for feeds in samples:
        expected = fused.run(feeds)
        found = stack.answer(place, runner.embed(feeds))
        if not all(same_values(array, expected[name]) for name, array in found.items()):
            return False
    return bool(samples)
