"""The score of the Numenta Anomaly Benchmark: early alarms inside anomaly windows earn, false ones cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelworks.evaluation.predictions import Booleans, Floats, Integers

_FAR_BEHIND = 3.0
"""Window lengths behind a window from which a false alarm costs in full."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What an application pays and earns.

    Attributes:
        found: Earned by an alarm at the very start of a window.
        false_alarm: Paid for an alarm far from any window.
        missed: Paid for a window without an alarm.
    """

    found: float = 1.0
    false_alarm: float = 0.11
    missed: float = 1.0


STANDARD = Profile()
LOW_FALSE_ALARMS = Profile(false_alarm=0.22)
LOW_MISSES = Profile(false_alarm=0.055, missed=2.0)


def scaled_sigmoid(position: Floats) -> Floats:
    """Return ``2 / (1 + exp(5 y)) - 1``: near 1 at the start of a window (y = -1), 0 at its end, -1 far behind."""
    inner = 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, _FAR_BEHIND))) - 1.0
    return np.asarray(np.where(position >= _FAR_BEHIND, -1.0, inner))


def windows_of(truth: Booleans) -> list[tuple[int, int]]:
    """Return first and last row of each run of anomalous rows."""
    edges = np.diff(np.concatenate([[0], truth.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0) - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def nab_terms(
    alarm: Booleans, windows: list[tuple[int, int]], start: int = 0, profile: Profile = STANDARD
) -> tuple[Floats, Floats]:
    """Return what each row of one series adds to the raw score and to the number of windows.

    In a window only the best alarm counts, which is the first; a window without one costs ``missed``, at its last
    row. Alarms outside cost more the further behind the last window they are.

    Args:
        alarm: Whether the row raises an alarm, bool [rows].
        windows: First and last row of each anomaly window, in order, not overlapping.
        start: Rows before it (the probationary part) raise no alarm.
        profile: Weights.

    Returns:
        Raw score [rows] and windows [rows] (one at the last row of each).

    Source: Lavin and Ahmad (2015), Evaluating real-time anomaly detection algorithms: the Numenta Anomaly Benchmark;
    the reference implementation's sweep for positions: row i of a window of width w that ends at r has
    ``y = -(r - i + 1) / w``, row i behind it ``y = (i - r) / (w - 1)``.
    """
    rows = len(alarm)
    alarm = alarm & (np.arange(rows) >= start)
    score, count = np.zeros(rows), np.zeros(rows)
    position = np.full(rows, _FAR_BEHIND)
    inside = np.zeros(rows, dtype=bool)
    for first, last in windows:
        width = last - first + 1
        inside[first : last + 1] = True
        with np.errstate(divide="ignore"):
            position[last + 1 :] = np.arange(1, rows - last) / np.float64(width - 1)
        hits = np.flatnonzero(alarm[first : last + 1])
        count[last] += 1
        if len(hits):
            place = -(last - (first + hits[0]) + 1) / width
            earned = float(scaled_sigmoid(np.array([place]))[0] / scaled_sigmoid(np.array([-1.0]))[0])
            score[first + hits[0]] += earned * profile.found
        else:
            score[last] -= profile.missed
    false = alarm & ~inside
    score[false] += scaled_sigmoid(position[false]) * profile.false_alarm
    return score, count


def normalised(score: Floats, windows: Floats, profile: Profile = STANDARD) -> Floats:
    """Return 100 (score - null) / (perfect - null): 100 finds every window at its start, 0 never raises an alarm."""
    with np.errstate(all="ignore"):
        span = windows * (profile.found + profile.missed)
        return np.asarray(100.0 * (score + profile.missed * windows) / span)


def best_threshold(
    scores: list[Floats], windows: list[list[tuple[int, int]]], starts: list[int], profile: Profile = STANDARD
) -> tuple[float, float]:
    """Return the threshold that is best for a whole corpus and its normalised score, as the benchmark publishes it.

    This looks at the labels of the judged rows, as the published tables do; a product's threshold must not.
    """
    candidates = np.unique(np.concatenate([np.round(np.quantile(s, _LEVELS), 6) for s in scores]))
    best = (float("inf"), 0.0)
    total = float(sum(len(found) for found in windows))
    for threshold in candidates.tolist():
        raw = 0.0
        for score, found, start in zip(scores, windows, starts, strict=True):
            raw += float(nab_terms(score >= threshold, found, start, profile)[0].sum())
        value = float(normalised(np.array(raw), np.array(total), profile))
        if value > best[1]:
            best = (threshold, value)
    return best


_LEVELS: Floats = 1.0 - np.geomspace(1e-5, 0.2, 60)


def group_rows(group: Integers) -> list[Integers]:
    """Return the row numbers of each series, in order."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
