"""The commands `tollhouse catalogue …`: tariffs, validated, compared, loaded and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tollhouse.terminal import (
    EXIT_FAILED,
    JsonOption,
    fail,
    guarded,
    open_console,
    read_settings,
    shell_user,
)  # fmt: skip

if TYPE_CHECKING:
    from operational.catalogue.findings import CatalogueError, Finding
    from operational.catalogue.loader import Comparison
    from operational.catalogue.service import OfferingView

app = typer.Typer(
    help=(
        "Tariffs 产品目录: validate, diff, load, show.\n\n"
        "Exit codes: 0 done · 1 refused, every offending row is named · 2 wrong usage.\n\n"
        "Example: `tollhouse catalogue diff tariffs/2027/`"
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

FilesArgument = Annotated[
    list[Path], typer.Argument(help="YAML files, or folders of them; they are read together.")
]
LANGUAGES = ("en", "zh")


@app.command()
def validate(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Check files without a database; all findings at once, with file and line. 校验。

    Where no file has charge classes, the shipped ones count. Exit code 1 if there is a finding.

    Example: `tollhouse catalogue validate tariffs/2027/`
    """
    from operational.catalogue.loader import validate_catalogue

    settings = read_settings()
    checked = _judged(lambda: validate_catalogue(files, settings.timezone), as_json=as_json)
    count = len(checked.contents)
    if as_json:
        _print_json({"findings": [], "versions": sorted(checked.contents)})
        return
    open_console().print(f"{count:,} versions, nothing to correct. {count:,} 个版本，没有错误。")


@app.command()
def load(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Load files into the catalogue: all of it, or, with exit code 1, nothing. 载入。

    Loading the same again changes nothing. A version in use is never changed: add a new version,
    and give the former one a valid_to.

    Example: `tollhouse catalogue load tariffs/2027/`
    """
    from operational.catalogue.loader import load_catalogue

    settings = read_settings()
    counts = _judged(
        lambda: load_catalogue(settings, *files, username=shell_user()), as_json=as_json
    )
    if as_json:
        _print_json({"findings": [], "inserted": counts})
        return
    console = open_console()
    listed = ", ".join(f"{table} {count:,}" for table, count in counts.items() if count)
    console.print(
        f"Loaded 已载入: {listed}" if listed else "Nothing new. 没有新增内容。", soft_wrap=True
    )


@app.command()
def diff(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Show what loading would add, change or withdraw, field by field; changes nothing. 比较。

    Exit code 1 if loading would be refused; the reasons are listed.

    Example: `tollhouse catalogue diff tariffs/2027/plans.yaml --json`
    """
    from operational.catalogue.loader import diff_catalogue

    settings = read_settings()
    comparison: Comparison = _judged(lambda: diff_catalogue(settings, files), as_json=as_json)
    if as_json:
        _print_json(_diff_document(comparison))
    else:
        _print_diff(open_console(), comparison)
    if comparison.findings:
        if not as_json:
            _print_findings(comparison.findings)
        raise typer.Exit(EXIT_FAILED)


@app.command()
def show(
    offering: Annotated[str, typer.Argument(help="Offering, for example plan-4g-76.")],
    version: Annotated[int | None, typer.Option(min=1, help="Instead of the one in force.")] = None,
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
    as_json: JsonOption = False,
) -> None:
    """Show an offering: versions, fee, allowances, prices. 产品资费。

    Example: `tollhouse catalogue show plan-4g-76 --language zh`
    """
    from operational.catalogue import service
    from operational.catalogue.content import stored_contents, version_document
    from operational.database import transaction

    settings = read_settings()
    if language not in LANGUAGES:
        raise typer.BadParameter(f"{language}: choose en or zh", param_hint="--language")

    def read() -> tuple[OfferingView, dict[str, str], dict[str, Any]]:
        with transaction(settings) as session:
            view = service.find_offering(session, offering, version)
            version_id = view.version.plan_version_id
            content = stored_contents(session, [version_id])[version_id]
            units = service.charge_class_units(session)
            return view, units, version_document(content, settings.timezone)

    view, units, document = guarded(read)
    if as_json:
        _print_json(
            {
                "offering_id": view.offering.offering_id,
                "offering_type": view.offering.offering_type,
                "name_zh": view.offering.name_zh, "name_en": view.offering.name_en,
                "status": view.offering.status,
                "versions": [
                    {"version": row.version_number, "standing": view.standing[row.plan_version_id]}
                    for row in view.versions
                ],
                "version": document,
            }
        )  # fmt: skip
        return
    _print_offering(open_console(), view, units, language, settings.timezone)


def _judged(action: Callable[[], Any], *, as_json: bool) -> Any:
    """Run an action; a refused catalogue ends the program with its findings."""
    from operational.catalogue.findings import CatalogueError

    def run() -> Any:
        try:
            return action()
        except CatalogueError as error:
            _refuse(error, as_json=as_json)

    return guarded(run)


def _refuse(error: CatalogueError, *, as_json: bool) -> NoReturn:
    if as_json:
        _print_json({"findings": [finding.document() for finding in error.findings]})
        raise typer.Exit(EXIT_FAILED)
    _print_findings(error.findings)
    raise typer.Exit(EXIT_FAILED)


def _print_findings(findings: list[Finding]) -> None:
    from operational.i18n import translator

    english, chinese = translator("en"), translator("zh")
    console = open_console(stderr=True)
    for finding in sorted(findings, key=lambda one: (one.place.file, one.place.line)):
        console.print(escape(finding.text(english)), soft_wrap=True)
        row = finding.row(chinese)
        text = f"{row}：{finding.message(chinese)}" if row else finding.message(chinese)
        console.print(f"    [dim]{escape(text)}[/dim]", soft_wrap=True)
    count = len(findings)
    fail(
        f"the catalogue is refused, {count:,} to correct; nothing was loaded."
        f" {count:,} 处有误，未载入任何内容。",
        EXIT_FAILED,
    )


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def _diff_document(comparison: Comparison) -> dict[str, Any]:
    from operational.catalogue.content import shown

    return {
        "changes": [
            {
                "kind": change.kind, "entity": change.entity, "key": change.key,
                "fields": [
                    {
                        "table": one.table, "row": one.key, "field": one.field or None,
                        "stored": None if one.stored is None else shown(one.stored),
                        "proposed": None if one.proposed is None else shown(one.proposed),
                    }
                    for one in change.fields
                ],
            }
            for change in comparison.changes
        ],
        "not_mentioned": comparison.not_mentioned,
        "findings": [finding.document() for finding in comparison.findings],
    }  # fmt: skip


MARKS = {"added": ("green", "+ added 新增"), "changed": ("yellow", "~ changed 修改"),
         "withdrawn": ("red", "- withdrawn 下架")}  # fmt: skip


def _print_diff(console: Console, comparison: Comparison) -> None:
    for change in comparison.changes:
        colour, mark = MARKS[change.kind]
        entity = change.entity.replace("_", " ")
        console.print(f"[{colour}]{mark}[/{colour}] {entity} {escape(change.key)}", soft_wrap=True)
        for one in change.fields:
            console.print(f"      {escape(str(one))}", soft_wrap=True)
    if comparison.not_mentioned:
        console.print(
            f"[dim]not in these files, left as they are 未提及，保持不变: "
            f"{escape(', '.join(comparison.not_mentioned))}[/dim]",
            soft_wrap=True,
        )
    if not comparison.changes and not comparison.findings:
        console.print("Nothing would change. 没有差异。")


def _print_offering(
    console: Console, view: OfferingView, units: dict[str, str], language: str, timezone: str
) -> None:
    from operational.catalogue.wording import Wording
    from operational.templating import money

    words = Wording(language, timezone)
    say = words.translate
    version = view.version
    console.print(
        f"[bold]{escape(words.name(view.offering))}[/bold] {view.offering.offering_id}"
        f" · {say('product_role.' + view.offering.offering_type)}"
        f" · {say('state.' + view.offering.status)}"
    )
    for row in view.versions:
        mark = "→" if row.plan_version_id == version.plan_version_id else " "
        end = words.local_date(row.valid_to)
        console.print(
            f"{mark} {row.plan_version_id}  {words.local_date(row.valid_from)} – {end}"
            f"  {say('version_standing.' + view.standing[row.plan_version_id])}"
        )
    console.print(
        f"{say('field.monthly_fee')}: {money(version.monthly_fee_amount)} {version.currency_code}"
    )
    console.print(f"{say('catalogue.fee_rules')}: {'; '.join(words.rules(version))}")
    if version.calendar_id:
        console.print(f"{say('catalogue.calendar')}: {version.calendar_id}")
    if view.commitment is not None:
        console.print(f"{say('catalogue.commitment')}: {words.commitment(view.commitment)}")
    for component, offering in view.components:
        console.print(
            f"+ {escape(words.name(offering))} {offering.offering_id}: {words.component(component)}"
        )
    if view.allowances:
        table = Table(say("field.names"), say("field.quantity"), say("field.allowance_scope"),
                      say("field.draws"), say("field.covers"), box=None)  # fmt: skip
        for allowance in view.allowances:
            covers = ", ".join(
                words.charge_class(cover.charge_class)
                + (f" ({words.band(cover.band)})" if cover.band else "")
                for cover in view.covered[allowance.allowance_id]
            )
            drawn = (
                words.name(allowance), words.quantity(allowance.size_quantity, allowance.unit),
                say(f"allowance_scope.{allowance.scope}"), "; ".join(words.allowance(allowance)),
                covers,
            )  # fmt: skip
            table.add_row(*map(escape, drawn))
        console.print(table)
    if view.prices:
        table = Table(say("field.charge_class"), say("field.band"), say("field.price"),
                      say("field.model"), box=None)  # fmt: skip
        for price, tiers in view.prices:
            lines = words.price(price, tiers, units[price.charge_class])
            cells = (
                words.charge_class(price.charge_class), words.band(price.band), "\n".join(lines),
                say(f"price_model.{price.model}"),
            )  # fmt: skip
            table.add_row(*map(escape, cells))
        console.print(table)
    for discount in view.discounts:
        console.print(
            f"{discount.sequence}. {words.name(discount)}: {words.discount(discount)}",
            soft_wrap=True,
        )
    for once in view.one_off_prices:
        console.print(f"{say('occasion.' + once.occasion)}: {money(once.amount)}")
