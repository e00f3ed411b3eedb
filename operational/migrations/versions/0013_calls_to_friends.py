"""Charge classes that go by another one before the one above: calls to friends by distance."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Run the script beside this file."""
    # The driver's own cursor takes a script of many statements; SQLAlchemy's takes one.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
    cursor.close()


def downgrade() -> None:
    """Refused: without this column calls to friends cost something else."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
