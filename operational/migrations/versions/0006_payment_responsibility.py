"""Accounts that pay for lines of others; discounts, shares and tax of published bills."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: dropping these columns loses parts of bills that customers have."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
