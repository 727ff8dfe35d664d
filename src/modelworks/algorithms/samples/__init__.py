"""Recipes for images, texts and series: heads on shared backbones, and models of their own."""
