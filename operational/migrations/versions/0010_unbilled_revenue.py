"""What a closed month of the ledger accrued of revenue that no bill held yet."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: dropping this table loses what the next month has to take back."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
