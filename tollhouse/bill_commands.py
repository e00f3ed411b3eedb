"""The commands `tollhouse bill`, `note` and `explain`: documents, and why they are so."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tollhouse.terminal import (
    EXIT_FAILED,
    EXIT_USAGE,
    JsonOption,
    fail,
    figures,
    guarded,
    open_console,
    read_settings,
    shell_principal,
)  # fmt: skip

LANGUAGES = ("zh", "en")
FILE_WIDTH = 100  # cells of a line of text written to a file

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from operational.billing.sections import Explanation, Section
    from operational.billing.wording import Wording
    from operational.permissions import Principal


class BillForm(StrEnum):
    """What a bill is written as."""

    text = "text"
    html = "html"
    pdf = "pdf"
    ubl = "ubl"
    csv = "csv"


class NoteForm(StrEnum):
    """What a note is written as."""

    html = "html"
    pdf = "pdf"
    ubl = "ubl"


def _parse_month(value: str) -> str:
    try:
        return f"{datetime.strptime(value, '%Y-%m'):%Y-%m}"  # noqa: DTZ007 - a month has no zone
    except ValueError:
        raise typer.BadParameter(f"{value} is not a month like 2026-10") from None


OutputOption = Annotated[
    Path | None, typer.Option("--output", help="File to write; default standard output.")
]
LanguageOption = Annotated[str, typer.Option("--lang", help="zh or en.")]
BillLanguageOption = Annotated[
    str | None, typer.Option("--lang", help="zh or en; default the account's language.")
]


def bill(  # noqa: PLR0917 - Typer passes them by name
    account_id: Annotated[str, typer.Argument(help="Account, for example A0000001.")],
    form: Annotated[
        BillForm, typer.Option("--format", help="On the screen, or a document.")
    ] = BillForm.text,
    language: BillLanguageOption = None,
    output: OutputOption = None,
    cycle: Annotated[
        str | None,
        typer.Option(
            parser=_parse_month,
            metavar="MONTH",
            help="The billing cycle, for example 2026-10; default the newest with a bill.",
        ),
    ] = None,
    usage: Annotated[
        bool, typer.Option("--usage", help="Every usage instead: with --format html, pdf or csv.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show an account's published bill of a cycle, or write it as a document. 帐单查询与打印。

    Example: `tollhouse bill A0000001 --format pdf --lang en --output bill.pdf`
    """
    if language not in (None, *LANGUAGES):
        fail(f"there is no language {language!r}; there are {', '.join(LANGUAGES)}", EXIT_USAGE)
    if usage and form in (BillForm.text, BillForm.ubl):
        fail("every usage is written with --format html, pdf or csv", EXIT_USAGE)
    if form is BillForm.csv and not usage:
        fail("a bill is no csv: add --usage for every usage of it", EXIT_USAGE)
    if as_json and form is not BillForm.text:
        fail(f"--json or --format {form}, not both", EXIT_USAGE)
    if form is not BillForm.text:
        _write_document(account_id, form, language, output, cycle=cycle, usage=usage)
        return
    from operational.billing.movements import bill_movements
    from operational.billing.service import find_bill
    from operational.database import transaction
    from operational.templating import page_words

    settings = read_settings()
    shell = shell_principal()
    with transaction(settings) as session:
        bill_id = _bill_id(session, shell, account_id, cycle)
        view = guarded(lambda: find_bill(session, principal=shell, bill_id=bill_id))
        language = language or view.account.bill_language
        is_final = view.bill.cycle.state == "final"
        movements = bill_movements(session, bill_id=bill_id, timezone=settings.timezone)
        lines = [
            (line.msisdn, item.name_zh, item.name_en, item.quantity, item.unit, item.amount)
            for line, items, _ in view.lines
            for item in items
        ]
        sums = {
            key: getattr(view.bill, f"{key}_amount")
            for key in ("opening", "charge", "adjustment", "payment", "closing")
        }
    if as_json:
        names = ("msisdn", "name_zh", "name_en", "quantity", "unit", "amount")
        found = {"bill_id": bill_id, "is_final": is_final} | {
            f"{key}_amount": value for key, value in sums.items()
        }
        found["items"] = [dict(zip(names, line, strict=True)) for line in lines]
        found |= {key: list(map(asdict, listed)) for key, listed in vars(movements).items()}
        _put(f"{json.dumps(found, default=str, ensure_ascii=False, indent=2)}\n".encode(), output)
        return
    table = Table(
        "number 号码", "item 科目", "", figures("quantity 用量"), figures("amount 金额"),
        title=f"Bill 帐单 {bill_id} (CNY)", box=None, title_justify="left",
    )  # fmt: skip
    words = page_words(language, settings.timezone)
    in_words, translate = words["quantity"], words["t"]
    for msisdn, name_zh, name_en, quantity, unit, amount in lines:
        used = "" if quantity is None else in_words(quantity, unit)
        table.add_row(msisdn, name_zh, name_en, used, str(amount))
    written = StringIO()
    console = open_console() if output is None else Console(file=written, width=FILE_WIDTH)
    console.print(table)
    if not is_final:
        console.print("  preliminary: the cycle is not final yet 试算帐单，尚未定稿")
    for label, key in (
        ("opening 期初", "opening"), ("charges 费用", "charge"),
        ("adjustments 调整", "adjustment"), ("payments 缴费", "payment"),
        ("closing 期末", "closing"),
    ):  # fmt: skip
        console.print(f"  {set_cell_size(label, 16)}{sums[key]:>12}")
        for each in {"adjustment": movements.adjustments, "payment": movements.payments}.get(
            key, []
        ):
            told = (each.last_date, each.name(translate), each.details(translate, language))
            shown = " · ".join(map(str, filter(None, (*told, each.number))))
            console.print(escape(f"  {each.amount:>28}  {shown}"), soft_wrap=True)
    if output is not None:
        _put(written.getvalue().encode(), output)


def _bill_id(session: Session, who: Principal, account_id: str, cycle: str | None) -> str:
    """The account's published bill of a cycle, else its newest; none ends the program."""
    from operational.billing.service import bills_of_accounts

    found = bills_of_accounts(
        session, principal=who, account_ids=[account_id], cycle_id=cycle, limit=1
    )
    if not found:
        of_cycle = f" of {cycle}" if cycle else ""
        fail(f"account {account_id} has no published bill{of_cycle}", EXIT_FAILED)
    return found[0].bill_id


def _write_document(
    account_id: str, form: BillForm, language: str | None, output: Path | None, *,
    cycle: str | None, usage: bool,
) -> None:  # fmt: skip
    from operational.billing import document
    from operational.database import transaction

    settings = read_settings()
    who = shell_principal()

    def make() -> bytes:
        with transaction(settings) as session:
            bill_id = _bill_id(session, who, account_id, cycle)
            asked: dict[str, Any] = {"principal": who, "bill_id": bill_id}
            bill_document = document.make_bill(session, settings, **asked, language=language)
            if not usage:
                return document.render_bill(bill_document, form, settings.timezone)
            lines = document.itemised_usage(
                session, settings, **asked, language=bill_document.language
            )
            return document.render_usage(lines, bill_document, form, settings.timezone)

    _put(guarded(make, language=language or "en"), output)


def _put(content: bytes, output: Path | None) -> None:
    """Write to the file, if one is named, else to standard output."""
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}", EXIT_USAGE)


def note(
    note_id: Annotated[str, typer.Argument(help="Number of a credit or debit note.")],
    form: Annotated[NoteForm, typer.Option("--format", help="The document.")] = NoteForm.html,
    language: BillLanguageOption = None,
    output: OutputOption = None,
) -> None:
    """Write a posted credit or debit note as a document. 调帐单打印。

    Why it is so says `tollhouse explain`.

    Example: `tollhouse note N-4711 --format pdf --lang en --output note.pdf`
    """
    from operational.billing.note_document import make_note, render_note
    from operational.database import transaction

    if language not in (None, *LANGUAGES):
        fail(f"there is no language {language!r}; there are {', '.join(LANGUAGES)}", EXIT_USAGE)
    settings = read_settings()
    who = shell_principal()

    def make() -> bytes:
        with transaction(settings) as session:
            document = make_note(
                session, settings, principal=who, note_id=note_id, language=language
            )
            return render_note(document, form, settings.timezone)

    _put(guarded(make, language=language or "en"), output)


def explain(
    identifier: Annotated[
        str, typer.Argument(help="Id of a usage, bill or note, or key of a charge or bill item.")
    ],
    language: LanguageOption = "zh",
    as_json: JsonOption = False,
) -> None:
    """Show how a usage, a bill item, a bill or a note came about, step by step. 费用说明。

    From the record in its file to the amount, worked out again from the parts. Exit code 1 if
    there is no such thing, or if what comes out is not what was charged.

    Example: `tollhouse explain 2026-10-A0000001 --lang en`
    """
    from operational.billing.explanation import explain as explain_it
    from operational.billing.wording import Wording

    if language not in LANGUAGES:
        fail(f"there is no language {language!r}; there are {', '.join(LANGUAGES)}", EXIT_USAGE)
    settings = read_settings()
    who = shell_principal()
    found = guarded(
        lambda: explain_it(settings, principal=who, identifier=identifier), language=language
    )
    wording = Wording(language=language, timezone=settings.timezone, principal=who)
    if as_json:
        typer.echo(json.dumps(wording.document(found), ensure_ascii=False, indent=2))
    else:
        _print_explanation(open_console(), wording, found)
    if not found.is_agreed:
        raise typer.Exit(EXIT_FAILED)


def _print_explanation(console: Console, wording: Wording, found: Explanation) -> None:
    console.print(f"[bold]{escape(wording.title(found))} {escape(found.identifier)}[/bold]")
    for section in found.sections:
        console.print(f"\n[bold]{escape(wording.label(section.title))}[/bold]")
        _print_section(console, wording, section)
    verdict = wording.verdict(found)
    if verdict:
        colour = "green" if found.is_agreed else "red"
        console.print(f"\n[{colour}]{escape(verdict)}[/{colour}]", soft_wrap=True)


def _print_section(console: Console, wording: Wording, section: Section) -> None:
    for fact in section.facts:
        shown = f"  {wording.label(fact.label)}: {wording.value(fact)}"
        console.print(escape(shown), soft_wrap=True)
    if section.rows:
        table = Table(*map(wording.label, section.columns), box=None, padding=(0, 2, 0, 2))
        for row in section.rows:
            table.add_row(*(escape(wording.value(fact)) for fact in row))
        console.print(table)
    for line in section.lines:
        label, formula, result = wording.line(line)
        console.print(escape(f"  {label}: {formula} = {result}"), soft_wrap=True)
    for key, values in section.notes:
        console.print(escape(f"  {wording.note(key, values)}"), soft_wrap=True)
