"""The landing suite: shifted files are stopped, ordinary faults pass with a warning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from expectations import LandingRejectedError, check_landing
from operational.database import upgrade
from tollhouse.file_reasons import reason_of
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

SOUND = {
    "_decode_error": None,
    "record_type": "CDR",
    "service": "voice",
    "served_msisdn": "8618600000001",
    "served_imsi": "460010000000001",
    "started_local": "2026-10-05 08:30:00",
}
COLUMNS = {
    "_file_id": "varchar", "_batch_id": "varchar", **dict.fromkeys(SOUND, "varchar"),
    "started_local": "timestamp",
}  # fmt: skip
BATCH = "land-1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("expectations")
    try:
        upgrade(Settings(home=path))
        yield path
    finally:
        EmbeddedServer(path).remove()


@pytest.fixture
def settings(home: Path) -> Settings:
    """An empty warehouse with the raw tables, and an empty file journal."""
    settings = Settings(home=home)
    with connect(settings) as connection:
        connection.execute("delete from control.usage_file")
    settings.warehouse_file.unlink(missing_ok=True)
    with open_warehouse(settings, "test") as warehouse:
        warehouse.create_table("raw.usage_record", COLUMNS)
    return settings


@pytest.fixture
def land(settings: Settings) -> Any:
    """Make a landed switch file: sound records, then ``odd`` ones that differ in some fields."""

    def put(
        file_id: str, sound: int, odd: int = 0, *, declared: int | None = None,
        status: str = "landed", journalled: int | None = None, reason: str | None = None,
        **difference: str | None,
    ) -> None:  # fmt: skip
        count = sound + odd
        with connect(settings) as connection:
            connection.execute(
                "insert into control.usage_file (file_id, source_id, file_name, province_code,"
                " sha256, size_bytes, received_at, collected_at, status, declared_record_count,"
                " decoded_record_count, status_reason_code, batch_id)"
                " values (%s, 'MSC-44', %s, '44', %s, 1, '2026-10-06 01:00+00', now(), %s, %s, %s,"
                " %s, %s)",
                (
                    file_id, file_id, file_id, status, count if declared is None else declared,
                    count if journalled is None else journalled, reason, BATCH,
                ),
            )  # fmt: skip
        with open_warehouse(settings, "test") as warehouse:
            for values, number in ((SOUND, sound), ({**SOUND, **difference}, odd)):
                warehouse.execute(
                    "insert into raw.usage_record select ?, ?, ?, ?, ?, ?, ?, ? from range(?)",
                    [file_id, BATCH, *values.values(), number],
                )

    return put


def test_nothing_landed_is_nothing_to_check(settings: Settings) -> None:
    report = check_landing(settings)

    assert (report.file_count, report.outcomes) == (0, ())


def test_sound_files_meet_every_expectation(settings: Settings, land: Any) -> None:
    land("good", 100)
    report = check_landing(settings)

    assert report.file_count == 1
    assert len(report.outcomes) == 13
    assert (report.warnings, report.criticals) == ([], [])


def test_a_few_odd_records_are_warned_of_with_file_and_count(
    settings: Settings, land: Any, caplog: Any
) -> None:
    land("good", 100)
    land("damaged", 100, 3, _decode_error="malformed", service=None)
    report = check_landing(settings)

    assert [(each.name, each.failures) for each in report.warnings] == [
        ("undecodable_count_is_zero", {"damaged": 3})
    ]
    assert "damaged (3)" in caplog.text


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("undecodable_count", {"_decode_error": "malformed"}),
        ("unknown_service_count", {"service": "fax"}),
        ("unknown_service_count", {"service": None, "record_type": None}),
        ("odd_msisdn_count", {"served_msisdn": "460010000000001|mo"}),
        ("odd_msisdn_count", {"served_msisdn": "", "served_imsi": None}),
        ("out_of_window_count", {"started_local": "2025-10-05 08:30:00"}),
        ("out_of_window_count", {"started_local": None}),
    ],
)
def test_too_many_odd_records_stop_the_file(
    settings: Settings, land: Any, name: str, difference: dict[str, str | None]
) -> None:
    land("good", 100)
    land("shifted", 80, 20, **difference)

    with pytest.raises(LandingRejectedError, match=rf"{name}_is_tolerable.*shifted \(20\)"):
        check_landing(settings)


def test_a_count_off_by_little_is_warned_of_and_by_much_is_stopped(
    settings: Settings, land: Any
) -> None:
    land("off by two", 100, declared=102)
    assert [each.name for each in check_landing(settings).warnings] == ["miscounted_count_is_zero"]

    land("half lost", 100, declared=200)
    with pytest.raises(LandingRejectedError, match=r"miscounted_count.*half lost \(100\)"):
        check_landing(settings)


def test_rows_other_than_those_journalled_are_critical(settings: Settings, land: Any) -> None:
    land("landed twice", 100, journalled=50)

    with pytest.raises(LandingRejectedError, match=r"rows_are_those_journalled.*landed twice"):
        check_landing(settings)


def test_files_already_mediated_are_not_looked_at_again(settings: Settings, land: Any) -> None:
    land("old and odd", 10, 90, status="mediated", service="fax")
    land("good", 10)

    assert check_landing(settings).file_count == 1


def test_a_file_without_its_end_is_warned_of(settings: Settings, land: Any) -> None:
    land("cut", 50, reason="incomplete")
    land("whole", 50)

    (warning,) = check_landing(settings).warnings
    assert (warning.name, warning.failures) == ("is_complete", {"cut": 1})


def test_files_that_are_stopped_are_refused_and_the_next_check_goes_on_without_them(
    settings: Settings, land: Any
) -> None:
    land("MSC-44/good", 100)
    land("MSC-44/shifted", 80, 20, service="fax")
    land("MSC-44/half lost", 100, declared=200)
    original = settings.archive_dir / "MSC-44" / "shifted.zst"
    original.parent.mkdir(parents=True)
    original.write_bytes(b"the original")
    with pytest.raises(LandingRejectedError) as refusal:
        check_landing(settings)

    message = str(refusal.value)
    assert "They are refused" in message
    assert str(settings.quarantine_dir / "MSC-44/shifted.zst") in message
    assert "may be sent under new names" in message
    assert "roll" not in message
    with connect(settings) as connection:
        rows = connection.execute(
            "select file_id, status, status_reason_code, status_reason_values"
            " from control.usage_file"
        ).fetchall()
        journal = {
            file_id: (status, reason.en if (reason := reason_of(code, values)) else None)
            for file_id, status, code, values in rows
        }
    assert journal["MSC-44/good"] == ("landed", None)
    assert journal["MSC-44/shifted"][0] == journal["MSC-44/half lost"][0] == "rejected"
    assert "unknown_service_count_is_tolerable" in journal["MSC-44/shifted"][1]
    assert str(settings.quarantine_dir / "MSC-44/half lost.zst") in journal["MSC-44/half lost"][1]
    assert not original.exists()
    assert (settings.quarantine_dir / "MSC-44/shifted.zst").read_bytes() == b"the original"
    report = check_landing(settings)
    assert (report.file_count, report.criticals) == (1, [])


@pytest.mark.parametrize(
    "difference",
    [
        {"served_msisdn": "+8618600000001"},
        {"served_msisdn": "02088886666"},
        {"served_msisdn": "008613912345678"},
        {"served_msisdn": "+447700900123", "service": "mms"},
        {"served_msisdn": None, "service": "data"},
        {"service": "vas"},
        {"service": None, "record_type": "location_update", "served_msisdn": None,
         "served_imsi": None, "started_local": None},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_as_received_and_records_that_are_not_rated_are_nothing_odd(
    settings: Settings, land: Any, difference: dict[str, str | None]
) -> None:
    land("varied", 0, 100, **difference)

    assert check_landing(settings).warnings == []


def test_rows_that_a_killed_landing_left_are_not_counted(settings: Settings, land: Any) -> None:
    land("good", 100)
    with open_warehouse(settings, "test") as warehouse:
        warehouse.execute(
            "insert into raw.usage_record by name"
            " select * replace ('land-0' as _batch_id) from raw.usage_record"
        )

    assert check_landing(settings).criticals == []
