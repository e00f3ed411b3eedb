"""Writes docs/explained-bill.md: the bill of one account, every figure of it with its reason.

Nothing on the page is typed. The scenario (docs/explained: who, what was paid, raw files) goes
through the steps of production in a home of its own: collected, landed, mediated, rated; then a
late file comes, and all is rated again, billed, closed, published, credited. `make docs` runs it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from psycopg.rows import dict_row

from operational import loading
from operational.accounts.notes import decide_note, request_note
from operational.billing.arithmetic import Line, money, shown
from operational.billing.explanation import explain
from operational.billing.sections import Explanation, Fact
from operational.billing.totals import month_totals
from operational.billing.wording import Wording
from operational.permissions import HEADQUARTERS, Principal
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.settings import Settings
from tollhouse.warehouse import read_warehouse

SCENARIO = Path(__file__).parent / "explained"
PAGE = Path(__file__).parent / "explained-bill.md"
ACCOUNT = "A0000001"
CLERK = Principal("finance-1", "finance-1", "finance", HEADQUARTERS)
MANAGER = Principal("finance-2", "finance-2", "finance", HEADQUARTERS)

Row = dict[str, Any]


@dataclass(frozen=True)
class Home:
    """The scenario, gone through all steps.

    Attributes:
        settings: its home.
        scenario: docs/explained/scenario.yaml.
        before: bill items as they were before the late file came.
    """

    settings: Settings
    scenario: Row
    before: list[Row]


def build(home: Path) -> Home:
    """Take the scenario from raw files to a final bill and a credit note, in an empty home."""
    scenario = yaml.safe_load((SCENARIO / "scenario.yaml").read_text(encoding="utf-8"))
    settings = Settings(
        home=home, cycle=scenario["cycle"], timezone=scenario["timezone"], sources_dir=SCENARIO
    )
    _run(settings, "prepare")
    _load(settings, scenario["tables"])
    _deliver(settings, scenario["received"])
    _run(settings, "collect", "land", "check_landing", "mediate", "rate")
    before = items_of(settings)
    _deliver(settings, scenario["late"])
    _run(settings, "collect", "land", "check_landing", "mediate", "audit", "rate", "bill", "settle")
    _run(settings, "build_marts", "close_cycle", "publish")
    _credit(settings, scenario["credit_note"])
    return Home(settings, scenario, before)


def _run(settings: Settings, *steps: str) -> None:
    for step in steps:
        run_step(step, settings)


def _load(settings: Settings, tables: dict[str, list[Row]]) -> None:
    folder = settings.home / "scenario"
    folder.mkdir()
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    loading.load_tables(settings, folder)


def _deliver(settings: Settings, files: dict[str, datetime]) -> None:
    """Put raw files where network elements put them, as of the moment they came."""
    for name, received_at in files.items():
        path = settings.landing_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SCENARIO / "landing" / name, path)
        os.utime(path, (received_at.timestamp(), received_at.timestamp()))


def _credit(settings: Settings, note: Row) -> None:
    request_note(
        settings, principal=CLERK, note_id=note["note_id"], note_type="credit",
        account_id=ACCOUNT, bill_id=f"{settings.cycle}-{ACCOUNT}",
        bill_item_code=note["bill_item_code"], amount=Decimal(note["amount"]),
        reason_code=note["reason_code"], explanation=note["explanation"],
    )  # fmt: skip
    decide_note(
        settings, principal=MANAGER, note_id=note["note_id"], approve=True, today=note["day"]
    )


def rows_of(settings: Settings, query: str) -> list[Row]:
    """What a query on the warehouse gives, as dictionaries."""
    with read_warehouse(settings, wait_s=30) as warehouse:
        return warehouse.arrow(query).to_pylist()


def items_of(settings: Settings) -> list[Row]:
    """The bill's items."""
    return rows_of(
        settings,
        "select * from billing.bill_item order by subscription_id, bill_item_code, item_kind",
    )


class WrongFigureError(RuntimeError):
    """A figure is not what its explanation comes to; the message names it."""


def page(home: Home) -> str:
    """The page, from what is in the home.

    Raises:
        WrongFigureError: an explanation does not come to the figure on the bill.
    """
    return "\n".join(_Page(home).lines()) + "\n"


class _Page:
    """The sections of the page; usages are numbered in the order in which they began."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._settings = home.settings
        self._zone = ZoneInfo(home.settings.timezone)
        self._zh, self._en = (
            Wording(language=language, timezone=home.settings.timezone, principal=CLERK)
            for language in ("zh", "en")
        )
        self._items = items_of(home.settings)
        self._usages = rows_of(home.settings, _USAGES)
        self._explained = {row["usage_id"]: self._of(row["usage_id"]) for row in self._usages}
        self._number = {row["usage_id"]: n for n, row in enumerate(self._usages, 1)}
        self._bill = self._of(f"{home.settings.cycle}-{ACCOUNT}")

    def lines(self) -> Iterator[str]:
        """The page, line by line."""
        yield from _INTRODUCTION.strip().splitlines()
        for section in (
            self._lines_of_the_account, self._files, self._usage, self._shared_bucket, self._fees,
            self._bill_items, self._taxes, self._balance, self._late_file, self._note,
            self._totals,
        ):  # fmt: skip
            yield ""
            yield from section()

    def _of(self, identifier: str) -> Explanation:
        found = explain(self._settings, principal=CLERK, identifier=identifier)
        if not found.is_agreed:
            raise WrongFigureError(
                f"{found.kind} {identifier}: {found.amount} is not {found.worked_out}"
            )
        return found

    def _lines_of_the_account(self) -> Iterator[str]:
        yield "## 1. Who holds what 用户与产品"
        yield ""
        yield from _table(
            ("line 用户", "number 号码", "product 产品", "from 起", "to 止", "fee 月租",
             "first month 首月"),
            (
                (row["subscription_id"], row["msisdn"], f"{row['name_zh']} {row['name_en']}",
                 self._day(row["held_from"]), self._day(row["held_to"]),
                 f"{row['monthly_fee_amount']:.2f}",
                 self._both(f"first_month_rule.{row['first_month_rule']}"))
                for row in rows_of(self._settings, _HELD)
            ),
        )  # fmt: skip

    def _files(self) -> Iterator[str]:
        yield "## 2. Raw files, and what became of their records 原始文件与话单去向"
        yield ""
        outcomes = ("standard", "merged", "duplicate", "rejected", "filtered")
        yield from _table(
            ("file 文件", "received 收到", "late 迟到", "records 记录",
             *(self._both(f"outcome.{name}") for name in outcomes)),
            (
                (f"[{row['file_id']}](explained/landing/{row['file_id']})",
                 self._moment(row["received_at"]), "yes 是" if row["is_late"] else "",
                 row["raw_count"], *(row[f"{name}_count"] for name in outcomes))
                for row in rows_of(self._settings, _FILES)
            ),
        )  # fmt: skip
        yield ""
        yield "Records that are no usage of their own 不单独成为话单的记录:"
        yield ""
        yield from _table(
            ("file 文件", "record 序号", "outcome 去向", "reason 原因"),
            (
                (row["_file_id"], row["_record_number"], self._both(f"outcome.{row['outcome']}"),
                 f"{row['name_zh']} {row['name_en']}" if row["name_zh"] else "")
                for row in rows_of(self._settings, _NOT_STANDARD)
            ),
        )  # fmt: skip

    def _usage(self) -> Iterator[str]:
        yield "## 3. Every usage, rated 逐条批价"
        yield ""
        yield from _table(
            ("no. 序号", "start 开始", "line 用户", "what 类别", "quantity 用量",
             "drawn from allowances 套餐抵扣", "price of the rest 其余计价", "charge 费用"),
            (
                (self._number[row["usage_id"]], self._moment(row["started_at"]),
                 row["subscription_id"], f"{row['name_zh']} {row['name_en']}",
                 shown(row["quantity_micro"], row["unit"]),
                 "<br>".join(_draws(self._explained[row["usage_id"]])),
                 "<br>".join(_prices(self._explained[row["usage_id"]])),
                 _yuan(self._explained[row["usage_id"]].amount))
                for row in self._usages
            ),
        )  # fmt: skip
        yield ""
        yield (
            "A usage under two prices (a call over the change of plan, or over the edge of a time"
            " band) has a part under each; it is rounded once, half up to 0.001."
            " 跨套餐变更或跨时段的通话按段分别计价，整条取整一次，四舍五入到 0.001 元。"
        )

    def _shared_bucket(self) -> Iterator[str]:
        yield "## 4. The family's shared data 家庭共享流量"
        yield ""
        yield from _table(
            ("no. 序号", "start 开始", "line 用户", "used before 此前已用", "drawn 本次抵扣",
             "then used 此后已用"),
            (
                (self._number[row["usage_id"]], self._moment(row["started_at"]),
                 row["subscription_id"], shown(row["after_micro"] - row["drawn_micro"], "octet"),
                 shown(row["drawn_micro"], "octet"), shown(row["after_micro"], "octet"))
                for row in rows_of(self._settings, _SHARED)
            ),
        )  # fmt: skip
        yield ""
        yield (
            "The lines draw in the order their usage happened, whatever order the files came in;"
            " each line's own allowance goes first."
            " 各用户按通信发生的先后抵扣，与文件到达先后无关；先用本用户自己的套餐内流量。"
        )

    def _fees(self) -> Iterator[str]:
        yield "## 5. Monthly fees 月租"
        yield ""
        rows = []
        for item in self._items:
            if (item["bill_item_code"], item["item_kind"]) != ("rent", "charge"):
                continue
            for section in self._item(item).sections:
                if section.title == "explain.fee":
                    told = {fact.label: str(fact.value) for fact in section.facts}
                    (line,) = section.lines
                    rows.append(
                        (item["subscription_id"], told["explain.offering"], told["explain.from"],
                         told["explain.to"], line.formula, line.result)
                    )  # fmt: skip
        yield from _table(
            ("line 用户", "product 产品", "from 起", "to 止", "how 计算", "fee 月租"), rows
        )
        yield ""
        yield (
            "By days, the last day included; the day of a change belongs to the new plan. Who joins"
            " the data card from the 16th pays half: 31 of 62 half days."
            " 按天折算，含末日；变更当日归新套餐。上网卡 16 日起入网减半：62 个半日计 31 个。"
        )

    def _bill_items(self) -> Iterator[str]:
        yield "## 6. Bill items 帐单科目"
        yield ""
        yield from _table(
            ("line 用户", "item 科目", "kind 种类", "made up of 由来", "before rounding 取整前",
             "amount 金额", "tax within 含税"),
            (
                (item["subscription_id"], self._both(f"bill_item.{item['bill_item_code']}"),
                 self._both(f"item_kind.{item['item_kind']}"), self._reason(item),
                 money(Fraction(item["charge_amount"])) if item["item_kind"] == "charge" else "",
                 item["amount"], item["tax_amount"])
                for item in self._items
            ),
        )  # fmt: skip

    def _taxes(self) -> Iterator[str]:
        yield "## 7. Tax 税"
        yield ""
        yield "Prices include it: rounded once per class, then shared out over the items by largest"
        yield "remainder. 价内税：按税类合计取整一次，再以最大余数法分摊到科目。"
        yield ""
        for section in self._bill.sections:
            if section.title == "explain.taxes":
                yield from (self._told(line) for line in section.lines)
        yield ""
        by_class: dict[str, list[Decimal]] = {}
        for item in self._items:
            by_class.setdefault(item["tax_class"], []).append(item["tax_amount"])
        for tax_class, parts in sorted(by_class.items()):
            yield f"- {self._both(f'tax_class.{tax_class}')}: {_sum(parts)}"

    def _balance(self) -> Iterator[str]:
        yield "## 8. The bill 帐单"
        yield ""
        for section in self._bill.sections:
            if section.title == "explain.items":
                yield from (self._told(line) for line in section.lines)
        yield ""
        (bill,) = rows_of(self._settings, "select * from billing.bill")
        yield from _table(
            ("opening 期初", "items 科目", "discounts 优惠", "charges 费用", "tax within 含税",
             "payments 缴费", "closing 期末"),
            [[bill[f"{name}_amount"] for name in
              ("opening", "item", "discount", "charge", "tax", "payment", "closing")]],
        )  # fmt: skip
        yield ""
        for section in self._bill.sections:
            if section.title in ("explain.adjustments", "explain.payments"):
                yield from (
                    "- " + " · ".join(filter(None, (self._both_values(fact) for fact in row)))
                    for row in section.rows
                )
                yield from (self._told(line) for line in section.lines)

    def _late_file(self) -> Iterator[str]:
        (late,) = self._home.scenario["late"]
        yield "## 9. What the late file changed 迟到文件的影响"
        yield ""
        yield (
            f"`{late}` came after the month had been rated once. Its usage happened before others'"
            " and draws before them, so what they pay changed; nothing but its own account was"
            " touched. 该文件在首次批价之后到达；其通信发生在前，先行抵扣，因此后面的用户多付。"
        )
        yield ""
        keys = ("subscription_id", "bill_item_code", "item_kind", "discount_id")
        before = {tuple(row[key] for key in keys): row["amount"] for row in self._home.before}
        after = {tuple(row[key] for key in keys): row["amount"] for row in self._items}
        changed = [key for key in after if before.get(key) != after[key]]
        yield from _table(
            ("line 用户", "item 科目", "before 之前", "after 之后", "difference 差额"),
            [
                *(
                    (key[0], self._both(f"bill_item.{key[1]}"), before.get(key, "–"),
                     after[key], after[key] - before.get(key, Decimal(0)))
                    for key in changed
                ),
                ("", "all items 全部科目", sum(before.values()), sum(after.values()),
                 sum(after.values()) - sum(before.values())),
            ],
        )  # fmt: skip

    def _note(self) -> Iterator[str]:
        note = self._home.scenario["credit_note"]
        yield "## 10. The credit note, and what is owed 贷项通知与欠费"
        yield ""
        yield (
            f"{note['note_id']}, {note['day']}: {note['amount']} off"
            f" {self._both('bill_item.' + note['bill_item_code'])}"
            f" ({note['explanation']}), asked for by {CLERK.username} and approved by"
            f" {MANAGER.username}. The final bill stays as it is; the ledger says what is owed."
            " 帐单定稿不改，由台帐反映欠费。"
        )
        yield ""
        for part in self._of(note["note_id"]).sections:
            yield from (self._told(line) for line in part.lines)
        yield ""
        with connect(self._settings) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            rows = cursor.execute(_LEDGER, {"account": ACCOUNT}).fetchall()
        yield from _table(
            ("day 日期", "entry 凭证", "account 科目", "item 明细", "debit 借", "credit 贷"),
            (
                (row["posted_date"], row["entry_type"],
                 f"{row['account_number']} {row['name_zh']} {row['name_en']}",
                 row["bill_item_code"] or "", max(row["amount"], Decimal(0)) or "",
                 max(-row["amount"], Decimal(0)) or "")
                for row in rows
            ),
        )  # fmt: skip
        yield ""
        owed = [row["amount"] for row in rows if row["ledger_code"] == "receivable"]
        kept = [row["amount"] for row in rows if row["ledger_code"] in ("deposit", "bonus")]
        yield f"- receivable 应收: {_sum(owed)}"
        yield f"- deposit 预存: {_sum(kept)}"
        yield f"- owed 欠费: {sum(owed + kept, Decimal(0))}"

    def _totals(self) -> Iterator[str]:
        yield "## 11. From the raw files to the general ledger 原始文件到总帐"
        yield ""
        yield "What `tollhouse totals --month` prints of it 月度稽核平衡表:"
        yield ""
        found = month_totals(self._settings, principal=CLERK, cycle_id=self._settings.cycle)
        if broken := [str(total) for total in found if not total.is_tied]:
            raise WrongFigureError("; ".join(broken))
        yield from _table(
            ("hop 环节", "measure 指标", "left 左", "", "right 右", "", "difference 差额"),
            (
                (total.hop, total.measure, total.left_name, total.shown(total.left_value),
                 total.right_name, total.shown(total.right_value), total.shown(total.difference))
                for total in found
            ),
        )  # fmt: skip

    def _reason(self, item: Row) -> str:
        """What an item is the sum of, or is computed from."""
        found = self._item(item)
        if item["item_kind"] != "charge":
            return "<br>".join(
                [f"{self._en.note(key, values)} {self._zh.note(key, values)}"
                 for section in found.sections for key, values in section.notes]
                + [line.formula for section in found.sections for line in section.lines]
            )  # fmt: skip
        if item["bill_item_code"] == "rent":
            fees = [section.lines[0].result for section in found.sections
                    if section.title == "explain.fee"]  # fmt: skip
            return " + ".join(fees)
        parts = [
            f"no. {self._number[row['usage_id']]}: {_yuan(row['amount'])}"
            for row in rows_of(self._settings, _CHARGED)
            if (row["subscription_id"], row["bill_item_code"])
            == (item["subscription_id"], item["bill_item_code"]) and row["amount"]
        ]  # fmt: skip
        return " + ".join(parts) or "0"

    def _item(self, item: Row) -> Explanation:
        return self._of(str(uuid.UUID(item["bill_item_key"])))

    def _told(self, line: Line) -> str:
        return f"- {self._label(line)}: {line.formula} = **{line.result}**"

    def _label(self, line: Line) -> str:
        return f"{self._en.line(line)[0]} {self._zh.line(line)[0]}"

    def _both(self, key: str) -> str:
        return f"{self._en.label(key)} {self._zh.label(key)}"

    def _both_values(self, fact: Fact) -> str:
        en, zh = self._en.value(fact), self._zh.value(fact)
        return en if en == zh else f"{en} {zh}"

    def _moment(self, moment: datetime) -> str:
        return self._local(moment).strftime("%m-%d %H:%M:%S")

    def _day(self, moment: datetime) -> str:
        return "" if moment.year == 9999 else self._local(moment).strftime("%Y-%m-%d")

    def _local(self, moment: datetime) -> datetime:
        return moment.replace(tzinfo=UTC).astimezone(self._zone)


def _draws(found: Explanation) -> Iterator[str]:
    """What a usage drew from which allowance."""
    for section in found.sections:
        if section.title == "explain.allowances":
            for line in section.lines:
                if not line.values["drawn"].startswith("0 "):
                    yield f"{line.values['bucket']}: {line.values['drawn']}"


# Lines that say no more than the others of a usage, unless something came before it in the cycle.
_PLAIN = ("explain.line_running", "explain.line_added", "explain.line_covered")


def _prices(found: Explanation) -> Iterator[str]:
    """What was left to pay of a usage, and how it was priced."""
    sections = [each for each in found.sections if each.title == "explain.pricing"]
    for section in sections:
        for line in section.lines:
            is_told = line.key in _PLAIN or line.formula == line.result
            # The record's total is told with each of its parts: once will do.
            if is_told or (line.key == "explain.line_record" and section is not sections[-1]):
                continue
            yield f"{line.formula} = {line.result}"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"


def _sum(amounts: Sequence[Decimal]) -> str:
    parts = " + ".join(str(amount) for amount in amounts if amount) or "0"
    return f"{parts} = **{sum(amounts, Decimal(0))}**".replace("+ -", "− ")


def _yuan(amount: Decimal | None) -> str:
    return "" if amount is None else money(Fraction(amount))


_INTRODUCTION = """
# A bill, figure by figure 一张帐单的每个数字

Three lines of one family in one month. All draw from 4 GB that the first one bought; the first
changes its plan in the middle of the month, during a call; the third joins on the 20th at half the
fee. There are calls abroad, a record that came twice and one that is broken, a call in two parts, a
file that came after the month had been rated, a discount, tax, a payment and a credit note.
一家三个用户的一个月：共享流量、通话中换套餐、月中入网减半、国际漫游、重单与错单、长话单合并、批价后才到的文件、优惠、税、缴费、调帐。

This page is written by `make docs` (`docs/explained_bill.py`), which takes the
[raw files](explained/landing) and the [account](explained/scenario.yaml) through the steps of
production under the shipped catalogue; a test writes it again and compares. Each figure is worked
out a second time by what `tollhouse explain` shows, and the page is not written where the two
differ. Amounts in yuan. What is counted how: [DECISIONLOG](DECISIONLOG.md).
"""

_HELD = """
select holding.subscription_id, holding.msisdn, offering.name_zh, offering.name_en,
    holding.held_from, holding.held_to, version.monthly_fee_amount, version.first_month_rule
from billing.product_holding as holding
inner join ods.offering as offering on holding.offering_id = offering.offering_id
inner join ods.price_plan_version as version on holding.plan_version_id = version.plan_version_id
order by holding.product_instance_id, holding.held_from
"""

_FILES = """
select balance.*, file.received_at
from mediation.file_balance as balance
inner join ods.usage_file as file on balance.file_id = file.file_id
order by file.received_at, file.file_id
"""

_NOT_STANDARD = """
select outcome._file_id, outcome._record_number, outcome.outcome, reason.name_zh, reason.name_en
from mediation.record_outcome as outcome
left join ods.outcome_reason as reason on outcome.reason_code = reason.reason_code
where outcome.outcome <> 'standard'
order by outcome._file_id, outcome._record_number
"""

_USAGES = """
select cast(guided.usage_id as varchar) as usage_id, guided.subscription_id, guided.started_at,
    guided.unit, guided.quantity_micro, class.name_zh, class.name_en
from billing.guided_usage as guided
inner join ods.charge_class as class on guided.charge_class = class.charge_class
order by guided.started_at, guided.usage_id
"""

_SHARED = """
select cast(draw.usage_id as varchar) as usage_id, line.subscription_id, segment.started_at,
    draw.drawn_micro,
    cast(
        sum(draw.drawn_micro) over (
            partition by draw.bucket_id
            order by segment.started_at, draw.usage_id, draw.segment_number
        ) as bigint
    ) as after_micro
from billing.allowance_draw as draw
inner join billing.allowance_bucket as bucket
    on draw.bucket_id = bucket.bucket_id and bucket.scope = 'shared'
inner join billing.usage_segment as segment
    on draw.usage_id = segment.usage_id and draw.segment_number = segment.segment_number
inner join billing.cycle_line as line
    on draw.line_key = line.line_key
where draw.drawn_micro <> 0
order by segment.started_at, draw.usage_id
"""

_CHARGED = """
select cast(charge.usage_id as varchar) as usage_id, charge.subscription_id,
    charge.bill_item_code, sum(charge.amount) as amount
from billing.charge as charge
where charge.usage_id is not null
group by charge.usage_id, charge.subscription_id, charge.bill_item_code
order by min(charge.charged_at), charge.usage_id
"""

_LEDGER = """
select entry.posted_date, entry.entry_type, line.ledger_code, account.account_number,
    account.name_zh, account.name_en, line.bill_item_code, sum(line.amount) as amount
from billing.ledger_entry as entry
join billing.ledger_line as line using (entry_id)
join billing.ledger_account as account using (ledger_code)
where entry.account_id = %(account)s
group by entry.entry_id, line.ledger_code, account.ledger_code, line.bill_item_code
order by entry.posted_date, entry.entry_id, account.account_number, line.bill_item_code
"""


def main() -> None:
    """Entry point of the page's part of `make docs`."""
    home = Path(tempfile.mkdtemp(prefix="tollhouse-explained-"))
    try:
        PAGE.write_text(page(build(home)), encoding="utf-8")
    finally:
        EmbeddedServer(home).remove()
        shutil.rmtree(home, ignore_errors=True)
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
