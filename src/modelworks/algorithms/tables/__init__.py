"""Algorithms for tables: encoding inside the graph, members, the recipe that races and pools them."""
