"""The receivables ledger, payments' allocation, notes, late fees, dunning and bank statements."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create everything in 0005_accounts.sql."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: dropping the ledger loses the accounts."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
