"""When a commitment's penalty is due: on leaving, or on changing to another plan too."""

from __future__ import annotations

from pathlib import Path

from operational.migration_script import run_script

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run the script beside this file."""
    run_script(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Refused: without this column changes of plan that cost a penalty cost none."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")
