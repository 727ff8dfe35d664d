"""Heads on shared embeddings: one file per family, all tasks of an order fitted together as stacked matrices."""
