"""Writes docs/explained-bill.md: the bill of one account, every figure of it with its reason.

Nothing on the page is typed. The scenario (docs/explained: who, what was paid, raw files) goes
through the steps of production in a home of its own: collected, landed, mediated, rated; then a
late file comes, and all is rated again, billed, closed, published and credited. `make docs` runs it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from operational import loading
from operational.accounts.notes import decide_note, request_note
from operational.permissions import HEADQUARTERS, Principal
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer
from tollhouse.settings import Settings
from tollhouse.warehouse import read_warehouse

SCENARIO = Path(__file__).parent / "explained"
PAGE = Path(__file__).parent / "explained-bill.md"
ACCOUNT = "A0000001"
CLERK = Principal("finance-1", "finance-1", "finance", HEADQUARTERS)
MANAGER = Principal("finance-2", "finance-2", "finance", HEADQUARTERS)

Row = dict[str, Any]


@dataclass(frozen=True)
class Home:
    """The scenario, gone through all steps.

    Attributes:
        settings: its home.
        scenario: docs/explained/scenario.yaml.
        before: bill items as they were before the late file came.
    """

    settings: Settings
    scenario: Row
    before: list[Row]


def build(home: Path) -> Home:
    """Take the scenario from raw files to a final bill and a credit note, in an empty home."""
    scenario = yaml.safe_load((SCENARIO / "scenario.yaml").read_text(encoding="utf-8"))
    settings = Settings(
        home=home, cycle=scenario["cycle"], timezone=scenario["timezone"], sources_dir=SCENARIO
    )
    _run(settings, "prepare")
    _load(settings, scenario["tables"])
    _deliver(settings, scenario["received"])
    _run(settings, "collect", "land", "check_landing", "mediate", "rate")
    before = items_of(settings)
    _deliver(settings, scenario["late"])
    _run(settings, "collect", "land", "check_landing", "mediate", "audit", "rate", "bill", "settle")
    _run(settings, "build_marts", "close_cycle", "publish")
    _credit(settings, scenario["credit_note"])
    return Home(settings, scenario, before)


def _run(settings: Settings, *steps: str) -> None:
    for step in steps:
        run_step(step, settings)


def _load(settings: Settings, tables: dict[str, list[Row]]) -> None:
    folder = settings.home / "scenario"
    folder.mkdir()
    for name, rows in tables.items():
        if name == "billing.payment":
            rows = [row | {"amount": Decimal(str(row["amount"]))} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    loading.load_tables(settings, folder)


def _deliver(settings: Settings, files: dict[str, datetime]) -> None:
    """Put raw files where network elements put them, as of the moment they came."""
    for name, received_at in files.items():
        path = settings.landing_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SCENARIO / "landing" / name, path)
        os.utime(path, (received_at.timestamp(), received_at.timestamp()))


def _credit(settings: Settings, note: Row) -> None:
    request_note(
        settings, principal=CLERK, note_id=note["note_id"], note_type="credit",
        account_id=ACCOUNT, bill_id=f"{settings.cycle}-{ACCOUNT}",
        bill_item_code=note["bill_item_code"], amount=Decimal(str(note["amount"])),
        reason_code=note["reason_code"], explanation=note["explanation"],
    )  # fmt: skip
    decide_note(
        settings, principal=MANAGER, note_id=note["note_id"], approve=True, today=note["day"]
    )


def rows_of(settings: Settings, query: str) -> list[Row]:
    """What a query on the warehouse gives, as dictionaries."""
    with read_warehouse(settings, wait_s=30) as warehouse:
        return warehouse.arrow(query).to_pylist()


def items_of(settings: Settings) -> list[Row]:
    """The bill's items."""
    return rows_of(
        settings,
        "select * from billing.bill_item order by subscription_id, bill_item_code, item_kind",
    )


def main() -> None:
    """Entry point of the page's part of `make docs`."""
    home = Path(tempfile.mkdtemp(prefix="tollhouse-explained-"))
    try:
        PAGE.write_text(page(build(home)), encoding="utf-8")
    finally:
        EmbeddedServer(home).remove()
        shutil.rmtree(home, ignore_errors=True)
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
