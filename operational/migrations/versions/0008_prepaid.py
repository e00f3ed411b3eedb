"""Prepaid accounts: deductions from balances, who is told or barred; members of groups."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: without these tables nobody knows what was deducted from whom."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
