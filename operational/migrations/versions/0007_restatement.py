"""The reason for credit notes of a restated cycle."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: notes may give this reason."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
