"""Tables of schema billing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Text,
    UniqueConstraint,
    func,
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
        {"schema": "billing"},
    )

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
    charge_amount: Mapped[Money]
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
    """One line of a bill: a number's total of one bill item code."""

    __tablename__ = "bill_item"
    __table_args__ = {"schema": "billing"}  # noqa: RUF012 - SQLAlchemy's convention

    bill_id: Mapped[str] = mapped_column(Text, ForeignKey("billing.bill.bill_id"), primary_key=True)
    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id"), primary_key=True
    )
    bill_item_code: Mapped[Key]
    name_zh: Mapped[String]
    name_en: Mapped[String]
    quantity: Mapped[int | None] = mapped_column(BigInteger)  # null where units are mixed
    unit: Mapped[str | None] = mapped_column(Text)
    amount: Mapped[Money]
