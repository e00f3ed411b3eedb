"""Landing: the raw table holds every record of every collected file exactly once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion import LandingError, collect, land, landing_unit
from ingestion import land as _land_function
from ingestion.archive import archive_path, quarantine_path
from ingestion.formats.interface import RAW_TABLE, USAGE_COLUMNS, batch_table, raw_columns
from operational.database import upgrade
from tollhouse.postgres import connect, database_url, operational_url
from tollhouse.settings import PROJECT_ROOT, Profile, Settings
from tollhouse.warehouse import compact, open_warehouse

LAND = sys.modules[_land_function.__module__]  # the module, not the function of that name
SWITCH_NAME = "MSC-44_20261005_000001.cdr"
PACKET_NAME = "PGW-44_-_1.20261005_-_2330+0800"
ROAMING_NAME = "DCH-00_20261005_000001.csv"
ROAMING = "r1,data,mo,460010000000001,8618600000001,,20261005083000,+0900,60,10,20,44010"
SWITCH, PACKET = f"MSC-44/{SWITCH_NAME}", f"PGW-44/{PACKET_NAME}"


@pytest.fixture
def delivered(deliver: Any, build: Any) -> None:
    """One file of every shipped source's format, each with a record that cannot be decoded."""
    deliver(
        "MSC-44", SWITCH_NAME,
        build.switch_file([build.switch_record(), "CDR|short", build.switch_record()]),
    )  # fmt: skip
    frame = build.framed(build.packet_record())
    deliver("PGW-44", PACKET_NAME, build.packet_file([frame, frame])[:-7])
    deliver("DCH-00", ROAMING_NAME, build.roaming_file([ROAMING, "r2"]))


@pytest.fixture
def many(settings: Settings, deliver: Any, build: Any) -> int:
    """Twelve collected files of 3,000 records; returns the records in all."""
    for number in range(12):
        lines = [build.switch_record(call_reference=f"{number}-{each}") for each in range(3000)]
        name = f"MSC-44_20261005_{number:06d}.cdr"
        deliver("MSC-44", name, build.switch_file(lines, sequence=number))
    collect(settings)
    return 36_000


@pytest.fixture
def in_processes(monkeypatch: Any) -> None:
    """Even a small landing is cut into units, and these go to other processes."""
    monkeypatch.setattr(LAND, "IN_PROCESS_BYTES", 0)
    monkeypatch.setattr(LAND, "LEAST_UNIT_BYTES", 1)
    monkeypatch.setattr(LAND, "UNIT_BYTES", 700_000)


def raw_rows(settings: Settings) -> list[tuple[Any, ...]]:
    """Every raw row that counts, without what differs from landing to landing."""
    with connect(settings) as connection:
        live = connection.execute(
            "select batch_id, file_id from control.usage_file"
            " where status in ('landed', 'mediated')"
        ).fetchall()
    columns = ", ".join(name for name in raw_columns() if name not in ("_batch_id", "_loaded_at"))
    pairs = ", ".join(f"('{batch}', '{file_id}')" for batch, file_id in live) or "('', '')"
    with open_warehouse(settings, "test") as warehouse:
        return warehouse.rows(
            f"select {columns} from {RAW_TABLE} where (_batch_id, _file_id) in ({pairs})"
            " order by _file_id, _record_number"
        )


@pytest.mark.usefixtures("delivered")
def test_every_record_lands_with_its_origin(settings: Settings, journal: Any) -> None:
    collect(settings)
    result = land(settings)

    assert (result.files, result.records) == (3, 7)
    assert result.decode_errors == {"field_count": 2, "truncated": 1}
    with open_warehouse(settings, "test") as warehouse:
        rows = warehouse.rows(
            "select _file_id, _record_number, _decode_error, _batch_id, duration_seconds"
            " from raw.usage_record where starts_with(_file_id, 'MSC') order by 2"
        )
    assert rows == [
        (SWITCH, 1, None, result.batch_id, 61),
        (SWITCH, 2, "field_count", result.batch_id, None),
        (SWITCH, 3, None, result.batch_id, 61),
    ]
    row = journal()[SWITCH]
    assert (row["status"], row["decoded_record_count"], row["revision"]) == ("landed", 3, 1)
    assert (row["batch_id"], row["landed_at"] is not None) == (result.batch_id, True)


@pytest.mark.usefixtures("delivered")
def test_the_raw_table_has_the_columns_of_the_interface_in_order(settings: Settings) -> None:
    collect(settings)
    land(settings)
    with open_warehouse(settings, "test") as warehouse:
        described = warehouse.rows("describe raw.usage_record")

    assert [(row[0], row[1].lower()) for row in described] == list(raw_columns().items())


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
    assert len(before) == 7


def test_the_raw_table_is_there_before_any_file(settings: Settings) -> None:
    result = land(settings)

    assert result.batch_id is None
    assert raw_rows(settings) == []


@pytest.mark.usefixtures("delivered")
def test_a_kill_between_parts_and_journal_leaves_the_same_rows_after_the_next_run(
    settings: Settings, journal: Any, monkeypatch: Any
) -> None:
    collect(settings)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LAND._Landing, "_take_over", die)
    with pytest.raises(KeyboardInterrupt):
        land(settings)
    monkeypatch.undo()
    (dead,) = settings.raw_dir.glob("_batch_id=land-*/*.parquet")
    assert {row["status"] for row in journal().values()} == {"collected"}
    assert raw_rows(settings) == []

    assert land(settings).records == 7
    assert len(raw_rows(settings)) == 7
    assert not dead.parent.exists()
    with connect(settings) as connection:
        (unended,) = connection.execute(
            "select count(*) from control.batch where ended_at is null"
        ).fetchone() or (None,)
    assert unended == 0


KILLED = """
import sys
from pathlib import Path
import ingestion.land
from tollhouse.settings import Settings
module = sys.modules["ingestion.land"]
module.LEAST_UNIT_BYTES, module.UNIT_BYTES = 1, 1
module.IN_PROCESS_BYTES = int(sys.argv[2])
if __name__ == "__main__":
    module.land(Settings(home=Path(sys.argv[1])))
"""


def _parts_written(folder: Path) -> int:
    """Parts below the folder, while a landing makes folders there and takes them away."""
    return sum(
        name.startswith("0") and name.endswith(".parquet")
        for _, _, names in os.walk(folder)
        for name in names
    )


@pytest.mark.parametrize("in_process_bytes", [10**9, 0], ids=["in process", "in processes"])
def test_a_landing_killed_anywhere_leaves_nothing_twice_and_nothing_out(
    settings: Settings, journal: Any, many: int, tmp_path: Path, in_process_bytes: int
) -> None:
    program = tmp_path / "land_all.py"
    program.write_text(KILLED)
    landed = []
    for target in (1, 5):
        command = [sys.executable, str(program), str(settings.home), str(in_process_bytes)]
        with subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}, start_new_session=True
        ) as process:
            while process.poll() is None and _parts_written(settings.raw_dir) < target:
                time.sleep(0.001)
            os.killpg(process.pid, signal.SIGKILL)
        landed.append(sum(row["status"] == "landed" for row in journal().values()))
    assert landed[-1] < 12, "no landing was killed at work"
    land(settings)

    rows = raw_rows(settings)
    assert len(rows) == many
    assert len({row[:2] for row in rows}) == many
    assert {row["status"] for row in journal().values()} == {"landed"}
    assert {row["revision"] for row in journal().values()} == {1}
    assert not list(settings.raw_dir.glob("*/*.tmp"))


@pytest.mark.usefixtures("many")
def test_processes_of_a_killed_landing_end_with_it(settings: Settings, tmp_path: Path) -> None:
    program = tmp_path / "land_all.py"
    program.write_text(KILLED)
    with subprocess.Popen(
        [sys.executable, str(program), str(settings.home), "0"],
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}, start_new_session=True,
    ) as process:  # fmt: skip
        while process.poll() is None and _parts_written(settings.raw_dir) < 1:
            time.sleep(0.001)
        process.kill()
    last = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):  # nobody is left of its session
        while time.monotonic() < last:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_landings_at_once_land_every_file_once(
    settings: Settings, journal: Any, many: int, tmp_path: Path
) -> None:
    program = tmp_path / "land_all.py"
    program.write_text(KILLED)
    command = [sys.executable, str(program), str(settings.home), str(10**9)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]

    assert [process.wait(120) for process in both] == [0, 0]
    assert len(raw_rows(settings)) == many
    assert {row["revision"] for row in journal().values()} == {1}


@pytest.mark.usefixtures("in_processes")
def test_units_in_processes_land_the_same_as_all_in_one(
    settings: Settings, journal: Any, many: int, monkeypatch: Any
) -> None:
    progress: list[tuple[int, int]] = []
    land(settings, lambda done, files: progress.append((done, files)))
    in_units = raw_rows(settings)
    assert len(in_units) == many
    assert progress[-1] == (12, 12)
    assert len(progress) >= 6

    with connect(settings) as connection:
        connection.execute("update control.usage_file set status = 'collected'")
    monkeypatch.undo()
    land(settings.model_copy(update={"threads": 1}))
    assert raw_rows(settings) == in_units
    assert {row["batch_id"] for row in journal().values()} == {journal()[SWITCH]["batch_id"]}


def test_small_files_share_parts_of_even_size(
    settings: Settings, many: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(LAND, "LEAST_UNIT_BYTES", 10**9)
    monkeypatch.setattr(landing_unit, "RECORDS_PER_PART", 10_000)
    monkeypatch.setattr(landing_unit, "RECORDS_PER_GROUP", 4_000)
    result = land(settings)
    parts = sorted(settings.raw_dir.glob(f"_batch_id={result.batch_id}/*.parquet"))
    counts = [pq.read_metadata(part).num_rows for part in parts]

    assert counts == [12_000, 12_000, 12_000]
    of_part = pq.read_metadata(parts[0])
    groups = {of_part.row_group(number).num_rows for number in range(of_part.num_row_groups)}
    assert groups == {3_000}
    assert len(raw_rows(settings)) == many


@pytest.mark.usefixtures("in_processes")
def test_the_file_over_which_a_process_dies_is_named_and_all_others_land(
    settings: Settings, journal: Any, many: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(LAND, "decode_unit", _decode_in_little_memory)
    with pytest.raises(LandingError, match=r"died.*MSC-44/MSC-44_20261005_000005\.cdr;"):
        land(settings)

    rows = journal()
    assert {file_id for file_id, row in rows.items() if row["status"] == "collected"} == {
        "MSC-44/MSC-44_20261005_000005.cdr"
    }
    assert len(raw_rows(settings)) == many - 3000
    monkeypatch.undo()
    land(settings)
    assert len(raw_rows(settings)) == many


def _decode_in_little_memory(settings: Settings, unit: Any) -> Any:
    """As the machine's killer of large processes would, over one of the files."""
    decode_file = landing_unit._decode_file

    def decode_or_die(*arguments: Any) -> None:
        if arguments[2].name.endswith("000005.cdr"):
            os.kill(os.getpid(), signal.SIGKILL)
        decode_file(*arguments)

    landing_unit._decode_file = decode_or_die
    try:
        return landing_unit.decode_unit(settings, unit)
    finally:
        landing_unit._decode_file = decode_file


@pytest.mark.usefixtures("in_processes")
def test_what_a_process_had_finished_when_it_died_is_not_landed_twice(
    settings: Settings, many: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(LAND, "decode_unit", _decode_and_die_once_at_the_end)
    land(settings)

    assert (settings.home / "died").exists(), "no process died"
    rows = raw_rows(settings)
    assert len(rows) == many
    assert len({row[:2] for row in rows}) == many
    (settings.home / "died").unlink()


def _decode_and_die_once_at_the_end(settings: Settings, unit: Any) -> Any:
    """As a process would that is killed once, when parts of the file in hand have their names."""
    died, decode_file = settings.home / "died", landing_unit._decode_file
    landing_unit.RECORDS_PER_PART, landing_unit.RECORDS_PER_GROUP = 1_000, 500

    def decode_and_die(*arguments: Any) -> None:
        decode_file(*arguments)
        if arguments[2].name.endswith("000005.cdr") and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    landing_unit._decode_file = decode_and_die
    try:
        return landing_unit.decode_unit(settings, unit)
    finally:
        landing_unit._decode_file = decode_file


@pytest.mark.usefixtures("delivered")
@pytest.mark.parametrize("damage", ["missing", "cut", "exchanged"])
def test_an_unreadable_original_is_rejected_and_the_others_land(
    settings: Settings, journal: Any, damage: str
) -> None:
    collect(settings)
    original = archive_path(settings, SWITCH)
    if damage == "missing":
        original.unlink()
    elif damage == "cut":
        original.write_bytes(original.read_bytes()[:-20])
    else:
        original.write_bytes(archive_path(settings, f"DCH-00/{ROAMING_NAME}").read_bytes())
    result = land(settings)

    assert result.files == 2
    assert list(result.rejected) == [SWITCH]
    row = journal()[SWITCH]
    assert row["status"] == "rejected"
    assert str(original) in row["status_reason"]
    assert {row[0] for row in raw_rows(settings)} == {PACKET, f"DCH-00/{ROAMING_NAME}"}


@pytest.mark.usefixtures("delivered")
@pytest.mark.parametrize("failing", ["opening", "reading", "not mounted"])
def test_a_file_whose_original_the_disk_does_not_give_stays_collected_with_an_alarm(
    settings: Settings, journal: Any, monkeypatch: Any, failing: str
) -> None:
    collect(settings)
    original = archive_path(settings, SWITCH)
    open_stream = pa.input_stream

    class Broken:
        def readinto(self, _: Any) -> int:
            raise OSError(errno.EIO, "Input/output error")

        def close(self) -> None: ...

    def fail(path: Any, **options: Any) -> Any:
        if str(path) != str(original):
            return open_stream(path, **options)
        if failing == "opening":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return Broken()

    if failing == "not mounted":
        original.parent.rename(settings.home / "elsewhere")
    else:
        monkeypatch.setattr("ingestion.archive.pa.input_stream", fail)
    result = land(settings)

    assert (result.files, list(result.rejected), list(result.unavailable)) == (2, [], [SWITCH])
    assert journal()[SWITCH]["status"] == "collected"
    assert open_alarms(settings) == [("original_unavailable", SWITCH)]
    land(settings)
    collect(settings)
    assert open_alarms(settings) == [("original_unavailable", SWITCH)], "raised once, and it stays"

    if failing == "not mounted":
        (settings.home / "elsewhere").rename(original.parent)
    monkeypatch.undo()
    assert land(settings).files == 1
    collect(settings)
    assert open_alarms(settings) == []
    assert len(raw_rows(settings)) == 7


def open_alarms(settings: Settings) -> list[tuple[str, str]]:
    with connect(settings) as connection:
        return connection.execute(
            "select kind, file_id from control.file_alarm where cleared_at is null"
            " and kind = 'original_unavailable'"
        ).fetchall()


@pytest.mark.usefixtures("delivered")
def test_a_fault_of_the_decoder_rejects_one_file_and_quarantines_its_original(
    settings: Settings, monkeypatch: Any
) -> None:
    def stumble(*_: Any) -> None:
        raise IndexError("index 9 is out of bounds\0")

    collect(settings)
    monkeypatch.setattr("ingestion.formats.charging_record.ChargingRecordFormat.decode", stumble)
    result = land(settings)

    assert result.files == 2
    assert "IndexError: index 9 is out of bounds" in result.rejected[PACKET]
    assert str(quarantine_path(settings, PACKET)) in result.rejected[PACKET]
    assert quarantine_path(settings, PACKET).exists()
    assert not archive_path(settings, PACKET).exists()


@pytest.mark.usefixtures("delivered")
def test_a_text_that_is_no_utf8_rejects_its_file_and_never_reaches_the_warehouse(
    settings: Settings, monkeypatch: Any
) -> None:
    def decode(*_: Any) -> Iterator[pa.Table]:
        garbled = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
        nothing = pa.nulls(1, pa.string())
        yield batch_table(
            offsets=pa.array([0]), lengths=pa.array([1]), errors=nothing, details=nothing,
            raw_records=nothing, fields={"cell_id": garbled},
        )  # fmt: skip

    collect(settings)
    monkeypatch.setattr("ingestion.formats.charging_record.ChargingRecordFormat.decode", decode)
    result = land(settings)

    assert list(result.rejected) == [PACKET]
    assert "UTF8" in result.rejected[PACKET]
    assert len(raw_rows(settings)) == 5


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


@pytest.mark.usefixtures("delivered")
def test_the_raw_table_is_found_again_after_its_home_was_moved(
    settings: Settings, tmp_path: Path
) -> None:
    collect(settings)
    land(settings)
    moved = Settings(home=tmp_path / "moved")
    moved.raw_dir.parent.mkdir(parents=True)
    settings.raw_dir.rename(moved.raw_dir)
    settings.warehouse_file.rename(moved.warehouse_file)
    with open_warehouse(moved, "test") as warehouse:
        assert warehouse.rows("select count(*) from raw.usage_record") == [(7,)]
    compact(moved)
    with open_warehouse(moved, "test") as warehouse:
        assert warehouse.rows("select count(*) from raw.usage_record") == [(7,)]


@pytest.mark.usefixtures("delivered")
def test_parts_of_before_a_column_was_added_are_read_with_it_as_null(
    settings: Settings, monkeypatch: Any
) -> None:
    collect(settings)
    land(settings)
    monkeypatch.setitem(USAGE_COLUMNS, "roaming_hub", "varchar")
    land(settings)

    with open_warehouse(settings, "test") as warehouse:
        rows = warehouse.rows("select roaming_hub, count(*) from raw.usage_record group by 1")
    assert rows == [(None, 7)]


@pytest.mark.usefixtures("delivered")
def test_a_postgresql_warehouse_gets_the_same_rows_however_often_a_landing_was_killed(
    settings: Settings, monkeypatch: Any
) -> None:
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
    upgrade(server)
    with connect(settings) as connection:
        connection.execute("update control.usage_file set status = 'collected'")
    publish = LAND.publish_parts

    def publish_and_die(*arguments: Any) -> None:
        publish(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(LAND, "publish_parts", publish_and_die)
    with pytest.raises(KeyboardInterrupt):
        land(server)
    monkeypatch.undo()
    assert land(server).records == 7

    assert raw_rows(server) == embedded
    with open_warehouse(server, "test") as warehouse:
        assert warehouse.rows("select count(*) from raw.usage_record") == [(7,)]
