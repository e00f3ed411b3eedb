"""TAP3 files, checked against pycrate's codec of release 3.12."""

from __future__ import annotations

import importlib
import io
import random
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from ingestion.formats import tap
from ingestion.formats.ber_stream import Block, NestedReader
from ingestion.formats.interface import TRUNCATED, UnreadableFileError
from ingestion.formats.tap import TapFormat
from tests.ingestion.damage import (
    application,
    check_damaged,
    damaged_copy,
    indefinite,
    raw_file,
    rows,
)
from tollhouse.settings import PROJECT_ROOT

SAMPLE = PROJECT_ROOT.parent / "shared" / "data" / "cdr" / "tap3_sample.ber"
FORMAT = TapFormat()
OFFSETS = {0: "+0200", 1: "-0330", 2: "+0545"}
MINUTES = {0: 120, 1: -210, 2: 345}
ENTITIES = {1: ("MSC-1", 1), 2: ("GGSN-2", 3), 3: ("SGSN-3", 4), 4: ("SMSC-4", 2)}


@pytest.fixture(scope="module")
def grammar() -> Any:
    """The compiled grammar of TAP 3.12."""
    return importlib.import_module("pycrate_asn1dir.TAP3").TAP_0312


class Maker:
    """Random call events as pycrate takes them, each with the row it must become."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def digits(self, low: int, high: int) -> str:
        size = self.rng.randrange(low, high + 1)
        return "".join(self.rng.choice("0123456789") for _ in range(size))

    def bcd(self, text: str) -> bytes:
        return bytes.fromhex(text + "f" * (len(text) % 2))

    def time(self) -> tuple[dict[str, Any], datetime, int]:
        code = self.rng.randrange(3)
        local = datetime(  # noqa: DTZ001  # civil time
            2026, self.rng.randrange(1, 13), self.rng.randrange(1, 29), self.rng.randrange(24),
            self.rng.randrange(60), self.rng.randrange(60),
        )  # fmt: skip
        text = local.strftime("%Y%m%d%H%M%S").encode()
        return {"localTimeStamp": text, "utcTimeOffsetCode": code}, local, MINUTES[code]

    def subscriber(self, row: dict[str, Any]) -> Any:
        imsi, msisdn = self.digits(15, 15), self.digits(10, 15)
        row |= {"served_imsi": imsi, "served_msisdn": "+" + msisdn}
        sim = {"imsi": self.bcd(imsi), "msisdn": self.bcd(msisdn)}
        return ("simChargeableSubscriber", sim)

    def equipment(self, row: dict[str, Any]) -> Any:
        row["served_imei"] = self.digits(16, 16)
        return ("imei", self.bcd(row["served_imei"]))

    def start(self, row: dict[str, Any]) -> dict[str, Any]:
        value, row["started_local"], row["utc_offset_minutes"] = self.time()
        return value

    def location(self, row: dict[str, Any]) -> dict[str, Any]:
        area, cell = self.rng.randrange(2**16), self.rng.randrange(2**28)
        reference = self.rng.randbytes(self.rng.randrange(1, 9))
        row |= {
            "cell_id": f"{area:04X}-{cell:04X}", "call_reference": "MSC-1|" + reference.hex()
        }  # fmt: skip
        network = {
            "recEntityCode": 1, "callReference": reference, "locationArea": area, "cellId": cell
        }  # fmt: skip
        return {"networkLocation": network}

    def service(self, row: dict[str, Any], code: bytes) -> list[Any]:
        row["service"] = "sms" if code[:1] == b"2" else "voice"
        return [{"basicService": {"serviceCode": ("teleServiceCode", code)}}]

    def call(self, kind: str) -> tuple[Any, dict[str, Any]]:
        row: dict[str, Any] = {"record_type": kind, "serving_plmn": "CHNCU"}
        return (kind, getattr(self, "_" + kind)(row)), row

    def _call(self, row: dict[str, Any], basic: dict[str, Any], code: bytes) -> dict[str, Any]:
        row |= {"duration_seconds": self.rng.randrange(2**20), "cause_for_closing": 4}
        basic |= {
            "chargeableSubscriber": self.subscriber(row),
            "callEventStartTimeStamp": self.start(row),
            "totalCallEventDuration": row["duration_seconds"],
            "causeForTerm": 4,
        }
        return {
            "basicCallInformation": basic,
            "locationInformation": self.location(row),
            "equipmentIdentifier": self.equipment(row),
            "basicServiceUsedList": self.service(row, code),
        }

    def _mobileOriginatedCall(self, row: dict[str, Any]) -> dict[str, Any]:
        called, dialled = self.digits(3, 20), self.digits(3, 20)
        code = self.rng.choice((b"11", b"12", b"21", b"22"))
        destination = {"calledNumber": self.bcd(called), "dialledDigits": dialled.encode()}
        row |= {"direction": "mo", "other_party": "+" + called}
        if code == b"22":
            receiver = self.digits(7, 15)
            destination["sMSDestinationNumber"] = receiver.encode()
            row["other_party"] = "+" + receiver
        value = self._call(row, {"destination": destination}, code)
        if code == b"11" and self.rng.random() < 0.5:
            value["thirdPartyInformation"] = {"thirdPartyNumber": self.bcd(self.digits(5, 15))}
            row["direction"] = "forwarded"
        return value

    def _mobileTerminatedCall(self, row: dict[str, Any]) -> dict[str, Any]:
        calling = self.digits(3, 20)
        row |= {"direction": "mt", "other_party": "+" + calling}
        code = self.rng.choice((b"11", b"21"))
        return self._call(row, {"callOriginator": {"callingNumber": self.bcd(calling)}}, code)

    def _supplServiceEvent(self, row: dict[str, Any]) -> dict[str, Any]:
        row |= {"service": "vas", "direction": "mo", "content_id": "21-3"}
        return {
            "chargeableSubscriber": self.subscriber(row),
            "locationInformation": self.location(row),
            "equipmentIdentifier": self.equipment(row),
            "supplServiceUsed": {
                "supplServiceCode": b"21",
                "supplServiceActionCode": 3,
                "chargingTimeStamp": self.start(row),
            },
        }

    def _serviceCentreUsage(self, row: dict[str, Any]) -> dict[str, Any]:
        status, other = self.rng.randrange(2), self.digits(8, 15)
        row |= {
            "service": "sms", "direction": ("mo", "mt")[status], "other_party": "+" + other,
            "serving_plmn": "GBRCN",
        }  # fmt: skip
        start = self.start(row)
        row["call_reference"] = f"SMSC-4|{row['started_local']:%Y%m%d%H%M%S}|"
        _, subscriber = self.subscriber(row)
        return {
            "basicInformation": {
                "chargeableSubscriber": ("gsmChargeableSubscriber", subscriber),
                "chargedPartyStatus": status,
                "nonChargedNumber": other.encode(),
            },
            "servingNetwork": b"GBRCN",
            "recEntityCode": 4,
            "scuTimeStamps": {"depositTimeStamp": start},
        }

    def _gprsCall(self, row: dict[str, Any]) -> dict[str, Any]:
        charging, letter = self.rng.randrange(2**31), self.rng.choice("FIL")
        context, began, _ = self.time()
        row |= {
            "service": "data", "direction": "mo", "apn": "3gnet", "cause_for_closing": 0,
            "duration_seconds": self.rng.randrange(2**20), "call_reference": f"GGSN-2|{charging}",
            "uplink_octets": self.rng.randrange(2**40),
            "downlink_octets": self.rng.randrange(2**40),
            "cell_id": "0001-0002", "is_last_partial": letter == "L",
        }  # fmt: skip
        start = self.start(row)
        elapsed = int((row["started_local"] - began).total_seconds())
        row["partial_sequence"] = 1 if letter == "F" else max(elapsed, 0) + 2
        return {
            "gprsBasicCallInformation": {
                "gprsChargeableSubscriber": {"chargeableSubscriber": self.subscriber(row)},
                "gprsDestination": {"accessPointNameNI": b"3gnet"},
                "callEventStartTimeStamp": start,
                "totalCallEventDuration": row["duration_seconds"],
                "causeForTerm": 0,
                "partialTypeIndicator": letter.encode(),
                "pDPContextStartTimestamp": context,
                "chargingId": charging,
            },
            "gprsLocationInformation": {
                "gprsNetworkLocation": {"recEntity": [3, 2], "locationArea": 1, "cellId": 2}
            },
            "equipmentIdentifier": self.equipment(row),
            "gprsServiceUsed": {
                "dataVolumeIncoming": row["downlink_octets"],
                "dataVolumeOutgoing": row["uplink_octets"],
            },
        }

    def _contentTransaction(self, row: dict[str, Any]) -> dict[str, Any]:
        imsi, number = self.digits(15, 15), self.digits(9, 13)
        is_imsi = self.rng.random() < 0.5
        row |= {"served_imsi": imsi} if is_imsi else {"served_msisdn": "+" + number}
        row |= {
            "service": "vas", "direction": "mo", "duration_seconds": 9, "sp_id": "SP-7",
            "content_id": "21", "call_reference": "|T-1", "uplink_octets": 5, "downlink_octets": 6,
        }  # fmt: skip
        identity = {
            "chargedPartyIdType": 1,
            "chargedPartyIdentifier": (imsi if is_imsi else number).encode(),
        }  # fmt: skip
        provider = {"contentProviderIdType": 1, "contentProviderIdentifier": b"SP-7"}
        return {
            "contentTransactionBasicInfo": {
                "orderPlacedTimeStamp": self.start(row), "totalTransactionDuration": 9
            },
            "chargedPartyInformation": {"chargedPartyIdList": [identity]},
            "servingPartiesInformation": {
                "contentProviderName": b"Name", "contentProviderIdList": [provider]
            },
            "contentServiceUsed": [
                {
                    "contentTransactionCode": 21, "transactionIdentifier": b"T-1",
                    "dataVolumeIncoming": 6, "dataVolumeOutgoing": 5,
                }
            ],
        }  # fmt: skip

    def _locationService(self, row: dict[str, Any]) -> dict[str, Any]:
        row |= {
            "service": "vas", "direction": "mo", "served_msisdn": "+8613900000001",
            "other_party": "+8613900000002", "call_reference": "MSC-1|0a0b", "sp_id": "LCS",
        }  # fmt: skip
        tracking = {"customerIdType": 1, "customerIdentifier": b"8613900000001"}
        tracked = {"customerIdType": 1, "customerIdentifier": b"8613900000002"}
        provider = {"contentProviderIdType": 1, "contentProviderIdentifier": b"LCS"}
        return {
            "recEntityCode": 1,
            "callReference": b"\x0a\x0b",
            "trackingCustomerInformation": {"trackingCustomerIdList": [tracking]},
            "lCSSPInformation": {"lCSSPIdentificationList": [provider]},
            "trackedCustomerInformation": {"trackedCustomerIdList": [tracked]},
            "locationServiceUsage": {"chargingTimeStamp": self.start(row)},
        }

    def _party(self, row: dict[str, Any]) -> dict[str, Any]:
        _, sim = self.subscriber(row)
        row["served_imei"] = self.digits(16, 16)
        return {**sim, "imei": self.bcd(row["served_imei"])}

    def _messagingEvent(self, row: dict[str, Any]) -> dict[str, Any]:
        other = self.digits(5, 15)
        row |= {
            "service": "sms", "direction": "3", "other_party": "+" + other, "cell_id": "0001-0002",
            "call_reference": "MSC-1|E1", "serving_plmn": "DEUD2",
        }  # fmt: skip
        return {
            "messagingEventService": 3,
            "chargedParty": self._party(row),
            "geographicalLocation": {"servingNetwork": b"DEUD2"},
            "eventReference": b"E1",
            "recEntityCodeList": [1],
            "locationArea": 1,
            "cellId": 2,
            "serviceStartTimestamp": self.start(row),
            "nonChargedParty": {"nonChargedPartyNumber": self.bcd(other)},
        }

    def _mobileSession(self, row: dict[str, Any]) -> dict[str, Any]:
        other, is_asked = self.digits(5, 15), self.rng.random() < 0.5
        row |= {
            "service": "voice", "direction": "mo" if is_asked else "mt", "duration_seconds": 77,
            "other_party": "+" + other, "cause_for_closing": 1, "call_reference": "MSC-1|E2",
        }  # fmt: skip
        value = {
            "mobileSessionService": 1,
            "chargedParty": self._party(row),
            "eventReference": b"E2",
            "recEntityCodeList": [1],
            "serviceStartTimestamp": self.start(row),
            "causeForTerm": 1,
            "totalCallEventDuration": 77,
        }
        if is_asked:
            value["requestedDestination"] = {"requestedNumber": self.bcd(other)}
        else:
            value["nonChargedParty"] = {"nonChargedPartyNumber": self.bcd(other)}
        return value


def batch(grammar: Any, events: list[Any], *, count: int | None = None) -> bytes:
    """A Transfer Batch encoded by pycrate."""
    stamp = {"localTimeStamp": b"20261005160000", "utcTimeOffset": b"+0200"}
    value = {
        "batchControlInfo": {
            "sender": b"CHNCU", "recipient": b"GBRCN", "fileSequenceNumber": b"00042",
            "fileCreationTimeStamp": stamp, "fileAvailableTimeStamp": stamp,
            "specificationVersionNumber": 3, "releaseVersionNumber": 12,
        },
        "accountingInfo": {"localCurrency": b"EUR", "tapDecimalPlaces": 3},
        "networkInfo": {
            "utcTimeOffsetInfo": [
                {"utcTimeOffsetCode": code, "utcTimeOffset": text.encode()}
                for code, text in OFFSETS.items()
            ],
            "recEntityInfo": [
                {"recEntityCode": code, "recEntityType": kind, "recEntityId": name.encode()}
                for code, (name, kind) in ENTITIES.items()
            ],
        },
        "callEventDetails": events,
        "auditControlInfo": {
            "totalCharge": 0, "callEventDetailsCount": len(events) if count is None else count
        },
    }  # fmt: skip
    grammar.DataInterChange.set_val(("transferBatch", value))
    encoded: bytes = grammar.DataInterChange.to_ber()
    return encoded


KINDS = sorted(tap.tap_tags.CALL_EVENT_NAMES.values())


def sample(grammar: Any, size: int, seed: int = 1) -> tuple[bytes, list[dict[str, Any]]]:
    maker = Maker(seed)
    made = [maker.call(KINDS[index % len(KINDS)]) for index in range(size)]
    return batch(grammar, [event for event, _ in made]), [row for _, row in made]


def agree(found: list[dict[str, object]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row["_decode_error"] is None
        assert row["_raw_record"] is None
        assert row["unknown_tag_count"] == 0
        given = {
            name: value
            for name, value in row.items()
            if value is not None and name[0] != "_" and name != "unknown_tag_count"
        }
        assert given == wanted


@pytest.mark.parametrize("form", ["definite", "indefinite"])
def test_every_call_event_has_the_fields_it_was_encoded_with(grammar: Any, form: str) -> None:
    content, expected = sample(grammar, 540)
    if form == "indefinite":
        content = indefinite(content)
    agree(rows(FORMAT, content), expected)


def test_header_and_audit_control_are_the_facts_in_either_form(grammar: Any) -> None:
    content, _ = sample(grammar, 9)
    for form in (content, indefinite(content)):
        assert FORMAT.recognises(form)
        facts = FORMAT.read_facts(raw_file(form))
        assert facts.source_id == "CHNCU"
        assert facts.sequence_number == 42
        assert facts.created_at == datetime(2026, 10, 5, 14, 0, tzinfo=UTC)
        assert facts.declared_record_count == 9
        assert facts.lacks is None


@pytest.mark.parametrize("form", ["definite", "indefinite"])
def test_the_size_of_blocks_and_reads_changes_nothing(grammar: Any, form: str) -> None:
    content, _ = sample(grammar, 60)
    if form == "indefinite":
        content = indefinite(content)
    content = content[:2500] + b"\xff" * 9 + content[2507:]
    whole = rows(FORMAT, content)
    assert any(row["_decode_error"] for row in whole)
    assert len(whole) > 50
    for block_octets, block_records in ((64, 1), (1000, 7), (10**6, 10**6)):
        reader = TapFormat(block_octets=block_octets, block_records=block_records)
        assert rows(reader, content, slow=block_octets == 64) == whole


def test_a_file_larger_than_a_window_is_read_to_its_end(grammar: Any) -> None:
    maker = Maker(3)
    made = [maker.call("mobileOriginatedCall") for _ in range(50)]
    content = batch(grammar, [event for event, _ in made])
    events = rows(FORMAT, content)
    at = int(str(events[0]["_byte_offset"]))
    end = int(str(events[-1]["_byte_offset"])) + int(str(events[-1]["_byte_length"]))
    head = content[4 : at - 4]  # without the first octets of the root and of the list
    assert content[:2] + content[at - 4 : at - 2] == b"\x61\x82\x63\x82"
    copies = 1000
    long = b"\x61\x80" + head + b"\x63\x80" + content[at:end] * copies + b"\0\0"
    long += content[end:] + b"\0\0"
    reader = TapFormat(block_octets=2**18)
    begun = time.monotonic()
    count = sum(len(table) for table in reader.decode(raw_file(long)))
    assert count == 50 * copies
    assert time.monotonic() - begun < 60


def test_a_notification_is_one_row_that_is_no_usage(grammar: Any) -> None:
    stamp = {"localTimeStamp": b"20261005160000", "utcTimeOffset": b"+0800"}
    value = {"sender": b"CHNCU", "recipient": b"GBRCN", "fileSequenceNumber": b"00043"}
    grammar.DataInterChange.set_val(
        ("notification", {**value, "fileCreationTimeStamp": stamp, "releaseVersionNumber": 12})
    )
    content = grammar.DataInterChange.to_ber()
    for form in (content, indefinite(content)):
        assert FORMAT.recognises(form)
        facts = FORMAT.read_facts(raw_file(form))
        assert (facts.source_id, facts.sequence_number) == ("CHNCU", 43)
        assert facts.declared_record_count == 1
        (row,) = rows(FORMAT, form)
        assert row["record_type"] == "tapNotification"
        assert row.get("service") is None
        assert row["utc_offset_minutes"] == 480
        assert row["_byte_length"] == len(form)


def test_a_call_whose_basic_service_is_missing_is_not_taken_for_voice(grammar: Any) -> None:
    event, _ = Maker(5).call("mobileOriginatedCall")
    del event[1]["basicServiceUsedList"]
    (row,) = rows(FORMAT, batch(grammar, [event]))
    assert row["service"] is None
    assert row["_raw_record"]


def test_an_offset_code_the_file_does_not_explain_is_kept_as_unreadable(grammar: Any) -> None:
    event, _ = Maker(6).call("mobileTerminatedCall")
    event[1]["basicCallInformation"]["callEventStartTimeStamp"]["utcTimeOffsetCode"] = 9
    (row,) = rows(FORMAT, batch(grammar, [event]))
    assert row["utc_offset_minutes"] is None
    assert row["_raw_record"]


def test_a_damaged_call_event_costs_no_other_one(grammar: Any) -> None:
    content, expected = sample(grammar, 90, seed=8)
    whole = rows(FORMAT, content)
    lost = whole[40]
    at = int(str(lost["_byte_offset"]))
    for change in (b"\xff\xff", b"\x00\x00"):
        broken = content[: at + 4] + change + content[at + 6 :]
        found = rows(FORMAT, broken)
        bad = [row for row in found if row["_decode_error"]]
        assert [row["_byte_offset"] for row in bad] == [at]
        assert f"record at byte {at}: " in str(bad[0]["_decode_detail"])
        agree([row for row in found if not row["_decode_error"]], expected[:40] + expected[41:])


def test_a_file_that_was_cut_off_ends_in_a_truncated_record(grammar: Any) -> None:
    content, expected = sample(grammar, 30, seed=9)
    last = rows(FORMAT, content)[-1]
    cut = content[: int(str(last["_byte_offset"])) + 30]
    found = rows(FORMAT, cut)
    assert found[-1]["_decode_error"] == TRUNCATED
    assert "octets before the end of this record" in str(found[-1]["_decode_detail"])
    agree(found[:-1], expected[:-1])
    assert FORMAT.read_facts(raw_file(cut)).lacks is not None


def test_an_unknown_element_is_counted_and_skipped(grammar: Any) -> None:
    content, _ = sample(grammar, 9)
    one = rows(FORMAT, content)[0]
    start = int(str(one["_byte_offset"]))
    record = content[start : start + int(str(one["_byte_length"]))]
    body = record[4:] if record[1] == 0x82 else record[3:] if record[1] == 0x81 else record[2:]
    odd = application(record[0] & 0x1F, body, application(999, b"?"), constructed=True)
    long = b"\x61\x80\x63\x80" + odd + record + b"\0\0\0\0"
    found = rows(FORMAT, long)
    assert [row["unknown_tag_count"] for row in found] == [1, 0]


@pytest.mark.skipif(not SAMPLE.exists(), reason="the shared sample files are not here")
def test_the_shared_sample_is_read() -> None:
    content = SAMPLE.read_bytes()
    assert FORMAT.recognises(content)
    facts = FORMAT.read_facts(raw_file(content))
    assert (facts.source_id, facts.sequence_number) == ("WERFD", 31707)
    kinds = [row["record_type"] for row in rows(FORMAT, content)]
    assert kinds == ["mobileTerminatedCall"] * 2 + ["gprsCall"] * 3


def test_what_does_not_begin_like_tap_is_refused_with_the_byte() -> None:
    with pytest.raises(UnreadableFileError, match="at byte 0"):
        rows(FORMAT, b"nothing of the kind")
    with pytest.raises(UnreadableFileError, match="at byte 0"):
        FORMAT.read_facts(raw_file(b""))


def test_damaged_files_are_accounted_for(grammar: Any) -> None:
    content, _ = sample(grammar, 18, seed=11)
    assert check_damaged(FORMAT, [content, indefinite(content)], 1000) > 200


def test_every_octet_belongs_to_one_part_or_record(grammar: Any) -> None:
    content, _ = sample(grammar, 18, seed=12)
    rng = random.Random(7)
    checked = 0
    while checked < 300:
        broken = damaged_copy(rng.choice((content, indefinite(content))), rng)
        if broken[:1] != content[:1]:
            continue
        end = 0
        try:
            for item in NestedReader(io.BytesIO(broken), tap.tap_tags.BATCH, "FILE"):
                offsets, lengths = (
                    (item.offsets.tolist(), item.lengths.tolist())
                    if isinstance(item, Block)
                    else ([item.offset], [item.length])
                )
                for offset, length in zip(offsets, lengths, strict=True):
                    assert offset == end
                    end = offset + length
        except UnreadableFileError:
            continue
        assert end == len(broken)
        checked += 1
