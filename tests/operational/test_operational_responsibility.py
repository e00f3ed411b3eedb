"""Paying for lines of others: what is refused, what is kept, and who belongs to whom."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from operational.accounts import responsibility
from operational.billing.models import PaymentResponsibility
from operational.billing.service import advance_cycle, ensure_cycle
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)  # fmt: skip
from tests.operational.accounts_books import ACCOUNTS, AGENT, FINANCE, connect
from tollhouse.settings import Settings

ONE, TWO, THREE, FOUR = ACCOUNTS
FIRST = date(2026, 3, 1)


@pytest.fixture
def group(books: Settings) -> Settings:
    """Books in which customer 3 is a group with member 1, and 4 is a division with member 2."""
    with connect(books) as connection:
        connection.execute(
            "update crm.customer set customer_type = 'group'"
            " where customer_id in ('C0000003', 'C0000004')"
        )
    for member, parent in (("C0000001", "C0000003"), ("C0000002", "C0000004"),
                           ("C0000004", "C0000003")):  # fmt: skip
        responsibility.add_member(
            books, principal=FINANCE, customer_id=member, parent_customer_id=parent
        )
    return books


def add(books: Settings, key: str = "k", **more: Any) -> PaymentResponsibility:
    asked: dict[str, Any] = {
        "principal": FINANCE, "account_id": THREE, "subscription_id": "S0000001",
        "share_percent": Decimal(60), "valid_from": FIRST, "idempotency_key": key,
    } | more  # fmt: skip
    return responsibility.add_responsibility(books, **asked)


def test_a_share_is_kept_as_days_of_the_carrier(group: Settings) -> None:
    made = add(
        group, valid_to=date(2026, 5, 31), monthly_cap_amount=Decimal("20.00"),
        bill_item_codes=["voice", "rent", "voice"], share_percent=Decimal("33.333333"),
    )  # fmt: skip
    with connect(group) as connection:
        assert connection.execute(
            "select account_id, subscription_id, bill_item_codes, share_percent,"
            " monthly_cap_amount, valid_from at time zone 'Asia/Shanghai',"
            " valid_to at time zone 'Asia/Shanghai' from billing.payment_responsibility"
        ).fetchall()[0][:5] == (
            THREE, "S0000001", "rent,voice", Decimal("33.333333"), Decimal("20.00")
        )  # fmt: skip
        days = connection.execute(
            "select (valid_from at time zone 'Asia/Shanghai')::text,"
            " (valid_to at time zone 'Asia/Shanghai')::text from billing.payment_responsibility"
        ).fetchone()
    assert days == ("2026-03-01 00:00:00", "2026-06-01 00:00:00")
    with transaction(group) as session:
        payer = responsibility.responsibilities(session, principal=FINANCE, account_id=THREE)
        owner = responsibility.responsibilities(session, principal=FINANCE, account_id=ONE)
    assert [row.payment_responsibility_id for row in payer.paid_for] == [
        made.payment_responsibility_id
    ]
    assert [row.account_id for row in owner.paid_by] == [THREE]
    assert [row.customer_id for row in payer.members] == ["C0000001", "C0000004"]


def test_the_same_key_is_one_share_and_other_content_is_refused(group: Settings) -> None:
    assert add(group).payment_responsibility_id == add(group).payment_responsibility_id == "PR-k"
    with pytest.raises(ConflictError, match="other content"):
        add(group, share_percent=Decimal(10))


@pytest.mark.parametrize("share", ["0", "-1", "100.000001", "12.3456789", "NaN"])
def test_a_wrong_share_is_refused(group: Settings, share: str) -> None:
    with pytest.raises(InvalidRequestError, match="more than 0 and at most 100"):
        add(group, share_percent=Decimal(share))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"monthly_cap_amount": Decimal(0)}, "an amount is positive"),
        ({"valid_to": date(2026, 2, 28)}, "before it begins"),
        ({"bill_item_codes": ["voice", "fly"]}, "no bill item fly"),
        ({"idempotency_key": ""}, "idempotency key"),
    ],
)
def test_wrong_terms_are_refused_in_plain_words(
    group: Settings, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        add(group, **wrong)


def test_only_lines_of_the_group_are_paid_for_at_any_depth(group: Settings) -> None:
    add(group, "deep", subscription_id="S0000002")  # member of a division of the group
    with pytest.raises(ConflictError, match="no member of C0000004"):
        add(group, account_id=FOUR)  # the division is not above customer 1
    with pytest.raises(ConflictError, match="no member of C0000001"):
        add(group, account_id=ONE, subscription_id="S0000003")  # nor a member above its group
    with pytest.raises(ConflictError, match="pays for it anyway"):
        add(group, subscription_id="S0000003")


def test_shares_of_an_item_never_exceed_the_whole_on_any_day(group: Settings) -> None:
    two = {"subscription_id": "S0000002", "share_percent": Decimal(60)}
    add(group, "a", **two, bill_item_codes=["voice", "rent"], valid_to=date(2026, 6, 30))
    with pytest.raises(ConflictError, match="40 percent are left"):
        add(group, "b", **two, account_id=FOUR, valid_from=date(2026, 6, 30))
    add(group, "c", **two, account_id=FOUR, bill_item_codes=["data"])
    add(group, "d", **two, account_id=FOUR, bill_item_codes=["voice"],
        valid_from=date(2026, 7, 1))  # fmt: skip
    with pytest.raises(ConflictError, match=r"already \(PR-c\)"):
        add(group, "e", **two | {"share_percent": Decimal(1)}, account_id=FOUR)


def test_nothing_begins_or_ends_in_a_cycle_that_is_approved(group: Settings) -> None:
    ensure_cycle(group, "2026-03", group.timezone)
    made = add(group)
    for state in ("cut_off", "trial", "approved"):
        advance_cycle(group, "2026-03", state, "test", "test")
    with pytest.raises(ConflictError, match="the earliest day is 2026-04-01"):
        add(group, "late", subscription_id="S0000002", valid_from=date(2026, 3, 31))
    end: dict[str, Any] = {
        "principal": FINANCE, "payment_responsibility_id": made.payment_responsibility_id,
    }  # fmt: skip
    with pytest.raises(ConflictError, match="the earliest day is 2026-04-01"):
        responsibility.end_responsibility(group, last_day=date(2026, 3, 15), **end)
    with pytest.raises(InvalidRequestError, match="2026-03-01"):
        responsibility.end_responsibility(group, last_day=date(2026, 2, 1), **end)
    for _ in range(2):
        responsibility.end_responsibility(group, last_day=date(2026, 4, 30), **end)
    with pytest.raises(InvalidRequestError):
        responsibility.end_responsibility(group, last_day=date(2026, 5, 1), **end)


def test_closed_accounts_and_ended_lines_take_no_share(group: Settings) -> None:
    with connect(group) as connection:
        connection.execute("update crm.subscription set status = 'terminated'"
                           " where subscription_id = 'S0000001'")  # fmt: skip
        connection.execute("update crm.account set status = 'closed' where account_id = %s",
                           (FOUR,))  # fmt: skip
    with pytest.raises(ConflictError, match="has ended"):
        add(group)
    with pytest.raises(ConflictError, match="is closed"):
        add(group, account_id=FOUR, subscription_id="S0000002")


def test_who_may_not_see_the_province_or_has_not_the_role_cannot_enter(group: Settings) -> None:
    with pytest.raises(NotFoundError, match=THREE):
        add(group, principal=AGENT)
    with pytest.raises(ForbiddenError, match=r"responsibility\.manage"):
        add(group, principal=Principal("a", "a", "analyst", "00"))


def test_a_customer_is_below_one_group_and_never_below_itself(group: Settings) -> None:
    with pytest.raises(ConflictError, match="is above"):
        responsibility.add_member(
            group, principal=FINANCE, customer_id="C0000003", parent_customer_id="C0000004"
        )
    with pytest.raises(ConflictError, match="no group or household"):
        responsibility.add_member(
            group, principal=FINANCE, customer_id="C0000003", parent_customer_id="C0000001"
        )
    for child, parent in (("C0000003", "C0000004"), ("C0000004", "C0000001")):
        with pytest.raises(psycopg.errors.RestrictViolation), connect(group) as connection:
            connection.execute(
                "update crm.customer set parent_customer_id = %s where customer_id = %s",
                (parent, child),
            )


def test_what_is_entered_is_in_the_audit_log(group: Settings) -> None:
    add(group)
    with connect(group) as connection:
        rows = connection.execute(
            "select username, action, detail ->> 'share' from identity.audit_log"
            " where action like '%%responsibility'"
        ).fetchall()
    assert rows == [("finance", "add_payment_responsibility", "60")]
