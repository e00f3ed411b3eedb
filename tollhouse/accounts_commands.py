"""The commands `tollhouse accounts …`: what finance runs by day and at the end of a month. 帐务。

Exit codes: 0 done · 1 it could not be done · 2 wrong usage · 3 the accounts do not balance.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tollhouse.terminal import (
    EXIT_FAILED,
    EXIT_NOT_TIED,
    EXIT_USAGE,
    JsonOption,
    fail,
    figures,
    guarded,
    open_console,
    read_settings,
    shell_principal,
    shell_user,
)  # fmt: skip

if TYPE_CHECKING:
    from operational.accounts.unbilled import Accrual
    from operational.problems import Problem

app = typer.Typer(
    help=(
        "Accounts 帐务: post, age, charge late fees, dun, import bank files, export to the general "
        "ledger.\n\nExample: `tollhouse accounts ageing --as-of 2026-11-30`"
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class JournalFormat(StrEnum):
    """How the journal is written."""

    csv = "csv"
    beancount = "beancount"


def _parse_day(value: str) -> date:
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007 - a day
    except ValueError:
        raise typer.BadParameter(f"{value} is not a day like 2026-11-30") from None


AsOfOption = Annotated[
    date | None, typer.Option(parser=_parse_day, metavar="DAY", help="Day; default today.")
]
FromOption = Annotated[
    date, typer.Option("--from", parser=_parse_day, metavar="DAY", help="First day.")
]
ToOption = Annotated[date, typer.Option("--to", parser=_parse_day, metavar="DAY", help="Last day.")]


@app.command()
def post(as_json: JsonOption = False) -> None:
    """Post final bills and payments into the ledger, and pay bills from deposits. 入帐销帐。

    Example: `tollhouse accounts post`
    """
    from operational.accounts import service

    settings = read_settings()
    posted = guarded(lambda: service.post(settings, by_user=shell_user()))
    _print(as_json, asdict(posted))


@app.command()
def ageing(
    as_of: AsOfOption = None,
    by_account: Annotated[
        bool, typer.Option("--by-account", help="By account, not by province.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show arrears by how long they are overdue. 欠费帐龄。

    Example: `tollhouse accounts ageing --as-of 2026-11-30 --by-account`
    """
    from operational.accounts import reports, service
    from operational.database import transaction

    settings = read_settings()
    day = as_of or service.local_today(settings)

    def read() -> list[reports.AgeingRow]:
        with transaction(settings) as session:
            return reports.ageing(
                session, principal=shell_principal(), as_of=day, by_account=by_account
            )

    rows = guarded(read)
    if as_json:
        _print(True, {"as_of": day, "rows": [asdict(row) for row in rows]})
        return
    names = [name for name, _, _ in reports.BUCKETS]
    titles = [*(name.replace("_", "–") for name in names), "total 合计"]
    table = Table("", *map(figures, titles), box=None)
    for row in (*rows, reports.ageing_total(rows)):
        table.add_row(
            row.key or "total 合计", *(str(row.amounts[name]) for name in names),
            str(row.total_amount),
        )  # fmt: skip
    open_console().print(table)


@app.command()
def balance(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Account, e.g. A0000001.")],
    as_json: JsonOption = False,
) -> None:
    """Show a prepaid account's balance, what was deducted, and its movements. 预付费余额。

    Example: `tollhouse accounts balance A0000001`
    """
    from operational.accounts import balance as balances
    from operational.accounts import service
    from operational.database import transaction

    settings = read_settings()

    def read() -> balances.PrepaidBalance:
        with transaction(settings) as session:
            return balances.prepaid_balance(
                session, principal=shell_principal(), account_id=account,
                today=service.local_today(settings),
            )  # fmt: skip

    found = guarded(read)
    if as_json:
        _print(True, asdict(found))
        return
    console = open_console()
    console.print(
        f"{found.account_id}  balance 余额 {found.balance_amount} CNY ({found.standing})"
        f"  restricted bonus 限用赠款 {found.restricted_amount} CNY"
    )
    deducted = Table(
        "cycle 帐期", "item 科目", figures("deducted 已扣"), figures("postings 入帐次数"),
        "billed 已出帐", box=None,
    )  # fmt: skip
    for row in found.deducted:
        deducted.add_row(
            row.cycle_id, row.bill_item_code, str(row.amount), str(row.postings),
            "yes 是" if row.is_billed else "no 否",
        )  # fmt: skip
    movements = Table(
        "entry 分录", "posted 入帐日", "", "reason 原因", figures("amount 金额"), box=None
    )
    for move in found.movements:
        movements.add_row(
            str(move.entry_id), str(move.posted_date), move.entry_type, move.reason_code or "",
            str(move.amount),
        )  # fmt: skip
    console.print(deducted, movements)


@app.command("late-fees")
def late_fees(
    through: Annotated[
        date | None,
        typer.Option("--date", parser=_parse_day, metavar="DAY", help="Last day; default today."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Charge late fees of every day not charged yet, up to a day; each day once. 违约金。

    Example: `tollhouse accounts late-fees --date 2026-11-30`
    """
    from operational.accounts import collection, service

    settings = read_settings()
    today = service.local_today(settings)
    done = guarded(
        lambda: collection.run_late_fees(
            settings, through=through or today, today=today, by_user=shell_user()
        )
    )
    _print(as_json, asdict(done))


@app.command()
def dun(
    on_day: Annotated[
        date | None,
        typer.Option("--date", parser=_parse_day, metavar="DAY", help="Day; default today."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take the dunning steps whose time has come; restore who has paid. 催缴与停复机。

    Example: `tollhouse accounts dun`
    """
    from operational.accounts import collection, service

    settings = read_settings()
    today = service.local_today(settings)
    done = guarded(
        lambda: collection.dun(settings, on_day=on_day or today, today=today, by_user=shell_user())
    )
    _print(as_json, asdict(done))


@app.command("bank-file")
def bank_file(
    file: Annotated[Path, typer.Argument(help="MT940 or camt.053 statement file.")],
    as_json: JsonOption = False,
) -> None:
    """Import a bank statement file and match its lines; a file twice does nothing. 银行对帐。

    Example: `tollhouse accounts bank-file statement.sta`
    """
    from operational.accounts import bank

    settings = read_settings()
    if not file.is_file():
        fail(f"there is no file {file}", EXIT_USAGE)
    content = file.read_bytes()
    done = guarded(
        lambda: bank.import_file(
            settings, principal=shell_principal(), file_name=file.name, content=content
        )
    )
    _print(as_json, asdict(done))


@app.command("in-transit")
def in_transit(as_json: JsonOption = False) -> None:
    """List bank money that was entered and is on no statement yet, with its age. 银行在途款。

    Example: `tollhouse accounts in-transit`
    """
    from operational.accounts import bank, service
    from operational.accounts.bank_transit import InTransit
    from operational.database import transaction

    settings = read_settings()
    today = service.local_today(settings)

    def read() -> list[InTransit]:
        with transaction(settings) as session:
            return bank.in_transit(session, settings, principal=shell_principal())

    items = guarded(read)
    total = sum((item.amount for item in items), Decimal("0.00"))
    if as_json:
        rows = [asdict(item) | {"age_days": item.age_days(today)} for item in items]
        _print(True, {"items": rows, "amount": total})
        return
    table = Table(
        "day 日期", figures("days 天"), "what 类型", "account 帐户", figures("amount 金额"),
        "reference 凭证", "by 录入", "document 单据", box=None,
    )  # fmt: skip
    for item in items:
        table.add_row(
            str(item.moved_date), str(item.age_days(today)), item.entry_type, item.account_id,
            str(item.amount), item.reference or "", item.by_user, item.document_id,
        )  # fmt: skip
    table.add_row("合计 total", "", "", "", str(total), "", "", "")
    open_console().print(table)


@app.command("trial-balance")
def trial_balance(first: FromOption, last: ToOption, as_json: JsonOption = False) -> None:
    """Show every ledger account over a period; exit code 3 unless all balances. 试算平衡。

    Example: `tollhouse accounts trial-balance --from 2026-10-01 --to 2026-10-31`
    """
    from operational.accounts import reports
    from operational.database import transaction

    settings = read_settings()

    def read() -> tuple[list[reports.TrialBalanceRow], dict[str, Any]]:
        with transaction(settings) as session:
            found = reports.trial_balance(
                session, principal=shell_principal(), first=first, last=last
            )
            return found, reports.unbalanced(session)

    rows, wrong = guarded(read)
    debit = sum(row.debit_amount for row in rows)
    credit = sum(row.credit_amount for row in rows)
    if as_json:
        _print(
            True,
            {
                "from": first, "to": last, "rows": [asdict(row) for row in rows], "debit": debit,
                "credit": credit, "wrong": wrong,
            },
        )  # fmt: skip
    else:
        table = Table(
            "", "account 科目", "", figures("opening 期初"), figures("debit 借"),
            figures("credit 贷"), figures("closing 期末"), box=None,
        )  # fmt: skip
        for row in rows:
            table.add_row(
                row.account_number, row.name_zh, row.name_en, str(row.opening_amount),
                str(row.debit_amount), str(row.credit_amount), str(row.closing_amount),
            )  # fmt: skip
        table.add_row("", "合计", "total", "", str(debit), str(credit), "")
        open_console().print(table)
    if wrong or debit != credit:
        named = ", ".join(f"{name} {pair[0]} is not {pair[1]}" for name, pair in wrong.items())
        fail(f"the accounts do not balance: {named or 'debits are not credits'}", EXIT_NOT_TIED)


@app.command("gl-export")
def gl_export(
    first: FromOption,
    last: ToOption,
    journal_format: Annotated[
        JournalFormat, typer.Option("--format", help="How it is written.")
    ] = JournalFormat.csv,
    output: Annotated[
        Path | None, typer.Option(help="Write to this file instead of the screen.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a period's journal for the general ledger 业会, balanced to the fen. 总帐凭证导出。

    Revenue that no final bill holds yet is accrued on the last day, and what the day before the
    period accrued is taken back on the first.

    Example: `tollhouse accounts gl-export --from 2026-10-01 --to 2026-10-31 --format beancount`
    """
    from operational.accounts import reports
    from operational.accounts.unbilled import accrual
    from operational.database import transaction

    settings = read_settings()

    def read() -> tuple[list[reports.JournalRow], str, dict[str, Accrual]]:
        with transaction(settings) as session:
            before = accrual(settings, session, day=first - timedelta(days=1))
            now = accrual(settings, session, day=last)
            rows = reports.journal(
                session, principal=shell_principal(), first=first, last=last,
                unbilled=now.amounts, unbilled_before=before.amounts,
            )  # fmt: skip
            if journal_format is JournalFormat.csv:
                written = reports.journal_csv(rows)
            else:
                title = f"Tollhouse {first} – {last}"
                written = reports.journal_beancount(session, rows, title=title)
            return rows, written, {"unbilled_before": before, "unbilled": now}

    rows, text, accrued = guarded(read)
    for one in accrued.values():
        if one.problem is not None:
            _warn(one.problem)
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{output} cannot be written: {error.strerror}", EXIT_FAILED)
    if as_json:
        debit = sum(row.debit_amount for row in rows)
        credit = sum(row.credit_amount for row in rows)
        _print(True, {"from": first, "to": last, "rows": [asdict(row) for row in rows],
                      "debit": debit, "credit": credit, "file": output,
                      **{name: _accrued(one) for name, one in accrued.items()}})  # fmt: skip
    elif output is None:
        typer.echo(text, nl=False)
    else:
        open_console().print(f"{len(rows)} rows: {output}", soft_wrap=True)


@app.command()
def revenue(first: FromOption, last: ToOption, as_json: JsonOption = False) -> None:
    """Show revenue by month, province and class, and deferred revenue at the end. 收入与递延收入。

    Example: `tollhouse accounts revenue --from 2026-10-01 --to 2026-10-31`
    """
    from operational.accounts import reports
    from operational.database import transaction

    settings = read_settings()

    def read() -> tuple[list[reports.RevenueRow], list[reports.DeferredRevenue]]:
        with transaction(settings) as session:
            return (
                reports.revenue(session, principal=shell_principal(), first=first, last=last),
                reports.deferred_revenue(session, principal=shell_principal(), as_of=last),
            )

    rows, deferred = guarded(read)
    if as_json:
        _print(True, {"revenue": [asdict(row) for row in rows],
                      "deferred": [asdict(row) for row in deferred]})  # fmt: skip
        return
    table = Table("month 月份", "province 省分", "class 类别", "", figures("amount 金额"), box=None)
    for row in rows:
        table.add_row(
            row.period_id, row.province_code, row.ledger_code, row.bill_item_code, str(row.amount)
        )
    for left in deferred:
        for name, amount in (("deposit", left.deposit_amount), ("bonus", left.bonus_amount)):
            table.add_row(f"{last}", left.province_code, "deferred 递延", name, str(amount))
    open_console().print(table)


@app.command()
def restate(
    cycle: Annotated[str, typer.Argument(help="Closed cycle, for example 2026-10.")],
    as_json: JsonOption = False,
) -> None:
    """Ask for notes for late usage whose plan restates the closed cycle. 迟到话单重出原帐期。

    The cycle is worked out again, in a copy, with that usage in its place; each difference to its
    bills becomes a note that another person decides. Run again, it asks only for what is new.

    Example: `tollhouse accounts restate 2026-10`
    """
    from tollhouse.restatement import restate as restate_cycle

    settings = read_settings()
    with open_console(stderr=as_json).status("Working the cycle out again 重出帐期 …"):
        found = guarded(
            lambda: restate_cycle(settings, principal=shell_principal(), cycle_id=cycle)
        )
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], default=str, indent=2))
        return
    if not found:
        open_console().print(
            f"{cycle} 没有需要重出的内容，帐单不变。"
            f" There is nothing to restate in {cycle}: its bills are right as they are."
        )
        return
    table = Table(
        "account 帐户",
        "item 科目",
        figures("difference 差额"),
        figures("asked before 已申请"),
        "note 调帐单",
        box=None,
    )
    for row in found:
        table.add_row(
            row.account_id, row.bill_item_code, f"{row.difference:+}", f"{row.noted_amount:+}",
            row.note_id or "–",
        )  # fmt: skip
    open_console().print(table)


@app.command("close-month")
def close_month(
    month: Annotated[str, typer.Argument(help="Month, for example 2026-10.")],
    as_json: JsonOption = False,
) -> None:
    """Close a month of the ledger: nothing is posted into it any more. 会计期间关闭。

    Example: `tollhouse accounts close-month 2026-10`
    """
    from operational.accounts import reports, service

    settings = read_settings()
    guarded(
        lambda: reports.close_period(
            settings, principal=shell_principal(), period_id=month,
            today=service.local_today(settings),
        )
    )  # fmt: skip
    _print(as_json, {"closed": month})


def _accrued(one: Accrual) -> dict[str, Any]:
    return {
        "day": one.day, "amount": None if one.problem else one.total_amount,
        "problem": str(one.problem) if one.problem else None,
    }  # fmt: skip


def _warn(problem: Problem) -> None:
    """Say in both languages what the answer lacks, beside the answer."""
    from operational.i18n import LANGUAGES, translator

    for language in LANGUAGES:
        typer.echo(problem.text(translator(language)), err=True)


def _print(as_json: bool, found: dict[str, Any]) -> None:
    if as_json:
        typer.echo(json.dumps(found, default=str, ensure_ascii=False, indent=2))
        return
    table = Table(box=None, show_header=False)
    for name, value in found.items():
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {count}" for key, count in value.items()) or "–"
        table.add_row(name.replace("_", " "), str(shown))
    open_console().print(table)
