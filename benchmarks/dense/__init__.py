"""Hundreds of packages under a memory cap, and a thousand heads on one backbone."""
