"""Landing: the raw tables hold every collected file exactly once."""

from __future__ import annotations

import gzip
import importlib
from typing import Any

import pytest

from ingestion import collect, create_raw_tables, land
from ingestion.formats import FORMATS
from tollhouse.postgres import connect, database_url, operational_url
from tollhouse.settings import Profile, Settings
from tollhouse.warehouse import open_warehouse

LAND = importlib.import_module("ingestion.land")  # the module, not the function of that name
SWITCH_NAME = "MSC-44_20261005_000001.cdr"
PACKET_NAME = "PGW-44_-_1.20261005_-_2330+0800"
ROAMING_NAME = "DCH-00_20261005_000001.csv"
ROAMING = "r1,data,mo,460010000000001,8618600000001,,20261005083000,+0900,60,10,20,44010"


@pytest.fixture
def delivered(deliver: Any, build: Any) -> None:
    """One file of every format, each with one record that cannot be decoded."""
    deliver(
        "MSC-44", SWITCH_NAME,
        build.switch_file([build.switch_record(), "CDR|short", build.switch_record()]),
    )  # fmt: skip
    frame = build.framed(build.packet_record())
    deliver("PGW-44", PACKET_NAME, build.packet_file([frame, frame])[:-7])
    deliver("DCH-00", ROAMING_NAME, build.roaming_file([ROAMING, "r2"]))


def raw_rows(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """Every raw row without what differs from landing to landing."""
    with open_warehouse(settings, "test") as warehouse:
        create_raw_tables(warehouse)
        return {
            name: warehouse.rows(
                f"select * exclude (_batch_id, _loaded_at) from {raw_format.table}"
                " order by _file_id, _record_number"
            )
            for name, raw_format in FORMATS.items()
        }


@pytest.mark.usefixtures("delivered")
def test_every_record_lands_with_its_origin(settings: Settings, journal: Any) -> None:
    collect(settings)
    result = land(settings)

    assert (result.files, result.records) == (3, 7)
    assert result.decode_errors == {"field_count": 2, "truncated": 1}
    with open_warehouse(settings, "test") as warehouse:
        rows = warehouse.rows(
            "select _file_id, _record_number, _decode_error, _batch_id, duration_s"
            " from raw.switch_cdr order by 2"
        )
    file_id = f"MSC-44/{SWITCH_NAME}"
    assert rows == [
        (file_id, 1, None, result.batch_id, "61"),
        (file_id, 2, "field_count", result.batch_id, None),
        (file_id, 3, None, result.batch_id, "61"),
    ]
    row = journal()[file_id]
    assert (row["status"], row["decoded_record_count"]) == ("landed", 3)
    assert row["batch_id"] == result.batch_id


@pytest.mark.usefixtures("delivered")
def test_the_batch_counts_its_files_and_records(settings: Settings) -> None:
    collect(settings)
    result = land(settings)
    with connect(settings) as connection:
        batches = connection.execute(
            "select batch_id, file_count, record_count, ended_at is not null from control.batch"
        ).fetchall()

    assert batches == [(result.batch_id, 3, 7, True)]


@pytest.mark.usefixtures("delivered")
def test_landing_again_lands_nothing_and_makes_no_batch(settings: Settings) -> None:
    collect(settings)
    land(settings)
    before = raw_rows(settings)
    result = land(settings)

    assert (result.batch_id, result.files, result.records) == (None, 0, 0)
    assert raw_rows(settings) == before


@pytest.mark.usefixtures("delivered")
def test_a_kill_between_rows_and_journal_leaves_the_same_rows_after_the_next_run(
    settings: Settings, journal: Any, monkeypatch: Any
) -> None:
    collect(settings)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LAND, "_journal_landed", die)
    with pytest.raises(KeyboardInterrupt):
        land(settings)
    monkeypatch.undo()
    committed = raw_rows(settings)
    assert {row["status"] for row in journal().values()} == {"collected"}
    assert sum(len(rows) for rows in committed.values()) == 7

    assert land(settings).records == 7
    assert raw_rows(settings) == committed
    assert {row["status"] for row in journal().values()} == {"landed"}


@pytest.mark.usefixtures("delivered")
def test_a_kill_inside_the_transaction_leaves_no_row(settings: Settings, monkeypatch: Any) -> None:
    collect(settings)
    monkeypatch.setattr("tollhouse.warehouse.Warehouse.append", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        land(settings)
    monkeypatch.undo()

    assert {len(rows) for rows in raw_rows(settings).values()} == {0}
    assert land(settings).records == 7


def test_small_groups_land_the_same_as_one(
    settings: Settings, deliver: Any, build: Any, monkeypatch: Any
) -> None:
    for number in range(5):
        lines = [build.switch_record(call_reference=f"{number}-{each}") for each in range(4)]
        name = f"MSC-44_20261005_{number:06d}.cdr"
        deliver("MSC-44", name, build.switch_file(lines, sequence=number))
    collect(settings)
    monkeypatch.setattr(LAND, "RECORDS_PER_TRANSACTION", 7)
    progress: list[tuple[int, int]] = []
    land(settings, lambda done, files: progress.append((done, files)))

    assert progress == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert len(raw_rows(settings)["switch_cdr"]) == 20


@pytest.mark.usefixtures("delivered")
@pytest.mark.parametrize("damage", ["missing", "cut", "exchanged"])
def test_an_unreadable_original_is_rejected_and_the_others_land(
    settings: Settings, journal: Any, damage: str
) -> None:
    collect(settings)
    original = settings.archive_dir / "MSC-44" / f"{SWITCH_NAME}.gz"
    if damage == "missing":
        original.unlink()
    elif damage == "cut":
        original.write_bytes(original.read_bytes()[:-20])
    else:
        original.write_bytes(gzip.compress(b"something else"))
    result = land(settings)

    assert result.files == 2
    assert list(result.rejected) == [f"MSC-44/{SWITCH_NAME}"]
    row = journal()[f"MSC-44/{SWITCH_NAME}"]
    assert row["status"] == "rejected"
    assert str(original) in row["status_reason"]


def test_a_line_too_long_for_the_parser_rejects_its_file_and_the_others_land(
    settings: Settings, deliver: Any, build: Any, journal: Any
) -> None:
    giant = build.switch_record(other_party="1" * 40_000_000)
    deliver("MSC-44", SWITCH_NAME, build.switch_file([giant, build.switch_record()]))
    deliver("DCH-00", ROAMING_NAME, build.roaming_file([ROAMING]))
    collect(settings)
    result = land(settings)

    assert (result.files, result.records) == (1, 1)
    assert list(result.rejected) == [f"MSC-44/{SWITCH_NAME}"]
    row = journal()[f"MSC-44/{SWITCH_NAME}"]
    assert row["status"] == "rejected"
    assert row["status_reason"].startswith("it cannot be decoded as switch_cdr: ArrowInvalid: ")
    assert str(settings.archive_dir / "MSC-44" / SWITCH_NAME) in row["status_reason"]


@pytest.mark.usefixtures("delivered")
def test_a_fault_of_the_decoder_rejects_one_file_and_is_named(
    settings: Settings, monkeypatch: Any
) -> None:
    def stumble(*_: Any) -> None:
        raise IndexError("index 9 is out of bounds\0")

    collect(settings)
    monkeypatch.setattr("ingestion.formats.packet.PacketFormat.decode", stumble)
    result = land(settings)

    assert result.files == 2
    assert "IndexError: index 9 is out of bounds" in result.rejected[f"PGW-44/{PACKET_NAME}"]


@pytest.mark.usefixtures("delivered")
def test_a_file_rejected_after_a_killed_landing_leaves_no_row(
    settings: Settings, monkeypatch: Any
) -> None:
    collect(settings)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LAND, "_journal_landed", die)
    with pytest.raises(KeyboardInterrupt):
        land(settings)
    monkeypatch.undo()
    (settings.archive_dir / "MSC-44" / f"{SWITCH_NAME}.gz").unlink()
    assert list(land(settings).rejected) == [f"MSC-44/{SWITCH_NAME}"]

    counts = {name: len(rows) for name, rows in raw_rows(settings).items()}
    assert counts == {"switch_cdr": 0, "roaming_cdr": 2, "packet_cdr": 2}


def test_the_note_on_a_file_without_its_trailer_outlives_the_landing(
    settings: Settings, deliver: Any, build: Any, journal: Any
) -> None:
    content = build.switch_file([build.switch_record()])
    deliver("MSC-44", SWITCH_NAME, b"".join(content.splitlines(keepends=True)[:-1]))
    collect(settings)
    land(settings)
    (row,) = journal().values()

    assert (row["status"], row["decoded_record_count"]) == ("landed", 1)
    assert row["status_reason"].startswith("incomplete: the file lacks its trailer (TRL)")


def test_raw_tables_are_there_before_any_file(settings: Settings) -> None:
    result = land(settings)

    assert result.batch_id is None
    assert raw_rows(settings) == {"switch_cdr": [], "roaming_cdr": [], "packet_cdr": []}


@pytest.mark.usefixtures("delivered")
def test_a_postgresql_warehouse_gets_the_same_rows(settings: Settings) -> None:
    collect(settings)
    land(settings)
    embedded = raw_rows(settings)
    server = Settings(
        home=settings.home,
        profile=Profile.server,
        operational_url=operational_url(settings),
        warehouse_url=database_url(settings, "warehouse"),
        secret_key="a test's own",
        admin_password="a test's own",
    )
    with connect(settings) as connection:  # as after a kill between rows and journal
        connection.execute("update control.usage_file set status = 'collected'")
    for _ in range(2):
        assert land(server).records == 7
        with connect(settings) as connection:
            connection.execute("update control.usage_file set status = 'collected'")

    assert raw_rows(server) == embedded
