"""Charge classes that go by another one before the one above: calls to friends by distance."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: without this column calls to friends cost something else."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
