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
from tollhouse.pipeline import DEMO_JOB
from tollhouse.postgres import EmbeddedServer, connect
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


def test_running_the_whole_job_again_changes_no_table(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = Settings(home=tmp_path_factory.mktemp("twice"), subscribers=100)
    try:
        run_job(settings)
        before = tables_of(settings)
        run_job(settings)
        assert differences(before, tables_of(settings)) == []
        assert len(before) > 40
    finally:
        EmbeddedServer(settings.home).remove()


def test_another_carrier_is_not_simulated_into_a_used_home(small_carrier: Settings) -> None:
    other = small_carrier.model_copy(update={"subscribers": 300})
    with pytest.raises(pipeline.PipelineError, match="holds another simulated carrier"):
        pipeline.run_step("simulate", other)


def test_every_table_and_bill_of_the_marts_is_served(small_carrier: Settings) -> None:
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


def test_a_control_total_that_does_not_tie_keeps_the_cycle_open(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = Settings(home=tmp_path_factory.mktemp("untied"), subscribers=40)
    try:
        for step in DEMO_JOB[: DEMO_JOB.index("score")]:
            pipeline.run_step(step, settings)
        with open_warehouse(settings, "lose a charge") as warehouse:
            lost = "(select min(product_instance_id) from billing.recurring_charge)"
            warehouse.execute(
                f"delete from billing.recurring_charge where product_instance_id = {lost}"
            )
        with pytest.raises(pipeline.ControlTotalError, match="charges 费用"):
            pipeline.run_step("close_cycle", settings)
        with connect(settings) as connection:
            state = connection.execute("select state from billing.billing_cycle").fetchone()
        assert state == ("trial",)
        result = _command(settings, "totals")
        assert result.returncode == 3
        assert "NO 不平" in result.stdout
        pipeline.run_step("rate", settings)
        assert pipeline.run_step("close_cycle", settings)["cycle_state"] == "final"
    finally:
        EmbeddedServer(settings.home).remove()


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
    result = _command(small_carrier, "--profile", "server", "totals")
    assert result.returncode == 2
    assert "TOLLHOUSE_SECRET_KEY must be set" in result.stderr


def _command(
    settings: Settings, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "tollhouse"), *arguments],
        env={**os.environ, "TOLLHOUSE_HOME": str(settings.home), **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
