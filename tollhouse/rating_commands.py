"""The commands `tollhouse conformance` and `tollhouse whatif`: rating outside the month's run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
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
    short,
)


def conformance(
    file: Annotated[Path, typer.Argument(help="Scenarios, one JSON object a line.")],
    as_json: JsonOption = False,
) -> None:
    """Rate scenarios with known answers through the models of production. 批价符合性检验。

    Prints each scenario's verdict, with what was expected and what came out. One that says what
    the format does not know fails alone. Exit code 1 if one fails, 2 if there is none.

    Example: `tollhouse conformance tests/conformance/rating_scenarios.jsonl`
    """
    from tollhouse.conformance import read_lines, run_scenarios

    try:
        lines = read_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {error}", EXIT_USAGE)
    if not any(line.strip() for line in lines):
        fail(f"{file} holds no scenario", EXIT_USAGE)
    settings = read_settings()
    console = open_console(stderr=as_json)
    with console.status("Rating 批价 …"):
        verdicts = guarded(lambda: run_scenarios(settings, lines))
    failed = [verdict for verdict in verdicts if not verdict.is_passed]
    if as_json:
        results = [asdict(verdict) for verdict in verdicts]
        counts = {"passed": len(verdicts) - len(failed), "failed": len(failed)}
        typer.echo(json.dumps(counts | {"results": results}, ensure_ascii=False, indent=1))
    else:
        for verdict in verdicts:
            word = "[green]pass[/green]" if verdict.is_passed else "[red]FAIL[/red]"
            told = (
                f"expected {json.dumps(verdict.expected, ensure_ascii=False)}"
                f" actual {json.dumps(verdict.actual, ensure_ascii=False)}"
            )
            if verdict.problem:
                told = f"{verdict.problem}; {told}"
            console.print(f"{word} {escape(f'{verdict.scenario_id}  {told}')}", soft_wrap=True)
        console.print(f"{len(verdicts) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(EXIT_FAILED)


def whatif(
    catalogue: Annotated[
        list[Path], typer.Option("--catalogue", help="Proposed catalogue: YAML files or a folder.")
    ],
    cycle: Annotated[
        str, typer.Option(help="Cycle whose usage is rated again; default: ours.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Rate a cycle's real usage under a proposed catalogue, beside what was billed. 资费测算。

    Reports revenue, and who would have paid less or more, by plan, segment and province. Changes
    nothing.

    Example: `tollhouse whatif --catalogue proposed.yaml --cycle 2026-10`
    """
    from tollhouse.whatif import what_if

    settings = read_settings()
    console = open_console(stderr=as_json)
    with console.status("Rating under the proposed catalogue 测算 …"):
        answer = guarded(lambda: what_if(settings, catalogue, cycle or settings.cycle))
    if as_json:
        document = asdict(answer)
        for line, row in zip(answer.lines, document["lines"], strict=True):
            row["difference"] = line.difference
        typer.echo(json.dumps(document, ensure_ascii=False, indent=1, default=str))
        return
    table = Table(
        "by 维度", "group 分组", "lines 用户", "billed 已出帐", "proposed 测算", "difference 差额",
        "pay less 受益", "pay more 受损", box=None,
        title=f"{answer.cycle_id}: {len(answer.versions)} proposed versions 拟定资费版本",
    )  # fmt: skip
    for line in answer.lines:
        table.add_row(
            line.dimension, escape(line.name), short(line.subscriptions),
            f"{line.billed_amount:,}", f"{line.proposed_amount:,}", f"{line.difference:+,}",
            short(line.winners), short(line.losers),
        )  # fmt: skip
    console.print(table)
    for row in answer.most_changed:
        console.print(
            f"  {row['subscription_id']} {row['offering_id']}:"
            f" {row['billed_amount']} → {row['proposed_amount']}",
            highlight=False,
        )
