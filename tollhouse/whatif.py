"""What-if 资费测算: a cycle's real usage under a proposed catalogue, beside what it was billed.

The cycle is copied into a warehouse of its own, the proposed versions take the place of those in
force, and the models of production rate and bill there. Nothing of the home's own warehouse or of
the operational database changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from operational.catalogue.content import TABLES, VersionContent
from operational.catalogue.files import read_catalogue
from operational.catalogue.findings import CatalogueError
from operational.catalogue.loader import diff_catalogue
from tollhouse.cycle_copy import USAGE_BILLED, bill_copy, cycle_copy
from tollhouse.settings import Settings
from tollhouse.warehouse import Warehouse, open_warehouse

# Also usage in suspense, which a proposed price may reach, but not what came late.
USAGE = (
    USAGE_BILLED,
    """usage_id in (
        select usage_id from billing.suspended_usage
        where reason_code not in ('no_cycle', 'cycle_closed', 'to_restate', 'written_off')
    )""",
)
# What customers are told apart by: the name, and an expression over subscription and customer.
SEGMENTS = {
    "offering": "offering_id",
    "segment": "coalesce(customer.segment, customer.customer_type)",
    "province": "customer.province_code",
}


class WhatIfError(RuntimeError):
    """The question cannot be answered; the message says why and what to do."""


@dataclass(frozen=True)
class Line:
    """One group of lines under the catalogue in force and under the proposed one.

    Attributes:
        dimension: what the group is told by: total, offering, segment, province, bill_item.
        name: the group.
        subscriptions: lines with an item in the cycle.
        billed_amount: what their bill items came to.
        proposed_amount: what they would have come to.
        winners: lines that would have paid less.
        losers: lines that would have paid more.
    """

    dimension: str
    name: str
    subscriptions: int
    billed_amount: Decimal
    proposed_amount: Decimal
    winners: int
    losers: int

    @property
    def difference(self) -> Decimal:
        """Proposed minus billed."""
        return self.proposed_amount - self.billed_amount


@dataclass(frozen=True)
class WhatIf:
    """The answer: totals by group, and the lines whose bill changes most."""

    cycle_id: str
    versions: list[str]
    lines: list[Line]
    most_changed: list[dict[str, Any]]


def what_if(settings: Settings, catalogue: Sequence[Path], cycle_id: str) -> WhatIf:
    """Rate a cycle under proposed versions and compare.

    Of each offering in the files the version that is valid last counts, as if it had been in force
    all the cycle long.

    Raises:
        CatalogueError: the files are wrong; every offending row is named.
        WhatIfError: the files propose nothing.
        CycleCopyError: the cycle was not billed.
    """
    proposed = _proposed(settings, catalogue)
    with cycle_copy(settings, cycle_id, usage=USAGE) as scratch:
        with open_warehouse(scratch, "lay the proposed catalogue") as warehouse:
            for content in proposed.values():
                _lay(warehouse, content)
        bill_copy(scratch)
        with open_warehouse(scratch, "compare") as warehouse:
            versions = sorted(content.version_id for content in proposed.values())
            return WhatIf(cycle_id, versions, _lines(warehouse), _most_changed(warehouse))


def _proposed(settings: Settings, catalogue: Sequence[Path]) -> dict[str, VersionContent]:
    """Of each offering the proposed version that is valid last."""
    _, unreadable = read_catalogue(catalogue)
    checked = diff_catalogue(settings, list(catalogue)).checked
    # What only forbids loading it, as that a version is in use, does not matter here.
    if unreadable or checked.findings:
        raise CatalogueError([*unreadable, *checked.findings])
    found: dict[str, VersionContent] = {}
    for content in checked.contents.values():
        offering_id = content.version["offering_id"]
        latest = found.get(offering_id)
        if latest is None or latest.version["valid_from"] < content.version["valid_from"]:
            found[offering_id] = content
    if not found:
        raise WhatIfError("the files propose no version of any offering")
    return found


def _lay(warehouse: Warehouse, content: VersionContent) -> None:
    """Put a version in the place of all stored versions of its offering."""
    prefix = f"{content.version['offering_id']}@"
    for stored, key in reversed(TABLES):  # ids of rows begin with that of their version
        warehouse.execute(
            f"delete from raw.catalogue_{stored.__tablename__} where starts_with({key}, ?)",  # noqa: S608
            [prefix],
        )
    for table, rows in content.rows.items():
        if rows:
            warehouse.append(f"raw.catalogue_{table.__tablename__}", pa.Table.from_pylist(rows))
    warehouse.execute(
        "update raw.catalogue_price_plan_version"
        " set valid_from = timestamptz '1900-01-01 00:00:00+00', valid_to = null"
        " where plan_version_id = ?",
        [content.version_id],
    )


_BY_LINE = """
    select
        coalesce(billed.subscription_id, proposed.subscription_id) as subscription_id,
        coalesce(billed.customer_id, proposed.customer_id) as customer_id,
        coalesce(billed.offering_id, proposed.offering_id) as offering_id,
        coalesce(billed.amount, 0) as billed_amount,
        coalesce(proposed.amount, 0) as proposed_amount
    from (
        select subscription_id, min(customer_id) as customer_id, min(offering_id) as offering_id,
            sum(amount) as amount
        from raw.billed_item group by subscription_id
    ) as billed
    full join (
        select subscription_id, min(customer_id) as customer_id, min(offering_id) as offering_id,
            sum(amount) as amount
        from billing.bill_item group by subscription_id
    ) as proposed on billed.subscription_id = proposed.subscription_id
"""


def _lines(warehouse: Warehouse) -> list[Line]:
    found: list[Line] = []
    for dimension, expression in {"total": "'all'", **SEGMENTS}.items():
        rows = warehouse.rows(
            f"select '{dimension}', coalesce({expression}, ''), count(*), sum(billed_amount),"  # noqa: S608
            " sum(proposed_amount), count(*) filter (where proposed_amount < billed_amount),"
            " count(*) filter (where proposed_amount > billed_amount)"
            f" from ({_BY_LINE}) as line"
            " left join ods.customer as customer on line.customer_id = customer.customer_id"
            " group by 2 order by 2"
        )
        found += [Line(*row) for row in rows]
    items = warehouse.rows(
        "select 'bill_item', bill_item_code, count(distinct subscription_id), sum(billed),"
        " sum(proposed), 0, 0 from ("
        " select subscription_id, bill_item_code, amount as billed, 0 as proposed"
        " from raw.billed_item union all"
        " select subscription_id, bill_item_code, 0, amount from billing.bill_item"
        ") as item group by bill_item_code order by bill_item_code"
    )
    return found + [Line(*row) for row in items]


def _most_changed(warehouse: Warehouse, count: int = 10) -> list[dict[str, Any]]:
    names = ("subscription_id", "offering_id", "billed_amount", "proposed_amount")
    rows = warehouse.rows(
        f"select {', '.join(names)} from ({_BY_LINE}) as line"  # noqa: S608
        " where billed_amount <> proposed_amount"
        f" order by abs(proposed_amount - billed_amount) desc, subscription_id limit {count}"
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


__all__ = ["Line", "WhatIf", "WhatIfError", "what_if"]
