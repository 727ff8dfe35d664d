"""Samples that are not rows of cells: images and series become a table with one payload column and its labels."""
