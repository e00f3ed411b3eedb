"""Retention: what was kept long enough goes, what work is left for stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion import RetainResult, collect, land, retain
from ingestion.archive import archive_path, quarantine_path
from ingestion.mediation_work import finish, take_up, unfollowed_files
from ingestion.retention import _removable_parts
from tollhouse.postgres import connect, database_url, operational_url
from tollhouse.settings import Profile, Settings
from tollhouse.warehouse import open_warehouse
from tollhouse.warehouse.raw_parts import Part

FILES = [f"MSC-44/MSC-44_20261005_{number:06d}.cdr" for number in (1, 2)]
NOTHING = RetainResult()


@pytest.fixture
def mediated(settings: Settings, deliver: Any, build: Any) -> Settings:
    """Two files, landed in a part each, mediated 500 days ago."""
    for number in (1, 2):
        line = build.switch_record(call_reference=str(number))
        name = f"MSC-44_20261005_{number:06d}.cdr"
        deliver("MSC-44", name, build.switch_file([line], sequence=number))
        collect(settings)
        land(settings)
    finish(settings, take_up(settings))
    age(settings, 500)
    return settings


def age(settings: Settings, days: int) -> None:
    then = datetime.now(UTC) - timedelta(days=days)
    with connect(settings) as connection:
        connection.execute(
            "update control.usage_file set collected_at = %s, landed_at = %s", (then, then)
        )


def run(settings: Settings, statement: str) -> None:
    with connect(settings) as connection:
        connection.execute(statement)


def raw_files(settings: Settings) -> list[str]:
    with open_warehouse(settings, "test") as warehouse:
        rows = warehouse.rows("select distinct _file_id from raw.usage_record order by 1")
    return [file_id for (file_id,) in rows]


def test_what_was_mediated_long_ago_goes_and_the_next_run_finds_nothing(
    mediated: Settings,
) -> None:
    octets = sum(archive_path(mediated, file_id).stat().st_size for file_id in FILES)
    result = retain(mediated)

    assert (result.originals, result.original_octets, result.parts) == (2, octets, 2)
    assert result.part_octets > 0
    assert not any(archive_path(mediated, file_id).exists() for file_id in FILES)
    assert raw_files(mediated) == []
    assert retain(mediated) == NOTHING


@pytest.mark.parametrize(
    ("days", "originals", "parts"), [(119, 0, 0), (121, 0, 2), (399, 0, 2), (401, 2, 2)]
)
def test_originals_and_raw_records_have_each_their_time(
    mediated: Settings, days: int, originals: int, parts: int
) -> None:
    age(mediated, days)
    result = retain(mediated)

    assert (result.originals, result.parts) == (originals, parts)


@pytest.mark.parametrize(
    "business",
    [
        "update control.usage_file set revision = revision + 1 where file_id = '{}'",
        "update control.usage_file set status = 'landed' where file_id = '{}'",
        "insert into control.rejected_record (file_id, record_number, source_id, province_code,"
        " reason_code, received_at) values ('{}', 1, 'MSC-44', '44', 'invalid_time', now())",
    ],
    ids=["corrected since", "not mediated", "a reject is open"],
)
def test_a_file_with_open_business_keeps_its_original_and_its_records(
    mediated: Settings, business: str
) -> None:
    run(mediated, business.format(FILES[0]))
    result = retain(mediated)

    assert (result.originals, result.parts) == (1, 1)
    assert archive_path(mediated, FILES[0]).exists()
    assert raw_files(mediated) == [FILES[0]]


@pytest.mark.parametrize(("days", "quarantined"), [(399, 0), (401, 1)])
def test_the_original_of_a_refused_file_is_kept_for_a_look_and_then_goes(
    settings: Settings, deliver: Any, days: int, quarantined: int
) -> None:
    deliver("MSC-44", "MSC-44_20261005_000001.cdr", b"not a switch file at all")
    (file_id,) = collect(settings).rejected
    age(settings, days)
    octets = quarantine_path(settings, file_id).stat().st_size
    result = retain(settings)

    assert (result.quarantined, result.quarantined_octets) == (quarantined, octets * quarantined)
    assert quarantine_path(settings, file_id).exists() == (not quarantined)
    assert len(collect(settings).alarms) == 0
    assert retain(settings) == NOTHING


def test_a_part_stays_for_any_file_in_it(settings: Settings, deliver: Any, build: Any) -> None:
    for number, file_id in enumerate(FILES, 1):
        line = build.switch_record(call_reference=str(number))
        content = build.switch_file([line], sequence=number)
        deliver("MSC-44", file_id.partition("/")[2], content)
    collect(settings)
    land(settings)
    finish(settings, take_up(settings))
    age(settings, 130)
    run(
        settings,
        f"update control.usage_file set landed_at = now() where file_id = '{FILES[0]}'",
    )

    assert retain(settings) == NOTHING
    assert raw_files(settings) == FILES


def test_the_records_of_a_file_in_several_parts_go_all_or_none() -> None:
    first, second, third = (Part(Path(name), "land-1", 1) for name in ("1", "2", "3"))
    contents = {first: ["a", "b"], second: ["b", "c"], third: ["d"]}
    batch_of = dict.fromkeys("abcd", "land-1")

    assert _removable_parts(contents, batch_of, {"a", "b", "d"}) == [third]
    assert _removable_parts(contents, batch_of | {"c": "land-2"}, {"a", "b"}) == [first, second]


def test_records_of_files_that_were_taken_back_or_refused_go_at_once(mediated: Settings) -> None:
    run(mediated, "update control.usage_file set landed_at = now(), collected_at = now()")
    run(
        mediated,
        f"update control.usage_file set status = 'rolled_back' where file_id = '{FILES[0]}'",
    )
    result = retain(mediated)

    assert (result.originals, result.parts) == (0, 1)
    assert raw_files(mediated) == [FILES[1]]
    assert archive_path(mediated, FILES[0]).exists()


def test_records_of_a_file_that_was_taken_back_stay_until_mediation_has_followed(
    mediated: Settings,
) -> None:
    run(mediated, "update control.usage_file set landed_at = now(), collected_at = now()")
    run(
        mediated,
        "update control.usage_file set status = 'rolled_back', revision = revision + 1"
        f" where file_id = '{FILES[0]}'",
    )
    run(mediated, "update control.batch set ended_at = null where purpose = 'land'")
    assert retain(mediated).parts == 0
    assert land(mediated).batch_id is None  # it clears up what killed landings left
    assert raw_files(mediated) == FILES
    assert unfollowed_files(mediated) == [FILES[0]]

    finish(mediated, take_up(mediated))
    assert unfollowed_files(mediated) == []
    assert retain(mediated).parts == 1
    assert raw_files(mediated) == [FILES[1]]


def test_a_postgresql_warehouse_loses_the_same_rows(mediated: Settings) -> None:
    server = Settings(
        home=mediated.home, profile=Profile.server, operational_url=operational_url(mediated),
        warehouse_url=database_url(mediated, "warehouse"),
        secret_key="a test's own", admin_password="a test's own",
    )  # fmt: skip
    with open_warehouse(server, "test") as warehouse:
        warehouse.execute("drop table if exists raw.usage_record")
    run(mediated, "update control.usage_file set status = 'collected'")
    land(server)
    finish(server, take_up(server))
    assert raw_files(server) == FILES
    age(mediated, 500)
    retain(server)

    assert raw_files(server) == []
