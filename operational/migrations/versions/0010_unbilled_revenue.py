"""What a closed month of the ledger accrued of revenue that no bill held yet."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the script beside this file."""
    # The driver's own cursor takes a script of many statements; SQLAlchemy's takes one.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
    cursor.close()


def downgrade() -> None:
    """Refused: dropping this table loses what the next month has to take back."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
