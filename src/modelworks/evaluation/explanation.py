"""Why one row got its answer: marginal Shapley values by walking permutations against background rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from modelworks.core.errors import UsageError
from modelworks.evaluation.importance import Columns, Predict, answers_of

METHOD = "marginal Shapley values (antithetic permutation sampling)"


def explain(
    predict: Predict,
    row_columns: Columns,
    background: Columns,
    *,
    answer: int | None = None,
    most_predictions: int = 5000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return what each column added to the answer of each row.

    From a background row, columns are changed one after the other to the explained row's values; each step's change of
    the answer goes to the column just changed. Every background row is walked in a random order and in its reverse
    (antithetic pairs; Mitchell et al., JMLR 23, 2022), so contributions and base add up to the prediction exactly.

    Args:
        predict: The shipped graph.
        row_columns: Column -> values of the rows to explain.
        background: Column -> values of typical rows; the answer's mean over them is the base.
        answer: Class or label index whose probability is explained; by default each row's most probable class.
            Regression has the one answer 0.
        most_predictions: Bound on rows handed to ``predict`` for one explained row.
        seed: Seed of the permutations.

    Returns:
        Per row ``{method, answer, prediction, base, background_rows, contributions}``, the contributions as
        ``{column, value, contribution, error}``, largest first; ``error`` is the standard error over the walks.

    Raises:
        UsageError: There is no background row, or a column is missing from one of the sides.
    """
    names = list(row_columns)
    sizes = {len(np.asarray(background[name])) for name in names if name in background}
    if not names or len(sizes) != 1 or sizes == {0} or any(name not in background for name in names):
        raise UsageError(
            "An explanation needs background rows with the same columns as the row.", code="MW1391"
        )
    rows = len(np.asarray(row_columns[names[0]]))
    rng = np.random.default_rng(seed)
    walks = int(np.clip(most_predictions // (2 * (len(names) + 1)), 2, sizes.pop()))
    return [
        _explain_row(
            predict,
            {name: np.asarray(row_columns[name])[index : index + 1] for name in names},
            {name: np.asarray(background[name]) for name in names},
            answer,
            walks,
            rng,
        )
        for index in range(rows)
    ]


def _explain_row(
    predict: Predict,
    row: Columns,
    background: Columns,
    answer: int | None,
    walks: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    names = list(row)
    count = len(names)
    available = len(next(iter(background.values())))
    starts = rng.choice(available, min(walks, available), replace=False)
    orders = np.argsort(rng.random((len(starts), count)), axis=1)
    orders = np.concatenate([orders, orders[:, ::-1]])
    position = np.argsort(orders, axis=1)
    steps = np.arange(count + 1)
    # After step s of a walk, the columns at positions below s carry the explained row's value.
    changed = position[:, None, :] < steps[None, :, None]
    start_rows = np.tile(starts, 2)
    feeds = {}
    for index, name in enumerate(names):
        values = background[name][start_rows][:, None].repeat(count + 1, axis=1)
        feeds[name] = np.where(changed[:, :, index], row[name][0], values).reshape(-1).astype(row[name].dtype)
    own = answers_of(predict(dict(row)))[0]
    picked = int(own.argmax()) if answer is None else answer
    answers = answers_of(predict(feeds))[:, picked].reshape(len(orders), count + 1)
    gains = np.empty((len(orders), count))
    np.put_along_axis(gains, orders, np.diff(answers, axis=1), axis=1)
    paired = (gains[: len(starts)] + gains[len(starts) :]) / 2
    contribution = paired.mean(axis=0)
    error = paired.std(axis=0, ddof=1) / np.sqrt(len(paired)) if len(paired) > 1 else np.full(count, np.nan)
    base = float(answers[:, 0].mean())
    listed = [
        {
            "column": name,
            "value": _plain(row[name][0]),
            "contribution": float(contribution[index]),
            "error": float(error[index]),
        }
        for index, name in enumerate(names)
    ]
    return {
        "method": METHOD,
        "answer": picked,
        "prediction": float(own[picked]),
        "base": base,
        "background_rows": len(starts),
        "contributions": sorted(listed, key=lambda item: -abs(item["contribution"])),
    }


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value
