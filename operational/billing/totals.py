"""Control totals of a month 月度稽核: from the raw files to the lines of the ledger's journal.

Each hop has what went in and what came out, counted by two ways that do not share a table; no hop
has a tolerance, and what is rounded shows its residue. The hops up to the bills are read from the
warehouse as it stands, those after from the operational database and from the journal as exported.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from operational.accounts import reports, unbilled
from operational.billing.models import BillingCycle
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, NotFoundError
from operational.templating import money, plain
from tollhouse.settings import Settings
from tollhouse.warehouse import EngineError, Warehouse, WarehouseBusyError, read_warehouse

Row = dict[str, Any]

READ_WAIT_S = 10.0
SHOWN_TOTALS = 5  # of many, in a message
ZERO = Decimal(0)
# Ledger codes of what is owed for a bill or was deducted for it; the others are what it earned.
OWED = ("receivable", "deposit", "prepaid_deducted")


@dataclass(frozen=True)
class Total:
    """One hop and one measure on it; names are in Chinese and English."""

    hop_number: int
    hop: str
    measure: str
    unit: str
    left_name: str
    left_value: Decimal
    right_name: str
    right_value: Decimal

    @property
    def difference(self) -> Decimal:
        """Left minus right."""
        return self.left_value - self.right_value

    @property
    def is_tied(self) -> bool:
        """Whether nothing was lost or added on this hop."""
        return not self.difference

    def shown(self, value: Decimal) -> str:
        """A value of this total for people: money with its digits, else a plain number."""
        return money(value) if self.unit == "CNY" else plain(value)

    def __str__(self) -> str:
        return (
            f"{self.hop}, {self.measure}: {self.left_name} {self.left_value}"
            f" is not {self.right_name} {self.right_value}"
        )


def month_totals(settings: Settings, *, principal: Principal, cycle_id: str) -> list[Total]:
    """The control totals of a cycle in order, for readers of the ledger at headquarters.

    Of a cycle that is not final the hops end with its bills: nothing of it is owed yet.

    Raises:
        NotFoundError: there is no such cycle.
        ConflictError: the warehouse is being written, or is not there yet.
    """
    principal.require("ledger.read")
    if not principal.sees_all_provinces:
        raise ConflictError("totals_headquarters")
    with transaction(settings) as session:
        cycle = session.get(BillingCycle, cycle_id)
        if cycle is None:
            raise NotFoundError("no_cycle", cycle_id=cycle_id)
        days = days_of(cycle, settings.timezone)
        open_ids = unbilled.open_cycles(session, day=days[1], timezone=settings.timezone)
        of = _figures(settings, cycle_id, open_ids)
        found = list(_up_to_the_bills(of))
        if cycle.state == "final":
            found += _up_to_the_journal(session, principal, of, cycle_id, days)
        return [*found, *_not_yet(session, principal, of, days[1])]


def require_tied(settings: Settings, *, cycle_id: str) -> None:
    """Raise ConflictError unless the cycle's figures tie, as the step `close_cycle` would find.

    That is: the hops up to its bills as they stand, and the totals of the marts built from them.
    """
    of = _figures(settings, cycle_id)
    if not of["mart_totals"] or of["stale_bills"]:
        raise ConflictError("totals_missing", cycle_id=cycle_id)
    wrong = [str(total) for total in _up_to_the_bills(of) if not total.is_tied]
    wrong += of["mart_wrong"]
    if wrong:
        raise ConflictError("totals_not_tied", cycle_id=cycle_id, names=wrong[:SHOWN_TOTALS])


# One row: what the warehouse counts on its way from the files to the bills of one cycle.
_FIGURES = """
with

file_total as (

    select coalesce(sum(decoded_record_count), 0) as decoded_count
    from ods.usage_file
    where status = 'mediated'

),

record_total as (

    select count(*) as raw_count from mediation.record_outcome

),

outcome_total as (

    select
        coalesce(sum(standard_count), 0) as standard_count,
        coalesce(
            sum(
                standard_count + merged_count + duplicate_count + rejected_count + filtered_count
            ),
            0
        ) as five_count
    from mediation.file_balance
    where file_id in (select file_id from ods.usage_file where status = 'mediated')

),

usage_total as (

    select
        count(*) as usage_count,
        count(*) filter (where not is_continued) as whole_count
    from mediation.usage

),

guided_total as (

    select
        count(*) filter (where cycle_id = ?) as usage_count,
        count(*) filter (where cycle_id <> ?) as other_count
    from billing.guided_usage

),

suspended_total as (

    select count(*) as usage_count from billing.suspended_usage

),

charge_total as (

    select
        count(distinct usage_id) as usage_count,
        coalesce(sum(amount) filter (where usage_id is not null), 0) as usage_amount,
        coalesce(sum(amount) filter (where usage_id is null), 0) as fee_amount
    from billing.charge
    where cycle_id = ?

),

item_total as (

    select
        coalesce(sum(charge_amount), 0) as exact_amount,
        coalesce(sum(amount) filter (where item_kind = 'charge'), 0) as charged_amount,
        coalesce(
            sum(amount - charge_amount) filter (where item_kind = 'charge'), 0
        ) as residue_amount,
        coalesce(sum(amount) filter (where item_kind <> 'charge'), 0) as changed_amount,
        coalesce(sum(amount), 0) as amount,
        coalesce(sum(net_amount), 0) as net_amount
    from billing.bill_item
    where cycle_id = ?

),

movement_total as (

    select
        bill_id,
        sum(case when payment_id is null then amount else 0 end) as adjustment_sum,
        sum(case when payment_id is not null then amount else 0 end) as payment_sum
    from billing.bill_movement
    group by bill_id

),

bill_total as (

    select
        count(*) as bill_count,
        coalesce(sum(item_amount - discount_amount + shared_amount), 0) as composed_amount,
        coalesce(sum(charge_amount), 0) as charge_amount,
        coalesce(sum(tax_amount), 0) as tax_amount,
        coalesce(sum(opening_amount + charge_amount + adjustment_amount - payment_amount), 0)
            as balance_amount,
        coalesce(sum(closing_amount), 0) as closing_amount,
        count(*) filter (
            where opening_amount + charge_amount + adjustment_amount - payment_amount
                = closing_amount
            and adjustment_amount = coalesce(adjustment_sum, 0)
            and payment_amount = coalesce(payment_sum, 0)
        ) as balanced_count
    from billing.bill
    left join movement_total using (bill_id)
    where cycle_id = ?

)

select
    decoded_count, raw_count, five_count, standard_count, whole_count,
    usage_total.usage_count, guided_total.usage_count as rated_count, other_count,
    suspended_total.usage_count as suspended_count, charge_total.usage_count as charged_count,
    usage_amount, fee_amount, exact_amount, charged_amount, residue_amount, changed_amount,
    item_total.amount as item_amount, net_amount, bill_count, composed_amount, charge_amount,
    tax_amount, balance_amount, closing_amount, balanced_count
from file_total
cross join record_total
cross join outcome_total
cross join usage_total
cross join guided_total
cross join suspended_total
cross join charge_total
cross join item_total
cross join bill_total
"""

# Bills that were computed again after the marts were built.
_STALE = """
select count(*)
from billing.bill as bill
left join dm.bill as mart on mart.bill_id = bill.bill_id
where bill.cycle_id = ? and mart.content_hash is distinct from bill.content_hash
"""

_MART_TOTALS = """
select hop, measure, left_name, left_value, right_name, right_value, is_tied
from dm.control_total
order by hop_number, measure
"""


def _figures(settings: Settings, cycle_id: str, open_ids: Sequence[str] = ()) -> Row:
    """What the warehouse counts; of itself, since a copy published earlier ties with itself."""
    try:
        with read_warehouse(settings, wait_s=READ_WAIT_S) as warehouse:
            return _counts(warehouse, cycle_id, open_ids)
    except (WarehouseBusyError, EngineError) as error:
        raise ConflictError("warehouse_unreadable", reason=str(error)) from None


def _counts(warehouse: Warehouse, cycle_id: str, open_ids: Sequence[str]) -> Row:
    if not (warehouse.has_table("billing.bill") and warehouse.has_table("ods.usage_file")):
        raise ConflictError("totals_missing", cycle_id=cycle_id)
    figures: Row
    (figures,) = warehouse.arrow(_FIGURES, [cycle_id] * 5).to_pylist()
    figures |= {
        "open_items": unbilled.running_items(warehouse, open_ids),
        "open_amount": unbilled.charged_amount(warehouse, open_ids),
        "mart_totals": 0, "mart_wrong": [], "stale_bills": 0,
    }  # fmt: skip
    if warehouse.has_table("dm.control_total"):
        totals = warehouse.rows(_MART_TOTALS)
        figures["mart_totals"] = len(totals)
        figures["mart_wrong"] = [
            f"{hop}, {measure}: {left_name} {left} is not {right_name} {right}"
            for hop, measure, left_name, left, right_name, right, is_tied in totals
            if not is_tied
        ]
        figures["stale_bills"] = warehouse.rows(_STALE, [cycle_id])[0][0]
    return figures


def _up_to_the_bills(of: Row) -> Iterator[Total]:
    yield _counted(
        1,
        "raw files → raw records 原始文件 → 原始话单",
        ("records 记录数", "record"),
        ("decoded, by the journal 日志解码数", of["decoded_count"]),
        ("raw records 原始话单", of["raw_count"]),
    )
    yield _counted(
        2,
        "raw records → outcomes 原始话单 → 去向",
        ("records 记录数", "record"),
        ("raw records 原始话单", of["raw_count"]),
        (
            "standard + merged + duplicate + rejected + filtered 标准+合并+重复+拒绝+过滤",
            of["five_count"],
        ),
    )
    yield _counted(
        3,
        "outcomes → usage 去向 → 标准话单",
        ("records 记录数", "record"),
        ("standard records 标准记录", of["standard_count"]),
        ("usage (pieces split at midnight once) 标准话单（跨日拆分计一次）", of["whole_count"]),
    )
    yield _counted(
        4,
        "usage → rated + suspended 标准话单 → 批价+挂起",
        ("usages 话单数", "usage"),
        ("usage 标准话单", of["usage_count"]),
        (
            "rated this month + in other months + suspended 本月批价+其他月批价+挂起",
            of["rated_count"] + of["other_count"] + of["suspended_count"],
        ),
    )
    yield _counted(
        5,
        "rated → charges 批价 → 费用",
        ("usages 话单数", "usage"),
        ("rated this month 本月批价", of["rated_count"]),
        ("usage with a charge 有费用的话单", of["charged_count"]),
    )
    yield _valued(
        6,
        "charges → bill items 费用 → 帐单科目",
        "exact amount 未舍入金额",
        ("charges of usage + fees 话单费用+月租等", of["usage_amount"] + of["fee_amount"]),
        ("bill items before rounding 帐单科目（舍入前）", of["exact_amount"]),
    )
    yield _valued(
        7,
        "bill items rounded 帐单科目舍入",
        "amount 金额",
        (
            "charges + rounding residues 费用+舍入差额",
            of["usage_amount"] + of["fee_amount"] + of["residue_amount"],
        ),
        ("charged items 费用科目", of["charged_amount"]),
    )
    yield _valued(
        8,
        "charged items → bill items 费用科目 → 帐单科目",
        "amount 金额",
        (
            "charged + made up − discounts ± shares 费用+补足−优惠±代付",
            of["charged_amount"] + of["changed_amount"],
        ),
        ("net + tax 不含税金额+税", of["net_amount"] + of["tax_amount"]),
    )
    yield _valued(
        9,
        "bill items → bills 帐单科目 → 帐单",
        "amount 金额",
        ("bill items 帐单科目", of["item_amount"]),
        ("charges of the bills 帐单费用", of["charge_amount"]),
    )
    yield _valued(
        9,
        "bill items → bills 帐单科目 → 帐单",
        "as the bills are made up 帐单构成",
        ("items − discounts ± shares 科目−优惠±代付", of["composed_amount"]),
        ("charges of the bills 帐单费用", of["charge_amount"]),
    )
    yield _valued(
        10,
        "balances of the bills 帐单余额",
        "amount 金额",
        (
            "opening + charges + adjustments − payments 期初+费用+调整−缴费",
            of["balance_amount"],
        ),
        ("closing 期末", of["closing_amount"]),
    )
    yield _counted(
        10,
        "balances of the bills 帐单余额",
        ("bills 帐单数", "bill"),
        ("bills 帐单", of["bill_count"]),
        ("bills that add up 余额相符的帐单", of["balanced_count"]),
    )


# What is owed: the bills as published, and what the ledger has of them. The codes in `OWED` are one
# side of a bill's entry; revenue, tax and what is collected for others are the other.
_LEDGER = """
with

cycle_bill as (

    select bill_id, charge_amount from billing.bill where cycle_id = :cycle

),

posted as (

    select ent.posted_date, lin.ledger_code = any(:owed) as is_owed, lin.amount
    from billing.ledger_entry as ent
    join billing.ledger_line as lin on lin.entry_id = ent.entry_id
    where ent.entry_type = 'bill' and ent.bill_id in (select bill_id from cycle_bill)

),

month_line as (

    select ent.entry_id, ent.entry_type, lin.ledger_code, lin.amount
    from billing.ledger_entry as ent
    left join billing.ledger_line as lin on lin.entry_id = ent.entry_id
    where ent.posted_date between :first and :last

)

select
    (select count(*) from cycle_bill) as bill_count,
    (select coalesce(sum(charge_amount), 0) from cycle_bill) as charge_amount,
    (
        select coalesce(sum(amount), 0) from billing.bill_item
        where bill_id in (select bill_id from cycle_bill)
    ) as item_amount,
    coalesce(-sum(amount) filter (where not is_owed), 0) as earned_amount,
    coalesce(sum(amount) filter (where is_owed), 0) as owed_amount,
    coalesce(-sum(amount) filter (where not is_owed and posted_date > :last), 0)
        as later_amount,
    (
        select coalesce(-sum(lin.amount), 0)
        from billing.ledger_entry as ent
        join billing.ledger_line as lin on lin.entry_id = ent.entry_id
        where ent.entry_type = 'bill' and ent.posted_date between :first and :last
            and lin.ledger_code <> all(:owed)
            and ent.bill_id not in (select bill_id from cycle_bill)
    ) as other_amount,
    (select coalesce(sum(amount) filter (where amount > 0), 0) from month_line) as debit_amount,
    (select coalesce(-sum(amount) filter (where amount < 0), 0) from month_line)
        as credit_amount,
    (
        select coalesce(sum(line_count), 0) from billing.ledger_entry
        where posted_date between :first and :last
    ) as stated_lines,
    (select count(ledger_code) from month_line) as line_count
from posted
"""


def _up_to_the_journal(
    session: Session, principal: Principal, bills: Row, cycle_id: str, days: tuple[date, date]
) -> Iterator[Total]:
    first, last = days
    of = session.execute(
        text(_LEDGER),
        {"cycle": cycle_id, "first": first, "last": last, "owed": list(OWED)},
    ).one()
    rows = reports.journal(session, principal=principal, first=first, last=last)
    exported = list(csv.DictReader(io.StringIO(reports.journal_csv(rows))))
    beancount = reports.journal_beancount(session, rows, title=cycle_id)
    yield _counted(
        11,
        "bills → published bills 帐单 → 已发布帐单",
        ("bills 帐单数", "bill"),
        ("bills of the warehouse 数据仓库帐单", bills["bill_count"]),
        ("published bills 已发布帐单", of.bill_count),
    )
    yield _valued(
        11,
        "bills → published bills 帐单 → 已发布帐单",
        "amount 金额",
        ("charges of the bills 帐单费用", bills["charge_amount"]),
        ("published items 已发布科目", of.item_amount),
    )
    yield _valued(
        12,
        "published bills → ledger 已发布帐单 → 台帐",
        "revenue and tax 收入与税",
        ("published charges 已发布费用", of.charge_amount),
        ("revenue + tax + collected for others 收入+税+代收", of.earned_amount),
    )
    yield _valued(
        12,
        "published bills → ledger 已发布帐单 → 台帐",
        "receivables 应收",
        ("published charges 已发布费用", of.charge_amount),
        ("receivables + deducted − deposits of credits 应收+已扣−转预存", of.owed_amount),
    )
    yield _counted(
        13,
        "ledger of the month 本月台帐",
        ("lines 分录数", "line"),
        ("lines as entries say 凭证声明的分录", of.stated_lines),
        ("lines 分录", of.line_count),
    )
    yield _valued(
        13,
        "ledger of the month 本月台帐",
        "amount 金额",
        ("debits 借方", of.debit_amount),
        ("credits 贷方", of.credit_amount),
    )
    yield _valued(
        14,
        "ledger → GL export 台帐 → 总帐凭证",
        "bills posted in the month 本月入帐帐单",
        (
            "bills of the month − posted later + of other months 本月帐单−延后入帐+其他月帐单",
            of.charge_amount - of.later_amount + of.other_amount,
        ),
        ("credits of bills in CSV CSV 帐单贷方", _credits(exported)),
    )
    for side, amount in (("debits 借方", of.debit_amount), ("credits 贷方", of.credit_amount)):
        name = side.partition(" ")[0]
        yield _valued(
            14,
            "ledger → GL export 台帐 → 总帐凭证",
            f"{side} CSV",
            (f"ledger 台帐 {side}", amount),
            (f"CSV {side}", sum((Decimal(row[f"{name[:-1]}_amount"]) for row in exported), ZERO)),
        )
        yield _valued(
            14,
            "ledger → GL export 台帐 → 总帐凭证",
            f"{side} Beancount",
            (f"ledger 台帐 {side}", amount),
            (f"Beancount {side}", _posted(beancount, 1 if name == "debits" else -1)),
        )


def _not_yet(session: Session, principal: Principal, of: Row, last: date) -> Iterator[Total]:
    """Revenue that no final bill holds yet, and money received for what is still to come."""
    items: list[unbilled.UnbilledItem] = of["open_items"]
    yield _valued(
        15,
        "unbilled revenue 未出帐收入",
        "open cycles, before rounding 未关帐期（舍入前）",
        ("charges of cycles not final 未定稿帐期费用", of["open_amount"]),
        ("items of their running bills 其帐单科目", sum((one.exact_amount for one in items), ZERO)),
    )
    net = sum((one.net_amount for one in items), ZERO)
    accrued = reports.journal(
        session,
        principal=principal,
        first=last,
        last=last,
        unbilled=unbilled.net_amounts(items),
    )
    booked = sum(
        (
            row.credit_amount - row.debit_amount
            for row in accrued
            if row.entry_type == "unbilled" and row.ledger_code == "revenue"
        ),
        ZERO,
    )
    yield _valued(
        15,
        "unbilled revenue 未出帐收入",
        "net of tax 不含税",
        ("running bills 未定稿帐单", net),
        (
            "accrual in the journal + collected for others 凭证中的预提+代收费",
            booked + unbilled.collected_amount(items),
        ),
    )
    deferred = reports.deferred_revenue(session, principal=principal, as_of=last)
    yield _valued(
        16,
        f"deferred revenue {last} 递延收入",
        "deposits and bonus money 预存款与赠款",
        ("ledger 台帐", sum((row.deposit_amount + row.bonus_amount for row in deferred), ZERO)),
        ("funds of the accounts 帐户资金", _funds(session, last)),
    )
    in_ledger, held = _security(session, last)
    yield _valued(
        16,
        f"security deposits {last} 押金",
        "held 在押",
        ("ledger 台帐", in_ledger),
        ("received − given back − applied 收取−退还−抵扣", held),
    )


def _funds(session: Session, day: date) -> Decimal:
    """What the accounts' funds held at the end of a day, by the lines that moved them."""
    found: Decimal = session.execute(
        text(
            "select coalesce(-sum(lin.amount), 0) from billing.fund as fnd"
            " join billing.ledger_line as lin on lin.fund_id = fnd.fund_id"
            " join billing.ledger_entry as ent on ent.entry_id = lin.entry_id"
            " where ent.posted_date <= :day and fnd.kind <> 'security_deposit'"
        ),
        {"day": day},
    ).scalar_one()
    return found


# Documents by the day of their entries: a closed month moves what belongs to it to the next.
_SECURITY = """
select
    (
        select coalesce(-sum(lin.amount), 0.00) from billing.ledger_line as lin
        join billing.ledger_entry as ent on ent.entry_id = lin.entry_id
        where lin.ledger_code = 'security_deposit' and ent.posted_date <= :day
    ) as in_ledger,
    coalesce(sum(doc.amount), 0.00) as held
from (
    select 'security_deposit:' || security_deposit_id as key, amount from billing.security_deposit
    union all
    select 'security_return:' || security_return_id, -amount from billing.security_return
    union all
    select coalesce('reversal:' || org.entry_id, 'payment:' || pay.payment_id), -pay.amount
    from billing.payment as pay
    left join billing.ledger_entry as org
        on org.idempotency_key = 'payment:' || pay.reverses_payment_id
    where pay.security_deposit_id is not null
) as doc
join billing.ledger_entry as ent on ent.idempotency_key = doc.key
where ent.posted_date <= :day
"""


def _security(session: Session, day: date) -> tuple[Decimal, Decimal]:
    """Security deposits at the end of a day: of the ledger, and by what became of each."""
    row = session.execute(text(_SECURITY), {"day": day}).one()
    return row.in_ledger, row.held


def days_of(cycle: BillingCycle, timezone: str) -> tuple[date, date]:
    """The first and the last day of a cycle, in civil time."""
    zone = ZoneInfo(timezone)
    ends = cycle.ends_at.astimezone(zone).date()
    return cycle.starts_at.astimezone(zone).date(), ends - timedelta(days=1)


def _credits(exported: list[dict[str, str]]) -> Decimal:
    """What the exported bills earned: all but what is owed for them."""
    return sum(
        (
            Decimal(row["credit_amount"]) - Decimal(row["debit_amount"])
            for row in exported
            if row["entry_type"] == "bill" and row["ledger_code"] not in OWED
        ),
        ZERO,
    )


_POSTING = re.compile(r"^  \S+ +(-?\d+\.\d\d) CNY$", re.MULTILINE)


def _posted(beancount: str, sign: int) -> Decimal:
    """The postings of one sign in a Beancount text, added up."""
    amounts = [sign * Decimal(amount) for amount in _POSTING.findall(beancount)]
    return sum((amount for amount in amounts if amount > 0), ZERO)


Side = tuple[str, Any]  # its name and its value


def _counted(number: int, hop: str, measure: tuple[str, str], left: Side, right: Side) -> Total:
    """A total of things; the measure with its unit."""
    return Total(number, hop, *measure, left[0], Decimal(left[1]), right[0], Decimal(right[1]))


def _valued(number: int, hop: str, measure: str, left: Side, right: Side) -> Total:
    """A total of money."""
    return _counted(number, hop, (measure, "CNY"), left, right)
