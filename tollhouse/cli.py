"""The command line: `tollhouse --help` reads like a tour.

Exit codes: 0 done · 1 a step failed · 2 wrong usage · 3 a control total does not tie ·
4 the warehouse is being written by another process.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tollhouse import (
    __version__,
    accounts_commands,
    bench_commands,
    bill_commands,
    catalogue_commands,
    pipeline,
    rating_commands,
    reject_commands,
    rollback_commands,
)
from tollhouse.settings import Profile, Settings
from tollhouse.terminal import (
    EXIT_FAILED,
    EXIT_NOT_TIED,
    EXIT_USAGE,
    JsonOption,
    fail,
    guarded,
    open_console,
    read_settings,
    run_steps,
    short,
)  # fmt: skip

# What stands in a home folder; `clean` deletes nothing else.
STATE_NAMES = {
    "airflow", "archive", "conformance", "cycle-copy", "dbt", "landing", "logs", "ml", "postgres",
    "postgres.id", "postgres.lock", "quarantine", "raw", "reports", "run", "serving", "simulated",
    "spill", "superset", "warehouse.duckdb", "warehouse.duckdb.wal", "warehouse.lock",
}  # fmt: skip

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help=(
        "**Tollhouse**: a warehouse-native telecom BSS. Raw call records in; bills, settlements, "
        "KPI reports, churn warnings and customer value out.\n\n"
        "Start with `tollhouse demo`, look around with `tollhouse up`, then read "
        "`tollhouse steps`.\n\n"
        "数据仓库原生的电信 BSS：原始话单进，帐单、结算、经营报表、流失预警与客户价值出。"
    ),
)


@app.callback()
def choose(
    profile: Annotated[
        Profile | None, typer.Option(help="Where the databases live; default TOLLHOUSE_PROFILE.")
    ] = None,
) -> None:
    """Options of every command."""
    if profile is not None:
        os.environ["TOLLHOUSE_PROFILE"] = profile.value  # read by Settings, here and in children


@app.command()
def demo() -> None:
    """Simulate a carrier for one month and run the whole main job. 演示：从原始话单到帐单与报表。

    Example: `TOLLHOUSE_SUBSCRIBERS=200 tollhouse demo`
    """
    settings = read_settings()
    console = open_console()
    run_steps(console, settings, pipeline.DEMO_JOB)
    _print_totals(console, pipeline.control_totals(settings))
    _print_truth(console, settings)
    console.print("\nWhat to open next 接下来打开:")
    report = settings.report_dir / f"kpi-{settings.cycle}.html"
    console.print(f"  KPI report 经营月报      {report}", soft_wrap=True)
    console.print("  Everything else 其他     make up   (CRM, Airflow, Superset; prints addresses)")
    console.print("  A bill 帐单              .venv/bin/tollhouse bill A0000001")
    console.print("  The tour 命令一览        .venv/bin/tollhouse --help")


@app.command()
def steps() -> None:
    """List the pipeline's steps in order: what each reads and makes. 处理步骤。

    Example: `tollhouse steps`
    """
    table = Table("step", "what", "做什么", "reads", "makes", box=None)
    for step in pipeline.STEPS.values():
        table.add_row(step.name, step.title_en, step.title_zh, step.reads, step.makes)
    open_console().print(table)


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Steps, in the order they are to run.")],
    as_json: JsonOption = False,
) -> None:
    """Run steps of the pipeline by name. 运行指定步骤。

    Example: `tollhouse run collect land mediate`
    """
    settings = read_settings()
    unknown = [name for name in names if name not in pipeline.STEPS]
    if unknown:
        fail(f"no step is called {', '.join(unknown)}; `tollhouse steps` lists them", EXIT_USAGE)
    counts = run_steps(open_console(stderr=as_json), settings, names)
    if as_json:
        typer.echo(json.dumps(counts, ensure_ascii=False, indent=2))


@app.command()
def totals(
    month: Annotated[
        str | None,
        typer.Option(help="A cycle, for example 2026-10: its way from raw file to ledger export."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the control totals of every hop; exit code 3 if one does not tie. 稽核平衡表。

    With a month, one table from the raw files over records, outcomes, usage, charges, bill items,
    bills and ledger to the lines of the general ledger's journal, unbilled and deferred revenue
    below. 原始文件到总帐凭证的月度稽核。

    Example: `tollhouse totals --month 2026-10`
    """
    settings = read_settings()
    rows = guarded(
        lambda: pipeline.control_totals(settings) if month is None
        else pipeline.month_totals(settings, month)
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(rows, default=str, ensure_ascii=False, indent=2))
    else:
        _print_totals(open_console(), rows)
    if not rows or not all(row["is_tied"] for row in rows):
        raise typer.Exit(EXIT_NOT_TIED)


@app.command()
def up() -> None:
    """Start PostgreSQL, the web module, Airflow and Superset on local ports. 启动服务。

    Example: `tollhouse up`
    """
    from tollhouse import services

    console = open_console()
    started = guarded(lambda: services.up(read_settings(), on_progress=console.print))
    table = Table("service 服务", "address 地址", "sign-in 登录", box=None)
    for service in started:
        table.add_row(service.name, service.address, service.sign_in)
    console.print(table)
    console.print("Stop them with 停止服务: make down")


@app.command()
def down() -> None:
    """Stop everything `up` started. 停止服务。

    Example: `tollhouse down`
    """
    from tollhouse import services

    guarded(lambda: services.down(read_settings()))
    open_console().print("All services are stopped. 服务已停止。")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show which services run and where. 服务状态。

    Example: `tollhouse status`
    """
    from tollhouse import services

    found = guarded(lambda: services.status(read_settings()))
    if as_json:
        typer.echo(json.dumps([vars(service) for service in found], default=str, indent=2))
        return
    table = Table("service 服务", "state 状态", "address 地址", box=None)
    for service in found:
        table.add_row(service.name, service.state, service.address)
    open_console().print(table)


@app.command()
def docs() -> None:
    """Write the data catalogue of the warehouse as one HTML file. 数据目录。

    Example: `tollhouse docs`
    """
    from tollhouse.warehouse import writer_lock
    from tollhouse.warehouse.transform import run_dbt

    settings = read_settings()

    def generate() -> Any:
        with writer_lock(settings, "write the data catalogue"):
            return run_dbt(settings, ["docs", "generate", "--static"])

    outcome = guarded(generate)
    if not outcome.success:
        fail(f"dbt could not write the catalogue: {outcome.exception}", EXIT_FAILED)
    target = settings.home / "dbt" / settings.profile.value / "static_index.html"
    open_console().print(f"Data catalogue 数据目录: {target}", soft_wrap=True)


@app.command()
def clean() -> None:
    """Stop everything and delete all state of this installation. 清除全部数据。

    Example: `tollhouse clean`
    """
    import shutil

    from tollhouse import services
    from tollhouse.postgres import EmbeddedServer

    settings = read_settings()
    if settings.home.exists() and not (settings.home / "warehouse.lock").exists():
        fail(f"{settings.home} was not made by Tollhouse: nothing is deleted", EXIT_USAGE)
    guarded(lambda: services.down(settings))
    EmbeddedServer(settings.home).remove()
    for path in settings.home.glob("*") if settings.home.exists() else ():
        if path.name in STATE_NAMES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if settings.home.exists() and not any(settings.home.iterdir()):
        settings.home.rmdir()
    open_console().print(f"{settings.home} is gone. 已清除。", soft_wrap=True)


@app.command()
def version() -> None:
    """Print the version. 版本。"""
    typer.echo(__version__)


app.add_typer(catalogue_commands.app, name="catalogue")
app.add_typer(reject_commands.app, name="rejects")
app.command()(rollback_commands.rollback)
app.command()(rollback_commands.reload)
app.command()(rollback_commands.settle_alarm)
app.command()(rating_commands.conformance)
app.command()(rating_commands.whatif)
app.add_typer(accounts_commands.app, name="accounts")
app.command()(bill_commands.bill)
app.command()(bill_commands.note)
app.command()(bill_commands.explain)
app.add_typer(bench_commands.app, name="bench")


def main() -> None:
    """Entry point of the `tollhouse` command."""
    shown = logging.StreamHandler()
    shown.setLevel(logging.ERROR)  # steps report through their counts and findings
    logging.basicConfig(handlers=[shown])
    app()


def _print_totals(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table(
        "hop 环节", "measure 指标", "left 左", "", "right 右", "", "difference 差额", "tied 平衡",
        title="Control totals 稽核平衡表", box=None,
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row["hop"], row["measure"], row["left_name"], short(row["left_value"]),
            row["right_name"], short(row["right_value"]), short(row["difference"]),
            "[green]yes 平[/green]" if row["is_tied"] else "[red]NO 不平[/red]",
        )  # fmt: skip
    console.print(table)


def _print_truth(console: Console, settings: Settings) -> None:
    """Compare what the pipeline found with what the simulator injected."""
    compared = guarded(lambda: pipeline.compare_with_truth(settings))
    table = Table(
        "injected 注入", "simulator 模拟", "found 发现", "equal 一致",
        title="Faults injected and found 注入与识别的异常", box=None,
    )  # fmt: skip
    for name, injected, found in compared:
        equal = "[green]yes[/green]" if injected == found else "[red]NO[/red]"
        table.add_row(name, str(injected), str(found), equal)
    console.print(table)
    if any(injected != found for _, injected, found in compared):
        fail("what was found is not what was injected", EXIT_NOT_TIED)
