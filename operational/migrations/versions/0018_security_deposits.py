"""Security deposits: money held for a customer, given back or applied to what is overdue."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: without these tables nobody knows whose money is held."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
