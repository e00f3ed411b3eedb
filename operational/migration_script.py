"""Running the SQL script of a migration of the operational database."""

from __future__ import annotations

from pathlib import Path

from alembic import op


def run_script(script: Path) -> None:
    """Run a script of many statements, within the migration's transaction."""
    # The driver's own cursor takes such a script; SQLAlchemy's takes one statement.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(script.read_text(encoding="utf-8"))
    cursor.close()
