"""What the commands of the command line share: settings, printing, and ending with a message.

Exit codes: 0 done · 1 a step failed · 2 wrong usage · 3 a control total does not tie ·
4 the warehouse is being written by another process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from psycopg.errors import UndefinedTable
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Column

from tollhouse import pipeline
from tollhouse.settings import Settings, get_settings, process_user

if TYPE_CHECKING:
    from operational.permissions import Principal

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_TIED = 3
EXIT_BUSY = 4
OUR_ROOMS = {"tollhouse", "ingestion", "expectations", "ml", "operational"}
WIDTH_UNSEEN = 160  # columns where nobody looks: in a file or a pipe

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def guarded(action: Callable[[], Any], *, language: str = "en") -> Any:
    """Run an action; an error our rooms named ends the program with its message and exit code.

    `language` is what a reader asked for; an error with texts in both answers in
    it. Any other exception is a defect and shows where it happened.
    """
    from operational.i18n import translator  # noqa: PLC0415 - reads the messages
    from operational.problems import Problem  # noqa: PLC0415 - likewise
    from tollhouse.warehouse import WarehouseBusyError  # noqa: PLC0415 - loads DuckDB

    try:
        return action()
    except Exception as error:
        if isinstance(getattr(error, "orig", error), UndefinedTable):
            fail("there are no tables yet: run `tollhouse run prepare` first", EXIT_FAILED)
        if type(error).__module__.split(".")[0] not in OUR_ROOMS:
            raise
        if isinstance(error, pipeline.ControlTotalError):
            fail(str(error), EXIT_NOT_TIED)
        code = EXIT_BUSY if isinstance(error, WarehouseBusyError) else EXIT_FAILED
        if isinstance(error, Problem):
            fail(error.text(translator(language)), code, language=language)
        fail(str(error), code)


def short(value: Any) -> str:
    """A figure for people: thousands apart, without trailing zeros; a list one after the other."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "–"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.rstrip("0").rstrip(".") if "." in text and text[-1] == "0" else text


def figures(title: str) -> Column:
    """A table's column of figures: they stand right, under each other."""
    return Column(title, justify="right")


def read_settings() -> Settings:
    """The settings of the environment; what is wrong with one ends the program."""
    try:
        return get_settings()
    except ValidationError as error:
        problems = "; ".join(_in_plain_words(problem) for problem in error.errors())
        fail(f"settings: {problems}", EXIT_USAGE)


def _in_plain_words(problem: Mapping[str, Any]) -> str:
    """A refused setting by its variable's name, where it is about one."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    return ": ".join([*(f"TOLLHOUSE_{name}".upper() for name in problem["loc"]), message])


def run_steps(console: Console, settings: Settings, names: Sequence[str]) -> dict[str, Any]:
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

            counts = guarded(partial(pipeline.run_step, name, settings, show))
        results[name] = counts
        seconds = time.monotonic() - step_started
        shown = ", ".join(
            f"{key} {short(value)}" for key, value in counts.items() if key != "findings"
        )
        console.print(f"{label}  [dim]{seconds:.1f} s[/dim]  {shown}", soft_wrap=True)
        for finding in counts.get("findings", ()):
            console.print(f"         [yellow]![/yellow] {escape(finding)}", soft_wrap=True)
    console.print(f"Done in {time.monotonic() - started:.1f} s. 完成。")
    return results


def open_console(*, stderr: bool = False) -> Console:
    """A console, wide where nobody looks."""
    width = None if sys.stdout.isatty() else WIDTH_UNSEEN
    return Console(stderr=stderr, width=width, highlight=False)


def fail(message: str, code: int, *, language: str = "en") -> NoReturn:
    """End the program with a message and an exit code."""
    shown = f"[red]{'错误：' if language == 'zh' else 'error: '}[/red]{escape(message)}"
    Console(stderr=True, highlight=False).print(shown, soft_wrap=True)
    raise typer.Exit(code)


def shell_user() -> str:
    """Who sits at the command line, as it is kept with what is done there."""
    user = process_user()
    return f"{user} (command line)" if user else "command line"


def shell_principal() -> Principal:
    """Who sits at the command line, for whom the rooms do things."""
    from operational.permissions import administrator  # noqa: PLC0415 - most commands need none

    return administrator(shell_user())
