"""Since when a line has its status, and what a month costs in which it is suspended."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: dropping this table loses the days that nobody has to pay."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
