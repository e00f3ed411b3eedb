"""Corrections of one landing, runs that were killed, files whose original cannot be read now."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run 0003_mediation_repairs.sql."""
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver's own cursor takes a script of many statements; SQLAlchemy's takes one.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(statements)
    cursor.close()


def downgrade() -> None:
    """Refused: which landing a correction was made for would be lost."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
