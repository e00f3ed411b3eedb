"""Tables with which mediation is controlled: rules, corrections, rejects, rollbacks, alarms."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run 0002_mediation_control.sql."""
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver's own cursor takes a script of many statements; SQLAlchemy's takes one.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(statements)
    cursor.close()


def downgrade() -> None:
    """Refused: dropping these tables loses corrections and who made them."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
