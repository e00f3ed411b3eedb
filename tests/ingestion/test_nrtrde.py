"""NRTRDE files, written here element by element."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingestion.formats.interface import MALFORMED, UnreadableFileError
from ingestion.formats.nrtrde import NrtrdeFormat
from tests.ingestion.damage import application, check_damaged, indefinite, raw_file, rows
from tollhouse.file_reasons import FileReason

FORMAT = NrtrdeFormat()


def number(tag: int, value: int) -> bytes:
    return application(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def common(start: bytes = b"20261005083000") -> list[bytes]:
    return [
        application(34, bytes.fromhex("460019999999999f")),
        application(33, bytes.fromhex("8600000000000017")),
        application(49, bytes.fromhex("8618600000001f")),
        application(21, start),
        application(45, b"-0330"),
        number(19, 61),
        number(24, 4),
    ]


def call(kind: int, code: bytes, *more: bytes) -> bytes:
    service = application(46, application(43, code), constructed=True)
    return application(kind, *common(), service, *more, constructed=True)


MOC = call(
    3, b"11", application(30, b"0044201234"), application(27, b"44201234567"),
    application(35, b"MSC-9"), number(23, 996010870), number(48, 0x28F1), number(47, 0xA2B),
)  # fmt: skip
MTC = call(4, b"21", application(22, b"44201234567"), application(35, b"MSC-9"))
FORWARDED = call(3, b"11", application(44, b"44201234567"), application(35, b"MSC-9"))
GPRS = application(
    5, *common(), application(16, b"3gnet"), application(17, b"mnc001.mcc460.gprs"),
    number(28, 2**33), number(29, 42), application(40, b"10.0.0.1"), application(32, b"10.0.0.2"),
    number(26, 77), application(15, b"GBRCN"), constructed=True,
)  # fmt: skip
HEAD = (
    number(41, 2), number(37, 1), application(38, b"CHNCU"), application(36, b"GBRCN"),
    application(39, b"00042"), application(31, b"20261005160000"), application(45, b"+0200"),
)  # fmt: skip


def nrtrde(*events: bytes, count: int | None = None) -> bytes:
    listed = application(2, *events, constructed=True)
    declared = number(20, len(events) if count is None else count)
    return application(1, *HEAD, listed, declared, constructed=True)


FILE = nrtrde(MOC, MTC, GPRS, FORWARDED)
SERVED = {
    "served_imsi": "460019999999999", "served_imei": "8600000000000017",
    "served_msisdn": "+8618600000001", "started_local": datetime(2026, 10, 5, 8, 30),  # noqa: DTZ001
    "utc_offset_minutes": -210, "duration_seconds": 61, "cause_for_closing": 4,
}  # fmt: skip


@pytest.mark.parametrize("content", [FILE, indefinite(FILE)], ids=["definite", "indefinite"])
def test_every_call_event_has_its_fields(content: bytes) -> None:
    expected = [
        {
            "record_type": "nrtrdeMoc", "service": "voice", "direction": "mo",
            "other_party": "+44201234567", "serving_plmn": "CHNCU", "cell_id": "28F1-0A2B",
            "call_reference": "MSC-9|996010870",
        },
        {
            "record_type": "nrtrdeMtc", "service": "sms", "direction": "mt",
            "other_party": "+44201234567", "serving_plmn": "CHNCU",
            "call_reference": "MSC-9|20261005083000|61",
        },
        {
            "record_type": "nrtrdeGprs", "service": "data", "direction": "mo", "apn": "3gnet",
            "downlink_octets": 2**33, "uplink_octets": 42, "serving_plmn": "GBRCN",
            "call_reference": "10.0.0.2|77",
        },
        {
            "record_type": "nrtrdeMoc", "service": "voice", "direction": "forwarded",
            "serving_plmn": "CHNCU", "call_reference": "MSC-9|20261005083000|61",
        },
    ]  # fmt: skip
    found = rows(FORMAT, content)
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row["_decode_error"] is None
        assert row["unknown_tag_count"] == 0
        given = {name: value for name, value in row.items() if value is not None}
        given = {name: value for name, value in given.items() if name in USED}
        assert given == {**SERVED, **wanted}


USED = {
    "record_type", "service", "direction", "other_party", "serving_plmn", "cell_id", "apn",
    "call_reference", "uplink_octets", "downlink_octets", "content_id", *SERVED,
}  # fmt: skip


def test_header_and_count_are_the_facts_in_either_form() -> None:
    for form in (FILE, indefinite(FILE)):
        assert FORMAT.recognises(form)
        facts = FORMAT.read_facts(raw_file(form))
        assert (facts.source_id, facts.sequence_number) == ("CHNCU", 42)
        assert facts.created_at == datetime(2026, 10, 5, 14, 0, tzinfo=UTC)
        assert facts.declared_record_count == 4
        assert facts.lacks is None
    assert FORMAT.read_facts(raw_file(FILE[:-3])).lacks == FileReason("lacks_count")


def test_a_start_that_is_no_time_is_null_beside_the_record() -> None:
    broken = nrtrde(application(3, *common(b"20261305083000"), constructed=True))
    (row,) = rows(FORMAT, broken)
    assert row["started_local"] is None
    assert row["served_imsi"] == "460019999999999"
    assert row["_raw_record"]


def test_a_damaged_call_event_costs_no_other_one() -> None:
    content = nrtrde(*[MOC, MTC, GPRS] * 20)
    at = int(str(rows(FORMAT, content)[30]["_byte_offset"]))
    found = rows(FORMAT, content[: at + 2] + b"\x22\xff" + content[at + 4 :])
    assert [row["_decode_error"] for row in found].count(MALFORMED) == 1
    assert len(found) == 60
    assert f"record at byte {at}:" in str(found[30]["_decode_detail"])


def test_the_size_of_blocks_and_reads_changes_nothing() -> None:
    content = nrtrde(*[MOC, MTC, GPRS] * 20)
    content = content[:2000] + b"\0\xff" + content[2002:]
    whole = rows(FORMAT, content)
    small = NrtrdeFormat(block_octets=50, block_records=3)
    assert rows(small, content, slow=True) == whole


def test_what_is_no_nrtrde_is_refused_with_the_byte() -> None:
    with pytest.raises(UnreadableFileError, match="at byte 0"):
        FORMAT.read_facts(raw_file(b"\x61\x02\x64\x00"))
    with pytest.raises(UnreadableFileError, match="at byte 0"):
        rows(FORMAT, b"")


def test_damaged_files_are_accounted_for() -> None:
    assert check_damaged(FORMAT, [FILE, indefinite(FILE)], 1000) > 200
