"""Tables with which mediation is controlled: rules, corrections, rejects, rollbacks, alarms."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run 0002_mediation_control.sql."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: dropping these tables loses corrections and who made them."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
