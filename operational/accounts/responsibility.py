"""Who pays for lines of others 分摊付款: shares, caps and days, within a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from operational import audit
from operational.accounts.service import check_days, checked_amount, find_account
from operational.billing.models import BillingCycle, PaymentResponsibility
from operational.control.rollbacks import CLOSED_STATES
from operational.crm.models import Account, Customer, Subscription
from operational.crm.service import visible_customer, visible_subscription
from operational.database import transaction
from operational.i18n import has_message
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from operational.ratecards import midnight
from tollhouse.settings import Settings

WHOLE = Decimal(100)
SMALLEST_SHARE = Decimal("0.000001")


@dataclass(frozen=True)
class Responsibilities:
    """Whom an account pays for, who pays for its lines, and the members of its customer."""

    paid_for: list[PaymentResponsibility]
    paid_by: list[PaymentResponsibility]
    members: list[Customer]


def parse_percent(text: str) -> Decimal:
    """A share in percent as typed."""
    try:
        return Decimal(text.strip().rstrip("%").strip())
    except ArithmeticError:
        raise InvalidRequestError("share_wrong") from None


def add_member(
    settings: Settings, *, principal: Principal, customer_id: str, parent_customer_id: str
) -> Customer:
    """Make a customer a member of a group or household; it leaves the one it was in.

    Raises ConflictError for a parent that has no members, or that is below the customer.
    """
    principal.require("responsibility.manage")
    with transaction(settings) as session:
        member = visible_customer(session, principal, customer_id)
        parent = visible_customer(session, principal, parent_customer_id)
        if parent.customer_type == "individual":
            raise ConflictError("no_group", customer_id=parent_customer_id)
        if customer_id in _line_of(session, parent_customer_id):
            raise ConflictError(
                "group_circle", customer_id=customer_id, parent_customer_id=parent_customer_id
            )
        if member.parent_customer_id != parent_customer_id:
            audit.record(
                session, username=principal.username, action="add_group_member",
                entity_type="customer", entity_id=customer_id,
                province_code=member.province_code,
                detail={"from": member.parent_customer_id, "to": parent_customer_id},
            )  # fmt: skip
            member.parent_customer_id = parent_customer_id
        return member


def add_responsibility(
    settings: Settings, *, principal: Principal, account_id: str, subscription_id: str,
    share_percent: Decimal, valid_from: date, idempotency_key: str, valid_to: date | None = None,
    monthly_cap_amount: Decimal | None = None, bill_item_codes: Sequence[str] = (),
) -> PaymentResponsibility:  # fmt: skip
    """Let an account pay a share of a line's bill items, from one day to another (both included).

    No codes: all items; no cap: without limit. Who pays at the end of a cycle pays for the cycle.
    The same key with the same content again returns what was entered. Raises InvalidRequestError
    for a wrong share, cap, day or code; ConflictError where the line is the account's own, belongs
    to nobody in its group, is paid for by more than the whole, or a cycle is billed already.
    """
    principal.require("responsibility.manage")
    if not 1 <= len(idempotency_key) <= 200 or not idempotency_key.isprintable():
        raise InvalidRequestError("key_missing")
    codes = _check_terms(share_percent, valid_from, valid_to, bill_item_codes)
    cap = None if monthly_cap_amount is None else checked_amount(monthly_cap_amount)
    added = PaymentResponsibility(
        payment_responsibility_id=f"PR-{idempotency_key}", account_id=account_id,
        subscription_id=subscription_id, bill_item_codes=codes, share_percent=share_percent,
        monthly_cap_amount=cap, valid_from=midnight(valid_from, settings.timezone),
        valid_to=None if valid_to is None else _after(valid_to, settings.timezone),
    )  # fmt: skip
    with transaction(settings) as session:
        payer = find_account(session, principal=principal, account_id=account_id)
        # Shares of one line are entered one after the other.
        line = visible_subscription(session, principal, subscription_id, is_locked=True)
        found = session.get(PaymentResponsibility, added.payment_responsibility_id)
        if found is not None:
            if any(getattr(found, name) != getattr(added, name) for name in _COMPARED):
                raise ConflictError("key_reused", used_key=idempotency_key)
            return found
        _check_parties(session, payer, line, added.valid_from)
        _check_open(session, settings, valid_from, added.valid_from)
        _check_whole(session, added)
        session.add(added)
        _audit(session, principal, "add_payment_responsibility", payer, added)
        session.flush()
        return added


def end_responsibility(
    settings: Settings, *, principal: Principal, payment_responsibility_id: str, last_day: date
) -> PaymentResponsibility:
    """Let an account stop paying after a day; only earlier than was said, in a cycle still open."""
    principal.require("responsibility.manage")
    check_days(last_day=last_day)
    with transaction(settings) as session:
        found = session.get(PaymentResponsibility, payment_responsibility_id, with_for_update=True)
        payer = None if found is None else session.get(Account, found.account_id)
        if found is None or payer is None or not principal.sees(payer.province_code):
            raise NotFoundError(
                "no_responsibility", payment_responsibility_id=payment_responsibility_id
            )
        ends_at = _after(last_day, settings.timezone)
        if ends_at == found.valid_to:
            return found
        if ends_at <= found.valid_from or (found.valid_to and ends_at > found.valid_to):
            first = found.valid_from.astimezone(ZoneInfo(settings.timezone)).date()
            raise InvalidRequestError("responsibility_end", first=first)
        _check_open(session, settings, last_day, ends_at)
        found.valid_to = ends_at
        _audit(session, principal, "end_payment_responsibility", payer, found)
        return found


def responsibilities(
    session: Session, *, principal: Principal, account_id: str
) -> Responsibilities:
    """What an account pays for others, what others pay for it, and its customer's members."""
    principal.require("receivable.read")
    account = find_account(session, principal=principal, account_id=account_id)
    query = select(PaymentResponsibility).order_by(
        PaymentResponsibility.valid_from, PaymentResponsibility.payment_responsibility_id
    )
    own_lines = select(Subscription.subscription_id).where(Subscription.account_id == account_id)
    members = principal.only_own_province(
        select(Customer).where(Customer.parent_customer_id == account.customer_id)
        .order_by(Customer.customer_id),
        Customer.province_code,
    )  # fmt: skip
    return Responsibilities(
        list(session.scalars(query.where(PaymentResponsibility.account_id == account_id))),
        list(session.scalars(query.where(PaymentResponsibility.subscription_id.in_(own_lines)))),
        list(session.scalars(members)),
    )


_COMPARED = (
    "account_id", "subscription_id", "bill_item_codes", "share_percent", "monthly_cap_amount",
    "valid_from", "valid_to",
)  # fmt: skip


def _check_terms(
    share: Decimal, valid_from: date, valid_to: date | None, codes: Sequence[str]
) -> str | None:
    if not share.is_finite() or not 0 < share <= WHOLE or share % SMALLEST_SHARE:
        raise InvalidRequestError("share_wrong")
    check_days(valid_from=valid_from, valid_to=valid_to)
    if valid_to is not None and valid_to < valid_from:
        raise InvalidRequestError("period_wrong", first=valid_from, last=valid_to)
    unknown = [code for code in codes if not has_message(f"bill_item.{code}")]
    if unknown:
        raise InvalidRequestError("bill_item_unknown", names=unknown)
    return ",".join(sorted(set(codes))) or None


def _check_parties(
    session: Session, payer: Account, line: Subscription, valid_from: datetime
) -> None:
    if payer.status == "closed":
        raise ConflictError("account_closed", account_id=payer.account_id)
    if line.status == "terminated" or (line.valid_to and line.valid_to <= valid_from):
        raise ConflictError("line_ended", subscription_id=line.subscription_id)
    if line.account_id == payer.account_id:
        raise ConflictError(
            "line_is_own", subscription_id=line.subscription_id, account_id=payer.account_id
        )
    owner = session.get_one(Account, line.account_id).customer_id
    if payer.customer_id not in _line_of(session, owner):
        raise ConflictError(
            "line_outside_group", subscription_id=line.subscription_id, customer_id=owner,
            payer_customer_id=payer.customer_id,
        )  # fmt: skip


def _check_open(session: Session, settings: Settings, day: date, moment: datetime) -> None:
    """Nothing may begin or end before the last moment that is approved or final."""
    billed_until = session.scalar(
        select(func.max(BillingCycle.ends_at)).where(BillingCycle.state.in_(CLOSED_STATES))
    )
    if billed_until is not None and moment < billed_until:
        earliest = billed_until.astimezone(ZoneInfo(settings.timezone)).date()
        raise ConflictError("responsibility_billed", day=day, earliest=earliest)


def _check_whole(session: Session, added: PaymentResponsibility) -> None:
    """Of no bill item more than the whole is paid on any day, and no payer promises it twice."""
    others = [
        row
        for row in session.scalars(
            select(PaymentResponsibility).where(
                PaymentResponsibility.subscription_id == added.subscription_id,
                or_(
                    PaymentResponsibility.valid_to.is_(None),
                    PaymentResponsibility.valid_to > added.valid_from,
                ),
            )
        )
        if (added.valid_to is None or row.valid_from < added.valid_to) and _meet(row, added)
    ]
    for row in others:
        if row.account_id == added.account_id:
            raise ConflictError(
                "responsibility_twice", account_id=added.account_id,
                subscription_id=added.subscription_id,
                payment_responsibility_id=row.payment_responsibility_id,
            )  # fmt: skip
    codes = {code for row in (*others, added) for code in (row.bill_item_codes or "").split(",")}
    for moment in {added.valid_from, *(row.valid_from for row in others)}:
        for code in codes:
            shares = [
                row.share_percent for row in (*others, added)
                if row.valid_from <= max(moment, added.valid_from)
                and (row.valid_to is None or row.valid_to > max(moment, added.valid_from))
                and (row.bill_item_codes is None or code in row.bill_item_codes.split(","))
            ]  # fmt: skip
            if sum(shares) > WHOLE:
                left = WHOLE - (sum(shares) - added.share_percent)
                raise ConflictError(
                    "shares_exceed_whole", subscription_id=added.subscription_id,
                    left=f"{left.normalize():f}",
                )  # fmt: skip


def _meet(one: PaymentResponsibility, other: PaymentResponsibility) -> bool:
    """Whether two are for a common bill item."""
    if one.bill_item_codes is None or other.bill_item_codes is None:
        return True
    return bool(set(one.bill_item_codes.split(",")) & set(other.bill_item_codes.split(",")))


def _line_of(session: Session, customer_id: str) -> list[str]:
    """A customer, the group it is a member of, the group of that, and so on."""
    line, above = [customer_id], session.get_one(Customer, customer_id).parent_customer_id
    while above is not None and above not in line:
        line.append(above)
        above = session.get_one(Customer, above).parent_customer_id
    return line


def _after(day: date, timezone: str) -> datetime:
    """The first moment after a civil day."""
    return midnight(date.fromordinal(day.toordinal() + 1), timezone)


def _audit(
    session: Session, principal: Principal, action: str, payer: Account, row: PaymentResponsibility
) -> None:
    audit.record(
        session, username=principal.username, action=action, entity_type="payment_responsibility",
        entity_id=row.payment_responsibility_id, province_code=payer.province_code,
        detail={
            "account": row.account_id, "subscription": row.subscription_id,
            "share": str(row.share_percent), "items": row.bill_item_codes,
            "cap": None if row.monthly_cap_amount is None else str(row.monthly_cap_amount),
            "from": row.valid_from.isoformat(),
            "to": None if row.valid_to is None else row.valid_to.isoformat(),
        },
    )  # fmt: skip
