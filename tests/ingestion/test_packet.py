"""Packet data files: decoded as pycrate decodes them, and no record lost to its neighbour."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestion.formats import FORMATS, UnreadableFileError, recognise
from tollhouse.settings import PROJECT_ROOT

PACKET = FORMATS["packet_cdr"]
RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)
SAMPLE = PROJECT_ROOT.parent / "shared" / "data" / "cdr" / "pgw.ber"
FRAMES = 8  # records of the files that are damaged below


def decode(build: Any, *records: bytes) -> list[dict[str, Any]]:
    content = build.packet_file([build.framed(record) for record in records])
    rows: list[dict[str, Any]] = PACKET.decode(content).to_pylist()
    return rows


def test_every_field_of_a_record_becomes_its_column(build: Any) -> None:
    (row,) = decode(build, build.packet_record(part=2))

    assert row == {
        "_record_number": 1, "_byte_offset": 52, "_byte_length": row["_byte_length"],
        "_decode_error": None, "_decode_detail": None, "_raw_record": None,
        "record_type": 85, "served_imsi": "460010000000001", "served_msisdn": "8618600000001",
        "served_imei": "8600000000000017", "pgw_address": "10.44.0.1",
        "serving_node_address": "172.16.255.9", "charging_id": 1001, "apn": "3gnet",
        "opened_local": "20261005083000", "utc_offset": "+0800", "duration_s": 3600,
        "cause_for_closing": 0, "record_sequence": 2, "serving_plmn": "46001", "rat_type": 6,
        "rating_group": 9, "uplink_octets": 1000, "downlink_octets": 900_000,
        "unknown_tag_count": 0,
    }  # fmt: skip


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"the sample record {SAMPLE.name} is not here")
def test_the_sample_record_is_decoded(build: Any) -> None:
    (row,) = decode(build, SAMPLE.read_bytes())

    assert row["_decode_error"] is None
    assert (row["record_type"], row["apn"], row["charging_id"]) == (85, "3gnet", 1001)
    assert (row["pgw_address"], row["serving_node_address"]) == ("10.0.0.1", "10.0.0.2")
    assert (row["opened_local"], row["utc_offset"]) == ("20150101080000", "+0800")
    assert (row["uplink_octets"], row["downlink_octets"]) == (1000, 900_000)
    assert (row["duration_s"], row["rating_group"], row["unknown_tag_count"]) == (3600, 32000, 0)


def test_pycrate_reads_the_same_values(build: Any) -> None:
    grammar = pytest.importorskip("pycrate_asn1dir.CDR", reason="pycrate is not installed")
    record_type = grammar.GPRSChargingDataTypes.GPRSRecord
    draw = random.Random(20261005)
    records = [
        build.packet_record(
            charging_id=draw.randrange(2**32),
            msisdn="86186" + "".join(draw.choices("0123456789", k=8)),
            imsi="46001" + "".join(draw.choices("0123456789", k=10)),
            duration=draw.choice((0, 127, 128, 86_400, 2**31 - 1)),
            part=draw.choice((None, 1, 300)),
            services=[
                build.service(5, draw.randrange(2**40), draw.randrange(2**20))
                for _ in range(draw.randrange(3))
            ],
        )
        for _ in range(40)
    ]
    for row, record in zip(decode(build, *records), records, strict=True):
        record_type.from_ber(record)
        kind, theirs = record_type.get_val()
        services = theirs["listOfServiceData"]

        assert kind == "pGWRecord"
        assert row["charging_id"] == theirs["chargingID"]
        assert row["duration_s"] == theirs["duration"]
        assert row["record_sequence"] == theirs.get("recordSequenceNumber")
        assert row["cause_for_closing"] == theirs["causeForRecClosing"]
        assert row["rat_type"] == theirs["rATType"]
        assert row["apn"] == theirs["accessPointNameNI"]
        assert build.tbcd(row["served_imsi"]) == theirs["servedIMSI"]
        assert b"\x91" + build.tbcd(row["served_msisdn"]) == theirs["servedMSISDN"]
        assert build.tbcd(row["served_imei"]) == theirs["servedIMEI"]
        assert row["uplink_octets"] == sum(each["datavolumeFBCUplink"] for each in services)
        assert row["downlink_octets"] == sum(each["datavolumeFBCDownlink"] for each in services)
        assert row["rating_group"] == (services[0]["ratingGroup"] if services else None)


def test_unknown_tags_are_skipped_and_counted(build: Any) -> None:
    more = build.element(99, b"new") + b"\x9f\x81\x23\x01x" + build.element(63, b"")
    (row,) = decode(build, build.packet_record(more=more))

    assert row["_decode_error"] is None
    assert row["unknown_tag_count"] == 3
    assert row["downlink_octets"] == 900_000


@pytest.mark.parametrize(
    ("value", "octets"),
    [(0, "00"), (127, "7f"), (128, "0080"), (255, "00ff"), (-5, "fb"), (2**31, "0080000000")],
)
def test_integers_are_twos_complement(build: Any, value: int, octets: str) -> None:
    record = build.packet_record(more=b"", duration=value)

    assert bytes.fromhex("8e%02x" % (len(octets) // 2)) + bytes.fromhex(octets) in record
    assert decode(build, record)[0]["duration_s"] == value


def test_lengths_in_the_long_form_are_read(build: Any) -> None:
    record = build.packet_record(more=build.element(28, bytes(300)))
    (row,) = decode(build, record)

    assert row["_decode_error"] is None
    assert row["serving_plmn"] == "46001"


def test_services_of_one_rating_group_are_added_up(build: Any) -> None:
    services = [build.service(7, 10, 100), build.service(7, 1, 2)]
    (row,) = decode(build, build.packet_record(services=services))

    assert (row["rating_group"], row["uplink_octets"], row["downlink_octets"]) == (7, 11, 102)


def test_services_of_several_rating_groups_are_refused_not_mixed(build: Any) -> None:
    services = [build.service(7, 10, 100), build.service(8, 1, 2)]
    (row,) = decode(build, build.packet_record(services=services))

    assert row["_decode_error"] == "malformed"
    assert "rating groups 7 and 8" in row["_decode_detail"]


def test_an_ipv6_gateway_is_read(build: Any) -> None:
    record = build.packet_record()
    ipv4 = build.element(4, build.element(0, bytes([10, 44, 0, 1])), constructed=True)
    address = bytes.fromhex("20010db8000000000000000000000001")
    ipv6 = build.element(4, build.element(1, address), constructed=True)
    body = record[record.index(ipv4) - 13 :].replace(ipv4, ipv6)

    (row,) = decode(build, build.element(79, body, constructed=True))

    assert row["pgw_address"] == "2001:db8::1"


@pytest.mark.parametrize(
    ("damage", "explanation"),
    [
        (lambda body: body + b"\x80\x80\x00\x00", "indefinite length"),
        (lambda body: body + b"\x81\x7f\x00", "runs past the end"),
        (lambda body: body + b"\x00\x00", "end-of-contents"),
        (lambda body: body + b"\x8e\x01\x05", "duration stands twice"),
        (lambda body: body + b"\x85\x81\x00", "chargingID stands twice"),
        (lambda body: body.replace(b"\x8e\x02\x0e\x10", b"\x8e\x00"), "has 0 octets"),
        (lambda body: body.replace(b"3gnet", b"3g\x00et"), "not printable"),
        (lambda body: body + b"\xbf\xff\xff\xff\x00", "tag of more than 3 octets"),
    ],
)
def test_a_malformed_record_is_explained_and_loses_no_other(
    build: Any, damage: Any, explanation: str
) -> None:
    sound = build.packet_record()
    body = sound[sound.index(b"\x80\x01") :]
    broken = build.element(79, damage(body), constructed=True)
    rows = decode(build, sound, broken, sound)

    assert [row["_decode_error"] for row in rows] == [None, "malformed", None]
    assert explanation in rows[1]["_decode_detail"]
    assert f"record at byte {rows[1]['_byte_offset']}" in rows[1]["_decode_detail"]
    assert bytes.fromhex(rows[1]["_raw_record"])[4:] == broken
    assert {rows[1][name] for name in PACKET.columns} == {None}
    assert rows[2]["charging_id"] == 1001


def test_a_record_of_another_kind_is_malformed(build: Any) -> None:
    (row,) = decode(build, build.element(78, b"\x80\x01\x54", constructed=True))

    assert row["_decode_error"] == "malformed"
    assert "0xBF4E" in row["_decode_detail"]


def test_a_cut_file_ends_in_one_truncated_record(build: Any) -> None:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(3)]
    content = build.packet_file(frames)
    for missing in range(1, len(frames[-1])):
        rows = PACKET.decode(content[:-missing]).to_pylist()

        assert [row["_decode_error"] for row in rows] == [None, None, "truncated"]
        assert rows[-1]["_byte_length"] == len(frames[-1]) - missing


def test_wrong_lengths_in_a_record_header_lose_no_other_record(build: Any) -> None:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(5)]
    for wrong in (0, 1, 60, len(frames[2]) - 3, len(frames[2]) + 40, 0xFFFF):
        damaged = [*frames]
        damaged[2] = wrong.to_bytes(2, "big") + frames[2][2:]
        rows = PACKET.decode(build.packet_file(damaged)).to_pylist()

        assert [row["charging_id"] for row in rows] == [0, 1, None, 3, 4]
        assert rows[2]["_decode_error"] == "malformed"


def test_header_octets_with_a_release_extension_are_understood(build: Any) -> None:
    frames = [
        build.framed(build.packet_record(charging_id=number), extended=number % 2 == 0)
        for number in range(6)
    ]
    rows = PACKET.decode(build.packet_file(frames)).to_pylist()

    assert [row["charging_id"] for row in rows] == list(range(6))


def test_the_file_header_gives_the_facts(build: Any) -> None:
    content = build.packet_file([build.framed(build.packet_record())], sequence=123, count=9)
    facts = PACKET.read_facts(content, "PGW-44_-_123.20261005_-_2330+0800", RECEIVED)

    assert (facts.source_id, facts.sequence_number) == ("PGW-44", 123)
    assert facts.declared_record_count == 9
    assert facts.created_at == datetime(2026, 10, 5, 15, 30, tzinfo=UTC)


def test_a_file_closed_before_new_year_belongs_to_the_old_year(build: Any) -> None:
    received = datetime(2027, 1, 2, 3, 0, tzinfo=UTC)
    facts = PACKET.read_facts(build.packet_file([]), "PGW-44_-_1.20261005_-_2330+0800", received)

    assert facts.created_at == datetime(2026, 10, 5, 15, 30, tzinfo=UTC)


def test_many_records_are_decoded_in_slices_like_few(build: Any) -> None:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(50)]
    content = build.packet_file(frames * 800)
    table = PACKET.decode(content)

    assert table.num_rows == 40_000
    assert table.column("charging_id").to_pylist() == list(range(50)) * 800
    assert table.column("_decode_error").null_count == 40_000


def damaged_file(build: Any) -> tuple[bytes, int]:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(FRAMES)]
    return build.packet_file(frames), len(frames[0])


def whole(rows: list[dict[str, Any]]) -> list[int]:
    return [row["charging_id"] for row in rows if not row["_decode_error"]]


@given(data=st.data())
def test_a_flipped_bit_spoils_at_most_its_own_record(build: Any, data: st.DataObject) -> None:
    content, _ = damaged_file(build)
    at = data.draw(st.integers(52, len(content) - 1))
    flipped = bytearray(content)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    rows = PACKET.decode(bytes(flipped)).to_pylist()

    assert len(set(whole(rows)) & set(range(FRAMES))) >= FRAMES - 1
    assert_every_octet_is_in_one_record(rows, len(content))


@given(end=st.integers(0, 1200))
def test_any_cut_leaves_the_whole_records_before_it(build: Any, end: int) -> None:
    content, size = damaged_file(build)
    cut = content[:end]
    if recognise(cut) is None:
        assert end < 52
        with pytest.raises(UnreadableFileError):
            PACKET.decode(cut)
        return
    rows = PACKET.decode(cut).to_pylist()
    complete = min((end - 52) // size, FRAMES)

    assert whole(rows) == list(range(complete))
    assert [row["_decode_error"] for row in rows[complete:]] in ([], ["truncated"])


@given(noise=st.binary(max_size=400), at=st.integers(0, FRAMES))
@example(noise=b"\x04\x81\x00\x00\x00", at=0)  # a length that claims all the rest of the file
def test_noise_between_records_loses_none_of_them(build: Any, noise: bytes, at: int) -> None:
    content, size = damaged_file(build)
    position = 52 + at * size
    rows = PACKET.decode(content[:position] + noise + content[position:]).to_pylist()

    assert [number for number in whole(rows) if number in range(FRAMES)] == list(range(FRAMES))
    assert_every_octet_is_in_one_record(rows, len(content) + len(noise))


@given(noise=st.binary(max_size=600))
def test_pure_noise_behind_a_header_is_accounted_for(build: Any, noise: bytes) -> None:
    rows = PACKET.decode(build.packet_file([]) + noise).to_pylist()

    assert_every_octet_is_in_one_record(rows, 52 + len(noise))


def assert_every_octet_is_in_one_record(rows: list[dict[str, Any]], size: int) -> None:
    at = 52
    for number, row in enumerate(rows, start=1):
        assert (row["_record_number"], row["_byte_offset"]) == (number, at)
        at += row["_byte_length"]
    assert at == size
