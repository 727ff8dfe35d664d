"""Calendar parts of date-times, computed in the graph from int64 microseconds.

The civil date follows Howard Hinnant, "chrono-compatible low-level date algorithms" (days_from_civil inverse).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import DOUBLE, FLOAT, Graph
from modelworks.core.signature import MISSING_DATETIME

PARTS = ("elapsed_days", "month", "day", "weekday", "hour")
_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000


def _floor_divide(graph: Graph, value: str, divisor: int) -> str:
    """Divide int64 rounding down (ONNX Div truncates toward zero)."""
    by = graph.constant(divisor, np.int64)
    remainder = graph.op("Mod", value, by)
    return graph.op("Div", graph.op("Sub", value, remainder), by)


def write_date_parts(graph: Graph, datetimes: str, origin: npt.NDArray[np.int64]) -> dict[str, str]:
    """Add calendar parts of int64 microseconds ``[rows, k]``; missing gives NaN.

    Args:
        graph: The graph in the making.
        datetimes: int64 tensor ``[rows, k]``.
        origin: int64 ``[k]``; ``elapsed_days`` counts from it.

    Returns:
        Part name -> float32 tensor ``[rows, k]``.
    """
    missing = graph.op("Equal", datetimes, graph.constant(MISSING_DATETIME, np.int64))
    moment = graph.op("Where", missing, graph.constant(origin[None, :], np.int64), datetimes)

    def number(name: int) -> str:
        return graph.constant(name, np.int64)

    elapsed = graph.cast(graph.op("Sub", moment, graph.constant(origin[None, :], np.int64)), DOUBLE)
    days = _floor_divide(graph, moment, _DAY_US)
    in_day = graph.op("Sub", moment, graph.op("Mul", days, number(_DAY_US)))
    hour = graph.op("Div", in_day, number(_HOUR_US))
    weekday = graph.op("Mod", graph.op("Add", days, number(3)), number(7))
    shifted = graph.op("Add", days, number(719_468))
    era = _floor_divide(graph, shifted, 146_097)
    day_of_era = graph.op("Sub", shifted, graph.op("Mul", era, number(146_097)))
    leaps = graph.op(
        "Sub",
        graph.op(
            "Add",
            graph.op("Sub", day_of_era, graph.op("Div", day_of_era, number(1460))),
            graph.op("Div", day_of_era, number(36_524)),
        ),
        graph.op("Div", day_of_era, number(146_096)),
    )
    year = graph.op("Div", leaps, number(365))
    year_days = graph.op(
        "Sub",
        graph.op("Add", graph.op("Mul", year, number(365)), graph.op("Div", year, number(4))),
        graph.op("Div", year, number(100)),
    )
    day_of_year = graph.op("Sub", day_of_era, year_days)
    march_month = graph.op(
        "Div", graph.op("Add", graph.op("Mul", day_of_year, number(5)), number(2)), number(153)
    )
    month_start = graph.op(
        "Div", graph.op("Add", graph.op("Mul", march_month, number(153)), number(2)), number(5)
    )
    day = graph.op("Add", graph.op("Sub", day_of_year, month_start), number(1))
    month = graph.op("Add", graph.op("Mod", graph.op("Add", march_month, number(2)), number(12)), number(1))
    raw = {
        "elapsed_days": graph.op("Div", elapsed, graph.constant(float(_DAY_US), np.float64)),
        "month": month,
        "day": day,
        "weekday": weekday,
        "hour": hour,
    }
    nan = graph.constant(np.nan, np.float32)
    return {part: graph.op("Where", missing, nan, graph.cast(value, FLOAT)) for part, value in raw.items()}
