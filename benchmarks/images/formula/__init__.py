"""Weights that saw no photograph: images made by formulas, and the network trained on them."""
