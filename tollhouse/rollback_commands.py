"""The commands `tollhouse rollback`, `reload` and `settle-alarm`: files taken back or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

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

if TYPE_CHECKING:
    from tollhouse.rollback import RollbackPlan

WhyOption = Annotated[str, typer.Option(help="Why; kept with your name.")]
SHOWN_FILES = 20
# Not among the steps that follow: it wants bills and scores, which a rollback does not wait for.
NEXT = (
    "Next 下一步: tollhouse run publish (until then pages and Superset show the files"
    " 此前页面和看板仍显示原数据); prepaid balances follow at the next deduct"
    " 预付费余额在下次扣费时更正"
)


def rollback(  # noqa: PLR0917 - Typer passes them by name
    file: Annotated[str | None, typer.Option(help="Take back this file.")] = None,
    batch: Annotated[str | None, typer.Option(help="Take back all landed in this batch.")] = None,
    why: WhyOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this only shown.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish rollbacks that were interrupted.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a file or a batch back, with all that came from it; first only shows what. 回退。

    Usage in an approved or final cycle forbids it: exit code 1, whether shown or done.

    Example: `tollhouse rollback --file MSC-44/MSC-44_20261001_000123.cdr --why 'wrong clock' --yes`
    """
    from tollhouse import rollback as work

    settings = read_settings()
    console = open_console(stderr=as_json)

    def run_step(name: str) -> None:
        run_steps(console, settings, [name])

    if resume:
        if file or batch:
            fail("--resume goes alone: it finishes every interrupted rollback", EXIT_USAGE)
        finished = guarded(lambda: work.finish_rollbacks(settings, run_step))
        console.print(
            f"Complete 已完成: {', '.join(finished)}" if finished
            else "No rollback was waiting. 没有未完成的回退。", soft_wrap=True,
        )  # fmt: skip
        if finished:
            console.print(NEXT, soft_wrap=True)
        if as_json:
            typer.echo(json.dumps({"completed": finished}))
        return
    if (file is None) == (batch is None):
        fail("say what to take back: --file ID or --batch ID", EXIT_USAGE)
    if yes and not why.strip():
        fail("say why: --why; it is kept with the rollback", EXIT_USAGE)
    who = shell_principal()
    scope, target = ("file", file) if file is not None else ("batch", batch or "")
    rollback_id = None
    if yes:
        rollback_id, plan = guarded(
            lambda: work.roll_back(
                settings, principal=who, scope=scope, target=target, reason=why, run_step=run_step
            )
        )
        console.print(f"Taken back 已回退: {rollback_id}", soft_wrap=True)
        console.print(NEXT, soft_wrap=True)
    else:
        plan = guarded(
            lambda: work.plan_rollback(settings, principal=who, scope=scope, target=target)
        )
    _print_plan(console, plan)
    if not yes and not plan.closed_cycles:
        console.print("Nothing was changed; add --yes to do it. 未作更改，加 --yes 执行。")
    if as_json:
        document = plan.as_document() | {
            "rollback_id": rollback_id, "closed_cycles": plan.closed_cycles,
        }  # fmt: skip
        typer.echo(json.dumps(document, indent=2))
    if plan.closed_cycles:
        raise typer.Exit(EXIT_FAILED)


def reload(
    file_id: Annotated[str, typer.Argument(help="File id, as in the journal.")], why: WhyOption
) -> None:
    """Put a file that was taken back or refused up for landing again. 重新入库。

    A refused one is first judged anew, by today's sources and formats.

    Example: `tollhouse reload MSC-44/MSC-44_20261001_000123.cdr --why 'layout corrected'`
    """
    import ingestion
    from operational.control.rollbacks import note_reload

    settings = read_settings()
    who = shell_principal()
    guarded(lambda: ingestion.reload(settings, file_id, who.username, why))
    guarded(lambda: note_reload(settings, principal=who, file_id=file_id, reason=why))
    open_console().print(
        f"{escape(file_id)} is landed again by: tollhouse run land mediate rate;"
        " corrections of its records do not count any more 原有人工修正不再生效",
        soft_wrap=True,
    )


def settle_alarm(
    file_id: Annotated[str, typer.Argument(help="File id, as in the journal.")], why: WhyOption
) -> None:
    """Settle the alarm of a refused file that nobody will send again. 告警处理。

    The file stays refused, its original in the quarantine as long as others.

    Example: `tollhouse settle-alarm MSC-44/ringtones.mp3 --why 'no usage: put there by mistake'`
    """
    from operational.control import service

    settings, who = read_settings(), shell_principal()
    guarded(lambda: service.settle_alarm(settings, principal=who, file_id=file_id, reason=why))
    open_console().print(f"{escape(file_id)}: the alarm is settled 告警已处理", soft_wrap=True)


def _print_plan(console: Console, plan: RollbackPlan) -> None:
    table = Table(
        "file 文件", "raw 原始话单", "usage 详单", "charges 费用", "amount 金额",
        box=None,
    )  # fmt: skip
    for file in plan.files[:SHOWN_FILES]:
        table.add_row(
            escape(file.file_id), f"{file.raw_records:,}", f"{file.usage_records:,}",
            f"{file.charges:,}", f"{file.charge_amount:,}",
        )  # fmt: skip
    console.print(table)
    if len(plan.files) > SHOWN_FILES:
        console.print(f"… and {len(plan.files) - SHOWN_FILES:,} more files")
    console.print(
        f"usage in all 详单合计 {plan.usage_records:,};"
        f" duplicates that come back 恢复的重复话单 {plan.returning_duplicates:,}"
    )
    if plan.cycles:
        cycles = Table(
            "cycle 帐期", "charges 费用", "amount 金额", "settlement 结算", "amount 金额", "",
            box=None,
        )  # fmt: skip
        for cycle_id, counts in plan.cycles.items():
            closed = "[red]closed 已关闭[/red]" if cycle_id in plan.closed_cycles else ""
            cycles.add_row(
                cycle_id, f"{counts.charges:,}", f"{counts.charge_amount:,}",
                f"{counts.settlement_entries:,}", f"{counts.settlement_amount:,}", closed,
            )  # fmt: skip
        console.print(cycles)
    if plan.closed_cycles:
        console.print(
            f"[red]Refused[/red]: usage sits in {', '.join(plan.closed_cycles)}, approved or final;"
            " correct it with a credit or debit note in the next cycle.",
            soft_wrap=True,
        )
