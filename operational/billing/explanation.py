"""Explains a usage, a bill item, a bill or a note: from the record in its file to the amount.

SQL fetches the parts that rating left (segments, draws, running totals, steps); `arithmetic` works
the charge out again from them. What comes out is a document of sections, in message keys, that the
command and the page put into words. The parts are read from the warehouse; while somebody writes
it, from the copy that was published last, which has everything but the record as received.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from operational import audit
from operational.billing.arithmetic import (
    MICRO,
    Component,
    Draw,
    Line,
    Price,
    Segment,
    Step,
    Tier,
    money,
    shown,
    signed,
    work_out,
)  # fmt: skip
from operational.billing.movements import describe
from operational.billing.note_explanation import explain_note
from operational.billing.sections import Explanation, Fact, Named, Row, Section
from operational.database import transaction
from operational.i18n import LANGUAGES, Translate, has_message, messages, translator
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ConflictError, NotFoundError
from tollhouse.file_reasons import kept_reason
from tollhouse.settings import Profile, Settings
from tollhouse.warehouse import (
    EngineError,
    Warehouse,
    WarehouseBusyError,
    read_published_copy,
    read_warehouse,
)

CHARGES_SHOWN = 200  # of a bill item; their number and sum are always of all
_BILL_ID = re.compile(r"\d{4}-\d{2}-.+")


@dataclass
class UsageParts:
    """All that rating kept about one usage."""

    usage: Row
    segments: list[Segment]
    segment_rows: list[Row]
    money_draws: list[Row]
    draw_rows: list[Row]


def explain(settings: Settings, *, principal: Principal, identifier: str) -> Explanation:
    """Explain a usage, charge, bill item, bill or note by its id or key, and keep who looked.

    Raises:
        NotFoundError: there is no such thing, or it is of another province.
        ConflictError: the warehouse is being written and nothing was published yet.
    """
    principal.require("charge.explain")
    identifier = identifier.strip()
    found = None
    if _is_of_the_warehouse(identifier):
        with reading(settings) as (warehouse, is_live):
            found = _explain(warehouse, identifier)
        if found is not None:
            found.is_live = is_live
    with transaction(settings) as session:
        if found is None:
            principal.require("receivable.read")
            found = explain_note(session, note_id=identifier)
        if found is None or not principal.sees(found.province_code):
            raise NotFoundError("nothing_to_explain", identifier=identifier)
        found.sections += _movement_sections(session, found.movements, settings.timezone)
        audit.record(
            session, username=principal.username, action="explain", entity_type=found.kind,
            entity_id=found.identifier, province_code=found.province_code,
        )  # fmt: skip
    return found


def usage_of_record(
    settings: Settings, *, principal: Principal, file_id: str, record_number: int
) -> str:
    """The id of the usage that a record of a file became, alone or with others.

    Raises:
        NotFoundError: it became none.
        ConflictError: the warehouse is being written; the published copy does not know records.
    """
    principal.require("charge.explain")
    try:
        with read_warehouse(settings, wait_s=1.0) as warehouse:
            found = _rows(
                warehouse,
                "select usage_id from mediation.record_outcome"
                " where _file_id = ? and _record_number = ? and usage_id is not null",
                [file_id, record_number],
            )
    except (WarehouseBusyError, EngineError) as error:
        raise ConflictError("warehouse_unreadable", reason=str(error)) from None
    if not found:
        raise NotFoundError("no_usage_of_record", file_id=file_id, record_number=record_number)
    return str(found[0]["usage_id"])


@contextlib.contextmanager
def reading(settings: Settings) -> Iterator[tuple[Warehouse, bool]]:
    """The warehouse to read and true; while it is written, what was published last and false."""
    with contextlib.ExitStack() as stack:
        try:
            opened, is_live = stack.enter_context(read_warehouse(settings, wait_s=1.0)), True
        except (WarehouseBusyError, EngineError) as error:
            if settings.profile is not Profile.embedded:
                raise ConflictError("warehouse_busy", reason=str(error)) from None
            try:
                opened, is_live = stack.enter_context(read_published_copy(settings)), False
            except EngineError:
                raise ConflictError("warehouse_busy", reason=str(error)) from None
        yield opened, is_live


def _is_of_the_warehouse(identifier: str) -> bool:
    return _BILL_ID.fullmatch(identifier) is not None or _key(identifier) is not None


def _key(identifier: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(identifier)
    except ValueError:
        return None


def _explain(warehouse: Warehouse, identifier: str) -> Explanation | None:
    if _BILL_ID.fullmatch(identifier):
        return _explain_bill(warehouse, identifier)
    key = _key(identifier)
    if key is None:
        return None
    parts = usage_parts(warehouse, [key])
    if key in parts:
        return _explain_usage(warehouse, key, parts[key])
    suspended = _rows(warehouse, "select * from billing.suspended_usage where usage_id = ?", [key])
    if suspended:
        return _explain_suspended(warehouse, key, suspended[0])
    item = _rows(warehouse, "select * from billing.bill_item where bill_item_key = ?", [_hash(key)])
    return _explain_item(warehouse, item[0]) if item else _explain_charge(warehouse, key)


def _explain_charge(warehouse: Warehouse, key: uuid.UUID) -> Explanation | None:
    charge = _rows(warehouse, "select * from billing.charge where charge_key = ?", [key])
    if charge and charge[0]["usage_id"] is not None:
        return _explain(warehouse, str(charge[0]["usage_id"]))
    return _explain_fee(warehouse, charge[0]) if charge else None


def _hash(key: uuid.UUID) -> str:
    """A key as models that keep it as text write it."""
    return key.hex


# The parts, fetched by SQL for any number of usages at once ------------------------------------

_PRICES = """
select
    usage_price.usage_price_id,
    usage_price.model,
    usage_price.charge_class as priced_class,
    charge_class.unit,
    price_rule.repeat_micro,
    price_rule.connection_fee_numerator,
    price_rule.minimum_numerator,
    price_rule.maximum_numerator,
    price_rule.cost_denominator,
    price_rule.rounding_mode,
    price_rule.rounding_micro
from billing.price_rule as price_rule
inner join ods.usage_price as usage_price
    on price_rule.usage_price_id = usage_price.usage_price_id
inner join ods.charge_class as charge_class
    on usage_price.charge_class = charge_class.charge_class
where usage_price.usage_price_id in (select usage_price_id from _price)
"""

_STEPS = """
select * from billing.price_step
where usage_price_id in (select usage_price_id from _price)
order by step_number
"""

_TIERS = """
select * from ods.price_tier
where usage_price_id in (select usage_price_id from _price)
order by tier_number
"""

# The running total before a segment, as rating keeps it: of a line under a price in a cycle.
_SEGMENTS = """
with

wanted as (

    select distinct line_key, usage_price_id
    from billing.usage_segment
    where usage_id in (select usage_id from _usage)

),

last_draw as (

    select usage_id, segment_number, left_micro
    from billing.allowance_draw
    where is_last

),

accumulated as (

    select
        usage_segment.*,
        cast(
            sum(coalesce(last_draw.left_micro, usage_segment.quantity_micro)) over (
                partition by usage_segment.line_key, usage_segment.usage_price_id
                order by
                    usage_segment.started_at, usage_segment.usage_id, usage_segment.segment_number
                rows between unbounded preceding and 1 preceding
            ) as bigint
        ) as before_micro
    from billing.usage_segment as usage_segment
    inner join wanted
        on usage_segment.line_key = wanted.line_key
        and usage_segment.usage_price_id = wanted.usage_price_id
    left join last_draw
        on usage_segment.usage_id = last_draw.usage_id
        and usage_segment.segment_number = last_draw.segment_number

)

select accumulated.*
from accumulated
where accumulated.usage_id in (select usage_id from _usage)
order by accumulated.usage_id, accumulated.segment_number
"""

_DRAWS = """
with

wanted as (

    select distinct bucket_id
    from billing.allowance_draw
    where usage_id in (select usage_id from _usage)

),

accumulated as (

    select
        allowance_draw.*,
        allowance_bucket.allowance_id,
        allowance_bucket.unit,
        allowance_bucket.scope,
        allowance_bucket.priority,
        allowance_bucket.quantity_basis = 'rounded' as is_rounded,
        allowance_bucket.increment_micro,
        allowance_bucket.size_micro,
        cast(
            sum(allowance_draw.drawn_micro) over (
                partition by allowance_draw.bucket_id
                order by
                    usage_segment.started_at, allowance_draw.usage_id,
                    allowance_draw.segment_number
                rows between unbounded preceding and current row
            ) - allowance_draw.drawn_micro as bigint
        ) as used_before_micro
    from billing.allowance_draw as allowance_draw
    inner join wanted
        on allowance_draw.bucket_id = wanted.bucket_id
    inner join billing.usage_segment as usage_segment
        on allowance_draw.usage_id = usage_segment.usage_id
        and allowance_draw.segment_number = usage_segment.segment_number
    inner join billing.allowance_bucket as allowance_bucket
        on allowance_draw.bucket_id = allowance_bucket.bucket_id

)

select * from accumulated
where usage_id in (select usage_id from _usage)
order by usage_id, segment_number, draw_rank
"""

_MONEY_DRAWS = """
with

wanted as (

    select distinct bucket_id
    from billing.money_draw
    where usage_id in (select usage_id from _usage)

),

accumulated as (

    select
        money_draw.*,
        allowance_bucket.allowance_id,
        allowance_bucket.size_micro,
        sum(money_draw.drawn_amount) over (
            partition by money_draw.bucket_id
            order by usage_guide.started_at, money_draw.usage_id, usage_charge.component_number
            rows between unbounded preceding and current row
        ) - money_draw.drawn_amount as used_before_amount
    from billing.money_draw as money_draw
    inner join wanted
        on money_draw.bucket_id = wanted.bucket_id
    inner join billing.usage_charge as usage_charge
        on money_draw.usage_id = usage_charge.usage_id
        and money_draw.usage_price_id = usage_charge.usage_price_id
    inner join billing.usage_guide as usage_guide
        on money_draw.usage_id = usage_guide.usage_id
    inner join billing.allowance_bucket as allowance_bucket
        on money_draw.bucket_id = allowance_bucket.bucket_id

)

select * from accumulated
where usage_id in (select usage_id from _usage)
order by usage_id, usage_price_id, draw_rank
"""


def usage_parts(
    warehouse: Warehouse, usage_ids: Iterable[uuid.UUID]
) -> dict[uuid.UUID, UsageParts]:
    """What rating kept about usages, by usage id; those that were not rated are not in it."""
    warehouse.execute("create or replace temp table _usage (usage_id uuid)")
    keys = list(usage_ids)
    warehouse.execute("insert into _usage select unnest(?)", [keys])
    guided = _rows(
        warehouse,
        "select guided_usage.* from billing.guided_usage as guided_usage"
        " where usage_id in (select usage_id from _usage)",
    )
    segments = _grouped(_rows(warehouse, _SEGMENTS), "usage_id")
    draws = _grouped(_rows(warehouse, _DRAWS), "usage_id")
    paid = _grouped(_rows(warehouse, _MONEY_DRAWS), "usage_id")
    found = {}
    for usage in guided:
        key = usage["usage_id"]
        drawn = _grouped(draws[key], "segment_number")
        found[key] = UsageParts(
            usage, [_segment(row, drawn[row["segment_number"]]) for row in segments[key]],
            segments[key], paid[key], draws[key],
        )  # fmt: skip
    return found


def prices_of(warehouse: Warehouse, price_ids: Iterable[str]) -> dict[str, Price]:
    """Usage prices with their steps and the tiers they were compiled from."""
    warehouse.execute("create or replace temp table _price (usage_price_id varchar)")
    warehouse.execute("insert into _price select unnest(?)", [sorted(set(price_ids))])
    steps = _grouped(_rows(warehouse, _STEPS), "usage_price_id")
    worded = warehouse.has_table("ods.price_tier")
    tiers = _grouped(_rows(warehouse, _TIERS) if worded else [], "usage_price_id")
    return {
        row["usage_price_id"]: _price(
            row, steps[row["usage_price_id"]], tiers[row["usage_price_id"]]
        )
        for row in _rows(warehouse, _PRICES)
    }


# What is charged by a code that is no class of usage, and no occasion.
_OTHER_CHARGES = {"monthly_fee": "explain.fee", "penalty": "explain.penalty"}


class _Names(dict[str, Named]):
    """Names by charge class, or by what else is charged; what has none goes by its code."""

    def __missing__(self, code: str) -> Named:
        key = _OTHER_CHARGES.get(code, f"occasion.{code}")
        return {"code": code} | messages().get(key, dict.fromkeys(LANGUAGES, code))


def class_names(warehouse: Warehouse) -> dict[str, Named]:
    """The names of charge classes by language, and their `code`."""
    rows = _rows(warehouse, "select charge_class, name_zh, name_en from ods.charge_class")
    return _Names(
        {
            row["charge_class"]: {
                "code": row["charge_class"], "zh": row["name_zh"], "en": row["name_en"],
            }
            for row in rows
        }
    )  # fmt: skip


def _price(row: Row, steps: list[Row], tiers: list[Row]) -> Price:
    return Price(
        usage_price_id=row["usage_price_id"], unit=row["unit"], model=row["model"],
        repeat=_whole(row["repeat_micro"]),
        connection_fee=int(row["connection_fee_numerator"] or 0),
        minimum=_whole(row["minimum_numerator"]), maximum=_whole(row["maximum_numerator"]),
        denominator=int(row["cost_denominator"]), rounding_mode=row["rounding_mode"],
        rounding=int(row["rounding_micro"]),
        steps=tuple(
            Step(
                int(step["above_micro"]), _whole(step["up_to_micro"]), int(step["start_micro"]),
                _whole(step["cap_micro"]), int(step["increment_micro"]),
                int(step["base_numerator"]), int(step["unit_numerator"]),
            )
            for step in steps
        ),
        tiers=tuple(
            Tier(
                tier["from_quantity"], tier["to_quantity"], tier["per_quantity"],
                tier["price_amount"],
            )
            for tier in tiers
        ),
    )  # fmt: skip


def _segment(row: Row, draws: list[Row]) -> Segment:
    return Segment(
        number=row["segment_number"], usage_price_id=row["usage_price_id"],
        plan_version_id=row["plan_version_id"], quantity=row["quantity_micro"],
        before=row["before_micro"],
        draws=tuple(
            Draw(
                bucket_id=draw["bucket_id"], allowance_id=draw["allowance_id"],
                rank=draw["draw_rank"], unit=draw["unit"], size=draw["size_micro"],
                used_before=draw["used_before_micro"], is_rounded=draw["is_rounded"],
                increment=draw["increment_micro"] or 0, drawn=draw["drawn_micro"],
            )
            for draw in draws
        ),
    )  # fmt: skip


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _rows(warehouse: Warehouse, query: str, parameters: Iterable[Any] = ()) -> list[Row]:
    result = warehouse.connection.execute(query, list(parameters))
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _grouped(rows: Iterable[Row], name: str) -> defaultdict[Any, list[Row]]:
    groups: defaultdict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[name]].append(row)
    return groups


# Usage ------------------------------------------------------------------------------------------


def _explain_usage(warehouse: Warehouse, key: uuid.UUID, parts: UsageParts) -> Explanation:
    prices = prices_of(warehouse, {segment.usage_price_id for segment in parts.segments})
    components, drawn = work_out(parts.segments, prices)
    usage = parts.usage
    is_live = warehouse.has_table("mediation.usage")
    standard = _standard_usage(warehouse, key, usage["_file_id"]) if is_live else None
    sections = [] if not is_live else [
        *_record_sections(warehouse, standard), *_mediation_section(warehouse, key, standard),
    ]  # fmt: skip
    sections += [
        _guiding_section(warehouse, usage),
        _class_section(warehouse, usage, standard, parts, prices),
        _segment_section(usage, parts),
    ]
    if not is_live:
        sections.insert(0, Section("explain.record", notes=[("explain.record_later", {})]))
    if any(drawn.values()):
        sections.append(_draw_section(usage, parts, drawn))
    sections += [_price_section(component, prices) for component in components]
    paid, section = _payment_section(components, parts)
    if section:
        sections.append(section)
    worked_out = sum((each.amount for each in components), Decimal(0)) - paid
    charges = _rows(
        warehouse, "select * from billing.charge where usage_id = ? order by charge_key", [key]
    )
    amount = sum((charge["amount"] for charge in charges), Decimal(0))
    sections.append(_charge_section(warehouse, charges, amount, worked_out))
    return Explanation("usage", str(key), usage["province_code"], amount, worked_out, sections)


def _standard_usage(warehouse: Warehouse, key: uuid.UUID, file_id: str | None) -> Row | None:
    found = _rows(
        warehouse, "select * from mediation.usage where _file_id = ? and usage_id = ?",
        [file_id, key],
    )  # fmt: skip
    return found[0] if found else None


def _record_sections(warehouse: Warehouse, usage: Row | None) -> list[Section]:
    if usage is None:
        return []
    return _raw_record(warehouse, usage["_file_id"], usage["_record_number"])


RECORD_FIELDS = (
    "record_type", "service", "direction", "served_msisdn", "served_imsi", "served_imei",
    "other_party", "started_local", "utc_offset_minutes", "duration_seconds", "uplink_octets",
    "downlink_octets", "serving_plmn", "cell_id", "trunk_group_in", "trunk_group_out", "apn",
    "rating_group", "sp_id", "content_id", "cause_for_closing", "call_reference",
    "partial_sequence", "is_last_partial",
)  # fmt: skip
_KINDS = {
    "served_msisdn": "number", "other_party": "number", "served_imsi": "identity",
    "served_imei": "identity",
}  # fmt: skip


def _record_fact(name: str, value: Any) -> Fact:
    """A field as received; a value that has a word is told by it."""
    label = f"record_field.{name}"
    if isinstance(value, bool):
        return Fact(label, f"unit.{'yes' if value else 'no'}", "word")
    word = {
        "service": f"usage_service.{value}", "direction": f"usage_direction.{value}",
    }.get(name, "")  # fmt: skip
    if has_message(word):
        return Fact(label, word, "word")
    return Fact(label, value, _KINDS.get(name, "code"))


def _raw_record(warehouse: Warehouse, file_id: str, number: int) -> list[Section]:
    """The record as it was received, and what a person corrected of it."""
    section = Section("explain.record")
    file = _rows(warehouse, "select * from ods.usage_file where file_id = ?", [file_id])
    if file:
        section.add("explain.source", file[0]["source_id"], "code")
        section.add("explain.file_name", file[0]["file_name"], "code")
        section.add("explain.format", file[0]["format"], "code")
        section.add("explain.received_at", file[0]["received_at"], "moment")
        section.add("explain.sha256", file[0]["sha256"], "code")
    section.add("explain.file", file_id, "code")
    section.add("explain.record_number", f"{number:,}")
    raw = _rows(
        warehouse,
        "select * from raw.usage_record where _file_id = ? and _record_number = ?"
        " and _batch_id = coalesce("
        "(select batch_id from ods.usage_file where file_id = ?), _batch_id)",
        [file_id, number, file_id],
    )
    if raw:
        row = raw[0]
        if row.get("_byte_offset") is not None:
            section.add("explain.position", f"{row['_byte_offset']:,} + {row['_byte_length']:,}")
        detail = kept_reason(row.get("_decode_detail"))
        if detail is not None:
            section.add(
                "explain.decode_detail",
                {"zh": detail.zh, "en": detail.en, "code": detail.code},
                "named",
            )
        section.add("explain.raw_text", row.get("_raw_record"), "raw")
        for name in RECORD_FIELDS:
            if row.get(name) is not None and row[name] != "":
                section.facts.append(_record_fact(name, row[name]))
    sections = [section]
    corrections = _rows(
        warehouse,
        "select * from ods.correction where file_id = ? and record_number = ?"
        " order by corrected_at",
        [file_id, number],
    )
    for correction in corrections:
        change = Section("explain.correction")
        change.add("explain.corrected_at", correction["corrected_at"], "moment")
        for name in RECORD_FIELDS:
            if correction.get(name) is not None:
                change.facts.append(_record_fact(name, correction[name]))
        if not correction["is_latest"]:
            change.notes.append(("explain.superseded", {}))
        sections.append(change)
    return sections


def _mediation_section(warehouse: Warehouse, key: uuid.UUID, usage: Row | None) -> list[Section]:
    if usage is None:
        return []
    section = Section("explain.mediation")
    own = _rows(
        warehouse,
        "select * from mediation.record_outcome where _file_id = ? and _record_number = ?",
        [usage["_file_id"], usage["_record_number"]],
    )
    call = own[0]["usage_id"] if own else key
    records = _rows(
        warehouse,
        "select * from mediation.record_outcome where usage_id = ?"
        " order by outcome = 'standard' desc, _file_id, _record_number",
        [call],
    )
    section.columns = [
        "explain.file", "explain.record_number", "explain.outcome", "explain.duration",
        "explain.volume",
    ]  # fmt: skip
    for record in records:
        octets = (record["uplink_octets"] or 0) + (record["downlink_octets"] or 0)
        section.rows.append(
            [
                Fact("explain.file", record["_file_id"], "code"),
                Fact("explain.record_number", f"{record['_record_number']:,}"),
                Fact("explain.outcome", f"outcome.{record['outcome']}", "word"),
                Fact("explain.duration", shown(record["duration_seconds"] * MICRO, "second")),
                Fact("explain.volume", shown(octets * MICRO, "octet") if octets else ""),
            ]
        )
    if usage["partial_count"] > 1:
        values = {"count": str(usage["partial_count"])}
        section.notes.append(("explain.put_together", values))
    if any(record["outcome"] == "duplicate" for record in records):
        section.notes.append(("explain.has_duplicates", {}))
    if usage["is_incomplete"]:
        section.notes.append(("explain.incomplete", {}))
    if usage["is_continued"] or key != call:
        section.notes.append(("explain.continued", {}))
    section.add("explain.started_at", usage["started_at"], "moment")
    section.add("explain.service", f"usage_service.{usage['service']}", "word")
    section.add("explain.direction", f"usage_direction.{usage['direction']}", "word")
    section.add("explain.served_number", usage["served_msisdn"], "number")
    section.add("explain.other_party", usage["other_party"], "number")
    return [section]


def _guiding_section(warehouse: Warehouse, usage: Row) -> Section:
    section = Section("explain.guiding")
    holding = _rows(
        warehouse,
        "select * from billing.product_holding where subscription_id = ? and plan_version_id = ?"
        " and role = 'plan' and held_from <= ? and held_to > ?",
        [usage["subscription_id"], usage["plan_version_id"], usage["started_at"],
         usage["started_at"]],
    )  # fmt: skip
    section.add("explain.started_at", usage["started_at"], "moment")
    section.add("explain.customer", usage["customer_id"], "code")
    section.add("explain.account", usage["account_id"], "code")
    section.add("explain.subscription", usage["subscription_id"], "code")
    if holding:
        section.add("explain.served_number", holding[0]["msisdn"], "number")
    section.add("explain.offering", usage["offering_id"], "code")
    section.add("explain.plan_version", usage["plan_version_id"], "code")
    if holding:
        section.add("explain.held_from", holding[0]["held_from"], "moment")
        section.add("explain.held_to", _end(holding[0]["held_to"]), "moment")
        section.notes.append(("explain.why_owner", {}))
    section.add("explain.cycle", usage["cycle_id"], "code")
    version = _rows(
        warehouse, "select * from ods.price_plan_version where plan_version_id = ?",
        [usage["plan_version_id"]],
    )  # fmt: skip
    if version:
        section.add("explain.version_from", version[0]["valid_from"], "moment")
        section.add("explain.version_to", version[0]["valid_to"], "moment")
    return section


def _end(moment: datetime) -> datetime | None:
    return None if moment.year == 9999 else moment


def _class_section(
    warehouse: Warehouse, usage: Row, standard: Row | None, parts: UsageParts,
    prices: dict[str, Price],
) -> Section:  # fmt: skip
    section = Section("explain.classification")
    if standard is not None:
        _add_zones(warehouse, section, standard)
        if usage["charge_class"].endswith(("_local", "_long_distance")):
            _add_areas(warehouse, section, standard)
    section.add("explain.roaming_class", f"roaming_class.{usage['roaming_class']}", "word")
    names = class_names(warehouse)
    section.add("explain.charge_class", names[usage["charge_class"]], "named")
    section.add("explain.charge_class_code", usage["charge_class"], "code")
    chain = _rows(
        warehouse,
        "select ancestor_class, distance from billing.class_ancestor where charge_class = ?"
        " order by distance",
        [usage["charge_class"]],
    )
    lineage = [names[row["ancestor_class"]] for row in chain]
    section.add("explain.ancestors", _named(" → ", lineage), "named")
    priced = _rows(
        warehouse,
        "select distinct usage_price_id, charge_class from ods.usage_price"
        " where usage_price_id in (select usage_price_id from _price) order by usage_price_id",
    )
    for row in priced:
        price = _same(f"({row['usage_price_id']})")
        section.add("explain.priced_as", _named(" ", [names[row["charge_class"]], price]), "named")
        if row["charge_class"] != usage["charge_class"]:
            section.notes.append(
                (
                    "explain.price_of_ancestor",
                    {
                        "charge_class": names[usage["charge_class"]],
                        "ancestor": names[row["charge_class"]],
                    },
                )
            )
    return section


def _named(between: str, parts: Iterable[Named]) -> Named:
    """Texts put together, in every language and in codes."""
    listed = list(parts)
    return {name: between.join(part[name] for part in listed) for name in ("code", *LANGUAGES)}


def _same(text: str) -> Named:
    """A text that is the same in every language."""
    return dict.fromkeys(("code", *LANGUAGES), text)


def _names_of(row: Row, code: str) -> Named:
    return {"code": code, "zh": row["name_zh"], "en": row["name_en"]}


def _add_zones(warehouse: Warehouse, section: Section, standard: Row) -> None:
    """The calling code and the network by which the zones were found."""
    other = standard["other_party"]
    if standard["other_party_type"] == "e164" and other and not other.startswith("86"):
        matched = _rows(
            warehouse,
            "select * from ods.country_zone where starts_with(?, calling_code)"
            " order by length(calling_code) desc limit 1",
            [other[:7]],
        )
        for row in matched:
            parts = [
                _same(row["calling_code"]), _names_of(row, row["country_iso"]),
                _same(f"→ {row['zone']}"),
            ]  # fmt: skip
            section.add("explain.zone_prefix", _named(" ", parts), "named")
    elif standard["other_party_type"]:
        kind = f"other_party_type.{standard['other_party_type']}"
        section.add("explain.other_party_type", kind, "word")
    section.add("explain.serving_network", standard["serving_plmn"], "code")
    if standard["visited_province_code"]:
        visited = f"province.{standard['visited_province_code']}"
        section.add("explain.visited_province", visited, "word")
    if standard["serving_plmn"] and standard["visited_province_code"] is None:
        network = _rows(
            warehouse,
            "select plmn.*, country_zone.name_zh, country_zone.name_en from ods.plmn as plmn"
            " left join ods.country_zone as country_zone"
            " on plmn.calling_code = country_zone.calling_code"
            " where plmn.mcc = substr(?, 1, 3)",
            [standard["serving_plmn"]],
        )
        for row in network:
            country = _same(row["country_iso"])
            if row["name_zh"] is not None:
                country = _names_of(row, row["country_iso"])
            parts = [_same(row["mcc"]), country, _same(f"→ {row['zone']}")]
            section.add("explain.visited_country", _named(" ", parts), "named")


def _add_areas(warehouse: Warehouse, section: Section, standard: Row) -> None:
    """The areas that make a call local or long-distance: where it is made, and whom it goes to."""
    exchange = _rows(
        warehouse, "select area_code from billing.source_area where source_id = ?",
        [standard["source_id"]],
    )  # fmt: skip
    if exchange:
        made_in = "explain.area_of_exchange", exchange[0]["area_code"]
    else:
        made_in = "explain.area_of_line", _area_of(warehouse, standard["served_msisdn"])
    for label, area_code in (
        made_in, ("explain.area_of_other", _area_of(warehouse, standard["other_party"])),
    ):  # fmt: skip
        for row in _rows(warehouse, "select * from ods.area_code where area_code = ?", [area_code]):
            area = [_same(f"0{area_code}"), _names_of(row, "")]
            section.add(label, _named(" ", area) | {"code": f"0{area_code}"}, "named")


def _area_of(warehouse: Warehouse, number: str) -> str | None:
    """The area code of a Chinese number in E.164 digits, by the longest beginning that has one."""
    found = _rows(
        warehouse,
        "select area_code from ods.number_area"
        " where area_prefix in (substr(?, 3, 2), substr(?, 3, 3), substr(?, 3, 7))"
        " order by length(area_prefix) desc limit 1",
        [number] * 3,
    )
    return found[0]["area_code"] if found else None


def _segment_section(usage: Row, parts: UsageParts) -> Section:
    section = Section("explain.segments")
    section.columns = [
        "explain.segment", "explain.from", "explain.to", "explain.band", "explain.quantity",
        "explain.price",
    ]  # fmt: skip
    zone = ZoneInfo(usage["time_zone"] or "UTC")
    section.add("explain.time_zone", usage["time_zone"], "code")
    begins = usage["started_at"].replace(tzinfo=UTC)
    for row in parts.segment_rows:
        ends = begins
        if usage["unit"] == "second":
            ends = begins + timedelta(microseconds=abs(row["quantity_micro"]))
        section.rows.append(
            [
                Fact("explain.segment", str(row["segment_number"])),
                Fact("explain.from", _civil(begins, zone)),
                Fact("explain.to", _civil(ends, zone) if ends > begins else ""),
                Fact("explain.band", row["band"] and f"band.{row['band']}", "word"),
                Fact("explain.quantity", shown(row["quantity_micro"], usage["unit"])),
                Fact("explain.price", row["usage_price_id"], "code"),
            ]
        )
        begins = ends
    return section


def _civil(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _draw_section(usage: Row, parts: UsageParts, drawn: dict[int, list[Line]]) -> Section:
    section = Section("explain.allowances")
    section.lines = [line for lines in drawn.values() for line in lines]
    section.columns = [
        "explain.segment", "explain.rank", "explain.bucket", "explain.scope_of_bucket",
        "explain.size", "explain.used_before", "explain.drawn", "explain.left",
    ]  # fmt: skip
    unit = usage["unit"]
    for row in parts.draw_rows:
        section.rows.append(
            [
                Fact("explain.segment", str(row["segment_number"])),
                Fact("explain.rank", str(row["draw_rank"])),
                Fact("explain.bucket", row["bucket_id"], "code"),
                Fact("explain.scope_of_bucket", f"bucket_scope.{row['scope']}", "word"),
                Fact("explain.size", shown(row["size_micro"], unit)),
                Fact("explain.used_before", shown(row["used_before_micro"], unit)),
                Fact("explain.drawn", shown(row["drawn_micro"], unit)),
                Fact("explain.left", shown(row["left_micro"], unit)),
            ]
        )
    return section


def _price_section(component: Component, prices: dict[str, Price]) -> Section:
    price = prices[component.usage_price_id]
    section = Section("explain.pricing")
    section.add("explain.price", component.usage_price_id, "code")
    section.add("explain.model", f"price_model.{price.model}", "word")
    section.add("explain.quantity", shown(component.quantity, price.unit))
    section.add("explain.to_pay", shown(component.left, price.unit))
    section.lines = list(component.lines)
    return section


def _payment_section(
    components: list[Component], parts: UsageParts
) -> tuple[Decimal, Section | None]:
    """What allowances of money paid: of every component, in the order of the buckets."""
    section = Section("explain.money_allowances")
    rests = {each.usage_price_id: each.amount for each in components}
    paid = Decimal(0)
    for draw in parts.money_draws:
        rest = rests[draw["usage_price_id"]]
        free = Decimal(draw["size_micro"]).scaleb(-6) - draw["used_before_amount"]
        given = min(rest, free) if rest > 0 else max(rest, -draw["used_before_amount"])
        rests[draw["usage_price_id"]] = rest - given
        paid += given
        values = {
            "bucket": draw["allowance_id"], "size": shown(draw["size_micro"], "money"),
            "used": money(Fraction(draw["used_before_amount"])), "drawn": money(Fraction(given)),
        }  # fmt: skip
        formula = f"{money(Fraction(rest))} − {money(Fraction(given))}"
        section.lines.append(
            Line("explain.line_draw", formula, money(Fraction(rest - given)), values)
        )
    return paid, section if section.lines else None


def _charge_section(
    warehouse: Warehouse, charges: list[Row], amount: Decimal, worked_out: Decimal
) -> Section:
    section = Section("explain.charge")
    section.columns = ["explain.bill_item_code", "explain.price", "explain.amount",
                       "explain.covered", "explain.residue"]  # fmt: skip
    for charge in charges:
        section.rows.append(
            [
                Fact("explain.bill_item_code", _item_word(charge), "word"),
                Fact("explain.price", charge["price_component"], "code"),
                Fact("explain.amount", money(Fraction(charge["amount"]))),
                Fact("explain.covered", money(Fraction(charge["covered_amount"]))),
                Fact("explain.residue", signed(Fraction(charge["rounding_residue_amount"]))),
            ]
        )
    section.add("explain.amount", money(Fraction(amount)))
    section.add("explain.worked_out", money(Fraction(worked_out)))
    for item in _items_of(warehouse, charges):
        section.add("explain.on_bill_item", str(uuid.UUID(item["bill_item_key"])), "bill_item")
        section.add("explain.on_bill", item["bill_id"], "bill")
    return section


def _item_word(row: Row) -> str:
    return f"bill_item.{row['bill_item_code']}"


def _items_of(warehouse: Warehouse, charges: list[Row]) -> list[Row]:
    found = []
    for account, line, cycle, code in sorted(
        {(c["account_id"], c["subscription_id"], c["cycle_id"], c["bill_item_code"])
         for c in charges}
    ):  # fmt: skip
        found += _rows(
            warehouse,
            "select bill_item_key, bill_id from billing.bill_item where account_id = ?"
            " and subscription_id = ? and cycle_id = ? and bill_item_code = ?",
            [account, line, cycle, code],
        )
    return found


def _explain_suspended(warehouse: Warehouse, key: uuid.UUID, usage: Row) -> Explanation:
    sections: list[Section] = []
    province = HEADQUARTERS
    if warehouse.has_table("mediation.usage"):
        standard = _standard_usage(warehouse, key, usage["_file_id"])
        province = (standard or {}).get("province_code") or HEADQUARTERS
        sections += _record_sections(warehouse, standard)
        sections += _mediation_section(warehouse, key, standard)
    section = Section("explain.suspended")
    section.add("explain.reason", f"suspense_reason.{usage['reason_code']}", "word")
    section.add("explain.charge_class", class_names(warehouse)[usage["charge_class"]], "named")
    section.add("explain.quantity", shown(usage["quantity_micro"], usage["unit"]))
    if usage["estimated_amount"] is not None:
        section.add("explain.estimated", money(Fraction(usage["estimated_amount"])))
    sections.append(section)
    return Explanation("usage", str(key), province, None, None, sections)


# Fees, bill items and bills -----------------------------------------------------------------------


def _explain_fee(warehouse: Warehouse, charge: Row) -> Explanation:
    section, worked_out = _product_section(warehouse, charge)
    return Explanation(
        "charge", str(charge["charge_key"]), charge["province_code"], charge["amount"], worked_out,
        [section],
    )  # fmt: skip


def _product_section(warehouse: Warehouse, charge: Row) -> tuple[Section, Decimal | None]:
    """How a charge for a product, not for its use, came about: by the month, or once."""
    title, work_out_charge = {
        "recurring": ("explain.fee", _work_out_fee),
        "one_off": ("explain.once", _work_out_once),
        "penalty": ("explain.penalty", _work_out_penalty),
    }[charge["charge_type"]]
    section = Section(title)
    section.add("explain.offering", charge["offering_id"], "code")
    section.add("explain.plan_version", charge["plan_version_id"], "code")
    section.add("explain.amount", money(Fraction(charge["amount"])))
    return section, work_out_charge(warehouse, charge, section)


# A fee with the bundle it was held through.
_FEE = """
select recurring_charge.*, offering.offering_id as code, offering.name_zh as zh,
    offering.name_en as en
from billing.recurring_charge as recurring_charge
left join ods.price_plan_version as price_plan_version
    on recurring_charge.bundle_version_id = price_plan_version.plan_version_id
left join ods.offering as offering
    on price_plan_version.offering_id = offering.offering_id
where recurring_charge.subscription_id = ? and recurring_charge.cycle_id = ?
    and recurring_charge.plan_version_id = ? and recurring_charge.held_from = ?
"""

# What a version of a bundle groups.
_COMPONENTS = """
select bundle_component.fee_rule, offering.offering_id as code, offering.name_zh as zh,
    offering.name_en as en
from ods.bundle_component as bundle_component
inner join ods.offering as offering
    on bundle_component.offering_id = offering.offering_id
where bundle_component.plan_version_id = ?
order by offering.offering_type desc, offering.offering_id
"""


def _work_out_fee(warehouse: Warehouse, charge: Row, section: Section) -> Decimal | None:
    rows = _rows(
        warehouse, _FEE,
        [charge["subscription_id"], charge["cycle_id"], charge["plan_version_id"],
         charge["charged_at"]],
    )  # fmt: skip
    if not rows:
        return None
    # Of the same held twice from one moment on, the one that the key of the charge is made of.
    row = next((row for row in rows if _fee_key(row) == str(charge["charge_key"])), rows[0])
    _tell_bundle(warehouse, row, section)
    whole, parts = row["fee_whole"], [(row["monthly_fee_amount"], row["fee_parts"])]
    if row["suspension_fee_amount"] and row["suspended_days"]:
        parts.append((row["suspension_fee_amount"], row["suspended_parts"]))
    if all(number % 2 == 0 for number in (whole, *(part for _, part in parts))):
        # no half fee: days of days
        whole, parts = whole // 2, [(fee, part // 2) for fee, part in parts]
    section.add("explain.from", str(row["first_date"]))
    section.add("explain.to", str(row["last_date"]))
    if row["suspended_days"]:
        section.add("explain.suspended_days", str(row["suspended_days"]))
    exact = sum((Fraction(fee) * part / whole for fee, part in parts), Fraction(0))
    fen = Fraction(_fen(exact))
    terms = " + ".join(f"{money(Fraction(fee))} × {part}/{whole}" for fee, part in parts)
    formula = f"{terms} = {money(exact)}"
    section.lines.append(
        Line("explain.line_fee", formula, money(fen), {"residue": signed(fen - exact)})
    )
    return _fen(fen)


def _fee_key(fee: Row) -> str:
    """The key of a fee's charge, as `billing.charge` makes it."""
    of_fee = ("product_instance_id", "plan_version_id", "cycle_id", "part_number")
    text = "|".join(("recurring", *(str(fee[name]) for name in of_fee)))
    return str(uuid.UUID(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()))


def _tell_bundle(warehouse: Warehouse, fee: Row, section: Section) -> None:
    """Through which bundle a fee was held, or which fees the bundle holds."""
    if fee["fee_rule"] is not None:
        bundle = {name: fee[name] for name in ("code", *LANGUAGES)}
        section.add("explain.bundle", bundle, "named")
        section.notes.append((f"explain.fee_{fee['fee_rule']}", {"bundle": bundle}))
    if fee["role"] == "bundle":
        for component in _rows(warehouse, _COMPONENTS, [fee["plan_version_id"]]):
            rule = component.pop("fee_rule")
            section.add(f"explain.component_{rule}", component, "named")


def _work_out_once(warehouse: Warehouse, charge: Row, section: Section) -> Decimal | None:
    section.add("explain.charged_for", f"occasion.{charge['charge_class']}", "word")
    rows = _rows(
        warehouse,
        "select amount from ods.one_off_price where plan_version_id = ? and occasion = ?",
        [charge["plan_version_id"], charge["charge_class"]],
    )
    return rows[0]["amount"] if rows else None


# A penalty with the commitment it is of, the fee on that day, and how many months had begun.
_PENALTY = """
select commitment.*, price_plan_version.monthly_fee_amount, one_off_charge.ended_by,
    one_off_charge.begun_months
from billing.one_off_charge as one_off_charge
inner join ods.commitment as commitment
    on one_off_charge.price_component = commitment.plan_version_id || '/penalty'
inner join ods.price_plan_version as price_plan_version
    on one_off_charge.plan_version_id = price_plan_version.plan_version_id
where one_off_charge.subscription_id = ? and one_off_charge.cycle_id = ?
    and one_off_charge.price_component = ? and one_off_charge.happened_at = ?
"""


def _work_out_penalty(warehouse: Warehouse, charge: Row, section: Section) -> Decimal | None:
    rows = _rows(
        warehouse, _PENALTY,
        [charge["subscription_id"], charge["cycle_id"], charge["price_component"],
         charge["charged_at"]],
    )  # fmt: skip
    if not rows:
        return None
    row = rows[0]
    section.add("explain.charged_for", f"occasion.{row['ended_by']}", "word")
    section.add("explain.committed_version", row["plan_version_id"], "code")
    section.add("explain.committed_months", str(row["months"]))
    section.add("explain.begun_months", str(row["begun_months"]))
    value = Fraction(row["penalty_value"])
    if row["penalty_rule"] == "fixed":
        section.lines.append(Line("explain.line_penalty_fixed", money(value), money(value)))
        return Decimal(row["penalty_value"])
    fee, left = Fraction(row["monthly_fee_amount"]), row["months"] - row["begun_months"]
    exact = fee * left * value / 100
    formula = f"{money(fee)} × {left} × {_percent(value)}/100 = {money(exact)}"
    fen = Fraction(_fen(exact))
    section.lines.append(
        Line("explain.line_penalty_share", formula, money(fen), {"residue": signed(fen - exact)})
    )
    return _fen(fen)


def round_half_up(amount: Fraction) -> int:
    """The nearest whole number; halves away from zero."""
    whole = (2 * abs(amount.numerator) + amount.denominator) // (2 * amount.denominator)
    return whole if amount >= 0 else -whole


_CHARGES_BY_PRICE = """
select
    charge_class,
    price_component,
    unit,
    count(*) as charges,
    sum(billable_quantity) as billable,
    sum(drawn_quantity) as drawn,
    sum(amount) as amount
from billing.charge
where account_id = ? and subscription_id = ? and cycle_id = ? and bill_item_code = ?
group by charge_class, price_component, unit
order by price_component, charge_class
"""

_FIRST_CHARGES = """
select *
from billing.charge
where account_id = ? and subscription_id = ? and cycle_id = ? and bill_item_code = ?
order by charged_at, charge_key
limit ?
"""

_MONEY_COLUMN = re.compile(r".+_amount")


def _explain_item(warehouse: Warehouse, item: Row) -> Explanation:
    identifier = str(uuid.UUID(item["bill_item_key"]))
    head = Section("explain.bill_item")
    for label, name, kind in (
        ("explain.on_bill", "bill_id", "bill"), ("explain.account", "account_id", "code"),
        ("explain.subscription", "subscription_id", "code"), ("explain.cycle", "cycle_id", "code"),
    ):  # fmt: skip
        head.add(label, item.get(name), kind)
    head.add("explain.bill_item_code", _item_word(item), "word")
    # What is told as it stands, beside the amount that is worked out.
    for name in item:
        if _MONEY_COLUMN.fullmatch(name) and name != "charge_amount" and item[name] is not None:
            head.facts.append(Fact(f"item_amount.{name}", money(Fraction(item[name]))))
    if item["item_kind"] != "charge":
        for label, name in (
            ("explain.discount", "discount_id"), ("explain.other_account", "other_account_id"),
        ):  # fmt: skip
            if item[name] is not None:
                head.add(label, item[name], "code")
        sections, worked_out = [head], None
        if item["discount_id"] is not None:
            section, worked_out = _discount_section(warehouse, item)
            sections.append(section)
        return Explanation(
            "bill_item", identifier, item["province_code"], item["amount"], worked_out, sections,
        )  # fmt: skip
    key = [item["account_id"], item["subscription_id"], item["cycle_id"], item["bill_item_code"]]
    groups = _rows(warehouse, _CHARGES_BY_PRICE, key)
    names = class_names(warehouse)
    by_class = Section("explain.by_price")
    by_class.columns = [
        "explain.charge_class", "explain.price", "explain.charges", "explain.to_pay",
        "explain.covered_quantity", "explain.amount",
    ]  # fmt: skip
    total = Decimal(0)
    for row in groups:
        total += row["amount"]
        by_class.rows.append(
            [
                Fact("explain.charge_class", names[row["charge_class"]], "named"),
                Fact("explain.price", row["price_component"], "code"),
                Fact("explain.charges", f"{row['charges']:,}"),
                _quantity("explain.to_pay", row["billable"], row["unit"]),
                _quantity("explain.covered_quantity", row["drawn"], row["unit"]),
                Fact("explain.amount", money(Fraction(row["amount"]))),
            ]
        )
    summed = " + ".join(money(Fraction(row["amount"])) for row in groups) or "0"
    by_class.lines.append(Line("explain.line_charges", summed, money(Fraction(total))))
    fen = _fen(Fraction(total))
    by_class.lines.append(
        Line(
            "explain.line_rounding", money(Fraction(total)), money(Fraction(fen)),
            {"mode": "half_up", "digits": "0.01", "residue": signed(Fraction(fen - total))},
        )
    )  # fmt: skip
    charges = _rows(warehouse, _FIRST_CHARGES, [*key, CHARGES_SHOWN])
    detail = Section("explain.charges_of_item")
    detail.columns = [
        "explain.started_at", "explain.usage", "explain.charge_class", "explain.quantity",
        "explain.covered_quantity", "explain.amount", "explain.residue",
    ]  # fmt: skip
    count = sum(row["charges"] for row in groups)
    if count > len(charges):
        values = {"shown": f"{len(charges):,}", "count": f"{count:,}"}
        detail.notes.append(("explain.more_charges", values))
    fees: list[Section] = []
    for charge in charges:
        if charge["usage_id"] is None:
            fees.append(_product_section(warehouse, charge)[0])
        explained = charge["usage_id"] or charge["charge_key"]
        quantity = charge["billable_quantity"] + charge["drawn_quantity"]
        detail.rows.append(
            [
                Fact("explain.started_at", charge["charged_at"], "moment"),
                Fact("explain.usage", str(explained), "usage"),
                Fact("explain.charge_class", names[charge["charge_class"]], "named"),
                _quantity("explain.quantity", quantity, charge["unit"]),
                _quantity("explain.covered_quantity", charge["drawn_quantity"], charge["unit"]),
                Fact("explain.amount", money(Fraction(charge["amount"]))),
                Fact("explain.residue", signed(Fraction(charge["rounding_residue_amount"]))),
            ]
        )
    return Explanation(
        "bill_item", identifier, item["province_code"], item["amount"], fen,
        [head, by_class, *fees, detail],
    )  # fmt: skip


def _quantity(label: str, quantity: Decimal, unit: str | None) -> Fact:
    return Fact(label, (int(quantity * MICRO), unit), "quantity")


# A discount of the tariff, or the minimum consumption of a version for its share of the month.
_DISCOUNT = """
select kind, value, bill_item_codes, cast(null as bigint) as part, cast(null as bigint) as whole
from ods.discount
where discount_id = ?

union all

(select 'minimum', min(price_plan_version.minimum_consumption_amount), null,
    cast(sum(case when fee_rule in ('included', 'replaced') then 0 else fee_parts end) as bigint),
    min(fee_whole)
from ods.price_plan_version as price_plan_version
inner join billing.recurring_charge as recurring_charge
    on price_plan_version.plan_version_id = recurring_charge.plan_version_id
where price_plan_version.plan_version_id || '/minimum' = ?
    and recurring_charge.subscription_id = ? and recurring_charge.cycle_id = ?
group by product_instance_id
order by product_instance_id)
"""


def _discount_section(warehouse: Warehouse, item: Row) -> tuple[Section, Decimal | None]:
    """How a discount, cap or minimum came about, and the part of it that fell on this item."""
    section = Section("explain.discounting")
    of_line = [item["discount_id"], item["subscription_id"], item["cycle_id"]]
    rules = (
        _rows(warehouse, _DISCOUNT, [item["discount_id"], *of_line])
        if warehouse.has_table("ods.discount") else []
    )  # fmt: skip
    if not rules:
        return section, None
    rule = rules[-1]
    base, value = Fraction(item["base_amount"]), Fraction(rule["value"])
    section.notes.append((f"discount_kind.{rule['kind']}", {"value": _percent(value)}))
    codes = [code for code in (rule["bill_item_codes"] or "").split(",") if code]
    if codes:
        section.add("explain.discounted_items", [f"bill_item.{code}" for code in codes], "words")
    if rule["part"] is not None:
        share = value * rule["part"] / rule["whole"]
        value = Fraction(_fen(share))
        formula = f"{money(Fraction(rule['value']))} × {rule['part']}/{rule['whole']}"
        section.lines.append(Line("explain.line_minimum_share", formula, money(value)))
    match rule["kind"]:
        case "percent":
            exact = -max(base, Fraction(0)) * value / 100
            formula = f"−{money(base)} × {money(value)}/100"
        case "amount":
            exact = -min(value, max(base, Fraction(0)))
            formula = f"−min({money(value)}, {money(base)})"
        case "cap":
            exact = min(value - base, Fraction(0))
            formula = f"{money(value)} − {money(base)}"
        case _:
            exact = max(value - base, Fraction(0))
            formula = f"{money(value)} − {money(base)}"
    total = Fraction(_fen(exact))
    section.lines.append(
        Line("explain.line_discount", formula, money(total), {"residue": signed(total - exact)})
    )
    parts = _rows(
        warehouse,
        "select bill_item_key, bill_item_code, amount from billing.bill_item"
        " where discount_id = ? and subscription_id = ? and cycle_id = ? order by bill_item_code",
        of_line,
    )
    if len(parts) > 1:
        shares = " + ".join(f"{money(Fraction(part['amount']))}" for part in parts)
        section.lines.append(Line("explain.line_shared_out", shares, money(total)))
    others = sum(
        Fraction(part["amount"]) for part in parts
        if part["bill_item_key"] != item["bill_item_key"]
    )  # fmt: skip
    return section, _fen(total - others)


def _fen(amount: Fraction) -> Decimal:
    return Decimal(round_half_up(amount * 100)).scaleb(-2)


_TAXES = """
select tax_class, tax_rate_percent, sum(amount) as amount, sum(tax_amount) as tax_amount
from billing.bill_item
where bill_id = ?
group by tax_class, tax_rate_percent
order by tax_class
"""

# How the rate of a bill's class counts: of the price without tax, or of the whole price.
_TAX_RULES = """
select tax_rate.tax_class, tax_rate.computed_on
from ods.tax_rate as tax_rate
inner join ods.billing_cycle as billing_cycle
    on billing_cycle.cycle_id = ? and tax_rate.valid_from <= billing_cycle.ends_at
order by tax_rate.valid_from
"""


def _tax_section(warehouse: Warehouse, bill: Row) -> Section:
    """The tax within the bill, by class: of the sum of its items, rounded once."""
    section = Section("explain.taxes")
    known = warehouse.has_table("ods.tax_rate")
    rules = _rows(warehouse, _TAX_RULES, [bill["cycle_id"]]) if known else []
    computed_on = {rule["tax_class"]: rule["computed_on"] for rule in rules}
    for row in _rows(warehouse, _TAXES, [bill["bill_id"]]):
        rate = Fraction(row["tax_rate_percent"])
        whole = 100 + (rate if computed_on.get(row["tax_class"], "net") == "net" else Fraction(0))
        exact = Fraction(row["amount"]) * rate / whole
        section.lines.append(
            Line(
                "explain.line_tax",
                f"{money(Fraction(row['amount']))} × {_percent(rate)}/{_percent(whole)}"
                f" = {money(exact)}",
                money(Fraction(_fen(exact))), {"tax_class": row["tax_class"]},
            )
        )  # fmt: skip
    return section


def _percent(rate: Fraction) -> str:
    return str(rate) if rate.denominator == 1 else money(rate)


def _explain_bill(warehouse: Warehouse, bill_id: str) -> Explanation | None:
    bills = _rows(warehouse, "select * from billing.bill where bill_id = ?", [bill_id])
    if not bills:
        return None
    bill = bills[0]
    items = _rows(
        warehouse,
        "select * from billing.bill_item where bill_id = ?"
        " order by subscription_id, bill_item_code, item_kind, discount_id, other_account_id",
        [bill_id],
    )
    head = Section("explain.bill")
    for label, name in (
        ("explain.account", "account_id"), ("explain.customer", "customer_id"),
        ("explain.cycle", "cycle_id"),
    ):  # fmt: skip
        head.add(label, bill[name], "code")
    section = Section("explain.items")
    section.columns = ["explain.subscription", "explain.bill_item_code", "explain.item_kind",
                       "explain.unrounded", "explain.amount", "explain.tax",
                       "explain.on_bill_item"]  # fmt: skip
    for item in items:
        section.rows.append(
            [
                Fact("explain.subscription", item["subscription_id"] or "", "code"),
                Fact("explain.bill_item_code", _item_word(item), "word"),
                Fact("explain.item_kind", f"item_kind.{item['item_kind']}", "word"),
                Fact("explain.unrounded", money(Fraction(item["charge_amount"] or 0))),
                Fact("explain.amount", money(Fraction(item["amount"]))),
                Fact("explain.tax", money(Fraction(item["tax_amount"]))),
                Fact("explain.on_bill_item", str(uuid.UUID(item["bill_item_key"])), "bill_item"),
            ]
        )
    total = sum((item["amount"] for item in items), Decimal(0))
    summed = " + ".join(money(Fraction(item["amount"])) for item in items) or "0"
    formula = summed.replace("+ -", "− ")
    section.lines.append(Line("explain.line_items", formula, money(Fraction(total))))
    movements = _rows(
        warehouse,
        "select payment_id, entry_id, amount from billing.bill_movement where bill_id = ?",
        [bill_id],
    )  # fmt: skip
    opening = bill["opening_amount"]
    paid, adjusted = (
        sum((row["amount"] for row in movements if row[key] is not None), Decimal(0))
        for key in ("payment_id", "entry_id")
    )
    closing = opening + total + adjusted - paid
    section.lines.append(
        Line(
            "explain.line_closing",
            f"{money(Fraction(opening))} + {money(Fraction(total))}"
            f" + {money(Fraction(adjusted))} − {money(Fraction(paid))}",
            money(Fraction(closing)),
        )
    )  # fmt: skip
    return Explanation(
        "bill", bill_id, bill["province_code"], bill["closing_amount"], closing,
        [head, section, _tax_section(warehouse, bill)], movements=movements,
    )  # fmt: skip


def _movement_sections(session: Session, rows: list[Row], timezone: str) -> list[Section]:
    """A bill's adjustments and payments, each with what it is, and their sums."""
    movements = describe(
        session, timezone=timezone,
        rows=[(row["payment_id"], row["entry_id"], row["amount"]) for row in rows],
    )  # fmt: skip
    sections = []
    for title, of_sum, are_payments in (
        ("explain.adjustments", "explain.line_adjustments", False),
        ("explain.payments", "explain.line_payments", True),
    ):
        listed = [each for each in movements if each.is_payment == are_payments]
        if not listed:
            continue
        section = Section(title)
        section.columns = [
            "bill.movement_date", "bill.movement_kind", "bill.movement_details",
            "bill.movement_number", "explain.amount",
        ]  # fmt: skip
        for each in listed:
            section.rows.append(
                [
                    Fact("bill.movement_date", str(each.last_date)),
                    Fact("bill.movement_kind", _told(each.kind, each.name), "named"),
                    Fact("bill.movement_details", _told("", each.details), "named"),
                    Fact("bill.movement_number", each.number, "note" if each.note_id else "code"),
                    Fact("explain.amount", money(Fraction(each.amount))),
                ]
            )
        total = sum((each.amount for each in listed), Decimal(0))
        summed = " + ".join(money(Fraction(each.amount)) for each in listed)
        section.lines.append(Line(of_sum, summed.replace("+ -", "− "), money(Fraction(total))))
        sections.append(section)
    return sections


def _told(code: str, tell: Callable[[Translate, str], str]) -> Named:
    """A text in every language; for machines its code, or where there is none the English text."""
    texts = {name: tell(translator(name), name) for name in LANGUAGES}
    return {"code": code or texts["en"]} | texts
