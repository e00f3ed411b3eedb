"""Tables of schemas crm and resource."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, Numeric, Text, func
from sqlalchemy import text as sql_text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from operational.catalogue.models import Offering
from operational.columns import Document, Key, Moment, Money, String, Timestamped, Versioned
from operational.database import Base


class Customer(Versioned, Base):
    """One customer: a person, a household or a group."""

    __tablename__ = "customer"
    __table_args__ = (
        Index("customer_name", "name", postgresql_ops={"name": "text_pattern_ops"}),
        Index("customer_id_number", "id_number"),
        Index(
            "customer_parent",
            "parent_customer_id",
            postgresql_where=sql_text("parent_customer_id is not null"),
        ),
        {"schema": "crm"},
    )

    customer_id: Mapped[Key]
    customer_type: Mapped[String]
    name: Mapped[String]
    id_number: Mapped[String | None]
    segment: Mapped[String | None]
    province_code: Mapped[String]
    # The group or household it is a member of.
    parent_customer_id: Mapped[str | None] = mapped_column(
        Text, ForeignKey("crm.customer.customer_id")
    )
    accounts: Mapped[list[Account]] = relationship(
        back_populates="customer", order_by="Account.account_id"
    )


class Account(Versioned, Base):
    """Who pays: one account of a customer."""

    __tablename__ = "account"
    __table_args__ = (Index("account_customer", "customer_id"), {"schema": "crm"})

    account_id: Mapped[Key]
    customer_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.customer.customer_id"))
    account_name: Mapped[String]
    time_zone: Mapped[String | None]
    bill_language: Mapped[String]
    status: Mapped[String]
    province_code: Mapped[String]
    customer: Mapped[Customer] = relationship(back_populates="accounts")
    subscriptions: Mapped[list[Subscription]] = relationship(
        back_populates="account", order_by="Subscription.subscription_id"
    )


class Subscription(Versioned, Base):
    """One number served for an account, while it is valid."""

    __tablename__ = "subscription"
    __table_args__ = (
        Index("subscription_account", "account_id"),
        Index("subscription_msisdn", "msisdn", postgresql_ops={"msisdn": "text_pattern_ops"}),
        {"schema": "crm"},
    )

    subscription_id: Mapped[Key]
    account_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.account.account_id"))
    msisdn: Mapped[String]
    imsi: Mapped[String | None]
    service_type: Mapped[String]
    payment_type: Mapped[String]
    status: Mapped[String]
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    province_code: Mapped[String]
    account: Mapped[Account] = relationship(back_populates="subscriptions")
    products: Mapped[list[ProductInstance]] = relationship(
        back_populates="subscription", order_by="ProductInstance.valid_from"
    )


class ProductInstance(Timestamped, Base):
    """One plan, add-on or bundle of a subscription, while it is valid.

    What is held through a bundle, on its line or another of the account, names it.
    """

    __tablename__ = "product_instance"
    __table_args__ = (
        Index("product_instance_subscription", "subscription_id"),
        Index("product_instance_offering", "offering_id"),
        Index(
            "product_instance_bundle",
            "bundle_instance_id",
            postgresql_where=sql_text("bundle_instance_id is not null"),
        ),
        {"schema": "crm"},
    )

    product_instance_id: Mapped[Key]
    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    offering_id: Mapped[str] = mapped_column(Text, ForeignKey("catalogue.offering.offering_id"))
    role: Mapped[String]
    bundle_instance_id: Mapped[str | None] = mapped_column(
        Text, ForeignKey("crm.product_instance.product_instance_id")
    )
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    subscription: Mapped[Subscription] = relationship(back_populates="products")
    offering: Mapped[Offering] = relationship()
    bundle: Mapped[ProductInstance | None] = relationship(
        remote_side="ProductInstance.product_instance_id"
    )


class SubscriptionStatus(Timestamped, Base):
    """A status of a subscription and since when; the database keeps it. Append-only."""

    __tablename__ = "subscription_status"
    __table_args__ = (
        Index("subscription_status_subscription", "subscription_id"), {"schema": "crm"},
    )  # fmt: skip

    subscription_status_id: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), primary_key=True
    )
    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    status: Mapped[String]
    valid_from: Mapped[Moment]


class FriendNumber(Timestamped, Base):
    """One number that a subscription calls at a price of its own, while that holds."""

    __tablename__ = "friend_number"
    __table_args__ = (Index("friend_number_subscription", "subscription_id"), {"schema": "crm"})

    friend_number_id: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), primary_key=True
    )
    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    number: Mapped[String]
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]


class CallGroup(Timestamped, Base):
    """One group of a customer whose members call each other by short numbers."""

    __tablename__ = "call_group"
    __table_args__ = (Index("call_group_customer", "customer_id"), {"schema": "crm"})

    call_group_id: Mapped[Key]
    customer_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.customer.customer_id"))
    name: Mapped[String]
    province_code: Mapped[String]
    customer: Mapped[Customer] = relationship()
    members: Mapped[list[CallGroupMember]] = relationship(
        back_populates="group", order_by="CallGroupMember.short_number"
    )


class CallGroupMember(Timestamped, Base):
    """One subscription in a group, while that holds."""

    __tablename__ = "call_group_member"
    __table_args__ = (
        Index("call_group_member_subscription", "subscription_id"),
        Index("call_group_member_group", "call_group_id"),
        {"schema": "crm"},
    )

    call_group_member_id: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), primary_key=True
    )
    call_group_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.call_group.call_group_id"))
    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    short_number: Mapped[String]
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    group: Mapped[CallGroup] = relationship(back_populates="members")
    subscription: Mapped[Subscription] = relationship()


class CustomerOrder(Versioned, Base):
    """One order and the state it is in."""

    __tablename__ = "customer_order"
    __table_args__ = {"schema": "crm"}  # noqa: RUF012 - SQLAlchemy's convention

    order_id: Mapped[Key]
    order_type: Mapped[String]
    state: Mapped[String]
    customer_id: Mapped[str | None] = mapped_column(Text, ForeignKey("crm.customer.customer_id"))
    subscription_id: Mapped[str | None] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id")
    )
    requested: Mapped[Document]
    placed_by: Mapped[String]
    completed_at: Mapped[Moment | None]
    province_code: Mapped[String]
    events: Mapped[list[CustomerOrderEvent]] = relationship(
        back_populates="order", order_by="CustomerOrderEvent.event_id"
    )


class CustomerOrderEvent(Timestamped, Base):
    """One step of an order from state to state. Append-only."""

    __tablename__ = "customer_order_event"
    __table_args__ = (Index("customer_order_event_order", "order_id"), {"schema": "crm"})

    event_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    order_id: Mapped[str] = mapped_column(Text, ForeignKey("crm.customer_order.order_id"))
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    from_state: Mapped[String | None]
    to_state: Mapped[String]
    by_user: Mapped[String]
    order: Mapped[CustomerOrder] = relationship(back_populates="events")


class CustomerOrderTransition(Base):
    """One allowed step of an order."""

    __tablename__ = "customer_order_transition"
    __table_args__ = {"schema": "crm"}  # noqa: RUF012 - SQLAlchemy's convention

    from_state: Mapped[Key]
    to_state: Mapped[Key]


# Churn deciles: 1 holds the subscriptions most likely to leave, 10 the least. So far it warns.
LAST_WARNING_DECILE = 3


class CustomerScore(Timestamped, Base):
    """Churn warning and value of one subscription, as last published."""

    __tablename__ = "customer_score"
    __table_args__ = (Index("customer_score_customer", "customer_id"), {"schema": "crm"})

    subscription_id: Mapped[str] = mapped_column(
        Text, ForeignKey("crm.subscription.subscription_id"), primary_key=True
    )
    account_id: Mapped[String]
    customer_id: Mapped[String]
    province_code: Mapped[String]
    churn_probability: Mapped[Decimal] = mapped_column(Numeric(9, 6))
    churn_decile: Mapped[int]
    churn_reasons: Mapped[String]
    value_amount: Mapped[Money]
    value_segment: Mapped[String]
    value_at_risk_amount: Mapped[Money]
    model_version: Mapped[String]
    data_cut_off: Mapped[date]
    run_id: Mapped[String]
    published_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )

    @property
    def is_warning(self) -> bool:
        """Whether the subscription is likely enough to leave to warn of it."""
        return self.churn_decile <= LAST_WARNING_DECILE

    @property
    def is_highest(self) -> bool:
        """Whether it is among the tenth most likely to leave."""
        return self.churn_decile == 1


class Msisdn(Timestamped, Base):
    """One number of the pool."""

    __tablename__ = "msisdn"
    __table_args__ = (
        Index(
            "msisdn_free", "province_code", "msisdn",
            postgresql_where=sql_text("status = 'free'"),
        ),
        {"schema": "resource"},
    )  # fmt: skip

    msisdn: Mapped[Key]
    province_code: Mapped[String]
    status: Mapped[String]
