"""Corrections of one landing, runs that were killed, files whose original cannot be read now."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run 0003_mediation_repairs.sql."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: which landing a correction was made for would be lost."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
