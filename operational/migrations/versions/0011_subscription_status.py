"""Since when a line has its status, and what a month costs in which it is suspended."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the script beside this file."""
    # The driver's own cursor takes a script of many statements; SQLAlchemy's takes one.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
    cursor.close()


def downgrade() -> None:
    """Refused: dropping this table loses the days that nobody has to pay."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
