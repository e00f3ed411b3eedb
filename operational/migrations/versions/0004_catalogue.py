"""Tariffs in full, and the guards that keep what is in use as it is."""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

from alembic import op

from operational.catalogue.price_steps import Tier, common_denominator, compile_price, step_rows
from operational.migration_script import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run 0004_catalogue.sql, compile the prices that are there, then set the guards."""
    here = Path(__file__)
    run_script(here.with_suffix(".sql"))
    cursor = op.get_bind().connection.cursor()
    _compile_prices(cursor)
    cursor.close()
    run_script(here.with_name("0004_catalogue_guards.sql"))


def downgrade() -> None:
    """Refused: dropping these tables loses what customers are charged by."""
    raise NotImplementedError("restore a backup instead: this migration has no way back")


def _compile_prices(cursor: Any) -> None:
    """Give the versions that are there their price steps."""
    cursor.execute(
        "select prc.plan_version_id, prc.usage_price_id, prc.model, tir.from_quantity,"
        " tir.to_quantity, tir.increment_quantity, tir.per_quantity, tir.price_amount"
        " from catalogue.usage_price as prc"
        " inner join catalogue.price_tier as tir on tir.usage_price_id = prc.usage_price_id"
        " order by prc.plan_version_id, prc.usage_price_id, tir.tier_number"
    )
    for version_id, version_rows in groupby(cursor.fetchall(), key=lambda row: row[0]):
        prices = {
            price_id: compile_price(model, [_tier(row[3:]) for row in rows])
            for (price_id, model), rows in groupby(version_rows, key=lambda row: row[1:3])
        }
        denominator = common_denominator(prices.values())
        cursor.execute(
            "update catalogue.price_plan_version set cost_denominator = %s"
            " where plan_version_id = %s",
            (denominator, version_id),
        )
        cursor.executemany(
            "insert into catalogue.price_step values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (price_id, *vars(row).values())
                for price_id, steps in prices.items()
                for row in step_rows(steps, denominator)
            ],
        )


def _tier(row: tuple[Any, ...]) -> Tier:
    start, end, increment, per, price = row
    return Tier(
        from_quantity=Fraction(start), to_quantity=None if end is None else Fraction(end),
        increment_quantity=Fraction(increment), per_quantity=Fraction(per),
        price_amount=Fraction(price),
    )  # fmt: skip
