"""Statistical models of statsforecast, fitted anew at every origin; runs alone, in an environment of its own.

python statistical_peer.py ORIGINS.npz ANSWERS.npz   (made and read by ``benchmarks.series.forecasts --peer PYTHON``)
"""

from __future__ import annotations

import sys
import time

import numpy as np
from statsforecast.models import MSTL, AutoETS, AutoTheta

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
BANDS = (50, 80, 90)


def models(seasons: list[int]) -> dict[str, object]:
    """Return the models that a user of the library would take, told the seasons they can handle."""
    main = seasons[0] if seasons[0] <= 24 else 1
    found: dict[str, object] = {
        "AutoETS": AutoETS(season_length=main),
        "AutoTheta": AutoTheta(season_length=main),
    }
    if seasons != [1]:
        found["MSTL + AutoETS"] = MSTL(season_length=seasons, trend_forecaster=AutoETS(model="ZZN"))
    return found


def main() -> int:
    """Answer all origins with every model."""
    given = np.load(sys.argv[1])
    histories, horizon = given["histories"], int(given["horizon"])
    answers: dict[str, np.ndarray] = {}
    names = list(models(given["seasons"].tolist()))
    for name in names:
        # The first call compiles or loads; it is not counted.
        models(given["seasons"].tolist())[name].forecast(y=histories[0][-600:], h=horizon, level=list(BANDS))
        mark, points, bands, failed = time.process_time(), [], [], 0
        for row in histories:
            values = row[np.flatnonzero(np.isfinite(row))[0] :]
            try:
                found = models(given["seasons"].tolist())[name].forecast(
                    y=values, h=horizon, level=list(BANDS)
                )
            except Exception as error:
                # A library that cannot fit a series gives its last value, and that is counted.
                print(name, type(error).__name__, error, file=sys.stderr)
                failed += 1
                found = {"mean": np.full(horizon, values[-1])}
                for band in BANDS:
                    found[f"lo-{band}"] = found[f"hi-{band}"] = found["mean"]
            point = np.asarray(found["mean"], float)
            low = [np.asarray(found[f"lo-{band}"], float) for band in reversed(BANDS)]
            high = [np.asarray(found[f"hi-{band}"], float) for band in BANDS]
            points.append(point)
            bands.append(np.stack([*low, point, *high], axis=1))
        answers[f"{name}/prediction"], answers[f"{name}/quantiles"] = np.array(points), np.array(bands)
        answers[f"{name}/cpu_s"], answers[f"{name}/failed"] = (
            np.array(time.process_time() - mark),
            np.array(failed),
        )
        print(name, float(answers[f"{name}/cpu_s"]), failed, flush=True)
    np.savez(sys.argv[2], levels=np.array(LEVELS), names=np.array(names), **answers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
