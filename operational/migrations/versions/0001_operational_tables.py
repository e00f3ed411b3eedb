"""All schemas, tables and database-enforced rules of the operational database."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything in 0001_operational_tables.sql."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: dropping the operational database loses what people entered."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
