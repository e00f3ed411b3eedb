"""RAP files, written here element by element."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingestion.formats.interface import UnreadableFileError
from ingestion.formats.rap import RapFormat
from tests.ingestion.damage import application, check_damaged, indefinite, raw_file, rows

FORMAT = RapFormat()


def stamp(tag: int) -> bytes:
    return application(
        tag, application(16, b"20261005160000"), application(231, b"+0200"), constructed=True
    )


PARTIES = (application(196, b"GBRCN"), application(182, b"CHNCU"), application(181, b"00007"))
CONTROL = application(
    537, *PARTIES, stamp(526), stamp(525), application(201, b"\x03"), application(189, b"\x0c"),
    application(544, b"\x01"), application(543, b"\x05"), constructed=True,
)  # fmt: skip
DETAIL = application(521, application(524, b"\x09"), application(519, b"\x1e"), constructed=True)
EVENT = application(
    9,
    application(
        147,
        application(
            427,
            application(199, application(129, bytes.fromhex("460019999999999f")), constructed=True),
            constructed=True,
        ),
        application(44, application(16, b"20261004120000"), constructed=True),
        constructed=True,
    ),
    constructed=True,
)
SEVERE = application(
    540, application(109, b"00042"), EVENT, application(520, DETAIL, DETAIL, constructed=True),
    constructed=True,
)  # fmt: skip
FATAL = application(
    539, application(109, b"00043"), application(513, DETAIL, constructed=True), constructed=True
)
MISSING = application(538, application(532, b"00044"), application(518, b"00046"), constructed=True)
AUDIT = application(541, application(533, b"\0"), application(528, b"\x03"), constructed=True)
FILE = application(
    534, CONTROL, application(536, SEVERE, FATAL, MISSING, constructed=True), AUDIT,
    constructed=True,
)  # fmt: skip
ACK = application(535, *PARTIES, stamp(516), stamp(515), constructed=True)


@pytest.mark.parametrize("content", [FILE, indefinite(FILE)], ids=["definite", "indefinite"])
def test_returns_are_rows_without_service_that_say_what_was_wrong(content: bytes) -> None:
    found = rows(FORMAT, content)
    assert [(row["record_type"], row["_raw_record"]) for row in found] == [
        (
            "rapSevereReturn",
            "fileSequenceNumber=00042 imsi=460019999999999 started=20261004120000"
            " itemOffset=9 errorCode=30 itemOffset=9 errorCode=30",
        ),
        ("rapFatalReturn", "fileSequenceNumber=00043 itemOffset=9 errorCode=30"),
        ("rapMissingReturn", "startMissingSeqNumber=00044 endMissingSeqNumber=00046"),
    ]
    assert all("service" not in row and row["_decode_error"] is None for row in found)


def test_an_acknowledgement_is_one_row() -> None:
    for form in (ACK, indefinite(ACK)):
        assert FORMAT.recognises(form)
        assert FORMAT.read_facts(raw_file(form)).declared_record_count == 1
        (row,) = rows(FORMAT, form)
        assert row["record_type"] == "rapAcknowledgement"
        assert row["_raw_record"] == "rapFileSequenceNumber=00007"
        assert row["_byte_length"] == len(form)


def test_header_and_audit_control_are_the_facts() -> None:
    for form in (FILE, indefinite(FILE)):
        assert FORMAT.recognises(form)
        facts = FORMAT.read_facts(raw_file(form))
        assert (facts.source_id, facts.sequence_number) == ("GBRCN", 7)
        assert facts.created_at == datetime(2026, 10, 5, 14, 0, tzinfo=UTC)
        assert facts.declared_record_count == 3
        assert facts.lacks is None
    assert FORMAT.read_facts(raw_file(FILE[:-4])).lacks is not None


def test_the_size_of_blocks_and_reads_changes_nothing() -> None:
    whole = rows(FORMAT, FILE)
    assert rows(RapFormat(block_octets=30, block_records=1), FILE, slow=True) == whole


def test_what_is_no_rap_is_refused_with_the_byte() -> None:
    with pytest.raises(UnreadableFileError, match="at byte 0"):
        rows(FORMAT, b"text")


def test_damaged_files_are_accounted_for() -> None:
    assert check_damaged(FORMAT, [FILE, indefinite(FILE)], 800) > 100
    check_damaged(FORMAT, [ACK, indefinite(ACK)], 200)
