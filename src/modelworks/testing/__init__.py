"""Conformance suites for those who plug parts in."""
