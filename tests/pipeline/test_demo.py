"""The demo job: what it finds is what was injected, twice is the same as once, totals tie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import run_job
from tests.pipeline.tables import differences, tables_of
from tollhouse import pipeline
from tollhouse.postgres import connect
from tollhouse.settings import Settings
from tollhouse.simulator import TRUTH_FILE, Truth
from tollhouse.warehouse import open_warehouse

pytestmark = pytest.mark.pipeline


def test_what_is_found_is_exactly_what_was_injected(carrier: Settings) -> None:
    compared = pipeline.compare_with_truth(carrier)
    assert [row for row in compared if row[1] != row[2]] == []
    injected = {name: count for name, count, _ in compared}
    for fault in (
        "duplicate_files", "late_files", "count_mismatch_files", "sequence_gaps", "merged",
        "duplicate", "rejected", "filtered", "incomplete_long_calls", "unknown_subscriber",
        "rejected: truncated", "rejected: malformed", "rejected: field_count",
    ):  # fmt: skip
        assert injected[fault] > 0, fault


def test_every_record_of_every_file_has_exactly_the_outcome_of_the_truth(carrier: Settings) -> None:
    truth = Truth.read(carrier.seed_dir / TRUTH_FILE)
    assert truth is not None
    with open_warehouse(carrier, "compare") as warehouse:
        rows = warehouse.rows(
            "select file_id, raw_count, standard_count, merged_count, duplicate_count,"
            " rejected_count, filtered_count from mediation.file_balance"
        )
    outcomes = ("raw", "standard", "merged", "duplicate", "rejected", "filtered")
    found = {row[0]: dict(zip(outcomes, row[1:], strict=True)) for row in rows}
    assert found == {name: dict(counts) for name, counts in truth.files.items()}


def test_control_totals_of_every_hop_tie(carrier: Settings) -> None:
    totals = pipeline.control_totals(carrier)
    assert len({total["hop_number"] for total in totals}) >= 10
    assert all(total["is_tied"] and total["difference"] == 0 for total in totals)


def test_the_demo_is_about_three_hundred_thousand_records_in_three_provinces(
    carrier: Settings,
) -> None:
    injected = {name: count for name, count, _ in pipeline.compare_with_truth(carrier)}
    assert 250_000 <= injected["raw_records"] <= 400_000
    with connect(carrier) as connection:
        provinces = connection.execute(
            "select distinct province_code from crm.subscription order by 1"
        ).fetchall()
        subscriptions = connection.execute("select count(*) from crm.subscription").fetchone()
    assert provinces == [("11",), ("44",), ("51",)]
    assert subscriptions == (2000,)


def test_running_the_whole_job_again_changes_no_table(small_carrier: Settings) -> None:
    before = tables_of(small_carrier)
    run_job(small_carrier)
    assert differences(before, tables_of(small_carrier)) == []
    assert len(before) > 40


def test_published_bills_and_served_marts_equal_the_warehouse(small_carrier: Settings) -> None:
    tables = tables_of(small_carrier, ("dm",))
    with connect(small_carrier) as connection:
        served = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'dm'"
        ).fetchall()
        bills = connection.execute(
            "select count(*), sum(charge_amount) from billing.bill"
        ).fetchone()
        marts = connection.execute("select count(*), sum(charge_amount) from dm.bill").fetchone()
        for table, rows in tables.items():
            counted = connection.execute(f"select count(*) from {table}").fetchone()
            assert counted == (len(rows),), table
    assert {f"dm.{name}" for (name,) in served} == tables.keys()
    assert bills == marts


def test_a_control_total_that_does_not_tie_stops_the_job(small_carrier: Settings) -> None:
    with open_warehouse(small_carrier, "break a total") as warehouse:
        kept = warehouse.rows("select hop, is_tied from dm.control_total")
        warehouse.execute("update dm.control_total set is_tied = false where hop_number = 3")
    assert all(tied for _, tied in kept)
    try:
        with pytest.raises(pipeline.ControlTotalError, match="do not tie"):
            pipeline.run_step("reconcile", small_carrier)
        result = _command(small_carrier, "totals")
        assert result.returncode == 3
        assert "NO 不平" in result.stdout
    finally:
        pipeline.run_step("build_marts", small_carrier)
    assert pipeline.run_step("reconcile", small_carrier)["tied"] == len(kept)


def test_command_line_shows_totals_and_a_bill_as_json(small_carrier: Settings) -> None:
    totals = json.loads(_command(small_carrier, "totals", "--json").stdout)
    assert all(row["is_tied"] for row in totals)
    with connect(small_carrier) as connection:
        row = connection.execute(
            "select account_id, closing_amount from billing.bill"
            " order by closing_amount desc limit 1"
        ).fetchone()
    assert row
    bill = json.loads(_command(small_carrier, "bill", row[0], "--json").stdout)
    assert bill["closing_amount"] == str(row[1])
    assert bill["items"]


def test_an_unknown_step_and_a_wrong_setting_are_refused_in_plain_words(
    small_carrier: Settings,
) -> None:
    result = _command(small_carrier, "run", "fly")
    assert result.returncode == 2
    assert "no step is called fly" in result.stderr
    result = _command(small_carrier, "totals", TOLLHOUSE_CYCLE="2026-13")
    assert result.returncode == 2
    assert "TOLLHOUSE_CYCLE" in result.stderr


def _command(
    settings: Settings, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "tollhouse"), *arguments],
        env={**os.environ, "TOLLHOUSE_HOME": str(settings.home), **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
