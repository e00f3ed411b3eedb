"""Loads and reads interconnect agreements: a rate version is checked, then never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from operational import audit
from operational.database import transaction
from operational.permissions import Principal
from operational.ratecards import (
    Amount,
    RateCardError,
    Row,
    Validity,
    midnight,
    read_yaml,
    repeated,
    validity_problems,
)  # fmt: skip
from operational.settlement.models import Agreement, AgreementRate
from tollhouse.settings import Settings

SAMPLE_AGREEMENTS = Path(__file__).with_name("sample_agreements.yaml")

DIRECTIONS = ("receivable", "payable")


class AgreementError(RateCardError):
    """Agreements are refused; `problems` names every offending row. Nothing was loaded."""


class RateRow(Validity):
    """What one minute (or other quantity) costs, one direction, one version."""

    version_number: int = Field(ge=1)
    service: Literal["voice"]
    direction: Literal["receivable", "payable"]
    rate_amount: Amount
    per_quantity: int = Field(gt=0)

    def label(self, agreement_id: str) -> str:
        """How messages call this row."""
        return f"{agreement_id}@{self.version_number} {self.service} {self.direction}"


class AgreementRow(Validity):
    """One agreement and all versions of its rates."""

    agreement_id: str
    counterparty_code: str
    counterparty_name_zh: str
    counterparty_name_en: str
    currency_code: Literal["CNY"] = "CNY"
    rates: tuple[RateRow, ...] = Field(min_length=1)


class AgreementCard(Row):
    """A whole agreements file."""

    agreements: tuple[AgreementRow, ...]


def load_agreements(settings: Settings, path: Path = SAMPLE_AGREEMENTS) -> dict[str, int]:
    """Load agreements and their rates from YAML; returns the rows inserted by table.

    Loading the same file again inserts nothing; a rate that is there with other content is
    refused. Raises AgreementError with every offending row named; then nothing is loaded.
    """
    try:
        card = read_yaml(path, AgreementCard)
    except RateCardError as error:
        raise AgreementError(path, error.problems) from error
    if problems := agreement_problems(card):
        raise AgreementError(path, problems)
    counts = {"settlement.agreement": 0, "settlement.agreement_rate": 0}
    with transaction(settings) as session:
        for row in card.agreements:
            values = row.model_dump(exclude={"rates"}) | _moments(settings, row)
            counts["settlement.agreement"] += _put(
                session, Agreement, values, f"agreement {row.agreement_id}", problems
            )
            for rate in row.rates:
                values = {"agreement_id": row.agreement_id} | rate.model_dump()
                counts["settlement.agreement_rate"] += _put(
                    session, AgreementRate, values | _moments(settings, rate),
                    f"rate {rate.label(row.agreement_id)}", problems,
                )  # fmt: skip
        if problems:
            raise AgreementError(path, problems)
        if any(counts.values()):
            audit.record(
                session, username="loader", action="load_agreements", entity_type="agreement",
                entity_id=path.name, detail=dict(counts), province_code="00",
            )  # fmt: skip
    return counts


def agreement_problems(card: AgreementCard) -> list[str]:
    """What is wrong with agreements, each problem naming its row; empty when all is well."""
    problems = [
        f"agreement {agreement_id}: duplicate id"
        for agreement_id in repeated(row.agreement_id for row in card.agreements)
    ]
    for agreement in card.agreements:
        name = agreement.agreement_id
        problems += validity_problems("agreement", [(name, agreement)])
        problems += [
            f"rate {label}: duplicate id"
            for label in repeated(rate.label(name) for rate in agreement.rates)
        ]
        for service in sorted({rate.service for rate in agreement.rates}):
            for direction in DIRECTIONS:
                rates = [
                    rate for rate in agreement.rates
                    if (rate.service, rate.direction) == (service, direction)
                ]  # fmt: skip
                if not rates:
                    problems.append(f"agreement {name}: missing rate for {service} {direction}")
                problems += validity_problems("rate", [(rate.label(name), rate) for rate in rates])
    return problems


def list_agreements(session: Session, *, principal: Principal) -> list[Agreement]:
    """All agreements with their rates."""
    principal.require("agreement.read")
    return list(
        session.scalars(
            select(Agreement)
            .options(selectinload(Agreement.rates))
            .order_by(Agreement.agreement_id)
        )
    )


def _moments(settings: Settings, row: Validity) -> dict[str, Any]:
    return {
        "valid_from": midnight(row.valid_from, settings.timezone),
        "valid_to": row.valid_to and midnight(row.valid_to, settings.timezone),
    }


def _put(
    session: Session, table: type[Agreement] | type[AgreementRate], values: dict[str, Any],
    label: str, problems: list[str],
) -> int:  # fmt: skip
    """Insert a row and return 1; for a row that is there return 0, and note what differs."""
    inserted = session.execute(
        insert(table).values(values).on_conflict_do_nothing().returning(table.valid_from)
    ).first()
    if inserted is not None:
        return 1
    keys = tuple(values[column.name] for column in table.__table__.primary_key)
    stored = session.get(table, keys, populate_existing=True)
    different = [name for name, value in values.items() if getattr(stored, name, None) != value]
    if different:
        problems.append(
            f"{label} is already loaded with another {', '.join(different)}: "
            "it is never changed; add a new version instead"
        )
    return 0
