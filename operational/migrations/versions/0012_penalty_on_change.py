"""When a commitment's penalty is due: on leaving, or on changing to another plan too."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run the script beside this file."""
    # The driver's own cursor takes a script of many statements; SQLAlchemy's takes one.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
    cursor.close()


def downgrade() -> None:
    """Refused: without this column changes of plan that cost a penalty cost none."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
