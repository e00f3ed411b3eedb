"""Collecting: every file once, whatever happens meanwhile."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingestion import archive
from ingestion import collect as collect_files
from ingestion.journal_lock import JournalBusyError, JournalWork
from ingestion.journal_lock import journal as hold_journal
from tollhouse.postgres import operational_url
from tollhouse.settings import Profile, Settings

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

    assert gzip.decompress((settings.archive_dir / "MSC-44" / f"{NAME}.gz").read_bytes()) == content


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


def test_the_same_name_with_other_content_is_a_duplicate_with_a_row_of_its_own(
    settings: Settings, deliver: Any, journal: Any, build: Any, content: bytes
) -> None:
    deliver("MSC-44", NAME, content)
    collect_files(settings)
    deliver("MSC-44", NAME, build.switch_file([]), RECEIVED + timedelta(days=1))
    result = collect_files(settings)

    assert result.duplicate == {f"MSC-44/{NAME}#2": f"MSC-44/{NAME}"}
    assert journal()[f"MSC-44/{NAME}"]["status"] == "collected"
    assert collect_files(settings).known == 1


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
        "content is switch_cdr of MSC-44, but the folder is for packet_cdr of PGW-44"
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
        (NAME, b"\x00\xff garbage", "no known raw format"),
        (NAME, b"HDR|MSC-44|000001|20269906000000|+0800\nTRL|0|0\n", "which is no time"),
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
    store = archive.store

    def store_and_die(*arguments: Any) -> None:
        store(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "store", store_and_die)
    with pytest.raises(KeyboardInterrupt):
        collect_files(settings)
    assert journal() == {}
    monkeypatch.undo()

    assert collect_files(settings).collected == [f"MSC-44/{NAME}"]
    assert [path.name for path in (settings.archive_dir / "MSC-44").iterdir()] == [f"{NAME}.gz"]


def test_collectors_at_once_take_every_file_once(
    settings: Settings, deliver: Any, journal: Any, build: Any
) -> None:
    for number in range(30):
        record = build.switch_record(call_reference=str(number))
        content = build.switch_file([record], sequence=number)
        deliver("MSC-44", f"MSC-44_20261005_{number:06d}.cdr", content)
    url = operational_url(settings)
    server = Settings(
        home=settings.home, profile=Profile.server, operational_url=url, warehouse_url=url,
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
