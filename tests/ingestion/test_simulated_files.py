"""The simulator's files, landed: per file the number of records the simulator says it wrote."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from ingestion import collect, land
from tollhouse.postgres import connect
from tollhouse.settings import Settings
from tollhouse.simulator import simulate
from tollhouse.warehouse import open_warehouse

DECODE_REASONS = ("field_count", "malformed", "truncated")


@pytest.fixture
def carrier(settings: Settings) -> Settings:
    """A small simulated carrier in the home of the test."""
    small = settings.model_copy(update={"subscribers": 60, "days": 8})
    simulate(small)
    return small


def test_files_and_records_are_those_of_the_truth(carrier: Settings) -> None:
    truth = json.loads((carrier.seed_dir / "truth.json").read_text(encoding="utf-8"))
    collected = collect(carrier)
    landed = land(carrier)
    with open_warehouse(carrier, "test") as warehouse:
        counts = dict(warehouse.rows("select _file_id, count(*) from raw.usage_record group by 1"))
    expected = {file_id: file["raw"] for file_id, file in truth["files"].items() if file["raw"]}
    reasons = truth["totals"]["rejected_by_reason"]

    assert collected.rejected == {}
    assert len(collected.duplicate) == truth["totals"]["duplicate_files"]
    assert counts == expected
    assert landed.records == truth["totals"]["raw_records"]
    assert landed.decode_errors == Counter(
        {reason: reasons[reason] for reason in DECODE_REASONS if reasons.get(reason)}
    )


def test_header_facts_show_the_faults_of_delivery(carrier: Settings) -> None:
    truth = json.loads((carrier.seed_dir / "truth.json").read_text(encoding="utf-8"))
    collect(carrier)
    land(carrier)
    with connect(carrier) as connection:
        ((late, miscounted),) = connection.execute(
            "select count(*) filter (where received_at > created_at_source + interval '24 hours'),"
            " count(*) filter (where declared_record_count <> decoded_record_count)"
            " from control.usage_file where status = 'landed'"
        ).fetchall()
        ((gaps,),) = connection.execute(
            "select sum(missing) from (select max(sequence_number) - min(sequence_number) + 1"
            " - count(*) as missing from control.usage_file where status = 'landed'"
            " group by source_id) as source"
        ).fetchall()

    assert late == truth["totals"]["late_files"]
    assert miscounted == truth["totals"]["count_mismatch_files"]
    assert gaps == truth["totals"]["sequence_gaps"]
