"""Numbers and names the way people read them, and every text escaped."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

METRIC_NAMES = {
    "roc_auc": "ROC AUC", "roc_auc_ovr": "ROC AUC, one against the rest", "roc_auc_macro": "ROC AUC, mean of labels",
    "average_precision": "Average precision", "average_precision_macro": "Average precision, mean of labels",
    "log_loss": "Log loss", "brier": "Brier score", "ece": "Calibration error (ECE)", "accuracy": "Accuracy",
    "mean_accuracy": "Accuracy, mean of labels", "balanced_accuracy": "Balanced accuracy", "f1": "F1",
    "macro_f1": "Macro F1", "precision": "Precision", "recall": "Recall", "mcc": "Matthews correlation",
    "rmse": "RMSE", "mae": "Mean absolute error", "median_ae": "Median absolute error", "mape": "MAPE",
    "mase": "MASE", "wql": "Weighted quantile loss", "smape": "sMAPE", "rmsle": "RMSLE", "r2": "R\u00b2",
    "quantile_loss": "Quantile loss",
    "interval_coverage": "Share inside the interval", "interval_width": "Width of the interval",
}  # fmt: skip
LARGEST = 1e15
MISSING = "\u2013"
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def escaped(value: Any) -> str:
    """Return a text that HTML and SVG show as it is, in content and in quoted attributes.

    Control characters, lone surrogates and the marks that turn the direction of writing are made visible.
    """
    return html.escape(_UNSHOWN.sub("\ufffd", str(value)), quote=True)


def breakable(value: Any) -> str:
    """Return an escaped name that a narrow page may break after the marks within it, and that keeps its direction."""
    return f"<bdi>{re.sub(r'(?<=[_/.-])(?=[^_/.-])', '<wbr>', escaped(value))}</bdi>"


def number(value: Any, digits: int = 4) -> str:
    """Return a number with ``digits`` significant digits, grouped thousands and a true minus; a dash if it is none."""
    if not is_number(value):
        return MISSING
    size = abs(value)
    if size < 1e-12:
        return "0"
    if value == int(value) and size < 1e12:
        shown = f"{int(value):,}"
    elif size >= 1e9 or size < 1e-4:
        shown = f"{value:.{digits - 1}g}"
    else:
        decimals = max(0, digits - 1 - math.floor(math.log10(size)))
        shown = f"{value:,.{min(decimals, 6)}f}"
    return shown.replace("-", "\u2212") if value < 0 else shown


def rough(value: Any) -> str:
    """Return a number with three digits and no zeros at its end, for sentences and ticks."""
    shown = number(value, 3)
    return shown.rstrip("0").rstrip(".") if "." in shown and "e" not in shown else shown


def percent(value: Any, decimals: int = 1) -> str:
    """Return a share in [0, 1] as a percentage."""
    if not is_number(value):
        return MISSING
    return f"{value * 100:.{decimals}f}\u202f%".replace("-", "\u2212")


def size_of(count: Any) -> str:
    """Return bytes in a readable unit (powers of 1000)."""
    if not is_number(count):
        return MISSING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{rough(count / factor)}\u202f{unit}"
    return f"{int(count)}\u202fB"


def moment(text: Any) -> str:
    """Return an ISO 8601 time to the minute; other texts as they are."""
    shown = str(text or "")
    return (
        f"{shown[:10]} {shown[11:16]} UTC"
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[\d.]+Z", shown)
        else shown
    )


def duration(seconds: Any) -> str:
    """Return seconds in a readable unit."""
    if not is_number(seconds):
        return MISSING
    if seconds >= 5400:
        return f"{rough(seconds / 3600)}\u202fh"
    if seconds >= 90:
        return f"{rough(seconds / 60)}\u202fmin"
    if seconds >= 1 or seconds == 0:
        return f"{rough(float(seconds))}\u202fs"
    if seconds >= 1e-3:
        return f"{rough(seconds * 1e3)}\u202fms"
    return f"{rough(seconds * 1e6)}\u202f\u00b5s"


def money(value: Any, currency: Any = "") -> str:
    """Return an amount with enough digits to see small sums; what cannot be a currency's name is left out."""
    if not is_number(value):
        return MISSING
    currency = currency if re.fullmatch(r"[\w$\u20ac\u00a3\u00a5]{1,8}", str(currency)) else ""
    small = 0 < abs(value) < 1
    decimals = min(8, 1 - math.floor(math.log10(abs(value)))) if small else 2
    return f"{value:,.{decimals}f}\u202f{currency}".rstrip()


def metric_name(name: Any) -> str:
    """Return a metric's name for people."""
    return METRIC_NAMES.get(str(name), str(name).replace("_", " "))


def words(name: Any) -> str:
    """Return a snake-case name as words."""
    text = str(name).replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def plural(count: int, noun: str) -> str:
    """Return ``1 row`` or ``2 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def is_number(value: Any) -> TypeGuard[float]:
    """Say whether ``value`` is a number (and no boolean) that a chart can hold: finite and below 1e15."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def mapping(data: Any, name: str) -> Mapping[str, Any]:
    """Return the mapping under ``name``, or an empty one."""
    found = data.get(name) if isinstance(data, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def records(data: Any, name: str) -> list[Mapping[str, Any]]:
    """Return the list of mappings under ``name``, or an empty one."""
    found = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        return []
    return [item for item in found if isinstance(item, Mapping)]


def complete(items: Sequence[Mapping[str, Any]], *names: str) -> list[Mapping[str, Any]]:
    """Return the records in which every one of ``names`` is a number."""
    return [item for item in items if all(is_number(item.get(name)) for name in names)]


def gappy(data: Any, name: str) -> list[float | None]:
    """Return the list under ``name`` with ``None`` where something is no finite number."""
    return [float(item) if is_number(item) else None for item in entries(data, name)]


def maybe(data: Mapping[str, Any], name: str) -> float | None:
    """Return the number under ``name``, if it is one."""
    found = data.get(name)
    return float(found) if is_number(found) else None


def entries(data: Any, name: str) -> list[Any]:
    """Return the list under ``name``, or an empty one."""
    found = data.get(name) if isinstance(data, Mapping) else None
    return list(found) if isinstance(found, (list, tuple)) else []


def whole(data: Any, name: str) -> int:
    """Return the whole number above zero under ``name``, or zero."""
    found = data.get(name) if isinstance(data, Mapping) else None
    return int(found) if is_number(found) and found > 0 else 0


def floats(data: Any, name: str) -> list[float]:
    """Return the finite numbers under ``name``, or an empty list if one is none."""
    found = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        return []
    return [float(item) for item in found] if all(is_number(item) for item in found) else []
