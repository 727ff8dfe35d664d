"""Choice of recipe and learning rate by ask and tell: short trials, bad ones ended early, the same for one seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped, MissingExtra

Settings = dict[str, Any]
Judge = Callable[[int, float], bool]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One setting that is searched.

    Attributes:
        name: Name of the setting.
        low, high: Range of a number, searched on a logarithmic scale; or
        values: the values there are.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        best: The settings with the least loss.
        trials: Every trial: ``settings, loss, pruned, epochs``.
        stopped: ``budget`` if the budget ended the search, else empty.
    """

    best: Settings
    trials: list[dict[str, Any]]
    stopped: str


def search(
    evaluate: Callable[[Settings, Judge], float],
    space: tuple[Choice, ...],
    first: Mapping[str, Any],
    *,
    trials: int,
    budget: Budget,
    seed: int,
) -> Found:
    """Look for settings with a small validation loss.

    Args:
        evaluate: Trains with the settings and returns the best validation loss; tells the judge the loss after each
            epoch (counted from one) and ends when it says ``False``.
        space: What is searched.
        first: Settings of the first trial: what is taken without a search.
        trials: Trials at most.
        budget: No trial begins when less is left than the longest one so far took; ``evaluate`` keeps it too.
        seed: Seed of every random choice.

    Raises:
        BudgetStopped: The budget ended before the first trial gave a loss.
        MissingExtra: Optuna is not installed.

    Source: Bergstra et al. (2011), Algorithms for hyper-parameter optimization (TPE); Jamieson & Talwalkar (2016),
    Non-stochastic best arm identification (successive halving); Akiba et al. (2019), Optuna.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtra.named("Searching a recipe", "torch") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(6, max(2, trials // 2))),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        )
        study.enqueue_trial(dict(first))
    lines: list[dict[str, Any]] = []
    longest = 0.0
    for _ in range(trials):
        if lines and not budget.allows(longest):
            return _found(lines, "budget")
        start = budget.spent_s
        trial = study.ask()
        settings = {choice.name: _asked(trial, choice) for choice in space}
        told: list[bool] = []

        def judge(epoch: int, loss: float, trial: Any = trial, told: list[bool] = told) -> bool:
            trial.report(loss, epoch)
            told.append(not trial.should_prune())
            return told[-1]

        try:
            loss = evaluate(settings, judge)
        except BudgetStopped:
            if not lines:
                raise
            return _found(lines, "budget")
        pruned = bool(told) and not told[-1]
        state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE
        study.tell(trial, None if pruned else loss, state=state)
        lines.append({"settings": settings, "loss": loss, "pruned": pruned, "epochs": len(told)})
        longest = max(longest, budget.spent_s - start)
    return _found(lines, "")


def _asked(trial: Any, choice: Choice) -> Any:
    if choice.values:
        return trial.suggest_categorical(choice.name, list(choice.values))
    return trial.suggest_float(choice.name, choice.low, choice.high, log=True)


def _found(lines: list[dict[str, Any]], stopped: str) -> Found:
    whole = [line for line in lines if not line["pruned"]] or lines
    best = min(whole, key=lambda line: float(line["loss"]))
    return Found(best=dict(best["settings"]), trials=lines, stopped=stopped)
