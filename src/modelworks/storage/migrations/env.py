"""Runs migrations on the connection that ``storage/migrate.py`` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from modelworks.storage.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True
)
context.run_migrations()
