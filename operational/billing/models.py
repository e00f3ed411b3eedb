"""Tables of schema billing."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    text,
)  # fmt: skip
from sqlalchemy.orm import Mapped, mapped_column, relationship

from operational.columns import Key, Moment, Money, String, Timestamped, Versioned
from operational.database import Base


class BillingCycle(Versioned, Base):
    """One calendar month of billing and its state; final is immutable."""

    __tablename__ = "billing_cycle"
    __table_args__ = {"schema": "billing"}  # noqa: RUF012 - SQLAlchemy's convention

    cycle_id: Mapped[Key]
    starts_at: Mapped[Moment]
    ends_at: Mapped[Moment]
    state: Mapped[str] = mapped_column(Text, server_default="open", default="open")
    events: Mapped[list[BillingCycleEvent]] = relationship(order_by="BillingCycleEvent.event_id")


class BillingCycleEvent(Timestamped, Base):
    """One step of a cycle from state to state. Append-only."""

    __tablename__ = "billing_cycle_event"
    __table_args__ = (Index("billing_cycle_event_cycle", "cycle_id"), {"schema": "billing"})

    event_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    cycle_id: Mapped[str] = mapped_column(Text, ForeignKey("billing.billing_cycle.cycle_id"))
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    from_state: Mapped[String | None]
    to_state: Mapped[String]
    by_user: Mapped[String]
    reason: Mapped[String]


class BillingCycleTransition(Base):
    """One allowed step of a cycle."""

    __tablename__ = "billing_cycle_transition"
    __table_args__ = {"schema": "billing"}  # noqa: RUF012 - SQLAlchemy's convention

    from_state: Mapped[Key]
    to_state: Mapped[Key]


class Payment(Timestamped, Base):
    """Money received, or given back (then negative). Append-only; a mistake is reversed."""

    __tablename__ = "payment"
    __table_args__ = (
        Index("payment_account", "account_id", "paid_at"),
        Index("payment_reversed_once", "reverses_payment_id", unique=True),
        Index(
            "payment_security_deposit", "security_deposit_id",
            postgresql_where=text("security_deposit_id is not null"),
        ),
        {"schema": "billing"},
    )  # fmt: skip

    payment_id: Mapped[Key]
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    paid_at: Mapped[Moment]
    amount: Mapped[Money]
    currency_code: Mapped[String]
    channel: Mapped[str] = mapped_column(Text, ForeignKey("billing.payment_channel.channel"))
    idempotency_key: Mapped[str] = mapped_column(Text, unique=True)
    province_code: Mapped[String]
    payment_type: Mapped[str] = mapped_column(Text, server_default="payment", default="payment")
    reverses_payment_id: Mapped[str | None] = mapped_column(
        Text, ForeignKey("billing.payment.payment_id")
    )
    reason_code: Mapped[str | None] = mapped_column(
        Text, ForeignKey("billing.reason_code.reason_code")
    )
    reference: Mapped[String | None]
    taken_by: Mapped[String | None]
    security_deposit_id: Mapped[str | None] = mapped_column(  # which it was applied from
        Text, ForeignKey("billing.security_deposit.security_deposit_id")
    )


class PaymentResponsibility(Timestamped, Base):
    """An account pays a share of the bill items of a line of another account."""

    __tablename__ = "payment_responsibility"
    __table_args__ = (
        Index("payment_responsibility_account", "account_id"),
        Index("payment_responsibility_line", "subscription_id"),
        {"schema": "billing"},
    )

    payment_responsibility_id: Mapped[Key]
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    bill_item_codes: Mapped[str | None] = mapped_column(Text)  # comma list; null = all
    share_percent: Mapped[Decimal] = mapped_column(Numeric(9, 6))
    monthly_cap_amount: Mapped[Decimal | None] = mapped_column(Numeric(18, 2))
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]


class Bill(Timestamped, Base):
    """One account's bill of one cycle, as published by the pipeline."""

    __tablename__ = "bill"
    __table_args__ = (
        UniqueConstraint("account_id", "cycle_id"),
        Index("bill_cycle", "cycle_id", "published_at"),
        {"schema": "billing"},
    )

    bill_id: Mapped[Key]
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    cycle_id: Mapped[str] = mapped_column(Text, ForeignKey("billing.billing_cycle.cycle_id"))
    province_code: Mapped[String]
    opening_amount: Mapped[Money]
    item_amount: Mapped[Money]  # before discounts
    discount_amount: Mapped[Money] = mapped_column(server_default="0")
    shared_amount: Mapped[Money] = mapped_column(server_default="0")  # for others, less by others
    charge_amount: Mapped[Money]  # items less discounts plus shares, tax included
    tax_amount: Mapped[Money] = mapped_column(server_default="0")
    # Notes, late fees, bonus money, write-offs; positive is owed.
    adjustment_amount: Mapped[Money] = mapped_column(server_default="0")
    payment_amount: Mapped[Money]
    closing_amount: Mapped[Money]
    currency_code: Mapped[String]
    content_hash: Mapped[String]
    published_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    cycle: Mapped[BillingCycle] = relationship()
    items: Mapped[list[BillItem]] = relationship(order_by="BillItem.subscription_id")


class BillItem(Timestamped, Base):
    """A part of one line of a bill: a number's charges of one code, or what changes them."""

    __tablename__ = "bill_item"
    __table_args__ = (
        UniqueConstraint(
            "bill_id", "subscription_id", "bill_item_code", "item_kind", "discount_id",
            "other_account_id", postgresql_nulls_not_distinct=True,
        ),
        {"schema": "billing"},
    )  # fmt: skip

    bill_item_key: Mapped[Key]
    bill_id: Mapped[str] = mapped_column(Text, ForeignKey("billing.bill.bill_id"))
    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    bill_item_code: Mapped[String]
    item_kind: Mapped[str] = mapped_column(Text, server_default="charge")
    discount_id: Mapped[str | None] = mapped_column(Text)
    other_account_id: Mapped[str | None] = mapped_column(  # of a share: who pays, or for whom
        Text, ForeignKey("crm.account.account_id")
    )
    name_zh: Mapped[String]
    name_en: Mapped[String]
    quantity: Mapped[int | None] = mapped_column(BigInteger)  # null where units are mixed
    unit: Mapped[str | None] = mapped_column(Text)
    base_amount: Mapped[Decimal | None] = mapped_column(Numeric(18, 2))
    amount: Mapped[Money]
    tax_class: Mapped[str | None] = mapped_column(Text)
    tax_rate_percent: Mapped[Decimal | None] = mapped_column(Numeric(9, 4))
    tax_amount: Mapped[Decimal | None] = mapped_column(Numeric(18, 2))


class BillMovement(Timestamped, Base):
    """A payment or adjustment (an entry of the ledger) that a bill's balance counts."""

    __tablename__ = "bill_movement"
    __table_args__ = (
        UniqueConstraint("payment_id"),
        UniqueConstraint("entry_id"),
        Index("bill_movement_bill", "bill_id"),
        {"schema": "billing"},
    )

    bill_movement_key: Mapped[Key]
    bill_id: Mapped[str] = mapped_column(Text, ForeignKey("billing.bill.bill_id"))
    payment_id: Mapped[str | None] = mapped_column(Text, ForeignKey("billing.payment.payment_id"))
    entry_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("billing.ledger_entry.entry_id")
    )
    amount: Mapped[Money]
