"""How long files took and how fast they went, worked out again from the journal of files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg.rows import dict_row

from tollhouse.postgres import connect
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

pytestmark = pytest.mark.pipeline

Row = dict[str, Any]
SPANS = (
    ("created_at_source", "received_at"), ("received_at", "collected_at"),
    ("received_at", "landed_at"), ("received_at", "mediated_at"),
)  # fmt: skip
MICROSECOND = timedelta(microseconds=1)


def journal(settings: Settings) -> tuple[list[Row], dict[str, Row], list[Row]]:
    """The files, the batches by id, and which run took up which file."""
    with connect(settings) as connection, connection.cursor(row_factory=dict_row) as cursor:
        files = cursor.execute("select * from control.usage_file").fetchall()
        batches = cursor.execute("select * from control.batch").fetchall()
        work = cursor.execute("select * from control.mediation_work").fetchall()
    return files, {batch["batch_id"]: batch for batch in batches}, work


def whole_mean(spans: Sequence[timedelta]) -> int | None:
    """The mean of spans, each and the mean rounded down to whole seconds; 0 if it is negative."""
    if not spans:
        return None
    return max(sum(span // timedelta(seconds=1) for span in spans), 0) // len(spans)


def share(batch: Row, records: int) -> int:
    """The microseconds of a batch that are due to so many of its records."""
    took: timedelta = batch["ended_at"] - batch["started_at"]
    return took // MICROSECOND * records // batch["record_count"] if records else 0


def recomputed(settings: Settings) -> dict[tuple[str, date], tuple[object, ...]]:
    """By source and civil day of arrival: four mean spans, records, seconds, records a second."""
    files, batches, work = journal(settings)
    runs = defaultdict(list)
    for row in work:
        if batches[row["batch_id"]]["ended_at"] is not None:
            runs[row["file_id"]].append(batches[row["batch_id"]])
    days: dict[tuple[str, date], list[Row]] = defaultdict(list)
    for file in files:
        since = [
            run for run in runs[file["file_id"]]
            if file["status"] == "mediated" and run["ended_at"] >= file["landed_at"]
        ]  # fmt: skip
        file["run"] = min(since, key=lambda run: run["ended_at"], default=None)
        file["mediated_at"] = file["run"] and file["run"]["ended_at"]
        received_at: datetime = file["received_at"]
        arrived = received_at.astimezone(ZoneInfo(settings.timezone)).date()
        days[file["source_id"], arrived].append(file)
    found: dict[tuple[str, date], tuple[object, ...]] = {}
    for key, arrivals in days.items():
        means = [
            whole_mean([file[end] - file[begin] for file in arrivals if file[begin] and file[end]])
            for begin, end in SPANS
        ]
        timed = [file for file in arrivals if file["run"]]
        records = sum(file["decoded_record_count"] for file in timed)
        took = sum(
            share(batch, file["decoded_record_count"])
            for file in timed for batch in (batches[file["batch_id"]], file["run"])
        )  # fmt: skip
        rate = None
        if took:
            tenths = Fraction(records * 10_000_000, took) + Fraction(1, 2)
            rate = Decimal(tenths.numerator // tenths.denominator).scaleb(-1)
        found[key] = (*means, records, Decimal(took).scaleb(-6), rate)
    return found


@pytest.mark.parametrize("engine", ["small_carrier", "on_postgres"])
def test_delays_and_throughput_are_those_of_the_journal(
    engine: str, request: pytest.FixtureRequest
) -> None:
    settings: Settings = request.getfixturevalue(engine)
    with open_warehouse(settings, "compare") as warehouse:
        rows = warehouse.rows(
            "select source_id, file_date, mean_delay_seconds, mean_collection_seconds,"
            " mean_landing_seconds, mean_mediation_seconds, processed_count, processing_seconds,"
            " records_per_second from dm.source_day"
        )
    found = {(row[0], row[1]): tuple(row[2:]) for row in rows}
    assert found == recomputed(settings)
    assert sum(1 for row in found.values() if row[-1] is not None) > 10


@pytest.mark.parametrize("engine", ["small_carrier", "on_postgres"])
def test_no_more_time_is_shared_out_than_the_batches_took(
    engine: str, request: pytest.FixtureRequest
) -> None:
    settings: Settings = request.getfixturevalue(engine)
    _, batches, _ = journal(settings)
    took = sum(
        ((batch["ended_at"] - batch["started_at"]) for batch in batches.values()), timedelta()
    )
    with open_warehouse(settings, "compare") as warehouse:
        ((shared,),) = warehouse.rows("select sum(processing_seconds) from dm.source_day")
    assert 0 < shared <= Decimal(took // MICROSECOND).scaleb(-6)
