"""The normal and Student distributions in plain Python, so that judging a model does not load SciPy for them."""

from __future__ import annotations

import math
from statistics import NormalDist

_STANDARD = NormalDist()


def cumulative(z: float) -> float:
    """Return the probability below ``z`` of a standard normal variable."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def quantile(level: float) -> float:
    """Return the ``level`` quantile of a standard normal variable; the level is kept off 0 and 1."""
    return _STANDARD.inv_cdf(min(max(level, 1e-300), 1 - 1e-16))


def student_quantile(level: float, freedom: float) -> float:
    """Return the ``level`` quantile of Student's t by the Cornish-Fisher series (Hill, 1970).

    The error is under one percent for ``freedom`` of 4 and more and levels from 0.001 to 0.999.
    """
    z = quantile(level)
    if freedom > 1e6:
        return z
    freedom = max(freedom, 2.0)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4


def logit(share: float) -> float:
    """Return the log-odds of a share strictly between 0 and 1."""
    return math.log(share / (1 - share))


def expit(value: float) -> float:
    """Return the share whose log-odds are ``value``."""
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
