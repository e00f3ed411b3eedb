"""The commands `tollhouse bench …`: how fast, on which machine, with control totals."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tollhouse.terminal import (
    EXIT_USAGE,
    JsonOption,
    fail,
    guarded,
    open_console,
    read_settings,
)

app = typer.Typer(
    help="Benchmarks 性能测试: measured on this machine, in a home of their own.",
    no_args_is_help=True,
)


@app.callback()
def _bench() -> None:
    """Benchmarks 性能测试: measured on this machine, in a home of their own."""


@app.command()
def mediation(
    raw_format: Annotated[
        str, typer.Option("--format", help="switch_cdr (text) or 3gpp_cdr (BER).")
    ] = "switch_cdr",
    rounds: Annotated[
        str, typer.Option(help="Records of each round, comma between: 1000000,3000000.")
    ] = "1000000",
    history: Annotated[
        int, typer.Option(help="Records mediated before, to look for duplicates among.")
    ] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Where the home is made; default the temporary folder.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """File to standard usage: collect, land, mediate, round by round. 预处理性能。

    Example: `tollhouse bench mediation --rounds 1000000,3000000,10000000`
    """
    from tollhouse.bench import mediation as bench
    from tollhouse.bench.load import RECORDS_PER_FILE

    try:
        counts = [int(each) for each in rounds.split(",")]
    except ValueError:
        fail(f"--rounds {rounds}: whole numbers with commas between", EXIT_USAGE)
    if raw_format not in bench.FORMATS:
        fail(f"--format {raw_format}: one of {', '.join(bench.FORMATS)}", EXIT_USAGE)
    wrong = [each for each in [*counts, history] if each < 0 or each % RECORDS_PER_FILE]
    if wrong or not all(counts):
        fail(f"counts are multiples of {RECORDS_PER_FILE}", EXIT_USAGE)
    home = Path(tempfile.mkdtemp(prefix="tollhouse-bench-", dir=folder))
    result = guarded(lambda: bench.measure(home, raw_format, counts, history))
    if json_output:
        document = asdict(result) | {"hardware": bench.hardware()}
        typer.echo(json.dumps(document, indent=2))
        return
    table = Table(
        "records 话单", *bench.STEPS, "total 合计", "records/s", "peak 内存",
        title=f"Mediation 预处理, {raw_format}: {bench.hardware()}, "
        f"{read_settings().threads} threads", box=None,
    )  # fmt: skip
    for each in result.rounds:
        table.add_row(
            f"{each.records:,}", *(f"{each.seconds[step]:.1f} s" for step in bench.STEPS),
            f"{each.total_s:.1f} s", f"{each.records_per_s:,}", f"{each.peak_mb:,} MB",
        )  # fmt: skip
    console = open_console()
    console.print(table)
    totals = ", ".join(f"{name} {value:,}" for name, value in result.totals.items())
    console.print(f"Control totals tie 稽核相符: {totals}; usages {result.usages:,}")


@app.command()
def rating(
    lines: Annotated[int, typer.Option(help="Subscriptions, one an account.")] = 20_000,
    records: Annotated[int, typer.Option(help="Usages of the month.")] = 1_000_000,
    folder: Annotated[
        Path | None, typer.Option(help="Where the home is made; default the temporary folder.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Standard usage to charges and bills, beside a plain scan and a row-by-row rater. 批价性能。

    Example: `tollhouse bench rating --lines 200000 --records 10000000`
    """
    from tollhouse.bench import rating as bench
    from tollhouse.bench.mediation import hardware

    if lines < 1 or records < 1:
        fail("--lines and --records are at least 1", EXIT_USAGE)
    home = Path(tempfile.mkdtemp(prefix="tollhouse-bench-", dir=folder))
    result = guarded(lambda: bench.measure(home, lines=lines, records=records))
    if json_output:
        document = asdict(result) | {"rated_per_s": result.rated_per_s, "hardware": hardware()}
        typer.echo(json.dumps(document, indent=2))
        return
    table = Table(
        "what 项目", "seconds", "records/s", box=None,
        title=f"Rating 批价, {result.records:,} records, {result.lines:,} lines,"
        f" {result.plans} plans: {hardware()}, {read_settings().threads} threads",
    )  # fmt: skip
    for name, seconds in result.seconds.items():
        table.add_row(name, f"{seconds:.1f}", f"{result.records_of(name) / seconds:,.0f}")
    console = open_console()
    console.print(table)
    console.print(
        f"daily 日增量: {result.daily_records:,} records of {result.daily_lines:,} lines,"
        f" {result.daily_lines_again:,} of them rated again"
    )
    console.print(f"peak memory 内存峰值 {result.peak_mb:,} MB")
    for name, value in result.totals.items():
        console.print(f"  {name}: {value}")
