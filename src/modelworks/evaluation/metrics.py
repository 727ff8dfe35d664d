"""The metrics by name: meaning, direction, range, task kinds, and the default for each kind of task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelworks.core.errors import TaskError, close_matches
from modelworks.core.task import TaskKind
from modelworks.evaluation import anomaly_metrics as streams
from modelworks.evaluation import forecast_metrics as forecasts
from modelworks.evaluation import label_metrics as labels
from modelworks.evaluation import multilabel_metrics as cells
from modelworks.evaluation import probability_metrics as probabilities
from modelworks.evaluation import regression_metrics as numbers
from modelworks.evaluation.predictions import SMALLEST_PROBABILITY, Predictions
from modelworks.evaluation.statistic import Statistic

BINARY, MULTICLASS = TaskKind.BINARY, TaskKind.MULTICLASS
REGRESSION, MULTILABEL = TaskKind.REGRESSION, TaskKind.MULTILABEL
ANOMALY, FORECAST = TaskKind.ANOMALY, TaskKind.FORECAST

RARE_POSITIVES = 0.05
"""Below this share of positives average precision is the default metric of a binary task."""

DOMINANT_CLASS = 0.8
"""Above this share of the largest class macro F1 is the default metric of a multiclass task."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric.

    Attributes:
        name: Registry name, used in gates and reports.
        meaning: One line for people.
        kinds: Task kinds it is defined for.
        build: From predictions to the statistic.
        higher_is_better: Direction.
        low, high: Range of its values.
        quantiles: Whether it needs predicted quantiles.
        ordered: Whether it needs rows of series in order of time.
    """

    name: str
    meaning: str
    kinds: frozenset[TaskKind]
    build: Callable[[Predictions], Statistic]
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    quantiles: bool = False
    ordered: bool = False

    @property
    def bounded(self) -> bool:
        """Whether both ends of the range are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def _metric(
    name: str, kinds: Sequence[TaskKind], build: Callable[[Predictions], Statistic], meaning: str
) -> Metric:
    return Metric(name=name, meaning=meaning, kinds=frozenset(kinds), build=build)


def _loss(
    name: str,
    kinds: Sequence[TaskKind],
    build: Callable[[Predictions], Statistic],
    meaning: str,
    high: float = math.inf,
    quantiles: bool = False,
) -> Metric:
    return Metric(
        name=name,
        meaning=meaning,
        kinds=frozenset(kinds),
        build=build,
        higher_is_better=False,
        high=high,
        quantiles=quantiles,
    )


def _event(name: str, build: Callable[[Predictions], Statistic], meaning: str) -> Metric:
    return Metric(name=name, meaning=meaning, kinds=frozenset([ANOMALY]), build=build, ordered=True)


_CLASSES = (BINARY, MULTICLASS)
_ALL = (
    _metric(
        "roc_auc",
        [BINARY],
        probabilities.roc_auc,
        "chance that a positive row scores above a negative one; 0.5 is guessing",
    ),
    _metric(
        "average_precision",
        [BINARY],
        probabilities.average_precision,
        "mean precision over all positives (area under precision-recall); the share of positives is guessing",
    ),
    _metric(
        "roc_auc_ovr",
        [MULTICLASS],
        probabilities.roc_auc_ovr,
        "mean over classes of the ROC area of one class against the rest; 0.5 is guessing",
    ),
    _metric(
        "roc_auc_macro",
        [MULTILABEL],
        cells.roc_auc_macro,
        "mean over labels of the ROC area; 0.5 is guessing",
    ),
    _metric(
        "average_precision_macro",
        [MULTILABEL],
        cells.average_precision_macro,
        "mean over labels of average precision",
    ),
    _metric("accuracy", _CLASSES, labels.accuracy, "share of rows whose label is right"),
    _metric("mean_accuracy", [MULTILABEL], cells.mean_accuracy, "share of single labels that are right"),
    _metric("balanced_accuracy", _CLASSES, labels.balanced_accuracy, "mean over classes of the share found"),
    _metric("f1", [BINARY], labels.f1, "harmonic mean of precision and recall of the positive class"),
    _metric("macro_f1", _CLASSES, labels.macro_f1, "mean over classes of F1"),
    _metric("macro_f1", [MULTILABEL], cells.label_macro_f1, "mean over labels of F1"),
    _metric("precision", [BINARY], labels.precision, "share of rows called positive that are"),
    _metric("recall", [BINARY], labels.recall, "share of positive rows that are called so"),
    Metric(
        name="mcc",
        meaning="correlation of labels and truth (Matthews); 0 is guessing",
        kinds=frozenset(_CLASSES),
        build=labels.mcc,
        low=-1.0,
    ),
    _loss(
        "log_loss",
        _CLASSES,
        probabilities.log_loss,
        "mean surprise at the truth, in nats",
        -math.log(SMALLEST_PROBABILITY),
    ),
    _loss(
        "log_loss",
        [MULTILABEL],
        cells.mean_log_loss,
        "mean surprise at each label's truth, in nats",
        -math.log(SMALLEST_PROBABILITY),
    ),
    _loss("brier", [BINARY], probabilities.brier, "mean squared error of the probability", 1.0),
    _loss("brier", [MULTICLASS], probabilities.brier, "mean squared error of the probabilities", 2.0),
    _loss("ece", _CLASSES, probabilities.ece, "mean gap between claimed probability and what happened", 1.0),
    _loss("rmse", [REGRESSION], numbers.rmse, "root mean squared error, in units of the target"),
    _loss("mae", [REGRESSION], numbers.mae, "mean absolute error, in units of the target"),
    _loss("median_ae", [REGRESSION], numbers.median_ae, "median absolute error, in units of the target"),
    _loss("mape", [REGRESSION], numbers.mape, "mean absolute error as a share of the truth"),
    _loss(
        "smape", [REGRESSION], numbers.smape, "mean absolute error as a share of truth and prediction", 2.0
    ),
    _loss("rmsle", [REGRESSION], numbers.rmsle, "root mean squared error of log(1 + value)"),
    Metric(
        name="r2",
        meaning="share of the variance that is explained; 0 is guessing the mean",
        kinds=frozenset([REGRESSION]),
        build=numbers.r2,
        low=-math.inf,
    ),
    _loss(
        "quantile_loss",
        [REGRESSION],
        numbers.quantile_loss,
        "mean pinball loss of the predicted quantiles",
        quantiles=True,
    ),
    _loss(
        "interval_width",
        [REGRESSION],
        numbers.interval_width,
        "mean width of the predicted interval",
        quantiles=True,
    ),
    Metric(
        name="interval_coverage",
        meaning="share of truths inside the predicted interval",
        kinds=frozenset([REGRESSION]),
        build=numbers.interval_coverage,
        quantiles=True,
    ),
    _metric(
        "roc_auc",
        [ANOMALY],
        streams.roc_auc,
        "chance that an anomalous row scores above a normal one; 0.5 is guessing",
    ),
    _metric(
        "average_precision",
        [ANOMALY],
        streams.average_precision,
        "mean precision over all anomalous rows; their share is guessing",
    ),
    _metric("f1", [ANOMALY], streams.f1, "harmonic mean of precision and recall of the alarms"),
    _metric("precision", [ANOMALY], streams.precision, "share of alarmed rows that are anomalous"),
    _metric("recall", [ANOMALY], streams.recall, "share of anomalous rows that are alarmed"),
    _loss(
        "false_alarm_rate", [ANOMALY], streams.false_alarm_rate, "share of normal rows that are alarmed", 1.0
    ),
    _event("event_recall", streams.event_recall, "share of anomalies in which an alarm is raised"),
    _event(
        "event_found",
        streams.event_found,
        "share of series whose highest score lies at an anomaly (UCR rule)",
    ),
    Metric(
        name="nab_score",
        meaning="Numenta benchmark score, standard profile: 100 is perfect, 0 never raises an alarm",
        kinds=frozenset([ANOMALY]),
        build=streams.nab_score,
        low=-math.inf,
        high=100.0,
        ordered=True,
    ),
    _loss("mase", [FORECAST], forecasts.mase, "mean error over the in-sample seasonal naive error"),
    _loss("rmse", [FORECAST], forecasts.rmse, "root mean squared error, in units of the target"),
    _loss("mae", [FORECAST], forecasts.mae, "mean absolute error, in units of the target"),
    _loss(
        "smape",
        [FORECAST],
        forecasts.smape,
        "mean absolute error as a share of truth and forecast (M4: times 100)",
        2.0,
    ),
    _loss(
        "wql",
        [FORECAST],
        forecasts.wql,
        "weighted quantile loss: pinball loss over the size of the truth",
        quantiles=True,
    ),
    _loss(
        "interval_width",
        [FORECAST],
        forecasts.interval_width,
        "mean width of the predicted interval",
        quantiles=True,
    ),
    Metric(
        name="interval_coverage",
        meaning="share of truths inside the predicted interval",
        kinds=frozenset([FORECAST]),
        build=forecasts.interval_coverage,
        quantiles=True,
    ),
)

METRICS: dict[TaskKind, dict[str, Metric]] = {
    kind: {metric.name: metric for metric in _ALL if kind in metric.kinds}
    for kind in (BINARY, MULTICLASS, REGRESSION, MULTILABEL, ANOMALY, FORECAST)
}
"""Task kind -> metric name -> metric."""

_ALIASES: dict[str, tuple[str, ...]] = {
    "auc": ("roc_auc", "roc_auc_ovr", "roc_auc_macro"),
    "roc_auc": ("roc_auc_ovr", "roc_auc_macro"),
    "pr_auc": ("average_precision", "average_precision_macro"),
    "average_precision": ("average_precision_macro",),
    "ap": ("average_precision", "average_precision_macro"),
    "accuracy": ("mean_accuracy",),
    "acc": ("accuracy", "mean_accuracy"),
    "f1": ("macro_f1",),
    "f1_macro": ("macro_f1",),
    "logloss": ("log_loss",),
    "cross_entropy": ("log_loss",),
    "sensitivity": ("recall",),
    "root_mean_squared_error": ("rmse",),
    "mean_absolute_error": ("mae",),
    "median_absolute_error": ("median_ae",),
    "pinball": ("quantile_loss", "wql"),
    "quantile_loss": ("wql",),
    "nab": ("nab_score",),
}

_DEFAULTS: dict[TaskKind, tuple[str, ...]] = {
    BINARY: (
        "roc_auc",
        "average_precision",
        "log_loss",
        "brier",
        "ece",
        "accuracy",
        "balanced_accuracy",
        "f1",
        "precision",
        "recall",
        "mcc",
    ),
    MULTICLASS: (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "mcc",
        "log_loss",
        "brier",
        "ece",
        "roc_auc_ovr",
    ),
    REGRESSION: (
        "rmse",
        "mae",
        "r2",
        "median_ae",
        "mape",
        "smape",
        "quantile_loss",
        "interval_coverage",
        "interval_width",
    ),
    MULTILABEL: ("roc_auc_macro", "average_precision_macro", "macro_f1", "mean_accuracy", "log_loss"),
    ANOMALY: (
        "roc_auc",
        "average_precision",
        "f1",
        "precision",
        "recall",
        "false_alarm_rate",
        "event_recall",
        "event_found",
        "nab_score",
    ),
    FORECAST: ("mase", "smape", "wql", "rmse", "mae", "interval_coverage", "interval_width"),
}


def find_metric(name: str, kind: TaskKind) -> Metric:
    """Return the metric called ``name`` for a kind of task; ``roc_auc`` also finds the multiclass form.

    Raises:
        TaskError: There is no such metric for the kind (close matches are named).
    """
    known = METRICS.get(kind, {})
    wanted = name.strip().lower().replace("-", "_").replace(" ", "_")
    for candidate in (wanted, *_ALIASES.get(wanted, ())):
        if candidate in known:
            return known[candidate]
    raise TaskError(
        f"There is no metric '{name}' for a {kind} task.{close_matches(wanted, known)}",
        code="MW1205",
        hint="metrics: " + ", ".join(known),
    )


def default_metric(kind: TaskKind, shares: Sequence[float] = ()) -> str:
    """Return the metric a practitioner expects.

    Args:
        kind: Task kind.
        shares: Share of each class among the *training* rows; for binary with the positive class last.
            Choosing by the judged rows would be a look at them.

    Returns:
        binary: ``roc_auc``, or ``average_precision`` with under 5 % positives, where a ROC area close to one
        still leaves most alarms false (Davis and Goadrich, 2006). multiclass: ``accuracy``, or ``macro_f1`` when one
        class holds over 80 %. regression: ``rmse``. multilabel: ``roc_auc_macro``. anomaly: as binary.
        forecast: ``mase``.
    """
    if kind in (BINARY, ANOMALY):
        return "average_precision" if shares and shares[-1] < RARE_POSITIVES else "roc_auc"
    if kind is MULTICLASS:
        return "macro_f1" if shares and max(shares) > DOMINANT_CLASS else "accuracy"
    return {REGRESSION: "rmse", MULTILABEL: "roc_auc_macro", FORECAST: "mase"}[kind]


def usual_metrics(predictions: Predictions) -> list[Metric]:
    """Return the metrics reported by default for these predictions."""
    names = _DEFAULTS[predictions.kind]
    if len(predictions.classes) > MANY_CLASSES:
        names = tuple(name for name in names if name not in _PER_CLASS_RANKING)
    known = METRICS[predictions.kind]
    return [
        known[name]
        for name in names
        if (predictions.quantiles is not None or not known[name].quantiles)
        and (predictions.group is not None or not known[name].ordered)
    ]


MANY_CLASSES = 30
"""Above this many classes or labels the rankings per class are computed only when asked for."""

_PER_CLASS_RANKING = {"roc_auc_ovr", "average_precision_macro"}
