"""Requests a second, latency and memory of the serving engine beside seven other servers and the bare runtime."""
