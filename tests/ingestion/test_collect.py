"""Collecting: every file once, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest

from ingestion import ReloadError, archive, finish, land, reload, retain, take_up
from ingestion import collect as collect_files
from ingestion.archive import Incoming
from ingestion.journal_lock import JournalBusyError, JournalWork
from ingestion.journal_lock import journal as hold_journal
from ingestion.transport import LocalFolder
from tollhouse.postgres import connect, database_url, operational_url
from tollhouse.settings import PROJECT_ROOT, Profile, Settings

RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)
NAME = "MSC-44_20261005_000001.cdr"


@pytest.fixture
def content(build: Any) -> bytes:
    made: bytes = build.switch_file([build.switch_record()])
    return made


def test_a_file_is_journalled_with_what_it_says_of_itself(
    settings: Settings, deliver: Any, journal: Any, build: Any
) -> None:
    deliver("MSC-44", NAME, build.switch_file([build.switch_record()] * 3, sequence=42))
    collect_files(settings)
    (row,) = journal().values()

    assert (row["file_id"], row["status"], row["format"]) == (
        f"MSC-44/{NAME}", "collected", "switch_cdr",
    )  # fmt: skip
    assert (row["sequence_number"], row["declared_record_count"]) == (42, 3)
    assert row["created_at_source"] == datetime(2026, 10, 5, 16, 0, tzinfo=UTC)
    assert row["received_at"] == RECEIVED
    assert (row["province_code"], row["batch_id"]) == ("44", None)


def test_the_original_is_archived_unchanged(
    settings: Settings, deliver: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, content)
    collect_files(settings)

    path = settings.archive_dir / "MSC-44" / f"{NAME}.zst"
    assert pa.input_stream(str(path), compression="zstd").read() == content


def test_collecting_again_changes_nothing(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, content)
    deliver("PGW-44", "nonsense", b"nonsense")
    collect_files(settings)
    before = journal()
    result = collect_files(settings)

    assert (result.known, result.collected, result.rejected) == (2, [], {})
    assert journal() == before


def test_the_same_content_under_another_name_is_a_duplicate_of_the_first_arrival(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("MSC-44", "MSC-44_20261001_000009.cdr", content, RECEIVED + timedelta(hours=1))
    deliver("MSC-44", NAME, content)
    result = collect_files(settings)

    assert result.collected == [f"MSC-44/{NAME}"]
    assert result.duplicate == {"MSC-44/MSC-44_20261001_000009.cdr": f"MSC-44/{NAME}"}
    assert journal()["MSC-44/MSC-44_20261001_000009.cdr"]["status"] == "duplicate"


def test_the_same_name_with_other_content_is_rejected_and_names_the_earlier_file(
    settings: Settings, deliver: Any, journal: Any, build: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    deliver("MSC-44", NAME, build.switch_file([]), RECEIVED + timedelta(days=1))
    result = collect_files(settings)

    assert result.duplicate == {}
    reason = result.rejected[f"MSC-44/{NAME}#2"]
    assert f"was used before, by MSC-44/{NAME}, which has other content" in reason
    assert "send this one under a new name" in reason
    rows = journal()
    assert rows[f"MSC-44/{NAME}"]["status"] == "collected"
    assert rows[f"MSC-44/{NAME}#2"]["status"] == "rejected"
    assert rows[f"MSC-44/{NAME}#2"]["status_reason"] == reason
    assert collect_files(settings).known == 1


def test_the_same_content_under_its_own_name_again_is_a_duplicate(
    settings: Settings, deliver: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    deliver("MSC-44", NAME, content, RECEIVED + timedelta(days=1))

    assert collect_files(settings).duplicate == {f"MSC-44/{NAME}#2": f"MSC-44/{NAME}"}


@pytest.fixture
def cut_at_a_line_end(build: Any) -> bytes:
    """The first 50 of 100 records, all whole."""
    lines = [build.switch_record(call_reference=str(number)) for number in range(100)]
    whole: bytes = build.switch_file(lines)
    return b"".join(whole.splitlines(keepends=True)[:51])


def test_a_young_file_without_its_end_waits_and_is_taken_whole_later(
    settings: Settings, deliver: Any, journal: Any, build: Any, cut_at_a_line_end: bytes
) -> None:
    frame = build.framed(build.packet_record())
    packets, packet_name = build.packet_file([frame, frame]), "PGW-44_-_1.20261005_-_2330+0800"
    whole = build.switch_file([build.switch_record(call_reference="1")] * 100)
    now = datetime.now(UTC)
    deliver("MSC-44", NAME, cut_at_a_line_end, now)
    deliver("MSC-44", "MSC-44_20261005_000002.cdr", b"", now)
    deliver("MSC-44", "MSC-44_20261005_000003.cdr", whole.removesuffix(b"\n"), now)
    deliver("PGW-44", packet_name, packets[: -len(frame)], now)
    result = collect_files(settings)

    assert journal() == {}
    assert sorted(result.unfinished) == [
        f"MSC-44/{NAME}", "MSC-44/MSC-44_20261005_000002.cdr", "MSC-44/MSC-44_20261005_000003.cdr",
        f"PGW-44/{packet_name}",
    ]  # fmt: skip

    deliver("MSC-44", NAME, whole, now)
    deliver("PGW-44", packet_name, packets, now)
    assert collect_files(settings).collected == [f"MSC-44/{NAME}", f"PGW-44/{packet_name}"]
    assert journal()[f"MSC-44/{NAME}"]["declared_record_count"] == 100


def test_an_old_file_without_its_trailer_is_taken_in_with_a_note(
    settings: Settings, deliver: Any, journal: Any, cut_at_a_line_end: bytes
) -> None:
    deliver("MSC-44", NAME, cut_at_a_line_end, datetime.now(UTC) - timedelta(minutes=11))
    assert collect_files(settings).collected == [f"MSC-44/{NAME}"]
    (row,) = journal().values()

    assert (row["status"], row["declared_record_count"]) == ("collected", None)
    assert row["status_reason"] == (
        "incomplete: the file lacks its trailer (TRL), so records may be missing;"
        " ask MSC-44 to send it whole under a new name"
    )


def test_a_file_that_cannot_be_read_is_skipped_with_the_reason_and_tried_again(
    settings: Settings, deliver: Any, journal: Any, content: bytes, monkeypatch: Any
) -> None:
    shut = deliver("MSC-44", NAME, content)
    deliver("MSC-44", "MSC-44_20261005_000002.cdr", content + b"\n", RECEIVED + timedelta(1))
    dangling = shut.with_name("MSC-44_20261005_000003.cdr")
    dangling.symlink_to("nowhere")
    open_file = LocalFolder.open

    @contextlib.contextmanager
    def refuse(folder: LocalFolder, name: str) -> Iterator[BinaryIO]:
        if name == shut.name:
            raise PermissionError(errno.EACCES, "Permission denied")
        with open_file(folder, name) as stream:
            yield stream

    monkeypatch.setattr(LocalFolder, "open", refuse)
    result = collect_files(settings)
    monkeypatch.undo()

    assert result.collected == ["MSC-44/MSC-44_20261005_000002.cdr"]
    assert list(journal()) == result.collected
    assert sorted(result.skipped) == [f"MSC-44/{NAME}", f"MSC-44/{dangling.name}"]
    assert "Permission denied; make it readable" in result.skipped[f"MSC-44/{NAME}"]
    assert str(shut) in result.skipped[f"MSC-44/{NAME}"]
    shut.write_bytes(shut.read_bytes().replace(b"|61\n", b"|62\n"))
    assert collect_files(settings).collected == [f"MSC-44/{NAME}"]


def test_a_full_disk_stops_the_collection(
    settings: Settings, deliver: Any, content: bytes, monkeypatch: Any
) -> None:
    deliver("MSC-44", NAME, content)

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive, "take_in", refuse)
    with pytest.raises(OSError, match="No space left"):
        collect_files(settings)


def test_a_name_that_is_not_utf8_is_rejected_once_and_the_others_go_on(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("MSC-44", os.fsdecode(b"MSC-44_\xff.cdr"), content)
    deliver("MSC-44", NAME, content, RECEIVED + timedelta(hours=1))
    result = collect_files(settings)

    assert result.collected == [f"MSC-44/{NAME}"]
    assert "are named like" in result.rejected["MSC-44/MSC-44_\\xff.cdr"]
    assert journal()["MSC-44/MSC-44_\\xff.cdr"]["status"] == "rejected"
    assert collect_files(settings).known == 2


def test_a_name_that_ends_like_a_later_id_takes_no_other_files_id(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("MSC-44", f"{NAME}#2", b"nonsense")
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    deliver("MSC-44", NAME, content, RECEIVED + timedelta(days=1))
    result = collect_files(settings)

    assert result.duplicate == {f"MSC-44/{NAME}#3": f"MSC-44/{NAME}"}
    assert list(journal()) == [f"MSC-44/{NAME}", f"MSC-44/{NAME}#2", f"MSC-44/{NAME}#3"]


def test_a_header_that_breaks_the_reader_rejects_that_file_alone(
    settings: Settings, deliver: Any, content: bytes, build: Any, monkeypatch: Any
) -> None:
    def stumble(*_: Any) -> None:
        raise IndexError("list index out of range")

    name = "PGW-44_-_1.20261005_-_2330+0800"
    deliver("PGW-44", name, build.packet_file([]))
    deliver("MSC-44", NAME, content)
    monkeypatch.setattr(
        "ingestion.formats.charging_record.ChargingRecordFormat.read_facts", stumble
    )
    result = collect_files(settings)

    assert result.collected == [f"MSC-44/{NAME}"]
    assert "IndexError: list index out of range" in result.rejected[f"PGW-44/{name}"]


def test_a_corrected_file_may_follow_a_rejected_one_under_its_name(
    settings: Settings, deliver: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, b"damaged" + content)
    assert list(collect_files(settings).rejected) == [f"MSC-44/{NAME}"]
    deliver("MSC-44", NAME, content, RECEIVED + timedelta(days=1))

    assert collect_files(settings).collected == [f"MSC-44/{NAME}#2"]


def test_a_file_of_another_format_is_refused_with_both_named(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("PGW-44", "PGW-44_-_1.20261005_-_2330+0800", content)
    collect_files(settings)
    (row,) = journal().values()

    assert row["status"] == "rejected"
    assert row["status_reason"] == (
        "content is switch_cdr of MSC-44, but the folder is for 3gpp_cdr of PGW-44"
    )


def test_a_file_of_another_source_is_refused_with_both_named(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("MSC-11", "MSC-11_20261005_000001.cdr", content)
    collect_files(settings)

    assert journal()["MSC-11/MSC-11_20261005_000001.cdr"]["status_reason"] == (
        "content is switch_cdr of MSC-44, but the folder is for switch_cdr of MSC-11"
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (NAME, b"", "the file is empty"),
        (
            NAME,
            b"\x00\xff garbage",
            "begins at byte 0 with b'\\x00\\xff garbage': no known raw format",
        ),
        (
            NAME,
            b"HDR|MSC-44|000001|20269906000000|+0800\nTRL|0|0\n",
            "at byte 18 that it was created",
        ),
        ("other.cdr", b"HDR|MSC-44|000001|20261006000000|+0800\nTRL|0|0\n", "are named like"),
    ],
)
def test_what_cannot_be_taken_in_is_rejected_with_the_reason(
    settings: Settings, deliver: Any, name: str, content: bytes, reason: str
) -> None:
    deliver("MSC-44", name, content)
    result = collect_files(settings)

    assert reason in result.rejected[f"MSC-44/{name}"]


def test_files_still_being_written_and_unknown_folders_are_left_alone(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("MSC-44", f"{NAME}.part", content)
    deliver("MSC-44", f".{NAME}", content)
    deliver("MSC-99", NAME, content)
    result = collect_files(settings)

    assert journal() == {}
    assert result.unknown_folders == ["MSC-99"]


def test_a_collection_killed_after_archiving_is_finished_by_the_next(
    settings: Settings, deliver: Any, journal: Any, content: bytes, monkeypatch: Any
) -> None:
    deliver("MSC-44", NAME, content)
    place = Incoming.place

    def place_and_die(incoming: Incoming, path: Path) -> None:
        place(incoming, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(Incoming, "place", place_and_die)
    with pytest.raises(KeyboardInterrupt):
        collect_files(settings)
    assert journal() == {}
    monkeypatch.undo()

    assert collect_files(settings).collected == [f"MSC-44/{NAME}"]
    assert [path.name for path in (settings.archive_dir / "MSC-44").iterdir()] == [f"{NAME}.zst"]


def test_collectors_at_once_take_every_file_once(
    settings: Settings, deliver: Any, journal: Any, build: Any
) -> None:
    for number in range(30):
        record = build.switch_record(call_reference=str(number))
        content = build.switch_file([record], sequence=number)
        deliver("MSC-44", f"MSC-44_20261005_{number:06d}.cdr", content)
    server = Settings(
        home=settings.home, profile=Profile.server, operational_url=operational_url(settings),
        warehouse_url=database_url(settings, "warehouse"),
        secret_key="a test's own", admin_password="a test's own",
    )  # fmt: skip
    with ThreadPoolExecutor(3) as executor:
        taken = [result.collected for result in executor.map(collect_files, [server] * 3)]

    assert sorted(file_id for ids in taken for file_id in ids) == sorted(journal())
    assert {row["status"] for row in journal().values()} == {"collected"}
    assert len(journal()) == 30


def test_a_collector_that_waits_in_vain_says_why(settings: Settings) -> None:
    with (
        hold_journal(settings, JournalWork.collect, 1),
        pytest.raises(JournalBusyError, match="collect"),
    ):
        collect_files(settings, wait_s=0.2)


def test_the_original_of_a_rejected_file_is_quarantined_and_not_archived(
    settings: Settings, deliver: Any
) -> None:
    deliver("MSC-44", NAME, b"nonsense")
    collect_files(settings)

    path = settings.quarantine_dir / "MSC-44" / f"{NAME}.zst"
    assert pa.input_stream(str(path), compression="zstd").read() == b"nonsense"
    assert not (settings.archive_dir / "MSC-44").exists()


def test_a_file_is_read_once_in_chunks_whatever_its_size(
    settings: Settings, deliver: Any, build: Any, monkeypatch: Any
) -> None:
    lines = [build.switch_record(call_reference=str(number)) for number in range(30_000)]
    content = build.switch_file(lines)
    deliver("MSC-44", NAME, content)
    read: list[int] = []
    open_file = LocalFolder.open

    class Counted:
        def __init__(self, stream: BinaryIO) -> None:
            self.stream = stream

        def read(self, size: int) -> bytes:
            read.append(len(chunk := self.stream.read(size)))
            return chunk

    @contextlib.contextmanager
    def count(folder: LocalFolder, name: str) -> Iterator[Any]:
        with open_file(folder, name) as stream:
            yield Counted(stream)

    monkeypatch.setattr(LocalFolder, "open", count)
    assert collect_files(settings).collected == [f"MSC-44/{NAME}"]
    assert sum(read) == len(content) > archive.CHUNK_BYTES
    assert max(read) <= archive.CHUNK_BYTES


def test_a_file_that_grows_while_it_is_read_waits(
    settings: Settings, deliver: Any, journal: Any, content: bytes, monkeypatch: Any
) -> None:
    path = deliver("MSC-44", NAME, content)
    take_in = archive.take_in

    def take_in_and_grow(*arguments: Any) -> Incoming:
        incoming = take_in(*arguments)
        with path.open("ab") as file:
            file.write(b"more")
        return incoming

    monkeypatch.setattr(archive, "take_in", take_in_and_grow)
    assert collect_files(settings).unfinished == [f"MSC-44/{NAME}"]
    assert journal() == {}
    assert list((settings.archive_dir / archive.INCOMING).iterdir()) == []


def own_source(settings: Settings, tmp_path: Path, **changed: Any) -> Settings:
    """The settings with a source of the user's own, MSC-99."""
    entry = {
        "source_id": "MSC-99", "name_zh": "测试", "name_en": "Test", "format": "switch_cdr",
        "province_code": "44", "file_name": r"MSC-99_.*\.cdr", "sequence_rule": "continuous",
        "late_after_hours": 24,
    } | changed  # fmt: skip
    (tmp_path / "own").mkdir(exist_ok=True)
    text = json.dumps({"sources": [entry]})  # JSON is YAML
    (tmp_path / "own" / "sources.yaml").write_text(text, encoding="utf-8")
    return settings.model_copy(update={"sources_dir": tmp_path / "own"})


def test_a_file_is_taken_only_when_its_marker_is_there(
    settings: Settings, deliver: Any, build: Any, tmp_path: Path
) -> None:
    marked = own_source(settings, tmp_path, done_marker=".done")
    content = build.switch_file([build.switch_record()], source="MSC-99")
    path = deliver("MSC-99", "MSC-99_1.cdr", content)
    waiting = collect_files(marked)
    assert (waiting.collected, waiting.unfinished) == ([], ["MSC-99/MSC-99_1.cdr"])

    path.with_name("MSC-99_1.cdr.done").touch()
    result = collect_files(marked)
    assert (result.collected, result.unfinished) == (["MSC-99/MSC-99_1.cdr"], [])


def test_a_source_that_cannot_be_reached_is_reported_and_the_others_go_on(
    settings: Settings, deliver: Any, content: bytes, tmp_path: Path
) -> None:
    gone = own_source(settings, tmp_path, location=str(tmp_path / "nowhere"))
    deliver("MSC-44", NAME, content)
    result = collect_files(gone)

    assert result.collected == [f"MSC-44/{NAME}"]
    assert list(result.unreachable) == ["MSC-99"]
    assert str(tmp_path / "nowhere") in result.unreachable["MSC-99"]
    assert "cannot be read" in result.unreachable["MSC-99"]


KILLED = """
import sys
from pathlib import Path
from ingestion import collect
from tollhouse.settings import Settings
if __name__ == "__main__":
    collect(Settings(home=Path(sys.argv[1])))
"""


def test_a_collector_killed_anywhere_leaves_nothing_twice_and_nothing_out(
    settings: Settings, deliver: Any, journal: Any, build: Any, tmp_path: Path
) -> None:
    lines = [build.switch_record(call_reference=str(number)) for number in range(4000)]
    for number in range(40):
        content = build.switch_file(lines, sequence=number)
        deliver("MSC-44", f"MSC-44_20261005_{number:06d}.cdr", content)
    program = tmp_path / "collect.py"
    program.write_text(KILLED)
    placed = settings.archive_dir / "MSC-44"
    counts = []
    for target in (1, 9, 20):
        with subprocess.Popen(
            [sys.executable, str(program), str(settings.home)], stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        ) as process:  # fmt: skip
            while process.poll() is None and len(list(placed.glob("*"))) < target:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        counts.append(len(journal()))
    collect_files(settings)

    assert 0 <= counts[0] <= counts[1] < 40, "no collector was killed at work"
    rows = journal()
    assert len(rows) == 40
    assert {row["status"] for row in rows.values()} == {"collected"}
    for file_id, row in rows.items():
        path = archive.archive_path(settings, file_id)
        archive.Original(path, row["sha256"], row["size_bytes"]).verify()
    assert len(list((settings.archive_dir / "MSC-44").iterdir())) == 40
    assert list((settings.archive_dir / archive.INCOMING).iterdir()) == []


def roll_back(settings: Settings, file_id: str) -> None:
    """What the control room does to the journal."""
    with connect(settings) as connection:
        connection.execute(
            "update control.usage_file set status = 'rolled_back', revision = revision + 1"
            " where file_id = %s",
            (file_id,),
        )


def test_a_file_that_was_rolled_back_can_be_loaded_again_from_the_archive(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    first = land(settings).batch_id
    roll_back(settings, f"MSC-44/{NAME}")
    (settings.landing_dir / "MSC-44" / NAME).unlink()
    reload(settings, f"MSC-44/{NAME}", "li.na", "the layout was put right")
    row = journal()[f"MSC-44/{NAME}"]
    assert (row["status"], row["batch_id"], row["revision"]) == ("collected", None, 2)
    assert row["status_reason"] == "loaded again by li.na: the layout was put right"

    second = land(settings).batch_id
    row = journal()[f"MSC-44/{NAME}"]
    assert first != second == row["batch_id"]
    assert (row["status"], row["revision"]) == ("landed", 3)


def test_a_file_is_loaded_again_only_when_mediation_has_followed_its_rollback(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    file_id = f"MSC-44/{NAME}"
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    land(settings)
    finish(settings, take_up(settings))
    roll_back(settings, file_id)
    with pytest.raises(ReloadError, match=r"run `tollhouse run mediate`"):
        reload(settings, file_id, "li.na", "the layout was put right")
    assert journal()[file_id]["status"] == "rolled_back"

    finish(settings, take_up(settings))
    reload(settings, file_id, "li.na", "the layout was put right")
    assert journal()[file_id]["status"] == "collected"


def test_only_what_was_rolled_back_and_is_whole_and_in_use_nowhere_else_is_loaded_again(
    settings: Settings, deliver: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    file_id = f"MSC-44/{NAME}"
    with pytest.raises(ReloadError, match="is collected"):
        reload(settings, file_id, "li.na", "why not")
    roll_back(settings, file_id)
    with pytest.raises(ReloadError, match="a reason"):
        reload(settings, file_id, "li.na", " ")

    deliver("MSC-44", "MSC-44_20261005_000002.cdr", content, RECEIVED + timedelta(hours=1))
    collect_files(settings)
    with pytest.raises(ReloadError, match=r"in use as MSC-44/MSC-44_20261005_000002\.cdr"):
        reload(settings, file_id, "li.na", "again")

    roll_back(settings, "MSC-44/MSC-44_20261005_000002.cdr")
    archive.archive_path(settings, file_id).unlink()
    with pytest.raises(ReloadError, match="send it under a new name"):
        reload(settings, file_id, "li.na", "again")
    with pytest.raises(ReloadError, match="no file MSC-44/nothing"):
        reload(settings, "MSC-44/nothing", "li.na", "again")


@pytest.fixture
def misnamed(settings: Settings, tmp_path: Path, deliver: Any, build: Any) -> Settings:
    """MSC-99 with a pattern that its file, refused for that, does not match."""
    wrong = own_source(settings, tmp_path, file_name=r"M99_.*\.cdr")
    content = build.switch_file([build.switch_record()] * 2, source="MSC-99", sequence=7)
    deliver("MSC-99", "MSC-99_7.cdr", content)
    assert list(collect_files(wrong).rejected) == ["MSC-99/MSC-99_7.cdr"]
    return wrong


def test_a_refused_file_is_taken_in_once_its_source_was_put_right(
    misnamed: Settings, journal: Any, tmp_path: Path
) -> None:
    file_id, settings = "MSC-99/MSC-99_7.cdr", misnamed
    before = journal()
    with pytest.raises(ReloadError, match=r"is still refused: files of MSC-99 are named like"):
        reload(misnamed, file_id, "li.na", "pattern corrected")
    assert journal() == before
    assert archive.quarantine_path(settings, file_id).exists()
    assert not archive.archive_path(settings, file_id).exists()

    right = own_source(settings, tmp_path)
    assert (collect_files(right).known, journal()) == (1, before)
    reload(right, file_id, "li.na", "pattern corrected")
    row = journal()[file_id]
    assert (row["status"], row["format"], row["sequence_number"], row["declared_record_count"]) == (
        "collected", "switch_cdr", 7, 2,
    )  # fmt: skip
    assert row["status_reason"] == "loaded again by li.na: pattern corrected"
    assert not archive.quarantine_path(settings, file_id).exists()
    assert list((settings.archive_dir / archive.INCOMING).iterdir()) == []
    assert land(right).records == 2
    with pytest.raises(ReloadError, match="is landed"):
        reload(right, file_id, "li.na", "again")


def test_a_refused_file_is_not_taken_in_beside_the_same_content(
    misnamed: Settings, deliver: Any, journal: Any, tmp_path: Path
) -> None:
    right = own_source(misnamed, tmp_path)
    content = (misnamed.landing_dir / "MSC-99" / "MSC-99_7.cdr").read_bytes()
    deliver("MSC-99", "MSC-99_8.cdr", content)
    collect_files(right)
    with pytest.raises(ReloadError, match=r"still refused: same content as MSC-99/MSC-99_8\.cdr"):
        reload(right, "MSC-99/MSC-99_7.cdr", "li.na", "pattern corrected")
    assert journal()["MSC-99/MSC-99_7.cdr"]["status"] == "rejected"


def test_a_refused_file_without_its_original_or_source_is_not_loaded_again(
    misnamed: Settings, settings: Settings, tmp_path: Path
) -> None:
    file_id = "MSC-99/MSC-99_7.cdr"
    with pytest.raises(ReloadError, match="no source is called MSC-99"):
        reload(settings, file_id, "li.na", "again")
    archive.quarantine_path(misnamed, file_id).unlink()
    with pytest.raises(ReloadError, match="send it under a new name"):
        reload(own_source(misnamed, tmp_path), file_id, "li.na", "again")


@pytest.mark.parametrize("killed_at", ["take_in", "place", "placed", "unlink"])
def test_a_reload_of_a_refused_file_may_be_killed_anywhere(
    misnamed: Settings, journal: Any, tmp_path: Path, monkeypatch: Any, killed_at: str
) -> None:
    file_id, settings = "MSC-99/MSC-99_7.cdr", misnamed
    right = own_source(settings, tmp_path)
    quarantined = archive.quarantine_path(settings, file_id)
    unlink, place = Path.unlink, Incoming.place

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def place_and_die(incoming: Incoming, path: Path) -> None:
        place(incoming, path)
        raise KeyboardInterrupt

    def die_at_the_quarantine(path: Path, *, missing_ok: bool = False) -> None:
        if path == quarantined:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    if killed_at == "take_in":
        monkeypatch.setattr(archive, "take_in", die)
    elif killed_at == "place":
        monkeypatch.setattr(Incoming, "place", die)
    elif killed_at == "placed":
        monkeypatch.setattr(Incoming, "place", place_and_die)
    else:
        monkeypatch.setattr(Path, "unlink", die_at_the_quarantine)
    with pytest.raises(KeyboardInterrupt):
        reload(right, file_id, "li.na", "pattern corrected")
    monkeypatch.undo()

    if killed_at != "unlink":
        assert journal()[file_id]["status"] == "rejected"
        assert quarantined.exists(), "the alarm goes by it"
        reload(right, file_id, "li.na", "pattern corrected")
    retain(settings)
    assert journal()[file_id]["status"] == "collected"
    assert not quarantined.exists()
    assert land(right).records == 2


def test_what_was_judged_otherwise_before_a_kill_leaves_no_original_behind(
    settings: Settings, deliver: Any, journal: Any, content: bytes, monkeypatch: Any
) -> None:
    file_id = f"MSC-44/{NAME}"
    archived = archive.archive_path(settings, file_id)
    quarantined = archive.quarantine_path(settings, file_id)
    place = Incoming.place

    def place_and_die(incoming: Incoming, path: Path) -> None:
        place(incoming, path)
        raise KeyboardInterrupt

    def killed() -> None:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Incoming, "place", place_and_die)
            collect_files(settings)

    deliver("MSC-44", NAME, content)
    killed()
    deliver("MSC-44", NAME, b"nonsense")
    killed()
    assert (archived.exists(), quarantined.exists()) == (False, True)
    deliver("MSC-44", NAME, content)
    killed()
    assert (archived.exists(), quarantined.exists()) == (True, False)
    # Another file of the same content is taken in first: this one is a duplicate now.
    deliver("MSC-44", "MSC-44_20261005_000000.cdr", content, RECEIVED - timedelta(hours=1))
    collect_files(settings)
    assert journal()[file_id]["status"] == "duplicate"
    assert (archived.exists(), quarantined.exists()) == (False, False)


@pytest.mark.parametrize("is_superseded", [False, True])
def test_the_next_collection_ends_a_refusal_that_was_killed_before_the_original_was_moved(
    settings: Settings, deliver: Any, content: bytes, build: Any, is_superseded: bool
) -> None:
    file_id = f"MSC-44/{NAME}"
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    with connect(settings) as connection:
        connection.execute(
            "update control.usage_file set status = 'rejected', status_reason_code = 'told',"
            " status_reason_values = jsonb_build_object('text', 'it breaks off')"
        )
    if is_superseded:
        deliver("MSC-44", NAME, build.switch_file([build.switch_record()] * 2))
    raised = {each.file_id for each in collect_files(settings).alarms if each.kind == "quarantined"}
    assert raised == (set() if is_superseded else {file_id})
    assert not archive.archive_path(settings, file_id).exists()
    assert archive.quarantine_path(settings, file_id).exists()


def test_a_file_whose_refusal_was_killed_before_it_was_moved_can_be_loaded_again(
    settings: Settings, deliver: Any, journal: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    with connect(settings) as connection:
        connection.execute("update control.usage_file set status = 'rejected'")
    reload(settings, f"MSC-44/{NAME}", "li.na", "the layout was put right")
    assert journal()[f"MSC-44/{NAME}"]["status"] == "collected"
    assert land(settings).records == 1


def clearing(settings: Settings, folder: Path, after: str, **more: Any) -> Settings:
    """With a source whose files are cleared away once they are taken in."""
    source = {
        "source_id": "MSC-95", "name_zh": "测试", "name_en": "Test", "format": "switch_cdr",
        "province_code": "44", "file_name": r"MSC-95_\d+\.cdr", "sequence_rule": "continuous",
        "late_after_hours": 90_000, "after_collection": after,
    } | more  # fmt: skip
    (folder / "own").mkdir(exist_ok=True)
    text = json.dumps({"sources": [source]})
    (folder / "own" / "sources.yaml").write_text(text, encoding="utf-8")
    return settings.model_copy(update={"sources_dir": folder / "own"})


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


@pytest.mark.parametrize("after", ["keep", "delete", "move"])
def test_what_is_taken_in_is_cleared_away_as_its_source_says_and_nothing_else(  # noqa: PLR0917
    settings: Settings, tmp_path: Path, deliver: Any, build: Any, journal: Any, after: str
) -> None:
    own = clearing(settings, tmp_path, after)
    good = build.switch_file([build.switch_record()], source="MSC-95")
    deliver("MSC-95", "MSC-95_1.cdr", good)
    deliver("MSC-95", "MSC-95_2.cdr", good, RECEIVED + timedelta(hours=1))  # the same content
    deliver("MSC-95", "MSC-95_3.cdr", b"nonsense")
    deliver("MSC-95", "MSC-95_4.cdr.part", b"HDR|")
    young = build.switch_file([build.switch_record()], source="MSC-95", sequence=5)[:-8]
    deliver("MSC-95", "MSC-95_5.cdr", young, datetime.now(UTC))  # still being written
    folder = own.landing_dir / "MSC-95"
    before = names_in(folder)
    result = collect_files(own)
    statuses = {row["file_name"]: row["status"] for row in journal().values()}
    assert statuses == {
        "MSC-95_1.cdr": "collected", "MSC-95_2.cdr": "duplicate", "MSC-95_3.cdr": "rejected",
    }  # fmt: skip
    # What is refused stays until somebody dealt with it.
    gone = set() if after == "keep" else set(statuses) - {"MSC-95_3.cdr"}
    assert result.cleared_away == len(gone)
    assert names_in(folder) == before - gone
    assert names_in(folder / "collected") == (gone if after == "move" else set())
    assert archive.archive_path(own, "MSC-95/MSC-95_1.cdr").is_file()
    assert archive.quarantine_path(own, "MSC-95/MSC-95_3.cdr").is_file()
    assert collect_files(own).cleared_away == 0


def test_nothing_is_cleared_away_before_the_journal_has_it_or_without_an_original(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any, monkeypatch: Any
) -> None:
    own = clearing(settings, tmp_path, "delete")
    path = deliver(
        "MSC-95", "MSC-95_1.cdr", build.switch_file([build.switch_record()], source="MSC-95")
    )

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # killed when the journal has it, before it is cleared
        patched.setattr("ingestion.transport.LocalFolder.hold", die)
        with pytest.raises(KeyboardInterrupt):
            collect_files(own)
    assert path.exists()
    original = archive.archive_path(own, "MSC-95/MSC-95_1.cdr")
    original.rename(original.with_suffix(".aside"))
    assert collect_files(own).cleared_away == 0
    assert path.exists(), "no original stands in the archive"
    original.with_suffix(".aside").rename(original)
    assert collect_files(own).cleared_away == 1
    assert not path.exists()


def test_another_file_of_the_name_is_not_the_one_that_was_taken_in(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any
) -> None:
    own = clearing(settings, tmp_path, "move")
    name, folder = "MSC-95_1.cdr", own.landing_dir / "MSC-95"
    for sequence, cleared in ((1, 1), (2, 0)):
        content = build.switch_file(
            [build.switch_record()] * sequence, source="MSC-95", sequence=sequence
        )
        deliver("MSC-95", name, content, RECEIVED + timedelta(days=sequence))
        assert collect_files(own).cleared_away == cleared
    # The second one is refused, for its name, and stays.
    assert (names_in(folder / "collected"), names_in(folder)) == ({name}, {name})


def test_a_marker_goes_with_its_file_and_one_of_a_file_to_come_stays(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any
) -> None:
    own = clearing(settings, tmp_path, "delete", done_marker=".done")
    folder = own.landing_dir / "MSC-95"
    content = build.switch_file([build.switch_record()], source="MSC-95")
    deliver("MSC-95", "MSC-95_1.cdr", content)
    for name in ("MSC-95_1.cdr.done", "MSC-95_7.cdr.done"):
        deliver("MSC-95", name, b"")
    assert collect_files(own).cleared_away == 1
    assert names_in(folder) == {"MSC-95_7.cdr.done"}, "of a file that is still to come"


def test_a_file_that_lost_its_marker_is_cleared_away_if_it_is_taken_in(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any
) -> None:
    content = build.switch_file([build.switch_record()], source="MSC-95")
    deliver("MSC-95", "MSC-95_1.cdr", content)
    deliver("MSC-95", "MSC-95_2.cdr", content)
    collect_files(clearing(settings, tmp_path, "keep", file_name=r"MSC-95_1\.cdr"))
    (settings.landing_dir / "MSC-95" / "MSC-95_2.cdr").unlink()
    deliver("MSC-95", "MSC-95_3.cdr", content)
    own = clearing(settings, tmp_path, "delete", done_marker=".done")
    result = collect_files(own)
    assert (result.cleared_away, result.unfinished) == (1, ["MSC-95/MSC-95_3.cdr"])
    assert names_in(own.landing_dir / "MSC-95") == {"MSC-95_3.cdr"}


def test_a_file_that_may_not_be_deleted_is_named_and_tried_again(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any, monkeypatch: Any
) -> None:
    own = clearing(settings, tmp_path, "delete")
    path = deliver(
        "MSC-95", "MSC-95_1.cdr", build.switch_file([build.switch_record()], source="MSC-95")
    )

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("ingestion.transport.LocalFolder.remove", refuse)
        result = collect_files(own)
    assert result.collected == ["MSC-95/MSC-95_1.cdr"]
    (reason,) = result.left_behind.values()
    assert str(path) in reason
    assert "Permission denied" in reason
    assert collect_files(own).cleared_away == 1
