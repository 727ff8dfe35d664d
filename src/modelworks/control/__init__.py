"""The only door from outside: one service with one method per verb, its settings and its wiring."""
