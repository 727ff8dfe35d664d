"""Judgement: measures with intervals, paired comparisons, importance and the verdict. Arrays in, plain JSON out."""

from modelworks.evaluation.comparison import compare
from modelworks.evaluation.evaluate import evaluate
from modelworks.evaluation.explanation import explain
from modelworks.evaluation.forecast_metrics import naive_scale
from modelworks.evaluation.importance import importance
from modelworks.evaluation.judge import failed_verdict, judge
from modelworks.evaluation.metrics import METRICS, Metric, default_metric, find_metric
from modelworks.evaluation.multiplicity import benjamini_hochberg, holm
from modelworks.evaluation.sequential import SequentialTest
from modelworks.evaluation.series_rows import SeriesRows

__all__ = [
    "METRICS",
    "Metric",
    "SequentialTest",
    "SeriesRows",
    "benjamini_hochberg",
    "compare",
    "default_metric",
    "evaluate",
    "explain",
    "failed_verdict",
    "find_metric",
    "holm",
    "importance",
    "judge",
    "naive_scale",
]
