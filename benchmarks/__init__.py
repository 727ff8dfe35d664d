"""Measurements that back the claims of the documentation; nothing here ships in the package."""
