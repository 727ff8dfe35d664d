"""Static HTML reports of a model and of an order: one file, no scripts, no remote loads, inline SVG.

``render_model_report(data)`` and ``render_order_report(data)`` take plain JSON data. Every section is optional;
an absent or empty section is left out. Unknown keys are ignored. All texts are escaped here, once.

Model report::

    title        str                       heading; default: the task's name
    created      str                       ISO 8601, shown as given
    task         dict                      core.Task as plain data (dataclasses.asdict)
    verdict      core.Verdict.to_json()    banner and gate table
    evaluation   dict                      evaluation.evaluate(...), and beside it:
        metric       str                   primary metric
        measures     [core.Measure.to_json()]
        baselines    [{name, value, low, high}]        primary metric of each baseline
        comparison   {baseline, difference, low, high, p_value, method}
        calibration  {bins: [{predicted, observed, low, high, n}], ece, ...}
        confusion    {labels: [str], counts: [[int]]}  rows are true classes
        curves       {roc: {x: [..], y: [..]}, pr: {x: [..], y: [..]}}
        scatter      {truth: [..], predicted: [..]}
        slices       [{slice, n, value, low, high, outcome?}]
        importance   [{column, value, low, high, method}]
    fit          dict                      FittedModel.diagnostics: members [{name, oof_loss, cpu_s, weight, kept,
                                           why?}], baselines, chosen, why, oof_loss, threshold, folds
    profile      dict                      data.profile(...): {rows, columns: [{name, kind, reason, missing, distinct,
                                           histogram: {edges, counts} | top: [[value, count]], ...}]}
    samples      dict                      what there is to look at (images, texts, series), all keys optional:
        about        str                   how neighbours and heat maps were found
        groups       [{title, note, items: [sample]}]     a sample: {name | row, truth, said, share, score, one of
                                           picture | text | series [[values of a channel]], heat, near: [sample
                                           with similarity]}; pictures: {media, data: base64}
        map          {x, y, truth, right, explained}      embeddings of sealed samples on two components
        forecasts    [{name, history, prediction, low, high, level, actual, metric, value}]
        timelines    [{name, values, scores, threshold, events: [[first, last]]}]
    guard        [dict]                    data.guard(...): {code, severity, column, message, exclude}
    measured     dict                      {latency_ms: {p50, p99}, size_bytes, peak_memory_mb?}
    graph        dict                      packaging.inspect_graph(...)
    cost         dict                      {currency, total, cpu_s, wall_s, energy_j, energy_source, human_s, gpu_s,
                                           peak_mb, parts: [{name, cpu_s, money, shared: bool}]}
    lineage      dict                      as in packaging.build
    signature    core.Signature.to_json()
    columns      [core.Column.to_json()]
    commands     [[what, command]]         next commands to show

Order report::

    title, created
    order        dict                      {name, path?, tasks}
    lines        [{task, verdict, metric, value, low, high, target, data, kind, recipe, cpu_s, money, wall_s,
                   size_bytes, latency_ms, cause, fix, report: relative link to the model report, package}]
    cost         dict                      as above, for the order
    learning     {points: [{n, cpu_s, money?, shared: bool}], slope?, low?, high?}     cost of task n
    forecast     {cpu_s, wall_s, money, ...} with what was forecast; compared with ``cost``
    notes        [str]
    commands     [[what, command]]
"""

from __future__ import annotations

from modelworks.packaging.report.explanation import render_explanation
from modelworks.packaging.report.model import render_model_report
from modelworks.packaging.report.order import render_order_report

__all__ = ["render_explanation", "render_model_report", "render_order_report"]
