"""Whom a line calls at another price: friend numbers 亲情号码, short numbers of groups 集团虚拟网.

Both hold from a moment to a moment: usage is priced by what held when it happened, so a row is
ended, never changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import func, or_, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from operational import audit
from operational.crm.models import (
    CallGroup,
    CallGroupMember,
    FriendNumber,
    Subscription,
)  # fmt: skip
from operational.crm.service import visible_customer, visible_subscription
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

_E164 = re.compile(r"[1-9][0-9]{7,14}")
_SHORT = re.compile(r"[2-8][0-9]{2,5}")  # the others belong to services, carriers and areas
_LARGEST_ID = 2**63 - 1


class RelationError(ConflictError):
    """The relation cannot be as things stand; the message says why."""


def e164(number: str) -> str:
    """The E.164 digits of a number as people write it; InvalidRequestError where it is none.

    Understood: +… and 00…, 0 + area code, mobile numbers of the country, and E.164 digits.
    """
    digits = re.sub(r"[\s()-]", "", number)
    if re.fullmatch(r"1[3-9][0-9]{9}", digits):
        digits = "86" + digits
    elif digits.startswith("+"):
        digits = digits[1:]
    elif digits.startswith("00"):
        digits = digits[2:]
    elif digits.startswith("0"):
        digits = "86" + digits[1:]
    if not _E164.fullmatch(digits):
        raise InvalidRequestError("bad_number")
    return digits


# Friend numbers ---------------------------------------------------------------------------------


def friend_numbers(
    session: Session, *, principal: Principal, subscription_id: str
) -> list[FriendNumber]:
    """Friend numbers of a subscription that hold or will; NotFoundError outside the province."""
    principal.require("customer.read")
    visible_subscription(session, principal, subscription_id)
    return list(
        session.scalars(
            select(FriendNumber)
            .where(FriendNumber.subscription_id == subscription_id, _is_standing(FriendNumber))
            .order_by(FriendNumber.valid_from, FriendNumber.friend_number_id)
        )
    )


def add_friend_number(
    settings: Settings, *, principal: Principal, subscription_id: str, number: str,
    valid_from: datetime | None = None,
) -> FriendNumber:  # fmt: skip
    """Name a number a friend of a line, from now or a moment to come, until it is ended.

    A number that is a friend already stays as it is. Raises InvalidRequestError for what is no
    number or begins in the past, RelationError for the line's own.
    """
    principal.require("relation.change")
    digits = e164(number)
    with transaction(settings) as session:
        subscription = visible_subscription(session, principal, subscription_id, is_locked=True)
        if digits == subscription.msisdn:
            raise RelationError("friend_is_self")
        present = session.scalar(
            select(FriendNumber).where(
                FriendNumber.subscription_id == subscription_id, FriendNumber.number == digits,
                _is_standing(FriendNumber),
            )
        )  # fmt: skip
        if present is not None:
            return present
        friend = FriendNumber(
            subscription_id=subscription_id, number=digits, valid_from=_start(session, valid_from)
        )
        session.add(friend)
        session.flush()
        _audit(session, principal, "add_friend_number", subscription, friend.friend_number_id)
        return friend


def end_friend_number(
    settings: Settings, *, principal: Principal, subscription_id: str, friend_number_id: int
) -> FriendNumber:
    """End a friend number now, or before it begins; ending it again changes nothing."""
    principal.require("relation.change")
    with transaction(settings) as session:
        subscription = visible_subscription(session, principal, subscription_id, is_locked=True)
        friend = None
        if 0 < friend_number_id <= _LARGEST_ID:
            friend = session.get(FriendNumber, friend_number_id)
        if friend is None or friend.subscription_id != subscription_id:
            raise NotFoundError("no_friend_number", friend_number_id=friend_number_id)
        if _end(session, friend):
            _audit(session, principal, "end_friend_number", subscription, friend_number_id)
        return friend


# Groups -----------------------------------------------------------------------------------------


def call_groups_of(
    session: Session, *, principal: Principal, customer_id: str
) -> list[CallGroup]:  # fmt: skip
    """The groups of a customer; NotFoundError outside the province."""
    principal.require("customer.read")
    visible_customer(session, principal, customer_id)
    return list(
        session.scalars(
            select(CallGroup)
            .where(CallGroup.customer_id == customer_id)
            .order_by(CallGroup.call_group_id)
        )
    )


def find_call_group(session: Session, *, principal: Principal, call_group_id: str) -> CallGroup:
    """One group; NotFoundError outside the province."""
    principal.require("customer.read")
    return _group(session, principal, call_group_id)


def members_of(
    session: Session, *, principal: Principal, call_group_id: str
) -> list[CallGroupMember]:  # fmt: skip
    """The members of a group that are in it or will be, by short number."""
    find_call_group(session, principal=principal, call_group_id=call_group_id)
    return list(
        session.scalars(
            select(CallGroupMember)
            .options(selectinload(CallGroupMember.subscription))
            .where(CallGroupMember.call_group_id == call_group_id, _is_standing(CallGroupMember))
            .order_by(CallGroupMember.short_number)
        )
    )


def membership_of(
    session: Session, *, principal: Principal, subscription_id: str
) -> CallGroupMember | None:  # fmt: skip
    """The group a line is in or will be, if any; NotFoundError outside the province."""
    principal.require("customer.read")
    visible_subscription(session, principal, subscription_id)
    return session.scalar(
        select(CallGroupMember)
        .options(selectinload(CallGroupMember.group))
        .where(CallGroupMember.subscription_id == subscription_id, _is_standing(CallGroupMember))
        .order_by(CallGroupMember.valid_from)
    )


def create_call_group(
    settings: Settings, *, principal: Principal, customer_id: str, name: str
) -> CallGroup:  # fmt: skip
    """Give a group customer a group with short numbers; one of the same name is returned as it is.

    Raises RelationError for a customer that is no group, InvalidRequestError without a name.
    """
    principal.require("relation.change")
    name = name.strip()
    if not 0 < len(name) <= 200:
        raise InvalidRequestError("bad_group_name")
    with transaction(settings) as session:
        customer = visible_customer(session, principal, customer_id, is_locked=True)
        if customer.customer_type != "group":
            raise RelationError("not_a_group_customer", customer_id=customer_id)
        present = session.scalar(
            select(CallGroup).where(CallGroup.customer_id == customer_id, CallGroup.name == name)
        )
        if present is not None:
            return present
        number = session.scalar(text("select nextval('crm.call_group_number')"))
        group = CallGroup(
            call_group_id=f"G{number:07d}", customer_id=customer_id, name=name,
            province_code=customer.province_code,
        )  # fmt: skip
        session.add(group)
        session.flush()
        audit.record(
            session, username=principal.username, action="create_call_group",
            entity_type="call_group", entity_id=group.call_group_id,
            province_code=group.province_code, detail={"customer_id": customer_id},
        )  # fmt: skip
        return group


def add_member(
    settings: Settings, *, principal: Principal, call_group_id: str, subscription_id: str,
    short_number: str, valid_from: datetime | None = None,
) -> CallGroupMember:  # fmt: skip
    """Take a line into a group, from now or a moment to come, until it leaves.

    A line that is in the group by this short number stays as it is. Raises RelationError where the
    line is in a group, or the short number is another member's; InvalidRequestError for what is no
    short number or begins in the past.
    """
    principal.require("relation.change")
    short_number = short_number.strip()
    if not _SHORT.fullmatch(short_number):
        raise InvalidRequestError("bad_short_number")
    with _refusing_overlaps(), transaction(settings) as session:
        group = _group(session, principal, call_group_id)
        subscription = visible_subscription(session, principal, subscription_id, is_locked=True)
        present = session.scalar(
            select(CallGroupMember).where(
                CallGroupMember.call_group_id == call_group_id,
                CallGroupMember.subscription_id == subscription_id,
                CallGroupMember.short_number == short_number,
                _is_standing(CallGroupMember),
            )
        )
        if present is not None:
            return present
        member = CallGroupMember(
            call_group_id=group.call_group_id, subscription_id=subscription_id,
            short_number=short_number, valid_from=_start(session, valid_from),
        )  # fmt: skip
        session.add(member)
        session.flush()
        _audit(session, principal, "join_call_group", subscription, group.call_group_id)
        return member


def end_member(
    settings: Settings, *, principal: Principal, call_group_id: str, call_group_member_id: int
) -> CallGroupMember:
    """Let a line leave a group now, or before it joins; leaving again changes nothing."""
    principal.require("relation.change")
    with transaction(settings) as session:
        _group(session, principal, call_group_id)
        member = None
        if 0 < call_group_member_id <= _LARGEST_ID:
            member = session.get(CallGroupMember, call_group_member_id)
        if member is None or member.call_group_id != call_group_id:
            raise NotFoundError("no_group_member", call_group_member_id=call_group_member_id)
        subscription = visible_subscription(
            session, principal, member.subscription_id, is_locked=True
        )
        if _end(session, member):
            _audit(session, principal, "leave_call_group", subscription, call_group_id)
        return member


@contextmanager
def _refusing_overlaps() -> Iterator[None]:
    """What the database's own constraints refuse, in words."""
    try:
        yield
    except IntegrityError as error:
        for constraint, code in (
            ("one_group_per_subscription", "in_group_already"),
            ("one_member_per_short_number", "short_number_taken"),
        ):
            if constraint in str(error.orig):
                raise RelationError(code) from error
        raise


def _is_standing(table: type[FriendNumber] | type[CallGroupMember]):  # type: ignore[no-untyped-def]
    return or_(table.valid_to.is_(None), table.valid_to > func.now())


def _start(session: Session, valid_from: datetime | None) -> datetime:
    now: datetime = session.scalars(select(func.now())).one()
    if valid_from is None:
        return now
    if valid_from.tzinfo is None:
        valid_from = valid_from.replace(tzinfo=UTC)
    if valid_from < now:
        raise InvalidRequestError("begins_in_the_past")
    return valid_from


def _end(session: Session, row: FriendNumber | CallGroupMember) -> bool:
    """End a row now, or where it has not begun at its beginning; whether that changed it."""
    now: datetime = session.scalars(select(func.now())).one()
    end = max(now, row.valid_from)
    if row.valid_to is not None and row.valid_to <= end:
        return False
    row.valid_to = end
    session.flush()
    return True


def _group(session: Session, principal: Principal, call_group_id: str) -> CallGroup:
    group = session.get(CallGroup, call_group_id)
    if group is None or not principal.sees(group.province_code):
        raise NotFoundError("no_call_group", call_group_id=call_group_id)
    return group


def _audit(
    session: Session, principal: Principal, action: str, subscription: Subscription,
    relation_id: int | str,
) -> None:  # fmt: skip
    audit.record(
        session, username=principal.username, action=action, entity_type="subscription",
        entity_id=subscription.subscription_id, province_code=subscription.province_code,
        detail={"relation": str(relation_id)},
    )  # fmt: skip
