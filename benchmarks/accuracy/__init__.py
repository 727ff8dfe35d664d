"""Accuracy per CPU-second on public tables, against the peers of the field."""
