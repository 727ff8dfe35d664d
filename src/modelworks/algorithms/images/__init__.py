"""Recipes that read pixels."""
