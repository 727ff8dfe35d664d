"""The beta distribution in plain Python: exact proportion limits without the cost of loading SciPy."""

from __future__ import annotations

import math

from modelworks.evaluation import normal

_TINY = 1e-300


def cumulative(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function ``I_x(a, b)``, ``a`` and ``b`` above zero.

    Continued fraction by the modified Lentz method (Press et al., Numerical Recipes, section 6.4).
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    front = math.exp(_log_front(x, a, b))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1.0 - front * _fraction(1.0 - x, b, a) / b


def quantile(level: float, a: float, b: float) -> float:
    """Return the ``x`` with ``cumulative(x, a, b) = level``, by Newton's method kept inside a bracket."""
    low, high = 0.0, 1.0
    x = min(max(_guess(level, a, b), 1e-12), 1 - 1e-12)
    for _ in range(100):
        miss = cumulative(x, a, b) - level
        if miss > 0:
            high = x
        else:
            low = x
        density = math.exp(min(_log_front(x, a, b) - math.log(x) - math.log1p(-x), 700.0))
        step = x - miss / density if density > _TINY else low
        if not low < step < high:
            step = (low + high) / 2
        if abs(step - x) <= 1e-13 + 1e-12 * x:
            return step
        x = step
    return x


def _log_front(x: float, a: float, b: float) -> float:
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return scale + a * math.log(x) + b * math.log1p(-x)


def _guess(level: float, a: float, b: float) -> float:
    """Return a start from the normal approximation, or from the tails for small ``a`` and ``b``."""
    if a >= 1 and b >= 1:
        mean = a / (a + b)
        return mean + normal.quantile(level) * math.sqrt(mean * (1 - mean) / (a + b + 1))
    return float(level ** (1 / a)) if a < 1 else 1 - float((1 - level) ** (1 / b))


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1) or _TINY)
    found = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / (1.0 + even * d or _TINY)
        c = 1.0 + even / c or _TINY
        found *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / (1.0 + odd * d or _TINY)
        c = 1.0 + odd / c or _TINY
        change = d * c
        found *= change
        if abs(change - 1.0) < 1e-14:
            break
    return found
