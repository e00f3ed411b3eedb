"""Friend numbers, groups with short numbers, content with its codes, fixed lines."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: dropping these tables loses what calls were priced by."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
