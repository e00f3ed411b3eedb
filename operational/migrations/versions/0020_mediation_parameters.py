"""Parameters of mediation are kept with their versions."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused, as all of them are."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
