"""Tables of schema catalogue."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from operational.columns import Key, Large, Moment, Price, String, Timestamped
from operational.database import Base


class Offering(Timestamped, Base):
    """One thing a customer can buy: a plan or an add-on."""

    __tablename__ = "offering"
    __table_args__ = {"schema": "catalogue"}  # noqa: RUF012 - SQLAlchemy's convention

    offering_id: Mapped[Key]
    offering_type: Mapped[String]
    name_zh: Mapped[String]
    name_en: Mapped[String]
    status: Mapped[String]


class PricePlanVersion(Timestamped, Base):
    """One version of an offering's prices; rating uses the one in force at the event."""

    __tablename__ = "price_plan_version"
    __table_args__ = (UniqueConstraint("offering_id", "version_number"), {"schema": "catalogue"})

    plan_version_id: Mapped[Key]
    offering_id: Mapped[str] = mapped_column(Text, ForeignKey("catalogue.offering.offering_id"))
    version_number: Mapped[int]
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    monthly_fee_amount: Mapped[Price]
    currency_code: Mapped[String]


class UsagePrice(Timestamped, Base):
    """The price of one charge class in one version."""

    __tablename__ = "usage_price"
    __table_args__ = (UniqueConstraint("plan_version_id", "charge_class"), {"schema": "catalogue"})

    usage_price_id: Mapped[Key]
    plan_version_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.price_plan_version.plan_version_id")
    )
    charge_class: Mapped[String]
    model: Mapped[String]
    repeat_quantity: Mapped[Large | None]
    rounding_mode: Mapped[String]
    rounding_digits: Mapped[int]
    bill_item_code: Mapped[String]


class PriceTier(Timestamped, Base):
    """One tier of a usage price."""

    __tablename__ = "price_tier"
    __table_args__ = {"schema": "catalogue"}  # noqa: RUF012 - SQLAlchemy's convention

    usage_price_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.usage_price.usage_price_id"), primary_key=True
    )
    tier_number: Mapped[int] = mapped_column(primary_key=True)
    from_quantity: Mapped[Large]
    to_quantity: Mapped[Large | None]
    increment_quantity: Mapped[Large]
    per_quantity: Mapped[Large]
    price_amount: Mapped[Price]


class Allowance(Timestamped, Base):
    """One bucket of free units a version grants each cycle."""

    __tablename__ = "allowance"
    __table_args__ = {"schema": "catalogue"}  # noqa: RUF012 - SQLAlchemy's convention

    allowance_id: Mapped[Key]
    plan_version_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.price_plan_version.plan_version_id")
    )
    unit: Mapped[String]
    size_quantity: Mapped[Large]
    priority: Mapped[int]
    scope: Mapped[String]
    quantity_basis: Mapped[String]
    rounding_increment: Mapped[Large]


class AllowanceCoverage(Timestamped, Base):
    """One charge class an allowance covers."""

    __tablename__ = "allowance_coverage"
    __table_args__ = {"schema": "catalogue"}  # noqa: RUF012 - SQLAlchemy's convention

    allowance_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.allowance.allowance_id"), primary_key=True
    )
    charge_class: Mapped[Key]
