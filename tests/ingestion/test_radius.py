"""RADIUS accounting detail files."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingestion.formats.interface import MALFORMED, TRUNCATED, UnreadableFileError
from ingestion.formats.radius_detail import RadiusDetailFormat
from tests.ingestion.damage import check_damaged, raw_file, rows

FORMAT = RadiusDetailFormat()


def record(kind: str = "Stop", **changed: str | None) -> bytes:
    """A record as FreeRADIUS writes it; an attribute that is None is left out."""
    attributes: dict[str, str | None] = {
        "Acct_Session_Id": '"0000A1B2"', "User_Name": '"10086@cuc"',
        "Calling_Station_Id": '"8618600000001"', "Called_Station_Id": '"3gnet"',
        "NAS_IP_Address": "10.0.0.9", "Acct_Status_Type": kind, "Acct_Session_Time": "3600",
        "Acct_Input_Octets": "1000", "Acct_Output_Octets": "5", "Acct_Output_Gigawords": "2",
        "Acct_Terminate_Cause": "User-Request", "Acct_Delay_Time": "30",
        "3GPP_IMSI": '"460019999999999"', "3GPP_SGSN_MCC_MNC": '"46001"', "X_Odd_Thing": "0x1f",
    }  # fmt: skip
    attributes |= changed
    lines = [
        f"\t{name.replace('_', '-')} = {value}"
        for name, value in attributes.items()
        if value is not None
    ]
    return ("\n".join(("Mon Oct  5 08:30:30 2026", *lines)) + "\n\n").encode()


def test_a_stop_is_the_session_with_its_gigawords_and_its_start() -> None:
    (row,) = rows(FORMAT, record())
    expected = {
        "record_type": "radiusStop", "service": "data", "direction": "mo",
        "served_msisdn": "8618600000001", "served_imsi": "460019999999999",
        "started_local": datetime(2026, 10, 5, 7, 30),  # noqa: DTZ001
        "utc_offset_minutes": 480, "duration_seconds": 3600, "uplink_octets": 1000,
        "downlink_octets": 2 * 2**32 + 5, "serving_plmn": "46001", "apn": "3gnet",
        "cause_for_closing": 1, "call_reference": "10.0.0.9|0000A1B2",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["_decode_error"] is None
    assert row["_raw_record"] is None


@pytest.mark.parametrize(
    ("event", "hour"),
    [('"Oct  5 2026 10:00:00 CST"', 9), ("1791165600", 9), ('"never"', 7)],
)
def test_the_time_of_the_event_goes_before_that_of_reception(event: str, hour: int) -> None:
    (row,) = rows(FORMAT, record(Event_Timestamp=event))
    assert row["started_local"] == datetime(2026, 10, 5, hour, 0 if hour == 9 else 30)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Start", "radiusStart"), ("Interim-Update", "radiusInterimUpdate"),
        ("Accounting-On", "radiusAccountingOn"), ("Accounting-Off", "radiusAccountingOff"),
        ("Failed", "radiusOther"),
    ],
)  # fmt: skip
def test_what_is_no_stop_is_no_usage(kind: str, name: str) -> None:
    (row,) = rows(FORMAT, record(kind))
    assert (row["record_type"], row["service"]) == (name, None)


def test_an_account_of_fixed_broadband_is_served_by_its_name() -> None:
    (row,) = rows(FORMAT, record(Calling_Station_Id='"00-11-22-33-44-55"'))
    assert row["served_msisdn"] == "10086@cuc"


def test_a_counter_that_is_no_number_is_null_beside_the_record() -> None:
    (row,) = rows(FORMAT, record(Acct_Output_Gigawords="many"))
    assert row["downlink_octets"] is None
    assert row["uplink_octets"] == 1000
    assert "Acct-Output-Gigawords = many" in str(row["_raw_record"])


def test_a_damaged_record_costs_no_other_one_and_names_line_and_byte() -> None:
    first, odd = record(), b"Mon Oct  5 08:30:30 2026\nno attribute\n\n"
    found = rows(FORMAT, first + odd + first)
    assert [row["_decode_error"] for row in found] == [None, MALFORMED, None]
    line = first.count(b"\n") + 1
    assert f"line {line} at byte {len(first)}: " in str(found[1]["_decode_detail"])


def test_a_file_cut_at_the_end_of_a_line_yields_no_session_from_its_rest() -> None:
    content = record() + record()
    for cut in (content[:-1], content[:-40], content[: content.rindex(b"\tAcct-Input") - 0]):
        found = rows(FORMAT, cut)
        assert [row["_decode_error"] for row in found] == [None, TRUNCATED]
        assert FORMAT.read_facts(raw_file(cut)).lacks is not None


def test_line_ends_and_the_size_of_reads_change_nothing() -> None:
    content = (record() + record("Start")) * 20
    whole = rows(FORMAT, content)
    assert len(whole) == 40
    for octets in (1, 100, 1000):
        assert rows(RadiusDetailFormat(block_octets=octets), content, slow=True) == whole
    dos = rows(FORMAT, content.replace(b"\n", b"\r\n"))
    places = ("_byte_offset", "_byte_length")
    without = [{key: row[key] for key in row if key not in places} for row in whole]
    assert [{key: row[key] for key in row if key not in places} for row in dos] == without


def test_the_facts_are_when_the_first_record_came() -> None:
    facts = FORMAT.read_facts(raw_file(record()))
    assert facts.created_at == datetime(2026, 10, 5, 0, 30, 30, tzinfo=UTC)
    assert facts.lacks is None
    with pytest.raises(UnreadableFileError, match="at byte 0"):
        FORMAT.read_facts(raw_file(b"CDR|1\n"))


def test_damaged_files_are_accounted_for() -> None:
    assert check_damaged(FORMAT, [record() + record("Start") + record()], 1000) > 200
