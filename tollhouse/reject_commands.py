"""The commands `tollhouse rejects …`: rejected records, looked at, corrected and recycled."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tollhouse.settings import Settings
from tollhouse.terminal import (
    EXIT_FAILED,
    EXIT_USAGE,
    JsonOption,
    fail,
    guarded,
    open_console,
    read_settings,
    run_steps,
    shell_principal,
)  # fmt: skip

app = typer.Typer(
    help=(
        "Rejected records 错单: listed without a command; show, correct or recycle them.\n\n"
        "Example: `tollhouse rejects --reason invalid_msisdn --since 2026-10-01`"
    ),
    no_args_is_help=False,
    rich_markup_mode="markdown",
)

LIST_LIMIT = 50

FileArgument = Annotated[str, typer.Argument(help="File id, as in the journal.")]
NumberArgument = Annotated[int, typer.Argument(min=1, help="Number of the record in its file.")]
MaybeFileArgument = Annotated[str | None, typer.Argument(help="File id of one record.")]
MaybeNumberArgument = Annotated[int | None, typer.Argument(min=1, help="Its number.")]
SourceOption = Annotated[str | None, typer.Option(help="Only of this source.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only with this reason code.")]
FileOption = Annotated[str | None, typer.Option(help="Only of this file.")]
SinceOption = Annotated[str | None, typer.Option(help="Only received since this day, 2026-10-31.")]
FormatOption = Annotated[str | None, typer.Option("--format", help="Only of this raw format.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(help="Which records: name=value, by source, reason, file, format, since, status."),
]
WhyOption = Annotated[str, typer.Option(help="Why; kept with your name.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without this only shown.")]
NowOption = Annotated[bool, typer.Option("--now", help="Mediate at once.")]
AsReceivedOption = Annotated[
    bool, typer.Option("--as-received", help="Forget what was corrected before.")
]


@app.callback(invoke_without_command=True)
def list_them(  # noqa: PLR0917 - Typer passes them by name
    context: typer.Context,
    source: SourceOption = None,
    reason: ReasonOption = None,
    file: FileOption = None,
    since: SinceOption = None,
    record_format: FormatOption = None,
    status: Annotated[str | None, typer.Option(help="open or corrected.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = LIST_LIMIT,
    csv: Annotated[Path | None, typer.Option(help="Write all of them to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List rejected records, or export them. 错单查询与导出。"""
    if context.invoked_subcommand is not None:
        return
    from operational.control import rejects
    from operational.database import transaction
    from tollhouse import recycle

    settings = read_settings()
    typed = {"source": source, "reason": reason, "file": file, "since": since,
             "format": record_format, "status": status}  # fmt: skip
    selection = guarded(lambda: recycle.selection_of(settings, typed))
    who = shell_principal()

    def read() -> tuple[int, list[dict[str, Any]]]:
        with transaction(settings) as session:
            count = rejects.count_rejects(session, principal=who, selection=selection)
            found = [
                recycle.as_document(record)
                for record in rejects.list_rejects(
                    session, principal=who, selection=selection, limit=limit
                )
            ]
        return count, found

    def export(sink: TextIO) -> int:
        with transaction(settings) as session:
            every = rejects.every_reject(session, principal=who, selection=selection)
            return recycle.write_csv(every, sink)

    if csv is not None:
        try:
            with csv.open("w", newline="", encoding="utf-8") as sink:
                written = guarded(lambda: export(sink))
        except OSError as error:
            fail(f"{csv} cannot be written 无法写入: {error.strerror or error}", EXIT_FAILED)
        open_console(stderr=as_json).print(f"{written:,} records in {csv}", soft_wrap=True)
        return
    count, found = guarded(read)
    if as_json:
        typer.echo(json.dumps({"count": count, "records": found}, ensure_ascii=False, indent=2))
        return
    _print_list(open_console(), count, found)


@app.command()
def show(file_id: FileArgument, number: NumberArgument, as_json: JsonOption = False) -> None:
    """Show one record: fields, reason, where it stands, and what people did to it. 错单详情。

    Example: `tollhouse rejects show MSC-44/MSC-44_20261001_000123.cdr 17`
    """
    from operational.control import rejects
    from operational.control.record_fields import FIELDS
    from operational.database import transaction
    from tollhouse import recycle

    settings = read_settings()

    def read() -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        with transaction(settings) as session:
            view = rejects.find_reject(
                session, principal=shell_principal(), file_id=file_id, record_number=number
            )
            history = [
                {
                    "at": row.corrected_at.isoformat(), "by": row.corrected_by,
                    "why": row.reason, "action": row.action_id,
                    "fields": {
                        name: getattr(row, name)
                        for name in FIELDS if getattr(row, name) is not None
                    },
                }
                for row in view.corrections
            ]  # fmt: skip
            return recycle.as_document(view.record) if view.record else None, history

    record, history = guarded(read)
    if as_json:
        found = {"record": record, "corrections": history}
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    _print_record(open_console(), record, history)


@app.command()
def correct(  # noqa: PLR0917 - Typer passes them by name
    why: WhyOption,
    file_id: MaybeFileArgument = None,
    number: MaybeNumberArgument = None,
    where: WhereOption = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="field=value; several times for several.")
    ] = None,
    replace: Annotated[
        str | None, typer.Option(help="field:pattern:replacement, a regular expression.")
    ] = None,
    as_received: AsReceivedOption = False,
    yes: YesOption = False,
    now: NowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Correct one record, or all that agree; of many, first only shows what it would do. 错单修正。

    Example: `tollhouse rejects correct --where reason=invalid_msisdn,source=MSC-44
    --replace 'served_msisdn:^17951:' --why 'prefix of the exchange' --yes`
    """
    from tollhouse import recycle

    change = guarded(lambda: recycle.change_of(sets or [], replace, as_received=as_received))
    _carry_out(file_id, number, where or [], change, why, yes=yes, now=now, as_json=as_json)


@app.command()
def recycle(  # noqa: PLR0917 - Typer passes them by name
    why: WhyOption,
    file_id: MaybeFileArgument = None,
    number: MaybeNumberArgument = None,
    where: WhereOption = None,
    as_received: AsReceivedOption = False,
    yes: YesOption = False,
    now: NowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Have records judged again as they are, by today's rules. 错单回收。

    Example: `tollhouse rejects recycle --where reason=too_old --why 'new limit' --yes --now`
    """
    from operational.control.rejects import Change

    change = Change(as_received=as_received)
    _carry_out(file_id, number, where or [], change, why, yes=yes, now=now, as_json=as_json)


def _carry_out(
    file_id: str | None, number: int | None, where: list[str], change: Any, why: str, *,
    yes: bool, now: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show what a change would do; do it if it is one record, or was confirmed."""
    from operational.control import rejects
    from operational.control.rejects import Selection
    from operational.database import transaction
    from tollhouse.recycle import pairs_of, selection_of

    settings = read_settings()
    if (file_id is None) != (number is None) or (file_id is None) == (not where):
        fail("name one record by file id and number, or many by --where name=value", EXIT_USAGE)
    if file_id is not None:
        selection = Selection(file_id=file_id, record_number=number)
    else:
        typed: dict[str, str | None] = {**guarded(lambda: pairs_of(where, "--where"))}
        selection = guarded(lambda: selection_of(settings, typed))
    who = shell_principal()

    def try_it() -> rejects.DryRun:
        with transaction(settings) as session:
            return rejects.try_change(session, principal=who, selection=selection, change=change)

    console = open_console(stderr=as_json)
    found: dict[str, Any]
    if file_id is None and not yes:
        dry_run = guarded(try_it)
        found = {"records": dry_run.records, "files": dry_run.files, "done": False}
        _print_samples(console, dry_run)
        console.print("Nothing was changed; add --yes to do it. 未作更改，加 --yes 执行。")
    else:
        done = guarded(
            lambda: rejects.apply_change(
                settings, principal=who, selection=selection, change=change, reason=why
            )
        )
        found = {"records": done.records, "files": len(done.file_ids), "done": True,
                 "action": done.action_id}  # fmt: skip
        console.print(
            f"{done.records:,} records of {len(done.file_ids):,} files wait for mediation"
            f" (action {done.action_id}). 等待预处理。",
            soft_wrap=True,
        )
        _mediate(console, settings, now=now)
    if as_json:
        typer.echo(json.dumps(found, indent=2))


def _mediate(console: Console, settings: Settings, *, now: bool) -> None:
    if now:
        run_steps(console, settings, ["mediate"])
    else:
        console.print("Next 下一步: tollhouse run mediate")


def _reason(code: str) -> str:
    """A reason in both languages."""
    from operational.i18n import has_message, translator

    key = f"reason.{code}"
    if not has_message(key):
        return code
    return f"{translator('zh')(key)} {translator('en')(key)}"


def _print_list(console: Console, count: int, found: list[dict[str, Any]]) -> None:
    if not found:
        console.print("No rejected record. 没有错单。")
        return
    table = Table("file 文件", "no. 序号", "reason 原因", "status", "service", "number 号码",
                  "started 开始", box=None)  # fmt: skip
    for row in found:
        shown = (row["file_id"], str(row["record_number"]), _reason(row["reason_code"]),
                 row["status"], row["service"] or "", row["served_msisdn"] or "",
                 row["started_local"] or "")  # fmt: skip
        table.add_row(*(escape(text) for text in shown))
    console.print(table)
    console.print(f"{len(found):,} of {count:,} records. 共 {count:,} 条。")


def _print_record(
    console: Console, record: dict[str, Any] | None, history: list[dict[str, Any]]
) -> None:
    if record is None:
        console.print("This record is not rejected now. 该话单现在不是错单。")
    else:
        console.print(
            f"[bold]{escape(_reason(record['reason_code']))}[/bold] ({record['reason_code']}),"
            f" {record['status']}",
            soft_wrap=True,
        )
        if record["byte_offset"] is not None:
            console.print(f"byte {record['byte_offset']:,}, {record['byte_length'] or 0:,} bytes")
        table = Table(box=None, show_header=False)
        for name, value in record.items():
            if value is not None and name not in ("raw_record", "byte_offset", "byte_length"):
                table.add_row(name, escape(str(value)))
        console.print(table)
        if record["raw_record"]:
            console.print("As received 原始内容:")
            sys.stdout.write(record["raw_record"] + "\n")
    if history:
        table = Table("at 时间", "by 操作人", "why 原因", "fields 字段", box=None)
        for row in history:
            fields = ", ".join(f"{name}={value}" for name, value in row["fields"].items())
            table.add_row(row["at"][:19], escape(row["by"]), escape(row["why"]),
                          escape(fields) or "judged again 重新处理")  # fmt: skip
        console.print(table)


def _print_samples(console: Console, dry_run: Any) -> None:
    console.print(
        f"{dry_run.records:,} records of {dry_run.files:,} files. 共 {dry_run.records:,} 条"
    )
    if any(sample.values for sample in dry_run.samples):
        table = Table("record 话单", "field 字段", "now 现值", "then 修正后", box=None)
        for sample in dry_run.samples:
            for name, (before, after) in sample.values.items():
                place = f"{sample.file_id} #{sample.record_number}"
                table.add_row(escape(place), name, escape(before or "–"), escape(after or "–"))
        console.print(table)
