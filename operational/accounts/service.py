"""Accounts as people work with them: statement, payments, refunds, reversals, bonus money."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from operational import audit
from operational.accounts import bank_transit, bills, collection, ledger
from operational.accounts.balance import PrepaidBalance, prepaid_balance
from operational.accounts.ledger import Line
from operational.accounts.models import (
    Fund,
    ItemRule,
    LedgerEntry,
    LedgerLine,
    OpenItem,
    PaymentChannel,
    ReasonCode,
    ServiceOrder,
)  # fmt: skip
from operational.billing.models import Bill, BillingCycle, Payment
from operational.catalogue.authoring import BILL_ITEMS
from operational.crm.models import Account
from operational.database import driver_transaction, transaction
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from operational.ratecards import midnight
from tollhouse.settings import Settings
from tollhouse.warehouse.reference import bill_item_codes as known_bill_items

LARGEST_AMOUNT = Decimal("9999999999999999.99")  # numeric(18, 2)
PAGE_ROWS = 50
CHANNEL_OF_SECURITY = "security_deposit"  # not chosen by people: what is applied of a deposit
YEARS = range(1970, 2200)  # of days that people type: beyond them the date is mistyped
CLOCKS_DIFFER = timedelta(minutes=5)  # a terminal's clock may be fast
_TYPED_AMOUNT = re.compile(r"(?:[0-9]{1,16}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?:\.[0-9]{1,2})?")


class IdempotencyError(ConflictError):
    """A key was used before for something else; the message names the key."""


@dataclass(frozen=True)
class Posted:
    """What posting did: documents posted, and what was allocated to open items."""

    bills: int = 0
    payments: int = 0
    expired_bonuses: int = 0
    allocated_amount: Decimal = Decimal(0)


@dataclass(frozen=True)
class LedgerView:
    """One entry as a person reads it, with what it did to receivables, deposits and bonus."""

    entry: LedgerEntry
    lines: list[LedgerLine]  # debits first
    receivable_amount: Decimal
    deposit_amount: Decimal
    bonus_amount: Decimal


@dataclass(frozen=True)
class AccountStatement:
    """An account on one page: what is owed, what it may be paid from, and how it came to be."""

    account: Account
    items: list[OpenItem]
    funds: list[Fund]
    entries: list[LedgerView]
    payments: list[Payment]
    reversed_payments: set[str]
    orders: list[ServiceOrder]
    prepaid: PrepaidBalance
    owed_amount: Decimal
    overdue_amount: Decimal
    deposit_amount: Decimal
    bonus_amount: Decimal
    bill_items: list[tuple[str, str]]  # what a credit note may be about: bill, bill item


def local_today(settings: Settings) -> date:
    """Today where the carrier is."""
    return datetime.now(ZoneInfo(settings.timezone)).date()


def checked_amount(amount: Decimal) -> Decimal:
    """A positive amount of whole fen; InvalidRequestError for any other."""
    if not amount.is_finite() or amount <= 0 or amount > LARGEST_AMOUNT:
        raise InvalidRequestError("amount_wrong")
    if amount != amount.quantize(Decimal("0.01")):
        raise InvalidRequestError("amount_wrong")
    return amount.quantize(Decimal("0.01"))


def parse_amount(text: str) -> Decimal:
    """An amount as typed: digits, or groups of three with commas, and at most two decimals."""
    if not _TYPED_AMOUNT.fullmatch(text.strip()):
        raise InvalidRequestError("amount_wrong")
    return checked_amount(Decimal(text.strip().replace(",", "")))


def check_days(**days: date | None) -> None:
    """InvalidRequestError naming the first of the days that is in no year of `YEARS`."""
    for name, day in days.items():
        if day is not None and day.year not in YEARS:
            raise InvalidRequestError(
                "day_out_of_range", names=[name], first=YEARS.start, last=YEARS.stop - 1
            )


def find_account(session: Session, *, principal: Principal, account_id: str) -> Account:
    """An account of the user's province; NotFoundError for any other."""
    account = session.get(Account, account_id)
    if account is None or not principal.sees(account.province_code):
        raise NotFoundError("no_account", account_id=account_id)
    return account


def reasons_for(session: Session, purpose: str) -> list[ReasonCode]:
    """The reasons there are for one kind of correction."""
    return list(
        session.scalars(
            select(ReasonCode)
            .where(ReasonCode.purpose == purpose, ReasonCode.is_active)
            .order_by(ReasonCode.reason_code)
        )
    )


def check_reason(session: Session, *, purpose: str, reason_code: str) -> str:
    """The code, if it is a reason for this; InvalidRequestError naming those that are."""
    known = [row.reason_code for row in reasons_for(session, purpose)]
    if reason_code not in known:
        raise InvalidRequestError("reason_unknown", reason_code=reason_code, known=known)
    return reason_code


def check_key(idempotency_key: str) -> None:
    """InvalidRequestError unless it can be an idempotency key."""
    if not 1 <= len(idempotency_key) <= 200 or not idempotency_key.isprintable():
        raise InvalidRequestError("key_missing")


def check_channel(session: Session, channel: str) -> str:
    """The ledger account of a channel; InvalidRequestError naming those that there are."""
    found = session.get(PaymentChannel, channel)
    if found is None or channel == CHANNEL_OF_SECURITY:
        raise InvalidRequestError("channel_unknown", channel=channel, known=channels(session))
    return found.ledger_code


def check_bill_items(session: Session, codes: Iterable[str]) -> None:
    """InvalidRequestError unless each is a bill item that people charge or give money for.

    Tax is none: it is within the others.
    """
    known = chargeable_items(session)
    if unknown := sorted(set(codes).difference(known)):
        raise InvalidRequestError("bill_item_none_of", names=unknown, known=known)


def chargeable_items(session: Session) -> list[str]:
    """The bill items that people charge or give money for, in the order of their codes."""
    ruled = session.scalars(select(ItemRule.bill_item_code))
    return sorted((known_bill_items() | set(BILL_ITEMS) | set(ruled)) - {"tax"})


def post(settings: Settings, *, by_user: str, today: date | None = None) -> Posted:
    """Post final bills and payments that are not in the ledger, expire bonuses, allocate.

    Doing it twice changes nothing. Accounts that owe nothing any more are restored, prepaid ones
    with too little money told or barred. Payments by bank then clear their lines in suspense.
    """
    day = today or local_today(settings)
    with driver_transaction(settings) as connection:
        posted = Posted(
            bills=bills.post_final_bills(connection, timezone=settings.timezone, by_user=by_user),
            payments=ledger.post_payments(
                connection, timezone=settings.timezone, by_user=by_user
            ),
            expired_bonuses=ledger.expire_bonuses(connection, today=day, by_user=by_user),
            allocated_amount=ledger.allocate(
                connection, account_ids=None, today=day, by_user=by_user
            ),
        )  # fmt: skip
        collection.follow_money(connection, account_ids=None, today=day)
    with transaction(settings) as session:
        bank_transit.meet_suspense(session, timezone=settings.timezone, by_user=by_user)
    return posted


def take_payment(
    settings: Settings, *, principal: Principal, account_id: str, amount: Decimal, channel: str,
    idempotency_key: str, paid_at: datetime | None = None, reference: str | None = None,
    today: date | None = None,
) -> Payment:  # fmt: skip
    """Receive money for an account, pay its open items from it, keep the rest as a deposit.

    What is entered as by bank is in transit until a statement shows it. The same key with the same
    content again returns the payment that was taken.

    Raises:
        IdempotencyError: the same key with other content.
        ConflictError: a statement has shown the money, and its line became a payment.
    """
    principal.require("payment.take")
    amount = checked_amount(amount)
    with transaction(settings) as session:
        account = find_account(session, principal=principal, account_id=account_id)
        check_channel(session, channel)
        if paid_at is not None:
            _check_paid_at(session, settings, paid_at, today)
        payment = receive(
            session, settings, account=account, amount=amount, channel=channel,
            idempotency_key=idempotency_key, paid_at=paid_at or datetime.now(UTC),
            reference=reference, by_user=principal.username, today=today,
        )  # fmt: skip
        return payment


def _check_paid_at(
    session: Session, settings: Settings, paid_at: datetime, today: date | None
) -> None:
    """Refuse a payment of the future, or of before there were any bills: the date is mistyped."""
    latest = datetime.now(UTC)
    if today is not None:
        latest = midnight(today + timedelta(days=1), settings.timezone)
    if paid_at > latest + CLOCKS_DIFFER:
        raise InvalidRequestError("paid_in_future", paid_at=paid_at.isoformat())
    begins = session.scalar(select(func.min(BillingCycle.starts_at)))
    if begins is not None and paid_at < begins:
        zone = ZoneInfo(settings.timezone)
        raise InvalidRequestError(
            "paid_too_early", paid_at=paid_at.isoformat(), first=begins.astimezone(zone).date()
        )


def receive(
    session: Session, settings: Settings, *, account: Account, amount: Decimal, channel: str,
    idempotency_key: str, paid_at: datetime, reference: str | None, by_user: str,
    debit: str | None = None, today: date | None = None,
) -> Payment:  # fmt: skip
    """Record and post a payment in the running transaction (see take_payment)."""
    check_key(idempotency_key)
    connection = ledger.driver(session)
    ledger.lock_accounts(connection, [account.account_id])
    values = {
        "payment_id": f"PAY-{uuid4().hex}", "account_id": account.account_id, "paid_at": paid_at,
        "amount": amount, "currency_code": "CNY", "channel": channel,
        "idempotency_key": idempotency_key, "province_code": account.province_code,
        "payment_type": "payment", "reference": reference, "taken_by": by_user,
    }  # fmt: skip
    payment, is_new = insert_payment(session, values)
    if not is_new:
        return payment
    day = today or local_today(settings)
    ledger.post_payments(
        connection, timezone=settings.timezone, by_user=by_user, debit=debit,
        payment_ids=[payment.payment_id],
    )  # fmt: skip
    bank_transit.entered(
        session, timezone=settings.timezone, key=f"payment:{payment.payment_id}", by_user=by_user
    )
    ledger.allocate(connection, account_ids=[account.account_id], today=day, by_user=by_user)
    collection.follow_money(connection, account_ids=[account.account_id], today=day)
    _audit(session, by_user, "take_payment", payment)
    return payment


def refund(
    settings: Settings, *, principal: Principal, account_id: str, amount: Decimal, channel: str,
    reason_code: str, idempotency_key: str, today: date | None = None,
) -> Payment:  # fmt: skip
    """Give money of the deposit back, the oldest first; ConflictError if there is less of it.

    Bonus money is not given back.
    """
    principal.require("payment.refund")
    amount = checked_amount(amount)
    check_key(idempotency_key)
    day = today or local_today(settings)
    with transaction(settings) as session:
        account = find_account(session, principal=principal, account_id=account_id)
        to_ledger = check_channel(session, channel)
        check_reason(session, purpose="refund", reason_code=reason_code)
        connection = ledger.driver(session)
        ledger.lock_accounts(connection, [account_id])
        payment, is_new = insert_payment(
            session,
            {
                "payment_id": f"REF-{uuid4().hex}", "account_id": account_id,
                "paid_at": datetime.now(UTC), "amount": -amount, "currency_code": "CNY",
                "channel": channel, "idempotency_key": idempotency_key,
                "province_code": account.province_code, "payment_type": "refund",
                "reason_code": reason_code, "taken_by": principal.username,
            },
        )  # fmt: skip
        if is_new:
            lines = _draw_deposits(connection, account_id, amount)
            lines.append(Line(to_ledger, -amount))
            ledger.post_entry(
                connection, entry_type="refund", posted_date=day,
                key=f"refund:{payment.payment_id}", by_user=principal.username, lines=lines,
                account_id=account_id, province_code=account.province_code,
                reason_code=reason_code, payment_id=payment.payment_id,
            )  # fmt: skip
            bank_transit.entered(
                session, timezone=settings.timezone, key=f"refund:{payment.payment_id}",
                by_user=principal.username,
            )  # fmt: skip
            collection.follow_money(connection, account_ids=[account_id], today=day)
            _audit(session, principal.username, "refund_payment", payment)
        return payment


def _draw_deposits(connection: Any, account_id: str, amount: Decimal) -> list[Line]:
    rows = connection.execute(
        "select fund_id, balance_amount from billing.fund where account_id = %s"
        " and kind = 'deposit' and balance_amount > 0 order by valid_from, fund_id",
        (account_id,),
    ).fetchall()
    available = sum((balance for _, balance in rows), Decimal(0))
    if available < amount:
        raise ConflictError("refund_too_large", account_id=account_id, available=available)
    lines, missing = [], amount
    for fund_id, balance in rows:
        drawn = min(balance, missing)
        if drawn:
            lines.append(Line("deposit", drawn, fund_id=fund_id))
        missing -= drawn
    return lines


def reverse_payment(
    settings: Settings, *, principal: Principal, payment_id: str, reason_code: str,
    today: date | None = None,
) -> Payment:  # fmt: skip
    """Take a payment back, a bounced cheque for instance: what it paid is owed again.

    Its allocations are undone by reversal entries, then the payment itself; other money of the
    account pays what it can. If a bank statement has shown it, its line is in suspense again.
    Asking again returns the first reversal.
    """
    principal.require("payment.reverse")
    with transaction(settings) as session:
        reversal, is_new = take_back(
            session, settings, principal=principal, payment_id=payment_id,
            reason_code=reason_code, today=today,
        )  # fmt: skip
        if is_new:
            bank_transit.release(
                session, payment_id=payment_id, day=today or local_today(settings),
                reason_code=reason_code, by_user=principal.username,
            )  # fmt: skip
        return reversal


def take_back(
    session: Session, settings: Settings, *, principal: Principal, payment_id: str,
    reason_code: str, today: date | None = None,
) -> tuple[Payment, bool]:  # fmt: skip
    """Reverse a payment in the running transaction; the reversal, and whether it is new."""
    day = today or local_today(settings)
    payment = session.get(Payment, payment_id)
    if payment is None or not principal.sees(payment.province_code):
        raise NotFoundError("no_payment", payment_id=payment_id)
    if payment.payment_type != "payment":
        raise ConflictError("not_a_payment", payment_id=payment_id)
    check_reason(session, purpose="reversal", reason_code=reason_code)
    connection = ledger.driver(session)
    ledger.lock_accounts(connection, [payment.account_id])
    # A payment that was loaded and is not in the books yet: it goes in, then out again.
    ledger.post_payments(
        connection, timezone=settings.timezone, by_user=principal.username,
        payment_ids=[payment_id],
    )  # fmt: skip
    reversal, is_new = insert_payment(
        session,
        {
            "payment_id": f"REV-{payment_id}", "account_id": payment.account_id,
            "paid_at": datetime.now(UTC), "amount": -payment.amount,
            "currency_code": payment.currency_code, "channel": payment.channel,
            "idempotency_key": f"reversal:{payment_id}", "province_code": payment.province_code,
            "payment_type": "reversal", "reverses_payment_id": payment_id,
            "reason_code": reason_code, "taken_by": principal.username,
            "security_deposit_id": payment.security_deposit_id,
        },
        is_same=lambda found: found.reverses_payment_id == payment_id,
    )  # fmt: skip
    if not is_new:
        return reversal, False
    undo: dict[str, Any] = {
        "posted_date": day, "reason_code": reason_code, "by_user": principal.username,
    }  # fmt: skip
    fund_id = f"payment:{payment_id}"
    for entry_id in ledger.live_allocations(connection, fund_id=fund_id):
        ledger.reverse_entry(connection, entry_id=entry_id, **undo)
    (balance,) = _row(connection, "select balance_amount from billing.fund where fund_id = %s",
                      fund_id)  # fmt: skip
    if balance != payment.amount:
        raise ConflictError(
            "payment_refunded", payment_id=payment_id, refunded=payment.amount - balance
        )
    (entry_id,) = _row(
        connection, "select entry_id from billing.ledger_entry where idempotency_key = %s",
        f"payment:{payment_id}",
    )  # fmt: skip
    ledger.reverse_entry(connection, entry_id=entry_id, **undo)
    ledger.allocate(
        connection, account_ids=[payment.account_id], today=day, by_user=principal.username,
        not_before=day,
    )  # fmt: skip
    collection.follow_money(connection, account_ids=[payment.account_id], today=day)
    _audit(session, principal.username, "reverse_payment", reversal)
    return reversal, True


def grant_bonus(
    settings: Settings, *, principal: Principal, account_id: str, amount: Decimal,
    reason_code: str, idempotency_key: str, valid_to: date | None = None,
    bill_item_codes: list[str] | None = None, today: date | None = None,
) -> Fund:  # fmt: skip
    """Give an account bonus money: it pays the given bill items only, until its last day."""
    principal.require("bonus.grant")
    amount = checked_amount(amount)
    check_key(idempotency_key)
    check_days(valid_to=valid_to)
    day = today or local_today(settings)
    if valid_to is not None and valid_to < day:
        raise InvalidRequestError("bonus_expired", valid_to=valid_to)
    codes = sorted(set(bill_item_codes or [])) or None
    fund_id = f"bonus:{idempotency_key}"
    with transaction(settings) as session:
        account = find_account(session, principal=principal, account_id=account_id)
        check_reason(session, purpose="bonus", reason_code=reason_code)
        check_bill_items(session, codes or [])
        connection = ledger.driver(session)
        ledger.lock_accounts(connection, [account_id])
        found = session.get(Fund, fund_id)
        if found is not None:
            same = (account_id, amount, codes, valid_to)
            if (found.account_id, found.amount, found.bill_item_codes, found.valid_to) != same:
                raise IdempotencyError("key_reused", used_key=idempotency_key)
            return found
        ledger.add_fund(
            connection, fund_id=fund_id, account_id=account_id,
            province_code=account.province_code, kind="bonus", amount=amount, valid_from=day,
            valid_to=valid_to, bill_item_codes=codes,
        )  # fmt: skip
        ledger.post_entry(
            connection, entry_type="bonus_grant", posted_date=day, key=fund_id,
            by_user=principal.username, account_id=account_id, reason_code=reason_code,
            province_code=account.province_code,
            lines=[Line("bonus_granted", amount), Line("bonus", -amount, fund_id=fund_id)],
        )  # fmt: skip
        ledger.allocate(
            connection, account_ids=[account_id], today=day, by_user=principal.username,
            not_before=day,
        )  # fmt: skip
        collection.follow_money(connection, account_ids=[account_id], today=day)
        audit.record(
            session, username=principal.username, action="grant_bonus", entity_type="account",
            entity_id=account_id, province_code=account.province_code,
            detail={"amount": str(amount), "reason": reason_code, "fund": fund_id},
        )  # fmt: skip
        return session.get_one(Fund, fund_id)


def account_statement(
    session: Session, *, principal: Principal, account_id: str, today: date,
    limit: int = PAGE_ROWS,
) -> AccountStatement:  # fmt: skip
    """Everything on one account; of entries and payments the newest."""
    principal.require("receivable.read")
    account = find_account(session, principal=principal, account_id=account_id)
    items = list(
        session.scalars(
            select(OpenItem)
            .where(OpenItem.account_id == account_id, OpenItem.open_amount > 0)
            .order_by(
                OpenItem.issued_date, OpenItem.document_id, OpenItem.priority,
                OpenItem.open_item_id,
            )
        )
    )  # fmt: skip
    funds = list(
        session.scalars(
            select(Fund)
            .where(
                Fund.account_id == account_id,
                Fund.balance_amount > 0,
                Fund.kind != "security_deposit",
            )
            .order_by(Fund.kind, Fund.valid_to.nulls_last(), Fund.valid_from, Fund.fund_id)
        )
    )
    entries = session.scalars(
        select(LedgerEntry).where(LedgerEntry.account_id == account_id)
        .options(selectinload(LedgerEntry.lines).joinedload(LedgerLine.ledger))
        .order_by(LedgerEntry.entry_id.desc()).limit(limit)
    )  # fmt: skip
    payments = list(
        session.scalars(
            select(Payment).where(Payment.account_id == account_id)
            .order_by(Payment.paid_at.desc(), Payment.payment_id).limit(limit)
        )
    )  # fmt: skip
    reversed_ids = session.scalars(
        select(Payment.reverses_payment_id).where(
            Payment.account_id == account_id, Payment.payment_type == "reversal"
        )
    )
    orders = session.scalars(
        select(ServiceOrder).where(ServiceOrder.account_id == account_id)
        .order_by(ServiceOrder.service_order_id.desc()).limit(limit)
    )  # fmt: skip
    bill_id = Bill.bill_id
    creditable = session.execute(
        select(bill_id, OpenItem.bill_item_code)
        .join(OpenItem, or_(
            OpenItem.bill_id == bill_id, OpenItem.document_id == func.concat("deduction:", bill_id)
        ))
        .where(Bill.account_id == account_id, OpenItem.account_id == account_id)
        .group_by(bill_id, OpenItem.bill_item_code)
        .order_by(bill_id.desc(), func.min(OpenItem.priority)).limit(limit)
    )  # fmt: skip
    zero = Decimal(0)
    return AccountStatement(
        account=account, items=items, funds=funds,
        entries=[_ledger_view(entry) for entry in entries], payments=payments,
        reversed_payments={found for found in reversed_ids if found is not None},
        orders=list(orders),
        prepaid=prepaid_balance(
            session, principal=principal, account_id=account_id, today=today, limit=limit
        ),
        owed_amount=sum((item.open_amount for item in items), zero),
        overdue_amount=sum(
            (
                item.open_amount for item in items
                if item.due_date < today and item.document_type != "deduction"
            ),
            zero,
        ),
        deposit_amount=sum((row.balance_amount for row in funds if row.kind == "deposit"), zero),
        bonus_amount=sum((row.balance_amount for row in funds if row.kind == "bonus"), zero),
        bill_items=[(bill, code) for bill, code in creditable],
    )  # fmt: skip


def search_accounts(
    session: Session, *, principal: Principal, query: str, limit: int = PAGE_ROWS
) -> list[tuple[Account, Decimal]]:
    """Accounts by id, bill or number, with what they owe; without a query those that owe most."""
    principal.require("receivable.read")
    owed = func.coalesce(func.sum(OpenItem.open_amount), 0).label("owed")
    statement = (
        select(Account, owed).outerjoin(OpenItem, OpenItem.account_id == Account.account_id)
        .group_by(Account.account_id).order_by(owed.desc(), Account.account_id).limit(limit)
    )  # fmt: skip
    wanted = query.strip()
    if wanted:
        from operational.crm.models import Subscription  # noqa: PLC0415 - a query's need only

        statement = statement.where(
            Account.account_id.in_(
                select(Account.account_id).where(Account.account_id == wanted)
                .union(
                    select(Bill.account_id).where(Bill.bill_id == wanted),
                    select(Subscription.account_id).where(
                        Subscription.msisdn.in_([wanted, f"86{wanted}"])
                    ),
                )
            )
        )  # fmt: skip
    else:
        statement = statement.where(OpenItem.open_amount > 0)
    statement = principal.only_own_province(statement, Account.province_code)
    return [(account, amount) for account, amount in session.execute(statement)]


def find_payment(session: Session, *, principal: Principal, payment_id: str) -> Payment:
    """One payment of the user's province."""
    principal.require("receivable.read")
    payment = session.get(Payment, payment_id)
    if payment is None or not principal.sees(payment.province_code):
        raise NotFoundError("no_payment", payment_id=payment_id)
    return payment


def channels(session: Session) -> list[str]:
    """The channels money comes in by."""
    return list(
        session.scalars(
            select(PaymentChannel.channel).where(PaymentChannel.channel != CHANNEL_OF_SECURITY)
            .order_by(PaymentChannel.channel)
        )
    )  # fmt: skip


def _ledger_view(entry: LedgerEntry) -> LedgerView:
    sums = dict.fromkeys(("receivable", "deposit", "bonus"), Decimal(0))
    for line in entry.lines:
        if line.ledger_code in sums:
            sums[line.ledger_code] += line.amount
    lines = sorted(entry.lines, key=lambda line: (line.amount < 0, line.line_number))
    return LedgerView(entry, lines, sums["receivable"], -sums["deposit"], -sums["bonus"])


def insert_payment(
    session: Session, values: dict[str, Any], is_same: Any = None
) -> tuple[Payment, bool]:
    """Insert a payment once by its key; returns it and whether it is new.

    A second one with the same key waits until the first is decided.
    """
    key = values["idempotency_key"]
    new_id = session.scalar(
        insert(Payment).values(values)
        .on_conflict_do_nothing(index_elements=["idempotency_key"]).returning(Payment.payment_id)
    )  # fmt: skip
    payment = session.scalars(select(Payment).where(Payment.idempotency_key == key)).one()
    if new_id is not None:
        return payment, True
    compared = ("account_id", "amount", "channel", "payment_type", "reason_code")
    same = (
        is_same(payment)
        if is_same
        else all(getattr(payment, name) == values.get(name) for name in compared)
    )
    if not same:
        raise IdempotencyError("key_reused", used_key=key)
    return payment, False


def _row(connection: Any, query: str, *values: Any) -> Any:
    return connection.execute(query, values).fetchone()


def _audit(session: Session, by_user: str, action: str, payment: Payment) -> None:
    audit.record(
        session, username=by_user, action=action, entity_type="payment",
        entity_id=payment.payment_id, province_code=payment.province_code,
        detail={"account": payment.account_id, "amount": str(payment.amount),
                "channel": payment.channel, "reason": payment.reason_code},
    )  # fmt: skip
