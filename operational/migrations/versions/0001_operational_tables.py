"""All schemas, tables and database-enforced rules of the operational database."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything in 0001_operational_tables.sql."""
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver's own cursor takes a script of many statements; SQLAlchemy's takes one.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(statements)
    cursor.close()


def downgrade() -> None:
    """Refused: dropping the operational database loses what people entered."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
