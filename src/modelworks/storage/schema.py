"""The tables of the catalog, as SQLAlchemy Core sees them."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Index, Integer, MetaData, String, Table, Text

REVISION = "0001"
"""Newest migration in ``migrations/versions``; a fresh catalog starts there."""

METADATA = MetaData()

VERSION = Table("alembic_version", METADATA, Column("version_num", String(32), primary_key=True))

RUNS = Table(
    "runs",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("kind", String(50), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("result", JSON),
    Column("token", Integer, nullable=False),
    Column("owner", String(200), nullable=False),
    Column("beat", Integer, nullable=False),
    Column("beat_monotonic", Float, nullable=False),
    Column("lease_s", Float, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
)

STEPS = Table(
    "steps",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("step", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("params", JSON, nullable=False),
    Column("value", JSON, nullable=False),
    Column("tree", String(64), nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("attempt", String(200), nullable=False),
    Column("created", Float, nullable=False),
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("run", String(200), nullable=False),
    Column("step", String(200), nullable=False),
    Column("key", String(64), nullable=False),
    Column("label", String(200), nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    Column("error", JSON),
    Column("cpu_s", Float, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("peak_mb", Float, nullable=False),
    Column("gpu_s", Float, nullable=False),
    Column("energy_j", Float, nullable=False),
    Column("energy_source", String(20), nullable=False),
    Column("started", Float, nullable=False),
    Column("ended", Float, nullable=False),
    Column("token", Integer, nullable=False),
    Index("attempts_by_run", "run"),
    Index("attempts_by_key", "key"),
)

USES = Table(
    "uses",
    METADATA,
    Column("run", String(200), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("label", String(200), primary_key=True),
)

NAMES = Table(
    "names",
    METADATA,
    Column("space", String(50), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("value", JSON, nullable=False),
    Column("writer", String(200), nullable=False),
    Column("created", Float, nullable=False),
)

PACKAGES = Table(
    "packages",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("run", String(200), nullable=False),
    Column("label", String(200), nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Index("packages_by_name", "name"),
    Index("packages_by_run", "run"),
)

MEMORY = Table(
    "memory",
    METADATA,
    Column("space", String(50), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("value", JSON, nullable=False),
    Column("created", Float, nullable=False),
)

LOOKS = Table(
    "test_looks",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("test", String(64), nullable=False),
    Column("label", String(200), nullable=False),
    Column("purpose", String(100), nullable=False),
    Column("created", Float, nullable=False),
    Index("looks_by_test", "test"),
)

HUMAN_SECONDS = Table(
    "human_seconds",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("run", String(200), nullable=False),
    Column("label", String(200), nullable=False),
    Column("action", String(100), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("created", Float, nullable=False),
    Index("human_seconds_by_run", "run"),
)
