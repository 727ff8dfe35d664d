"""Algorithms for tables: encoding inside the graph, members, the recipe that races and pools them."""

RECIPE_VERSION = 6
"""Raised with every change of the recipe or its portfolio that may change a model: older fits are made again."""
