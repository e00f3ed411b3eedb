"""One table from raw file to ledger export ties to the fen, and shows what was lost on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from operational.accounts import reports
from operational.billing.totals import Total, month_totals, require_tied
from operational.permissions import Principal
from operational.problems import ConflictError, ForbiddenError, NotFoundError
from tollhouse.cli import app
from tollhouse.postgres import connect
from tollhouse.settings import Settings
from tollhouse.terminal import EXIT_NOT_TIED
from tollhouse.warehouse import open_warehouse, read_warehouse

pytestmark = pytest.mark.pipeline

FINANCE = Principal("finance", "finance", "finance", "00")


def totals_of(settings: Settings) -> list[Total]:
    return month_totals(settings, principal=FINANCE, cycle_id=settings.cycle)


def broken(settings: Settings) -> set[int]:
    """The hops that do not tie."""
    return {total.hop_number for total in totals_of(settings) if not total.is_tied}


def test_a_demo_month_ties_to_the_fen_from_raw_file_to_ledger_export(carrier: Settings) -> None:
    found = totals_of(carrier)
    assert [total for total in found if not total.is_tied] == []
    assert [total.hop_number for total in found] == sorted(total.hop_number for total in found)
    assert {total.hop_number for total in found} == set(range(1, 17))
    with read_warehouse(carrier, wait_s=60) as warehouse:
        records = warehouse.rows("select count(*) from mediation.record_outcome")[0][0]
        charged = warehouse.rows("select sum(charge_amount) from billing.bill")[0][0]
    with connect(carrier) as connection:
        earned = connection.execute(
            "select -sum(lin.amount) from billing.ledger_line as lin"
            " join billing.ledger_entry as ent using (entry_id)"
            " where ent.entry_type = 'bill' and ledger_code in ('revenue', 'tax_payable')"
        ).fetchone()
    first = found[0]
    exported = next(total for total in found if "CSV" in total.right_name)
    assert first.left_value == first.right_value == records > 250_000
    assert exported.left_value == exported.right_value == charged
    assert earned == (charged,)


@contextmanager
def lost(settings: Settings, table: str, condition: str) -> Iterator[None]:
    """Rows that are gone although the database guards them, put back afterwards."""
    with connect(settings) as connection:
        connection.execute("set session_replication_role = replica")  # no triggers, no guards
        connection.execute(f"create table gone as select * from {table} where {condition}")
        gone = connection.execute(f"delete from {table} where {condition}").rowcount
        assert gone > 0
    try:
        yield
    finally:
        with connect(settings) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(f"insert into {table} select * from gone")
            connection.execute("drop table gone")


FIRST_REVENUE = (
    "(entry_id, line_number) = (select entry_id, line_number from billing.ledger_line"
    " where ledger_code = 'revenue' order by 1, 2 limit 1)"
)


def test_a_lost_line_of_the_ledger_is_shown_where_it_was_lost(small_carrier: Settings) -> None:
    assert broken(small_carrier) == set()
    with lost(small_carrier, "billing.ledger_line", FIRST_REVENUE):
        # The bill's revenue, the month's lines and their balance, the bills in the export.
        assert broken(small_carrier) == {12, 13, 14}
    assert broken(small_carrier) == set()


def test_a_lost_entry_a_lost_bill_and_a_lost_fund_line_are_shown(small_carrier: Settings) -> None:
    with lost(
        small_carrier, "billing.ledger_line", "entry_id = (select min(entry_id)"
        " from billing.ledger_entry where entry_type = 'bill')",
    ):  # fmt: skip
        assert broken(small_carrier) == {12, 13, 14}
    with lost(
        small_carrier, "billing.bill_item", "bill_id = (select min(bill_id) from billing.bill_item)"
    ):
        assert broken(small_carrier) == {11}
    with lost(small_carrier, "billing.fund", "fund_id = (select min(fund_id) from billing.fund)"):
        assert broken(small_carrier) == {16}


def test_a_row_lost_in_the_export_is_shown(
    small_carrier: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, told = reports.journal_csv, reports.journal_beancount
    monkeypatch.setattr(reports, "journal_csv", lambda rows: written(rows[:-1]))
    assert broken(small_carrier) == {14}
    monkeypatch.setattr(reports, "journal_csv", written)
    monkeypatch.setattr(
        reports, "journal_beancount",
        lambda session, rows, title: told(session, rows[1:], title=title),
    )  # fmt: skip
    assert broken(small_carrier) == {14}


def test_the_command_prints_one_table_and_fails_where_a_hop_differs(
    small_carrier: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollhouse.cli.read_settings", lambda: small_carrier)
    run = CliRunner().invoke
    arguments = ["totals", "--month", small_carrier.cycle]
    result = run(app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(run(app, [*arguments, "--json"]).output)
    assert len(rows) == len(totals_of(small_carrier))
    assert all(row["is_tied"] and Decimal(row["difference"]) == 0 for row in rows)
    with lost(small_carrier, "billing.ledger_line", FIRST_REVENUE):
        result = run(app, arguments)
    assert result.exit_code == EXIT_NOT_TIED
    assert "NO 不平" in result.output
    assert run(app, ["totals", "--month", "2020-01"]).exit_code == 1


def test_the_totals_are_for_readers_of_the_ledger_at_headquarters(small_carrier: Settings) -> None:
    asked = {"cycle_id": small_carrier.cycle}
    with pytest.raises(ForbiddenError):
        month_totals(small_carrier, principal=Principal("a", "a", "agent", "00"), **asked)
    with pytest.raises(ConflictError, match="headquarters"):
        month_totals(small_carrier, principal=Principal("f", "f", "finance", "44"), **asked)
    with pytest.raises(NotFoundError, match="2020-01"):
        month_totals(small_carrier, principal=FINANCE, cycle_id="2020-01")


def test_figures_are_required_to_tie_as_they_stand_and_in_the_marts(
    small_carrier: Settings,
) -> None:
    require_tied(small_carrier, cycle_id=small_carrier.cycle)
    change = "update billing.bill_item set amount = amount + {} where bill_item_key ="
    first = " (select min(bill_item_key) from billing.bill_item)"
    with open_warehouse(small_carrier, "test", 60) as warehouse:
        warehouse.execute(change.format("0.01") + first)
    try:
        with pytest.raises(ConflictError, match="do not tie"):
            require_tied(small_carrier, cycle_id=small_carrier.cycle)
    finally:
        with open_warehouse(small_carrier, "test", 60) as warehouse:
            warehouse.execute(change.format("-0.01") + first)
    require_tied(small_carrier, cycle_id=small_carrier.cycle)


def test_both_engines_give_the_same_table(small_carrier: Settings, on_postgres: Settings) -> None:
    assert totals_of(on_postgres) == totals_of(small_carrier)
    require_tied(on_postgres, cycle_id=on_postgres.cycle)
