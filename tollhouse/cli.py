"""The command line: `tollhouse --help` reads like a tour.

Exit codes: 0 done · 1 a step failed · 2 wrong usage · 3 a control total does not tie ·
4 the warehouse is being written by another process.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from tollhouse import __version__, pipeline
from tollhouse.settings import Profile, Settings, get_settings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_TIED = 3
EXIT_BUSY = 4
# What stands in a home folder; `clean` deletes nothing else.
STATE_NAMES = {
    "airflow", "archive", "dbt", "landing", "logs", "ml", "postgres", "postgres.id",
    "postgres.lock", "reports", "run", "serving", "simulated", "superset", "warehouse.duckdb",
    "warehouse.duckdb.wal", "warehouse.lock",
}  # fmt: skip
OUR_ROOMS = {"tollhouse", "ingestion", "expectations", "ml", "operational"}

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

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


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
    settings = _settings()
    console = _console()
    _run(console, settings, pipeline.DEMO_JOB)
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
    _console().print(table)


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Steps, in the order they are to run.")],
    as_json: JsonOption = False,
) -> None:
    """Run steps of the pipeline by name. 运行指定步骤。

    Example: `tollhouse run collect land mediate`
    """
    settings = _settings()
    unknown = [name for name in names if name not in pipeline.STEPS]
    if unknown:
        _fail(f"no step is called {', '.join(unknown)}; `tollhouse steps` lists them", EXIT_USAGE)
    counts = _run(_console(stderr=as_json), settings, names)
    if as_json:
        typer.echo(json.dumps(counts, ensure_ascii=False, indent=2))


@app.command()
def totals(as_json: JsonOption = False) -> None:
    """Show the control totals of every hop; exit code 3 if one does not tie. 稽核平衡表。

    Example: `tollhouse totals --json`
    """
    rows = _guarded(lambda: pipeline.control_totals(_settings()))
    if as_json:
        typer.echo(json.dumps(rows, default=str, ensure_ascii=False, indent=2))
    else:
        _print_totals(_console(), rows)
    if not rows or not all(row["is_tied"] for row in rows):
        raise typer.Exit(EXIT_NOT_TIED)


@app.command()
def bill(
    account_id: Annotated[str, typer.Argument(help="Account, for example A0000001.")],
    as_json: JsonOption = False,
) -> None:
    """Show an account's published bill of the cycle. 帐单查询。

    Example: `tollhouse bill A0000001`
    """
    from operational.billing.service import find_bill
    from operational.database import transaction
    from operational.permissions import HEADQUARTERS, Principal
    from operational.problems import NotFoundError

    settings = _settings()
    shell = Principal("command line", "command line", "admin", HEADQUARTERS)
    bill_id = f"{settings.cycle}-{account_id}"
    with transaction(settings) as session:
        try:
            view = find_bill(session, principal=shell, bill_id=bill_id)
        except NotFoundError:
            _fail(f"account {account_id} has no published bill of {settings.cycle}", EXIT_FAILED)
        lines = [
            (line.msisdn, item.name_zh, item.name_en, item.quantity, item.unit, item.amount)
            for line, items, _ in view.lines
            for item in items
        ]
        sums = {
            key: getattr(view.bill, f"{key}_amount")
            for key in ("opening", "charge", "payment", "closing")
        }
    if as_json:
        names = ("msisdn", "name_zh", "name_en", "quantity", "unit", "amount")
        found = {"bill_id": bill_id} | {f"{key}_amount": value for key, value in sums.items()}
        found["items"] = [dict(zip(names, line, strict=True)) for line in lines]
        typer.echo(json.dumps(found, default=str, ensure_ascii=False, indent=2))
        return
    table = Table(
        "number 号码", "item 科目", "", "quantity 用量", "amount 金额",
        title=f"Bill 帐单 {bill_id} (CNY)", box=None, title_justify="left",
    )  # fmt: skip
    for msisdn, name_zh, name_en, quantity, unit, amount in lines:
        used = "" if quantity is None else f"{_short(quantity)} {unit}"
        table.add_row(msisdn, name_zh, name_en, used, str(amount))
    console = _console()
    console.print(table)
    for label, key in (
        ("opening 期初", "opening"), ("charges 费用", "charge"),
        ("payments 缴费", "payment"), ("closing 期末", "closing"),
    ):  # fmt: skip
        console.print(f"  {label:<12} {sums[key]:>12}")


@app.command()
def up() -> None:
    """Start PostgreSQL, the web module, Airflow and Superset on local ports. 启动服务。

    Example: `tollhouse up`
    """
    from tollhouse import services

    console = _console()
    started = _guarded(lambda: services.up(_settings(), on_progress=console.print))
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

    _guarded(lambda: services.down(_settings()))
    _console().print("All services are stopped. 服务已停止。")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show which services run and where. 服务状态。

    Example: `tollhouse status`
    """
    from tollhouse import services

    found = _guarded(lambda: services.status(_settings()))
    if as_json:
        typer.echo(json.dumps([vars(service) for service in found], default=str, indent=2))
        return
    table = Table("service 服务", "state 状态", "address 地址", box=None)
    for service in found:
        table.add_row(service.name, service.state, service.address)
    _console().print(table)


@app.command()
def docs() -> None:
    """Write the data catalogue of the warehouse as one HTML file. 数据目录。

    Example: `tollhouse docs`
    """
    from tollhouse.warehouse import writer_lock
    from tollhouse.warehouse.transform import run_dbt

    settings = _settings()

    def generate() -> Any:
        with writer_lock(settings, "write the data catalogue"):
            return run_dbt(settings, ["docs", "generate", "--static"])

    outcome = _guarded(generate)
    if not outcome.success:
        _fail(f"dbt could not write the catalogue: {outcome.exception}", EXIT_FAILED)
    target = settings.home / "dbt" / settings.profile.value / "static_index.html"
    _console().print(f"Data catalogue 数据目录: {target}", soft_wrap=True)


@app.command()
def clean() -> None:
    """Stop everything and delete all state of this installation. 清除全部数据。

    Example: `tollhouse clean`
    """
    import shutil

    from tollhouse import services
    from tollhouse.postgres import EmbeddedServer

    settings = _settings()
    if settings.home.exists() and not (settings.home / "warehouse.lock").exists():
        _fail(f"{settings.home} was not made by Tollhouse: nothing is deleted", EXIT_USAGE)
    _guarded(lambda: services.down(settings))
    EmbeddedServer(settings.home).remove()
    for path in settings.home.glob("*") if settings.home.exists() else ():
        if path.name in STATE_NAMES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if settings.home.exists() and not any(settings.home.iterdir()):
        settings.home.rmdir()
    _console().print(f"{settings.home} is gone. 已清除。", soft_wrap=True)


@app.command()
def version() -> None:
    """Print the version. 版本。"""
    typer.echo(__version__)


def main() -> None:
    """Entry point of the `tollhouse` command."""
    shown = logging.StreamHandler()
    shown.setLevel(logging.ERROR)  # steps report through their counts and findings
    logging.basicConfig(handlers=[shown])
    app()


def _run(console: Console, settings: Settings, names: Sequence[str]) -> dict[str, Any]:
    """Run steps in order, one line each as it ends."""
    started = time.monotonic()
    results: dict[str, Any] = {}
    for number, name in enumerate(names, start=1):
        step = pipeline.STEPS[name]
        label = f"[{number:>2}/{len(names)}] {step.title_en} {step.title_zh}"
        step_started = time.monotonic()
        with console.status(label) as spinner:

            def show(line: str, spinner: Status = spinner, label: str = label) -> None:
                spinner.update(f"{label}: {line}")

            counts = _guarded(partial(pipeline.run_step, name, settings, show))
        results[name] = counts
        seconds = time.monotonic() - step_started
        shown = ", ".join(
            f"{key} {_short(value)}" for key, value in counts.items() if key != "findings"
        )
        console.print(f"{label}  [dim]{seconds:.1f} s[/dim]  {shown}", soft_wrap=True)
        for finding in counts.get("findings", ()):
            console.print(f"         [yellow]![/yellow] {escape(finding)}", soft_wrap=True)
    console.print(f"Done in {time.monotonic() - started:.1f} s. 完成。")
    return results


def _guarded(action: Callable[[], Any]) -> Any:
    """Run an action; an error our rooms named ends the program with its message and exit code.

    Any other exception is a defect and shows where it happened.
    """
    from tollhouse.warehouse import WarehouseBusyError

    try:
        return action()
    except Exception as error:
        if type(error).__module__.split(".")[0] not in OUR_ROOMS:
            raise
        if isinstance(error, pipeline.ControlTotalError):
            _fail(str(error), EXIT_NOT_TIED)
        _fail(str(error), EXIT_BUSY if isinstance(error, WarehouseBusyError) else EXIT_FAILED)


def _print_totals(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table(
        "hop 环节", "measure 指标", "left 左", "", "right 右", "", "tied 平衡",
        title="Control totals 稽核平衡表", box=None,
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row["hop"], row["measure"], row["left_name"], _short(row["left_value"]),
            row["right_name"], _short(row["right_value"]),
            "[green]yes 平[/green]" if row["is_tied"] else "[red]NO 不平[/red]",
        )  # fmt: skip
    console.print(table)


def _print_truth(console: Console, settings: Settings) -> None:
    """Compare what the pipeline found with what the simulator injected."""
    compared = _guarded(lambda: pipeline.compare_with_truth(settings))
    table = Table(
        "injected 注入", "simulator 模拟", "found 发现", "equal 一致",
        title="Faults injected and found 注入与识别的异常", box=None,
    )  # fmt: skip
    for name, injected, found in compared:
        equal = "[green]yes[/green]" if injected == found else "[red]NO[/red]"
        table.add_row(name, str(injected), str(found), equal)
    console.print(table)
    if any(injected != found for _, injected, found in compared):
        _fail("what was found is not what was injected", EXIT_NOT_TIED)


def _short(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.rstrip("0").rstrip(".") if "." in text and text[-1] == "0" else text


def _settings() -> Settings:
    try:
        return get_settings()
    except ValidationError as error:
        problems = "; ".join(_in_plain_words(problem) for problem in error.errors())
        _fail(f"settings: {problems}", EXIT_USAGE)


def _in_plain_words(problem: Mapping[str, Any]) -> str:
    """A refused setting by its variable's name, where it is about one."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    return ": ".join([*(f"TOLLHOUSE_{name}".upper() for name in problem["loc"]), message])


def _console(*, stderr: bool = False) -> Console:
    width = None if sys.stdout.isatty() else 160
    return Console(stderr=stderr, width=width, highlight=False)


def _fail(message: str, code: int) -> NoReturn:
    Console(stderr=True, highlight=False).print(f"[red]error:[/red] {message}", soft_wrap=True)
    raise typer.Exit(code)
