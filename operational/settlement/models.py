"""Tables of schema settlement."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from operational.columns import Key, Large, Moment, Price, String, Timestamped
from operational.database import Base


class Agreement(Timestamped, Base):
    """One interconnect agreement with another operator."""

    __tablename__ = "agreement"
    __table_args__ = {"schema": "settlement"}  # noqa: RUF012 - SQLAlchemy's convention

    agreement_id: Mapped[Key]
    counterparty_code: Mapped[String]
    counterparty_name_zh: Mapped[String]
    counterparty_name_en: Mapped[String]
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    currency_code: Mapped[String]
    rates: Mapped[list[AgreementRate]] = relationship(
        order_by="(AgreementRate.version_number, AgreementRate.direction)"
    )


class AgreementRate(Timestamped, Base):
    """One rate of one version of an agreement."""

    __tablename__ = "agreement_rate"
    __table_args__ = {"schema": "settlement"}  # noqa: RUF012 - SQLAlchemy's convention

    agreement_id: Mapped[str] = mapped_column(
        Text, ForeignKey("settlement.agreement.agreement_id"), primary_key=True
    )
    version_number: Mapped[int] = mapped_column(primary_key=True)
    service: Mapped[Key]
    direction: Mapped[Key]
    rate_amount: Mapped[Price]
    per_quantity: Mapped[Large]
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]


class TrunkGroup(Timestamped, Base):
    """One trunk group to another operator."""

    __tablename__ = "trunk_group"
    __table_args__ = {"schema": "settlement"}  # noqa: RUF012 - SQLAlchemy's convention

    trunk_group_id: Mapped[Key]
    operator_code: Mapped[String]
    direction: Mapped[String]
    province_code: Mapped[String]
