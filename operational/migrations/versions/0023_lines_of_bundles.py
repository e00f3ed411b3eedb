"""The lines of a bundle stay in one account as long as it lasts."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: lines that moved since would break the former rule."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
