"""Tables of schema catalogue."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from sqlalchemy import ForeignKey, Index, Numeric, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from operational.columns import Key, Moment, Money, Price, String, Timestamped
from operational.database import Base

Quantity = Annotated[Decimal, mapped_column(Numeric(24, 6))]  # seconds, octets or events
Numerator = Annotated[int, mapped_column(Numeric(38, 0, asdecimal=False))]

_SCHEMA = {"schema": "catalogue"}


class ChargeClass(Timestamped, Base):
    """What usage is classified into.

    Without a price it has that of the class it goes by before the one above it, or of that one.
    """

    __tablename__ = "charge_class"
    __table_args__ = _SCHEMA

    charge_class: Mapped[Key]
    parent_class: Mapped[str | None] = mapped_column(
        Text, ForeignKey("catalogue.charge_class.charge_class")
    )
    before_class: Mapped[str | None] = mapped_column(
        Text, ForeignKey("catalogue.charge_class.charge_class")
    )
    service: Mapped[String]
    unit: Mapped[String]
    bill_item_code: Mapped[String]
    name_zh: Mapped[String]
    name_en: Mapped[String]


class Calendar(Timestamped, Base):
    """Which band every second of a week and of a holiday belongs to."""

    __tablename__ = "calendar"
    __table_args__ = _SCHEMA

    calendar_id: Mapped[Key]
    name_zh: Mapped[String]
    name_en: Mapped[String]


class CalendarPeriod(Timestamped, Base):
    """One stretch of one type of day, by the local clock, half-open."""

    __tablename__ = "calendar_period"
    __table_args__ = _SCHEMA

    calendar_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.calendar.calendar_id"), primary_key=True
    )
    band: Mapped[String]
    day_type: Mapped[Key]
    from_second: Mapped[int] = mapped_column(primary_key=True)
    to_second: Mapped[int]


class CalendarHoliday(Timestamped, Base):
    """A date that has the bands of a holiday."""

    __tablename__ = "calendar_holiday"
    __table_args__ = _SCHEMA

    calendar_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.calendar.calendar_id"), primary_key=True
    )
    holiday_date: Mapped[date] = mapped_column(primary_key=True)
    name_zh: Mapped[String]
    name_en: Mapped[String]


class Offering(Timestamped, Base):
    """One thing a customer can buy: a plan, an add-on, a bundle of them, or content."""

    __tablename__ = "offering"
    __table_args__ = (UniqueConstraint("sp_id", "content_id"), _SCHEMA)

    offering_id: Mapped[Key]
    offering_type: Mapped[String]
    name_zh: Mapped[String]
    name_en: Mapped[String]
    sp_id: Mapped[String | None]
    content_id: Mapped[String | None]
    status: Mapped[String]


class PricePlanVersion(Timestamped, Base):
    """One version of an offering's prices; rating uses the one in force at the event."""

    __tablename__ = "price_plan_version"
    __table_args__ = (
        UniqueConstraint("offering_id", "version_number"),
        Index("price_plan_version_calendar", "calendar_id"),
        _SCHEMA,
    )

    plan_version_id: Mapped[Key]
    offering_id: Mapped[str] = mapped_column(Text, ForeignKey("catalogue.offering.offering_id"))
    version_number: Mapped[int]
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    monthly_fee_amount: Mapped[Price]
    currency_code: Mapped[String]
    calendar_id: Mapped[str | None] = mapped_column(
        Text, ForeignKey("catalogue.calendar.calendar_id")
    )
    cost_denominator: Mapped[int] = mapped_column(
        Numeric(18, 0, asdecimal=False), server_default="1"
    )
    first_month_rule: Mapped[String] = mapped_column(server_default="prorated")
    last_month_rule: Mapped[String] = mapped_column(server_default="prorated")
    suspension_fee_amount: Mapped[Price | None]
    minimum_consumption_amount: Mapped[Money | None]
    late_usage_policy: Mapped[String] = mapped_column(server_default="next_bill")
    used_at: Mapped[Moment | None]


class UsagePrice(Timestamped, Base):
    """The price of one charge class, in one band or all day, in one version."""

    __tablename__ = "usage_price"
    __table_args__ = (
        UniqueConstraint(
            "plan_version_id", "charge_class", "band", name="usage_price_is_given_once",
            postgresql_nulls_not_distinct=True,
        ),
        _SCHEMA,
    )  # fmt: skip

    usage_price_id: Mapped[Key]
    plan_version_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.price_plan_version.plan_version_id")
    )
    charge_class: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.charge_class.charge_class")
    )
    band: Mapped[String | None]
    model: Mapped[String]
    repeat_quantity: Mapped[Quantity | None]
    overhang: Mapped[String] = mapped_column(server_default="absorb")
    connection_fee_amount: Mapped[Price] = mapped_column(server_default="0")
    minimum_amount: Mapped[Price | None]
    maximum_amount: Mapped[Price | None]
    rounding_mode: Mapped[String]
    rounding_digits: Mapped[int]
    bill_item_code: Mapped[String]


class PriceTier(Timestamped, Base):
    """One tier of a usage price, as authored."""

    __tablename__ = "price_tier"
    __table_args__ = _SCHEMA

    usage_price_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.usage_price.usage_price_id"), primary_key=True
    )
    tier_number: Mapped[int] = mapped_column(primary_key=True)
    from_quantity: Mapped[Quantity]
    to_quantity: Mapped[Quantity | None]
    increment_quantity: Mapped[Quantity]
    per_quantity: Mapped[Quantity]
    price_amount: Mapped[Price]
    flat_amount: Mapped[Price] = mapped_column(server_default="0")
    is_partial: Mapped[bool] = mapped_column(server_default="false")


class PriceStep(Timestamped, Base):
    """One step of a usage price, as SQL evaluates it: see `price_steps`."""

    __tablename__ = "price_step"
    __table_args__ = _SCHEMA

    usage_price_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.usage_price.usage_price_id"), primary_key=True
    )
    step_number: Mapped[int] = mapped_column(primary_key=True)
    above_quantity: Mapped[Quantity]
    up_to_quantity: Mapped[Quantity | None]
    start_quantity: Mapped[Quantity]
    cap_quantity: Mapped[Quantity | None]
    increment_quantity: Mapped[Quantity]
    base_numerator: Mapped[Numerator]
    unit_numerator: Mapped[Numerator]


class Allowance(Timestamped, Base):
    """One bucket of free units (or money) a version grants each cycle."""

    __tablename__ = "allowance"
    __table_args__ = (Index("allowance_plan_version", "plan_version_id"), _SCHEMA)

    allowance_id: Mapped[Key]
    plan_version_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.price_plan_version.plan_version_id")
    )
    name_zh: Mapped[String]
    name_en: Mapped[String]
    unit: Mapped[String]
    size_quantity: Mapped[Quantity]
    priority: Mapped[int]
    scope: Mapped[String]
    quantity_basis: Mapped[String]
    rounding_increment: Mapped[Quantity]
    rollover_months: Mapped[int] = mapped_column(server_default="0")


class AllowanceCoverage(Timestamped, Base):
    """One charge class, with those below it, that an allowance covers, in one band or all day."""

    __tablename__ = "allowance_coverage"
    __table_args__ = (
        UniqueConstraint(
            "allowance_id", "charge_class", "band", name="allowance_covers_a_class_once",
            postgresql_nulls_not_distinct=True,
        ),
        _SCHEMA,
    )  # fmt: skip

    allowance_coverage_id: Mapped[Key]
    allowance_id: Mapped[str] = mapped_column(Text, ForeignKey("catalogue.allowance.allowance_id"))
    charge_class: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.charge_class.charge_class")
    )
    band: Mapped[String | None]


class BundleComponent(Timestamped, Base):
    """One offering that a version of a bundle groups, and what becomes of its monthly fee."""

    __tablename__ = "bundle_component"
    __table_args__ = (Index("bundle_component_offering", "offering_id"), _SCHEMA)

    plan_version_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.price_plan_version.plan_version_id"), primary_key=True
    )
    offering_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.offering.offering_id"), primary_key=True
    )
    fee_rule: Mapped[String]
    fee_amount: Mapped[Price | None]


class Discount(Timestamped, Base):
    """One discount on the bill items of a subscription; they apply in their sequence."""

    __tablename__ = "discount"
    __table_args__ = (UniqueConstraint("plan_version_id", "sequence"), _SCHEMA)

    discount_id: Mapped[Key]
    plan_version_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.price_plan_version.plan_version_id")
    )
    sequence: Mapped[int]
    name_zh: Mapped[String]
    name_en: Mapped[String]
    kind: Mapped[String]
    value: Mapped[Price]
    bill_item_codes: Mapped[String | None]


class OneOffPrice(Timestamped, Base):
    """What is due once on an occasion: joining, changing, leaving, another SIM card."""

    __tablename__ = "one_off_price"
    __table_args__ = _SCHEMA

    plan_version_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.price_plan_version.plan_version_id"), primary_key=True
    )
    occasion: Mapped[Key]
    amount: Mapped[Price]
    bill_item_code: Mapped[String]


class Commitment(Timestamped, Base):
    """How long a holder binds himself, and what leaving before costs, or changing the plan."""

    __tablename__ = "commitment"
    __table_args__ = _SCHEMA

    plan_version_id: Mapped[str] = mapped_column(
        Text, ForeignKey("catalogue.price_plan_version.plan_version_id"), primary_key=True
    )
    months: Mapped[int]
    penalty_rule: Mapped[String]
    penalty_value: Mapped[Price]
    penalty_on: Mapped[String]
