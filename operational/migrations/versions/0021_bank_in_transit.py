"""Bank money that people enter is in transit until a line of a statement clears it."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: without the account nobody knows what the bank has still to confirm."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
