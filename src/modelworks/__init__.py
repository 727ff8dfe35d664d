"""Modelworks: an AI factory that a few people can run."""

__version__ = "0.1.0"
