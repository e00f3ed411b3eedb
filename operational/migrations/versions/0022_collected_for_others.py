"""What is collected for others is owed to them: no revenue, and no bad debt of ours."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: without the account nobody knows what is owed to others."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
