"""Billing cycles and published bills: what state a cycle is in, and what may still change."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from sqlalchemy import and_, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from operational import audit
from operational.accounts import bills as posting
from operational.accounts import ledger
from operational.accounts.models import Deduction
from operational.billing import totals
from operational.billing.models import (
    Bill,
    BillingCycle,
    BillingCycleEvent,
    BillingCycleTransition,
    BillItem,
    Payment,
)  # fmt: skip
from operational.bulk import copy_to_temporary, refusal
from operational.catalogue.models import BundleComponent, Offering, PricePlanVersion
from operational.control.rollbacks import CLOSED_STATES, complete_rollbacks, pending_files
from operational.crm.models import Account, Customer, ProductInstance, Subscription
from operational.database import driver_transaction, transaction
from operational.months import first_day, last_day, month_after
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from operational.ratecards import midnight
from tollhouse.settings import Settings

SHOWN_FILES = 5  # of many, in a message
CYCLE_STATES = ("open", "cut_off", "trial", "approved", "final")

_BILL = "billing.bill"
_BILL_ITEM = "billing.bill_item"
_BILL_COLUMNS = (
    "bill_id", "account_id", "cycle_id", "province_code", "opening_amount", "item_amount",
    "discount_amount", "shared_amount", "charge_amount", "tax_amount", "adjustment_amount",
    "payment_amount", "closing_amount", "currency_code", "content_hash",
)  # fmt: skip
_MOVEMENT = "billing.bill_movement"
_ITEM_COLUMNS = (
    "bill_item_key", "bill_id", "subscription_id", "bill_item_code", "item_kind", "discount_id",
    "other_account_id", "name_zh", "name_en", "quantity", "unit", "base_amount", "amount",
    "tax_class", "tax_rate_percent", "tax_amount",
)  # fmt: skip
_MOVEMENT_COLUMNS = ("bill_movement_key", "bill_id", "payment_id", "entry_id", "amount")


class TransitionError(ConflictError):
    """A cycle may not go to that state now; the message names the states it may go to."""


class FinalCycleError(ConflictError):
    """A final cycle is immutable; the message names the first bill that would have changed."""


class PublishError(ValueError):
    """Bills cannot be published; the message says which and why. Nothing was changed."""


@dataclass(frozen=True)
class PublishResult:
    """What publishing did: bills and items written, and bills that were there already."""

    bills_written: int
    items_written: int
    bills_unchanged: int


@dataclass(frozen=True)
class BillView:
    """A bill as a person reads it: items by number."""

    bill: Bill
    account: Account
    customer: Customer
    lines: list[tuple[Subscription, list[BillItem], Decimal]]
    deducted_amount: Decimal  # of the charges, from the prepaid balance
    bundles: list[BundleOfBill]


@dataclass(frozen=True)
class BundleOfBill:
    """A bundle that a line of the account held in the cycle, and whose fees it included."""

    bundle: Offering
    subscription: Subscription
    included: list[Offering]


def cycle_bounds(cycle_id: str, timezone: str) -> tuple[Any, Any]:
    """The first moment of a calendar month 'YYYY-MM', and the first of the next."""
    first, following = (first_day(month) for month in (cycle_id, month_after(cycle_id)))
    return midnight(first, timezone), midnight(following, timezone)


def ensure_cycle(settings: Settings, cycle_id: str, timezone: str) -> BillingCycle:
    """The cycle of a calendar month, opened if it is not there."""
    starts_at, ends_at = cycle_bounds(cycle_id, timezone)
    with transaction(settings) as session:
        opened = session.execute(
            insert(BillingCycle)
            .values(cycle_id=cycle_id, starts_at=starts_at, ends_at=ends_at, state="open")
            .on_conflict_do_nothing(index_elements=["cycle_id"])
            .returning(BillingCycle.cycle_id)
        ).first()
        if opened is not None:
            session.add(
                BillingCycleEvent(
                    cycle_id=cycle_id, from_state=None, to_state="open", by_user="loader",
                    reason="cycle opened",
                )
            )  # fmt: skip
        return session.scalars(select(BillingCycle).where(BillingCycle.cycle_id == cycle_id)).one()


def open_cycles_until(settings: Settings, day: date) -> list[str]:
    """Open every month after the newest cycle, up to that of `day`; the months opened.

    Months before the newest cycle stay as they are: to leave one out is somebody's decision.
    """
    with transaction(settings) as session:
        newest = session.scalar(select(func.max(BillingCycle.cycle_id)))
    month = month_after(newest) if newest else f"{day:%Y-%m}"
    opened = []
    while month <= f"{day:%Y-%m}":
        opened.append(ensure_cycle(settings, month, settings.timezone).cycle_id)
        month = month_after(month)
    return opened


def cycle_in_hand(settings: Settings, day: date) -> str:
    """The cycle that is billed, closed and reported on `day`.

    The oldest that is over, or that the settings name, and is not final; where there is none, the
    newest that is final.
    """
    with transaction(settings) as session:
        oldest = session.scalar(
            select(func.min(BillingCycle.cycle_id)).where(
                BillingCycle.state != "final",
                or_(
                    BillingCycle.ends_at <= midnight(day, settings.timezone),
                    BillingCycle.cycle_id == settings.cycle,
                ),
            )
        )
        final = select(func.max(BillingCycle.cycle_id)).where(BillingCycle.state == "final")
        return oldest or session.scalar(final) or settings.cycle


def advance_cycle(
    settings: Settings, cycle_id: str, to_state: str, by_user: str, reason: str
) -> BillingCycle:
    """Move a cycle to a state that the transition table allows, and note who did it and why.

    Asking for the state it is in changes nothing. What was published of a cycle on trial is taken
    back when it becomes final, since it may have been billed again: what is owed are the bills that
    are published next, from the warehouse as it was when the cycle was closed.

    Raises TransitionError, NotFoundError, and ConflictError while the warehouse has not followed a
    rollback and figures would become final.
    """
    complete_rollbacks(settings)  # those that ordinary runs have followed
    with transaction(settings) as session:
        cycle = session.scalar(
            select(BillingCycle).where(BillingCycle.cycle_id == cycle_id).with_for_update()
        )
        if cycle is None:
            raise NotFoundError("no_cycle", cycle_id=cycle_id)
        if cycle.state == to_state:
            return cycle
        allowed = next_states(session, cycle.state)
        if to_state not in allowed:
            raise TransitionError(
                "cycle_transition", cycle_id=cycle_id, state=cycle.state, to_state=to_state,
                allowed_state=allowed,
            )  # fmt: skip
        if to_state in CLOSED_STATES and (pending := pending_files(session)):
            raise ConflictError("rollback_pending", cycle_id=cycle_id, names=pending[:SHOWN_FILES])
        session.add(
            BillingCycleEvent(
                cycle_id=cycle_id, from_state=cycle.state, to_state=to_state, by_user=by_user,
                reason=reason,
            )
        )  # fmt: skip
        audit.record(
            session, username=by_user, action="advance_cycle", entity_type="billing_cycle",
            entity_id=cycle_id, province_code=HEADQUARTERS,
            detail={"from": cycle.state, "to": to_state, "reason": reason},
        )  # fmt: skip
        if to_state == "final":
            _delete(ledger.driver(session), cycle_id)
        cycle.state = to_state
        return cycle


def decide_cycle(
    settings: Settings, *, principal: Principal, cycle_id: str, to_state: str, reason: str
) -> BillingCycle:
    """Move a cycle on behalf of a person: finance at headquarters, with a reason.

    ConflictError where its figures would become final and it is not over (see `cycle_in_hand`), or
    the control totals do not tie.
    """
    principal.require("cycle.advance")
    if not principal.sees_all_provinces:
        raise ConflictError("cycle_headquarters")
    if not reason.strip():
        raise InvalidRequestError("reason_missing")
    with transaction(settings) as session:
        cycle = find_cycle(session, principal=principal, cycle_id=cycle_id)
        is_allowed = to_state in next_states(session, cycle.state)
    if to_state in CLOSED_STATES and is_allowed:  # as the step `close_cycle` does
        if cycle.ends_at > datetime.now(UTC) and cycle_id != settings.cycle:
            raise ConflictError(
                "cycle_not_over", cycle_id=cycle_id, last_day=last_day(cycle_id).isoformat()
            )
        totals.require_tied(settings, cycle_id=cycle_id)
    return advance_cycle(settings, cycle_id, to_state, principal.username, reason.strip())


def next_states(session: Session, state: str) -> list[str]:
    """The states a cycle may go to from `state`."""
    return list(
        session.scalars(
            select(BillingCycleTransition.to_state)
            .where(BillingCycleTransition.from_state == state)
            .order_by(BillingCycleTransition.to_state)
        )
    )


def list_cycles(session: Session) -> list[BillingCycle]:
    """All cycles with their events, newest first."""
    return list(
        session.scalars(
            select(BillingCycle)
            .options(selectinload(BillingCycle.events))
            .order_by(BillingCycle.cycle_id.desc())
        )
    )


def find_cycle(session: Session, *, principal: Principal, cycle_id: str) -> BillingCycle:
    """One cycle with its events."""
    principal.require("cycle.read")
    cycle = session.get(BillingCycle, cycle_id, options=[selectinload(BillingCycle.events)])
    if cycle is None:
        raise NotFoundError("no_cycle", cycle_id=cycle_id)
    return cycle


@dataclass(frozen=True)
class CycleTotals:
    """The published bills of a cycle, counted and added up; when the last was published."""

    bills: int
    charge_amount: Decimal
    closing_amount: Decimal
    published_at: datetime | None


def cycle_totals(session: Session, *, principal: Principal, cycle_id: str) -> CycleTotals:
    """How many bills of the user's province a cycle has, and what they amount to."""
    principal.require("cycle.read")
    query = select(
        func.count(),
        func.coalesce(func.sum(Bill.charge_amount), 0),
        func.coalesce(func.sum(Bill.closing_amount), 0),
        func.max(Bill.published_at),
    ).where(Bill.cycle_id == cycle_id)
    query = principal.only_own_province(query, Bill.province_code)
    return CycleTotals(*session.execute(query).one())


def publish_bills(
    settings: Settings, bills: pa.Table, items: pa.Table, movements: pa.Table
) -> PublishResult:
    """Write the bills of one or more cycles, whole, in one transaction.

    Columns as billing.bill, billing.bill_item and billing.bill_movement (what payments and
    adjustments are made of); others are not looked at. Bills that are there
    with the same content are left alone; those of a cycle that is not final are replaced when
    anything of the cycle differs. For a final cycle that was published before, any difference
    raises FinalCycleError naming the first differing bill. Raises PublishError when bills and
    their parts do not belong together, or a cycle is not known. Bills of a final cycle are posted
    into the ledger in the same transaction.
    """
    with driver_transaction(settings) as connection:
        bill_columns = copy_to_temporary(
            connection, data=bills, like=_BILL, temporary="new_bill", only=_BILL_COLUMNS
        )
        item_columns = copy_to_temporary(
            connection, data=items, like=_BILL_ITEM, temporary="new_item", only=_ITEM_COLUMNS
        )
        movement_columns = copy_to_temporary(
            connection, data=movements, like=_MOVEMENT, temporary="new_movement",
            only=_MOVEMENT_COLUMNS,
        )  # fmt: skip
        for table in ("new_bill", "new_item", "new_movement"):
            connection.execute(
                sql.SQL("create index on {} (bill_id)").format(sql.Identifier(table))
            )
        connection.execute("analyze new_bill, new_item, new_movement")
        _refuse_unrelated(connection)
        try:
            published = _publish(connection, bill_columns, item_columns, movement_columns)
            posting.post_final_bills(connection, timezone=settings.timezone, by_user="publish")
            return published
        except psycopg.IntegrityError as error:
            # Not chained: the error's own text holds the row.
            raise PublishError(f"the database refuses these bills: {refusal(error)}") from None


def _publish(
    connection: psycopg.Connection[Any], bill_columns: list[str], item_columns: list[str],
    movement_columns: list[str],
) -> PublishResult:  # fmt: skip
    written = items_written = unchanged = 0
    for cycle_id, state in _lock_cycles(connection):
        differing = _first_difference(
            connection, cycle_id, bill_columns, item_columns, movement_columns
        )
        published = _count(connection, _BILL, cycle_id)
        if differing is None:
            unchanged += published
            continue
        if state == "final" and published:
            raise FinalCycleError("final_cycle", cycle_id=cycle_id, bill_id=differing)
        _delete(connection, cycle_id)
        written += _insert(connection, _BILL, "new_bill", bill_columns, cycle_id)
        items_written += _insert(connection, _BILL_ITEM, "new_item", item_columns, cycle_id)
        _insert(connection, _MOVEMENT, "new_movement", movement_columns, cycle_id)
    return PublishResult(written, items_written, unchanged)


def _delete(connection: psycopg.Connection[Any], cycle_id: str) -> None:
    for table in (_BILL_ITEM, _MOVEMENT):
        connection.execute(
            sql.SQL(
                "delete from {} where bill_id in"
                " (select bill_id from billing.bill where cycle_id = %s)"
            ).format(sql.Identifier(*table.split("."))),
            (cycle_id,),
        )
    connection.execute("delete from billing.bill where cycle_id = %s", (cycle_id,))


def find_bill(session: Session, *, principal: Principal, bill_id: str) -> BillView:
    """One bill with its items by number; NotFoundError outside the user's province."""
    principal.require("bill.read")
    bill = session.get(Bill, bill_id, options=[selectinload(Bill.items), selectinload(Bill.cycle)])
    if bill is None or not principal.sees(bill.province_code):
        raise NotFoundError("no_bill", bill_id=bill_id)
    account = session.get_one(Account, bill.account_id)
    by_subscription: dict[str, list[BillItem]] = defaultdict(list)
    for item in bill.items:
        by_subscription[item.subscription_id].append(item)
    lines = []
    for subscription_id, rows in sorted(by_subscription.items()):
        rows.sort(
            key=lambda row: (
                _KIND_ORDER[row.item_kind], _ITEM_ORDER.get(row.bill_item_code, 99),
                row.bill_item_code, row.discount_id or row.other_account_id or "",
            )
        )  # fmt: skip
        total = sum((row.amount for row in rows), Decimal(0))
        lines.append((session.get_one(Subscription, subscription_id), rows, total))
    deducted = session.scalar(
        select(func.coalesce(func.sum(Deduction.amount), 0)).where(
            Deduction.account_id == bill.account_id, Deduction.cycle_id == bill.cycle_id
        )
    )
    return BillView(
        bill, account, account.customer, lines, deducted or Decimal(0), _bundles_of(session, bill)
    )


def _bundles_of(session: Session, bill: Bill) -> list[BundleOfBill]:
    """The bundles of the bill's lines in its cycle, with the offerings whose fee each included."""
    held = session.execute(
        select(ProductInstance, Subscription, Offering)
        .join(Subscription, Subscription.subscription_id == ProductInstance.subscription_id)
        .join(Offering, Offering.offering_id == ProductInstance.offering_id)
        .where(
            ProductInstance.role == "bundle", Subscription.account_id == bill.account_id,
            _overlaps(ProductInstance, bill.cycle.starts_at, bill.cycle.ends_at),
        )
        .order_by(Subscription.subscription_id, ProductInstance.valid_from)
    ).all()  # fmt: skip
    found = []
    for product, subscription, bundle in held:
        since = max(product.valid_from, bill.cycle.starts_at)
        until = min(product.valid_to or bill.cycle.ends_at, bill.cycle.ends_at)
        included = session.scalars(
            select(Offering)
            .join(BundleComponent, BundleComponent.offering_id == Offering.offering_id)
            .join(
                PricePlanVersion,
                PricePlanVersion.plan_version_id == BundleComponent.plan_version_id,
            )
            .where(
                PricePlanVersion.offering_id == bundle.offering_id,
                _overlaps(PricePlanVersion, since, until),
                BundleComponent.fee_rule == "included",
            )
            .distinct()
            .order_by(Offering.offering_type.desc(), Offering.offering_id)
        ).all()
        found.append(BundleOfBill(bundle, subscription, list(included)))
    return found


def _overlaps(table: type[Any], since: datetime, until: datetime) -> Any:
    return and_(table.valid_from < until, or_(table.valid_to.is_(None), table.valid_to > since))


# First what was charged, then what that is made up to, less discounts, less what others pay.
_KIND_ORDER = {"charge": 0, "minimum": 1, "discount": 2, "share": 3}
# The order of items on a bill: rent first, then usage, as customers know it.
_ITEMS = (
    "rent", "voice", "sms", "data", "international", "roaming", "vas", "one_off", "penalty",
    "minimum", "collection",
)  # fmt: skip
_ITEM_ORDER = {code: position for position, code in enumerate(_ITEMS)}


def bills_of_accounts(
    session: Session, *, principal: Principal, account_ids: list[str],
    cycle_id: str | None = None, limit: int = 12,
) -> list[Bill]:  # fmt: skip
    """The newest bills of accounts, of the user's province; of one cycle if it is given."""
    principal.require("bill.read")
    query = (
        select(Bill).where(Bill.account_id.in_(account_ids))
        .options(selectinload(Bill.cycle))
        .order_by(Bill.cycle_id.desc(), Bill.account_id).limit(limit)
    )  # fmt: skip
    if cycle_id is not None:
        query = query.where(Bill.cycle_id == cycle_id)
    return list(session.scalars(principal.only_own_province(query, Bill.province_code)))


def payments_of_accounts(
    session: Session, *, principal: Principal, account_ids: list[str], limit: int = 12
) -> list[Payment]:
    """The newest payments of accounts, of the user's province."""
    principal.require("bill.read")
    query = (
        select(Payment).where(Payment.account_id.in_(account_ids))
        .order_by(Payment.paid_at.desc()).limit(limit)
    )  # fmt: skip
    return list(session.scalars(principal.only_own_province(query, Payment.province_code)))


def list_bills(
    session: Session, *, principal: Principal, cycle_id: str | None = None,
    account_id: str | None = None, limit: int = 50, offset: int = 0,
) -> list[Bill]:  # fmt: skip
    """Bills of the user's province, by cycle and account."""
    principal.require("bill.read")
    query = select(Bill).options(selectinload(Bill.cycle))
    if cycle_id is not None:
        query = query.where(Bill.cycle_id == cycle_id)
    if account_id is not None:
        query = query.where(Bill.account_id == account_id)
    query = principal.only_own_province(query, Bill.province_code)
    return list(
        session.scalars(
            query.order_by(Bill.cycle_id.desc(), Bill.bill_id).limit(limit).offset(offset)
        )
    )


def _refuse_unrelated(connection: psycopg.Connection[Any]) -> None:
    for parts, table in (("items", "new_item"), ("movements", "new_movement")):
        orphan = connection.execute(
            sql.SQL(
                "select par.bill_id from {} as par left join new_bill as bil"
                " on bil.bill_id = par.bill_id where bil.bill_id is null order by 1 limit 1"
            ).format(sql.Identifier(table))
        ).fetchone()
        if orphan:
            raise PublishError(f"{parts} of bill {orphan[0]} come without their bill")
    wrong = connection.execute(_FIRST_WRONG_SUM).fetchone()
    if wrong:
        bill_id, name, amount, parts, total = wrong
        raise PublishError(f"bill {bill_id}: {name} {amount} is not the sum of its {parts} {total}")


# A figure of a bill that its parts do not come to.
_FIRST_WRONG_SUM = """
with item as (
    select bill_id, sum(amount) as charge_amount from new_item group by bill_id
),
movement as (
    select
        bill_id,
        sum(amount) filter (where payment_id is not null) as payment_amount,
        sum(amount) filter (where entry_id is not null) as adjustment_amount
    from new_movement
    group by bill_id
)
select bil.bill_id, fig.name, fig.amount, fig.parts, coalesce(fig.total, 0)
from new_bill as bil
left join item as itm on itm.bill_id = bil.bill_id
left join movement as mov on mov.bill_id = bil.bill_id
cross join lateral (
    values
        ('charge_amount', 'items', bil.charge_amount, itm.charge_amount),
        ('adjustment_amount', 'adjustments', bil.adjustment_amount, mov.adjustment_amount),
        ('payment_amount', 'payments', bil.payment_amount, mov.payment_amount)
) as fig (name, parts, amount, total)
where fig.amount <> coalesce(fig.total, 0)
order by bil.bill_id, fig.name
limit 1
"""


def _lock_cycles(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Cycles of the new bills and their states, which nobody can move until the end."""
    unknown = connection.execute(
        "select bil.cycle_id from new_bill as bil left join billing.billing_cycle as cyc"
        " on cyc.cycle_id = bil.cycle_id where cyc.cycle_id is null order by 1 limit 1"
    ).fetchone()
    if unknown:
        raise PublishError(f"there is no billing cycle {unknown[0]}; open it first")
    return connection.execute(
        "select cycle_id, state from billing.billing_cycle"
        " where cycle_id in (select cycle_id from new_bill) order by cycle_id for update"
    ).fetchall()


def _first_difference(
    connection: psycopg.Connection[Any], cycle_id: str, bill_columns: list[str],
    item_columns: list[str], movement_columns: list[str],
) -> str | None:  # fmt: skip
    """The smallest bill_id of a cycle that is new, missing, or differs in itself or a part."""
    bills = sql.SQL(", ").join(map(sql.Identifier, bill_columns))
    items = sql.SQL(", ").join(sql.Identifier("itm", name) for name in item_columns)
    movements = sql.SQL(", ").join(sql.Identifier("mov", name) for name in movement_columns)
    query = sql.SQL(
        """
        with old_bill as (select {bills} from billing.bill where cycle_id = %(cycle)s),
        fresh_bill as (select {bills} from new_bill where cycle_id = %(cycle)s),
        old_item as (
            select {items} from billing.bill_item as itm
            join old_bill as bil on bil.bill_id = itm.bill_id
        ),
        fresh_item as (
            select {items} from new_item as itm join fresh_bill as bil on bil.bill_id = itm.bill_id
        ),
        old_movement as (
            select {movements} from billing.bill_movement as mov
            join old_bill as bil on bil.bill_id = mov.bill_id
        ),
        fresh_movement as (
            select {movements} from new_movement as mov
            join fresh_bill as bil on bil.bill_id = mov.bill_id
        ),
        differing as (
            {differing}
        )
        select min(bill_id) from differing
        """
    ).format(
        bills=bills, items=items, movements=movements,
        differing=sql.SQL(" union all ").join(
            sql.SQL(
                "(select bill_id from (select * from {} except select * from {}) as only_one)"
            ).format(sql.Identifier(one), sql.Identifier(other))
            for name in ("bill", "item", "movement")
            for one, other in ((f"old_{name}", f"fresh_{name}"), (f"fresh_{name}", f"old_{name}"))
        ),
    )  # fmt: skip
    found = connection.execute(query, {"cycle": cycle_id}).fetchone()
    return None if found is None else found[0]


def _count(connection: psycopg.Connection[Any], table: str, cycle_id: str) -> int:
    query = sql.SQL("select count(*) from {} where cycle_id = %s").format(
        sql.Identifier(*table.split("."))
    )
    row = connection.execute(query, (cycle_id,)).fetchone()
    assert row is not None  # noqa: S101 - count(*) always gives a row
    return int(row[0])


def _insert(
    connection: psycopg.Connection[Any], table: str, source: str, columns: list[str], cycle_id: str
) -> int:
    query = sql.SQL(
        "insert into {} ({columns}) select {columns} from {}"
        " where bill_id in (select bill_id from new_bill where cycle_id = %s)"
    ).format(
        sql.Identifier(*table.split(".")), sql.Identifier(source),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
    )  # fmt: skip
    return connection.execute(query, (cycle_id,)).rowcount
