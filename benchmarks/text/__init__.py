"""Texts: the heads' default backbone, the sparse linear model, and the plain reference side by side."""
