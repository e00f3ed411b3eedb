"""The command `tollhouse conformance`: rating scenarios against the models of production."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tollhouse.terminal import (
    EXIT_FAILED,
    EXIT_USAGE,
    JsonOption,
    fail,
    guarded,
    open_console,
    read_settings,
)


def conformance(
    file: Annotated[Path, typer.Argument(help="Scenarios, one JSON object a line.")],
    as_json: JsonOption = False,
) -> None:
    """Rate scenarios with known answers through the models of production. 批价符合性检验。

    Prints each scenario's verdict, with what was expected and what came out. Exit code 1 if one
    fails.

    Example: `tollhouse conformance tests/conformance/rating_scenarios.jsonl`
    """
    from tollhouse.conformance import read_lines, run_scenarios

    try:
        lines = read_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {error}", EXIT_USAGE)
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
