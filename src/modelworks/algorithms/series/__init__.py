"""Algorithms on series: forecasts and anomaly scores, from a history window to an answer in one graph."""
