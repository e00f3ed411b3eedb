"""Validation rules: the shipped ones, their versions, and changing them.

A change closes the version in force and appends the next one in the same moment, so that at any
time one version of a rule counts. Records are judged by the rules of the moment their file was
landed; a correction or recycling has them judged by today's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from operational import audit
from operational.control.models import Source, ValidationRule
from operational.control.record_fields import SERVICES
from operational.database import transaction
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ForbiddenError, InvalidRequestError
from operational.ratecards import RateCardError, Row, read_yaml, repeated
from tollhouse.settings import Settings

SHIPPED_RULES = Path(__file__).with_name("validation_rules.yaml")

RULE_CODES = (
    "not_rated", "unknown_service", "invalid_msisdn", "invalid_identity", "invalid_time", "too_old",
    "invalid_duration", "invalid_volume", "invalid_other_party", "missing_imsi", "missing_cell",
    "missing_plmn", "test_number", "emergency", "unanswered", "rated_elsewhere",
)  # fmt: skip
# Rules that need a limit; that of test_number is the digits its numbers begin with.
LIMITED = ("invalid_duration", "invalid_volume", "too_old", "test_number")
# That of rated_elsewhere is the kind of IMS record that is rated, by its recordType in TS 32.298
# (of the S-CSCF, an application server, the telephony server); without it all of them are.
IMS_RECORD_TYPES = (63, 69, 83)
SEVERITIES = ("reject", "filter", "warn", "off")
LARGEST_LIMIT = 2**62

_CHANGE_LOCK = 7_025_002  # advisory lock: changes of rules come one after the other


class RuleCardError(RateCardError):
    """Rules are refused; `problems` names every offending row. Nothing was loaded."""


class RuleRow(Row):
    """One rule of the shipped file."""

    rule_code: Literal[
        "not_rated", "unknown_service", "invalid_msisdn", "invalid_identity", "invalid_time",
        "too_old", "invalid_duration", "invalid_volume", "invalid_other_party", "missing_imsi",
        "missing_cell", "missing_plmn", "test_number", "emergency", "unanswered",
        "rated_elsewhere",
    ]  # fmt: skip
    source_id: str | None = None
    service: Literal["voice", "sms", "mms", "data", "vas"] | None = None
    limit_value: int | None = Field(default=None, ge=0, le=LARGEST_LIMIT)
    severity: Literal["reject", "filter", "warn", "off"]

    @property
    def rule_id(self) -> str:
        """What the rule is about, as its id."""
        return rule_id_of(self.rule_code, self.source_id, self.service)


class RuleCard(Row):
    """A whole rules file."""

    rules: tuple[RuleRow, ...]


def rule_id_of(rule_code: str, source_id: str | None, service: str | None) -> str:
    """The id of the rule for a check, narrowed to a source or a service."""
    return rule_code + (f"@{source_id}" if source_id else "") + (f"/{service}" if service else "")


def load_rules(settings: Settings, path: Path = SHIPPED_RULES) -> dict[str, int]:
    """Load the shipped rules as version 1; a rule that is there, in any version, stays as it is.

    Returns the rows inserted by table. Raises RuleCardError with every offending row named.
    """
    try:
        card = read_yaml(path, RuleCard)
    except RateCardError as error:
        raise RuleCardError(path, error.problems) from error
    if problems := _card_problems(card):
        raise RuleCardError(path, problems)
    now = datetime.now(UTC)
    with transaction(settings) as session:
        inserted = session.scalars(
            insert(ValidationRule)
            .values(
                [
                    row.model_dump()
                    | {
                        "rule_id": row.rule_id, "version": 1, "valid_from": now,
                        "changed_by": "loader", "change_reason": "as shipped 随产品提供",
                    }
                    for row in card.rules
                ]
            )
            .on_conflict_do_nothing(index_elements=["rule_id", "version"])
            .returning(ValidationRule.rule_id)
        ).all()  # fmt: skip
    return {"control.validation_rule": len(inserted)}


def _card_problems(card: RuleCard) -> list[str]:
    problems = [f"{rule_id}: given twice" for rule_id in repeated(r.rule_id for r in card.rules)]
    for row in card.rules:
        if row.rule_code in LIMITED and row.severity != "off" and row.limit_value is None:
            problems.append(f"{row.rule_id}: give its limit_value")
        elif row.limit_value is not None and not _is_limit(row.rule_code, row.limit_value):
            problems.append(f"{row.rule_id}: {row.limit_value} is no limit_value of it")
    return problems


def _is_limit(rule_code: str, limit_value: int) -> bool:
    """Whether a rule may have the limit."""
    if rule_code == "rated_elsewhere":
        return limit_value in IMS_RECORD_TYPES
    return rule_code in LIMITED and 0 <= limit_value <= LARGEST_LIMIT


def list_rules(
    session: Session, *, principal: Principal, in_force_only: bool = False
) -> list[ValidationRule]:
    """The rules in the order in which they are checked, each with its newest version first."""
    principal.require("rule.read")
    query = select(ValidationRule)
    if in_force_only:
        query = query.where(ValidationRule.valid_to.is_(None))
    places = {code: place for place, code in enumerate(RULE_CODES)}
    return sorted(
        session.scalars(query),
        key=lambda rule: (places.get(rule.rule_code, 99), rule.rule_id, -rule.version),
    )


def change_rule(
    settings: Settings, *, principal: Principal, rule_code: str, source_id: str | None,
    service: str | None, severity: str, limit_value: int | None, reason: str,
) -> ValidationRule:  # fmt: skip
    """Put another version of a rule in force, now; a rule that was not there begins with it.

    What it is narrowed to is part of the rule: for other records it stays as it was. A change to
    what is in force already changes nothing.

    Raises:
        InvalidRequestError: a value is not one a rule has, or no reason is given.
        ForbiddenError: the rule is for other provinces too, and the user is not at headquarters.
    """
    principal.require("rule.write")
    reason = reason.strip()
    _check_rule(rule_code, service, severity, limit_value, reason)
    rule_id = rule_id_of(rule_code, source_id, service)
    with transaction(settings) as session:
        province_code = _province_of(session, principal, source_id)
        session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _CHANGE_LOCK})
        former = session.scalar(
            select(ValidationRule)
            .where(ValidationRule.rule_id == rule_id)
            .order_by(ValidationRule.version.desc())
            .limit(1)
        )
        if former is not None and (former.severity, former.limit_value) == (severity, limit_value):
            return former
        now = session.scalar(select(func.clock_timestamp())) or datetime.now(UTC)
        if former is not None:
            # A version is in force for a moment at least, however quick the next one comes.
            now = max(now, former.valid_from + timedelta(microseconds=1))
            former.valid_to = now
            session.flush()
        rule = ValidationRule(
            rule_id=rule_id, version=former.version + 1 if former else 1, rule_code=rule_code,
            source_id=source_id, service=service, limit_value=limit_value, severity=severity,
            valid_from=now, valid_to=None, changed_by=principal.username, change_reason=reason,
        )  # fmt: skip
        session.add(rule)
        audit.record(
            session, username=principal.username, action="change_rule",
            entity_type="validation_rule", entity_id=rule_id, province_code=province_code,
            detail={
                "version": rule.version, "severity": severity, "limit": limit_value,
                "former_severity": former.severity if former else None,
                "former_limit": former.limit_value if former else None, "reason": reason,
            },
        )  # fmt: skip
    return rule


def _check_rule(
    rule_code: str, service: str | None, severity: str, limit_value: int | None, reason: str
) -> None:
    if rule_code not in RULE_CODES:
        raise InvalidRequestError("no_rule_code", rule_code=rule_code, known=RULE_CODES)
    if service is not None and service not in SERVICES:
        raise InvalidRequestError("bad_parameters", names=["service"])
    if severity not in SEVERITIES:
        raise InvalidRequestError("bad_parameters", names=["severity"])
    if rule_code in LIMITED and severity != "off" and limit_value is None:
        raise InvalidRequestError("limit_missing", rule_code=rule_code)
    if limit_value is not None and not _is_limit(rule_code, limit_value):
        if rule_code == "rated_elsewhere":
            raise InvalidRequestError("no_ims_record_type", known=IMS_RECORD_TYPES)
        limited = (*LIMITED, "rated_elsewhere")
        raise InvalidRequestError("limit_wrong", rule_code=rule_code, limited=limited)
    if not reason:
        raise InvalidRequestError("reason_missing")


def _province_of(session: Session, principal: Principal, source_id: str | None) -> str:
    """The province a rule is about; only headquarters changes what is about all of them."""
    if source_id is None:
        if not principal.sees_all_provinces:
            raise ForbiddenError("rule_headquarters")
        return HEADQUARTERS
    source = session.get(Source, source_id)
    if source is None or not principal.sees(source.province_code):
        raise InvalidRequestError("no_source", source_id=source_id)
    return source.province_code
