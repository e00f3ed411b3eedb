"""Security deposits 押金: received, held as a liability, given back, or applied to what is overdue.

They are no prepaid deposits (预存款): they pay nothing, count in no balance and bear no tax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from operational import audit
from operational.accounts import bank_transit, collection, ledger
from operational.accounts.ledger import Line
from operational.accounts.models import Fund, SecurityDeposit, SecurityReturn
from operational.accounts.service import (
    CHANNEL_OF_SECURITY,
    IdempotencyError,
    check_channel,
    check_key,
    check_reason,
    checked_amount,
    find_account,
    insert_payment,
    local_today,
)
from operational.billing.models import Payment
from operational.crm.models import Subscription
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

Row = TypeVar("Row", SecurityDeposit, SecurityReturn)
KIND = "security_deposit"  # of its fund and its ledger account


@dataclass(frozen=True)
class SecurityMovement:
    """One change of what is held: received is positive; given back and applied are negative."""

    day: date
    kind: str  # received, returned, applied, application_reversed
    amount: Decimal
    channel: str
    reason_code: str | None
    note: str | None  # reference, or why it was given back in arrears
    by_user: str


@dataclass(frozen=True)
class HeldDeposit:
    """One security deposit, what became of it, and what is held."""

    deposit: SecurityDeposit
    held_amount: Decimal
    returned_amount: Decimal
    applied_amount: Decimal
    movements: list[SecurityMovement]  # in order


def receive(
    settings: Settings, *, principal: Principal, account_id: str, amount: Decimal, channel: str,
    reason_code: str, idempotency_key: str, subscription_id: str | None = None,
    reference: str | None = None, today: date | None = None,
) -> SecurityDeposit:  # fmt: skip
    """Take money as security, for an account or one of its lines; it pays nothing.

    The same key with the same content again returns the deposit that was taken. Raises
    IdempotencyError for the same key with other content.
    """
    principal.require("security_deposit.take")
    amount = checked_amount(amount)
    check_key(idempotency_key)
    day = today or local_today(settings)
    with transaction(settings) as session:
        account = find_account(session, principal=principal, account_id=account_id)
        to_ledger = check_channel(session, channel)
        check_reason(session, purpose="security_deposit", reason_code=reason_code)
        if subscription_id is not None:
            line = session.get(Subscription, subscription_id)
            if line is None or line.account_id != account_id:
                raise InvalidRequestError(
                    "line_of_other_account", subscription_id=subscription_id, account_id=account_id
                )
        connection = ledger.driver(session)
        ledger.lock_accounts(connection, [account_id])
        deposit, is_new = _insert_once(
            session, SecurityDeposit,
            {
                "security_deposit_id": f"SD-{uuid4().hex}", "account_id": account_id,
                "subscription_id": subscription_id, "province_code": account.province_code,
                "amount": amount, "channel": channel, "reason_code": reason_code,
                "reference": reference, "received_date": day, "idempotency_key": idempotency_key,
                "taken_by": principal.username,
            },
            compared=("account_id", "subscription_id", "amount", "channel", "reason_code"),
        )  # fmt: skip
        if is_new:
            deposit_id = deposit.security_deposit_id
            ledger.add_fund(
                connection, fund_id=deposit_id, account_id=account_id, kind=KIND, amount=amount,
                province_code=account.province_code, valid_from=day,
            )  # fmt: skip
            ledger.post_entry(
                connection, entry_type="security_deposit", posted_date=day,
                key=f"security_deposit:{deposit_id}", by_user=principal.username,
                account_id=account_id, province_code=account.province_code,
                reason_code=reason_code,
                lines=[Line(to_ledger, amount), Line(KIND, -amount, fund_id=deposit_id)],
            )  # fmt: skip
            bank_transit.entered(
                session, timezone=settings.timezone, key=f"security_deposit:{deposit_id}",
                by_user=principal.username,
            )  # fmt: skip
            _audit(
                session, principal, "take_security_deposit", deposit, amount=amount,
                reason=reason_code, channel=channel,
            )  # fmt: skip
        return deposit


def give_back(
    settings: Settings, *, principal: Principal, security_deposit_id: str, amount: Decimal,
    channel: str, reason_code: str, idempotency_key: str, override_reason: str | None = None,
    today: date | None = None,
) -> SecurityReturn:  # fmt: skip
    """Give a deposit back to the customer, whole or in part.

    Raises:
        ConflictError: less is held; or something of the account is overdue and there is no
            `override_reason`.
    """
    principal.require("security_deposit.return")
    amount = checked_amount(amount)
    check_key(idempotency_key)
    why = (override_reason or "").strip() or None
    day = today or local_today(settings)
    with transaction(settings) as session:
        to_ledger = check_channel(session, channel)
        check_reason(session, purpose="security_return", reason_code=reason_code)
        deposit = find_deposit(session, principal=principal, deposit_id=security_deposit_id)
        connection = ledger.driver(session)
        ledger.lock_accounts(connection, [deposit.account_id])
        overdue = collection.overdue_amount(connection, account_id=deposit.account_id, today=day)
        given, is_new = _insert_once(
            session, SecurityReturn,
            {
                "security_return_id": f"SR-{uuid4().hex}",
                "security_deposit_id": security_deposit_id, "amount": amount, "channel": channel,
                # Without a reason nothing may be overdue: refused below, unless it was done before.
                "reason_code": reason_code, "overdue_amount": overdue if why else Decimal(0),
                "override_reason": why, "returned_date": day, "idempotency_key": idempotency_key,
                "by_user": principal.username,
            },
            compared=("security_deposit_id", "amount", "channel", "reason_code",
                      "override_reason"),
        )  # fmt: skip
        if is_new:
            _check_held(session, deposit, amount)
            in_arrears: dict[str, Decimal | str] = {"overdue": overdue, "why": why} if why else {}
            if overdue and not why:
                raise ConflictError(
                    "security_return_in_arrears", account_id=deposit.account_id, overdue=overdue
                )
            ledger.post_entry(
                connection, entry_type="security_return", posted_date=day,
                key=f"security_return:{given.security_return_id}", by_user=principal.username,
                account_id=deposit.account_id, province_code=deposit.province_code,
                reason_code=reason_code,
                lines=[
                    Line(KIND, amount, fund_id=security_deposit_id), Line(to_ledger, -amount),
                ],
            )  # fmt: skip
            bank_transit.entered(
                session, timezone=settings.timezone, by_user=principal.username,
                key=f"security_return:{given.security_return_id}",
            )  # fmt: skip
            _audit(
                session, principal, "return_security_deposit", deposit, amount=amount,
                reason=reason_code, channel=channel, **in_arrears,
            )  # fmt: skip
        return given


def apply(
    settings: Settings, *, principal: Principal, security_deposit_id: str, idempotency_key: str,
    amount: Decimal | None = None, today: date | None = None,
) -> Payment:  # fmt: skip
    """Pay what is overdue from a deposit: all that is held and overdue, or `amount` of it.

    It becomes a payment of channel `security_deposit`, allocated like any other; reversing that
    payment holds the money again. The same key again returns the same payment.

    Raises:
        ConflictError: less is overdue, or less is held.
    """
    principal.require("security_deposit.apply")
    amount = None if amount is None else checked_amount(amount)
    check_key(idempotency_key)
    day = today or local_today(settings)
    with transaction(settings) as session:
        deposit = find_deposit(session, principal=principal, deposit_id=security_deposit_id)
        account_id = deposit.account_id
        connection = ledger.driver(session)
        ledger.lock_accounts(connection, [account_id])
        done = session.scalars(
            select(Payment).where(Payment.idempotency_key == idempotency_key)
        ).one_or_none()
        if done is not None:
            if done.security_deposit_id != security_deposit_id or amount not in (
                None, done.amount,
            ):  # fmt: skip
                raise IdempotencyError("key_reused", used_key=idempotency_key)
            return done
        money: dict[str, Any] = {"account_ids": [account_id], "today": day, "not_before": day}
        # Money that may pay anyhow goes first.
        ledger.allocate(connection, by_user=principal.username, **money)
        overdue = collection.overdue_amount(connection, account_id=account_id, today=day)
        held = _held(session, deposit)
        wanted = min(overdue, held) if amount is None else amount
        if not 0 < wanted <= overdue:
            raise ConflictError("security_not_overdue", account_id=account_id, overdue=overdue)
        _check_held(session, deposit, wanted)
        moment = datetime.now(UTC)
        if today is not None:
            moment = datetime.combine(today, time(12), ZoneInfo(settings.timezone))
        payment, _ = insert_payment(
            session,
            {
                "payment_id": f"SEC-{uuid4().hex}", "account_id": account_id, "paid_at": moment,
                "amount": wanted, "currency_code": "CNY", "channel": CHANNEL_OF_SECURITY,
                "idempotency_key": idempotency_key, "province_code": deposit.province_code,
                "payment_type": "payment", "taken_by": principal.username,
                "security_deposit_id": security_deposit_id,
            },
        )  # fmt: skip
        ledger.post_payments(
            connection, timezone=settings.timezone, by_user=principal.username,
            payment_ids=[payment.payment_id],
        )  # fmt: skip
        ledger.allocate(connection, by_user=principal.username, due_before=day, **money)
        collection.follow_money(connection, account_ids=[account_id], today=day)
        _audit(
            session, principal, "apply_security_deposit", deposit, amount=wanted,
            reason=deposit.reason_code, payment=payment.payment_id,
        )  # fmt: skip
        return payment


def find_deposit(session: Session, *, principal: Principal, deposit_id: str) -> SecurityDeposit:
    """A deposit of the user's province; NotFoundError for any other."""
    deposit = session.get(SecurityDeposit, deposit_id)
    if deposit is None or not principal.sees(deposit.province_code):
        raise NotFoundError("no_security_deposit", security_deposit_id=deposit_id)
    return deposit


# In the order of the ledger, which dates them.
_MOVEMENTS = """
select mov.security_deposit_id, ent.posted_date, mov.kind, mov.amount, mov.channel,
    mov.reason_code, mov.note, mov.by_user
from (
    select dep.security_deposit_id, 'security_deposit:' || dep.security_deposit_id as key,
        'received' as kind, dep.amount, dep.channel, dep.reason_code, dep.reference as note,
        dep.taken_by as by_user
    from billing.security_deposit as dep
    where dep.account_id = :account
    union all
    select ret.security_deposit_id, 'security_return:' || ret.security_return_id, 'returned',
        -ret.amount, ret.channel, ret.reason_code, ret.override_reason, ret.by_user
    from billing.security_return as ret
    join billing.security_deposit as dep on dep.security_deposit_id = ret.security_deposit_id
    where dep.account_id = :account
    union all
    select pay.security_deposit_id,
        case pay.payment_type
            when 'payment' then 'payment:' || pay.payment_id
            else 'reversal:' || org.entry_id
        end,
        case pay.payment_type when 'payment' then 'applied' else 'application_reversed' end,
        -pay.amount, pay.channel, pay.reason_code, pay.reference, pay.taken_by
    from billing.payment as pay
    left join billing.ledger_entry as org
        on org.idempotency_key = 'payment:' || pay.reverses_payment_id
    where pay.account_id = :account and pay.security_deposit_id is not null
) as mov
join billing.ledger_entry as ent on ent.idempotency_key = mov.key
order by ent.entry_id
"""


def statement(session: Session, *, principal: Principal, account_id: str) -> list[HeldDeposit]:
    """The security deposits of an account, the newest first, each with what became of it."""
    principal.require("receivable.read")
    find_account(session, principal=principal, account_id=account_id)
    rows: Sequence[Any] = session.execute(text(_MOVEMENTS), {"account": account_id}).all()
    moved: dict[str, list[SecurityMovement]] = {}
    for deposit_id, *row in rows:
        moved.setdefault(deposit_id, []).append(SecurityMovement(*row))
    found = session.execute(
        select(SecurityDeposit, Fund.balance_amount)
        .join(Fund, Fund.fund_id == SecurityDeposit.security_deposit_id)
        .where(SecurityDeposit.account_id == account_id)
        .order_by(SecurityDeposit.created_at.desc(), SecurityDeposit.security_deposit_id)
    )
    return [
        HeldDeposit(
            deposit, held, -_sum(moves, "returned"),
            -_sum(moves, "applied", "application_reversed"), moves,
        )
        for deposit, held in found
        for moves in [moved.get(deposit.security_deposit_id, [])]
    ]  # fmt: skip


def _sum(movements: Sequence[SecurityMovement], *kinds: str) -> Decimal:
    return sum((one.amount for one in movements if one.kind in kinds), Decimal("0.00"))


def _held(session: Session, deposit: SecurityDeposit) -> Decimal:
    return session.scalars(
        select(Fund.balance_amount).where(Fund.fund_id == deposit.security_deposit_id)
    ).one()


def _check_held(session: Session, deposit: SecurityDeposit, amount: Decimal) -> None:
    held = _held(session, deposit)
    if amount > held:
        raise ConflictError(
            "security_too_large", security_deposit_id=deposit.security_deposit_id, held=held
        )


def _insert_once(
    session: Session, model: type[Row], values: dict[str, Any], *, compared: Sequence[str]
) -> tuple[Row, bool]:
    """Insert a row once by its key; returns it and whether it is new (see insert_payment)."""
    key = values["idempotency_key"]
    added = session.execute(
        insert(model).values(values)
        .on_conflict_do_nothing(index_elements=["idempotency_key"])
        .returning(model.idempotency_key)
    ).first()  # fmt: skip
    row = session.scalars(select(model).where(model.idempotency_key == key)).one()
    if added is None and any(getattr(row, name) != values[name] for name in compared):
        raise IdempotencyError("key_reused", used_key=key)
    return row, added is not None


def _audit(
    session: Session, principal: Principal, action: str, deposit: SecurityDeposit,
    **detail: Decimal | str,
) -> None:  # fmt: skip
    audit.record(
        session, username=principal.username, action=action, entity_type="security_deposit",
        entity_id=deposit.security_deposit_id, province_code=deposit.province_code,
        detail={"account": deposit.account_id}
        | {name: str(value) for name, value in detail.items()},
    )  # fmt: skip
