"""Flow exports: captures of NetFlow v5, v9 and IPFIX, and IPFIX files, written octet by octet."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from ingestion.formats.interface import MALFORMED, TRUNCATED, UnreadableFileError
from ingestion.formats.netflow import IpfixFormat, NetflowFormat
from ingestion.formats.nrtrde import NrtrdeFormat
from ingestion.formats.radius_detail import RadiusDetailFormat
from ingestion.formats.rap import RapFormat
from ingestion.formats.tap import TapFormat
from tests.ingestion.damage import application, check_damaged, raw_file, rows
from tollhouse.settings import PROJECT_ROOT

CAPTURES, FILES = NetflowFormat(), IpfixFormat()
EXPORTED = 1_791_158_430  # 2026-10-05 00:00:30 UTC
SHARED = PROJECT_ROOT.parent / "shared" / "data" / "cdr"
SOURCE, DESTINATION = bytes([100, 64, 0, 1]), bytes([203, 0, 113, 9])


def v5(flows: int = 1, sampling: int = 0) -> bytes:
    head = struct.pack("!HHIIIIBBH", 5, flows, 60_000, EXPORTED, 0, 1, 0, 0, sampling)
    flow = struct.pack(
        "!4s4s4sHHIIIIHHBBBBHHBBH",
        SOURCE, DESTINATION, bytes(4), 3, 4, 10, 5000, 30_000, 42_000, 40_000, 443,
        0, 0, 6, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    return head + flow * flows


FIELDS = ((8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 8), (10, 4), (14, 4))
VALUES = struct.pack("!4s4sHHBQII", SOURCE, DESTINATION, 40_000, 443, 6, 2**33, 3, 4)


def v9(*, template: bool = True, data: bool = True) -> bytes:
    fields = (*FIELDS, (22, 4), (21, 4))
    body = b"".join(struct.pack("!HH", *spec) for spec in fields)
    sets = b""
    if template:
        sets += struct.pack("!HHHH", 0, 8 + len(body), 260, len(fields)) + body
    if data:
        flow = VALUES + struct.pack("!II", 30_000, 42_000)
        padding = bytes(-(len(flow) + 4) % 4)
        sets += struct.pack("!HH", 260, 4 + len(flow) + len(padding)) + flow + padding
    count = template + data
    return struct.pack("!HHIIII", 9, count, 60_000, EXPORTED, 1, 7) + sets


def ipfix(*, template: bool = True, data: bool = True) -> bytes:
    fields = (*FIELDS, (152, 8), (153, 8))
    sets = b""
    if template:
        body = b"".join(struct.pack("!HH", *spec) for spec in fields)
        body += struct.pack("!HHI", 0x8001, 8, 29305)
        sets += struct.pack("!HHHH", 2, 8 + len(body), 260, len(fields) + 1) + body
    if data:
        milliseconds = (EXPORTED - 30) * 1000
        flow = VALUES + struct.pack("!QQQ", milliseconds, milliseconds + 12_000, 77)
        sets += struct.pack("!HH", 260, 4 + len(flow)) + flow
    return struct.pack("!HHIII", 10, 16 + len(sets), EXPORTED, 1, 7) + sets


def packet(payload: bytes, *, seconds: int = EXPORTED, fragment: int = 0) -> bytes:
    udp = struct.pack("!HHHH", 2055, 2055, 8 + len(payload), 0) + payload
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, fragment, 64, 17, 0, bytes([10, 0, 0, 5]),
        bytes([10, 0, 0, 1]),
    )  # fmt: skip
    frame = bytes(12) + b"\x08\x00" + ip + udp
    return struct.pack("<IIII", seconds, 5, len(frame), len(frame)) + frame


CAPTURE_HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)


def capture(*packets: bytes) -> bytes:
    return CAPTURE_HEAD + b"".join(packets)


ALL = capture(packet(v5(2)), packet(v9()), packet(ipfix()))
MESSAGES = ipfix() + ipfix(template=False) * 3


@pytest.mark.parametrize(
    ("content", "octets", "second"),
    [
        (capture(packet(v5())), 5000, 0),
        (capture(packet(v9())), 2**33, 0),
        (capture(packet(ipfix())), 2**33, 0),
        (ipfix(), 2**33, 0),
    ],
    ids=["v5", "v9", "ipfix", "ipfix file"],
)
def test_a_flow_has_its_octets_times_and_ends(content: bytes, octets: int, second: int) -> None:
    raw_format = CAPTURES if content[:2] == b"\xd4\xc3" else FILES
    (row,) = rows(raw_format, content)
    exporter = "10.0.0.5" if raw_format is CAPTURES else ""
    expected = {
        "record_type": "flow", "uplink_octets": octets, "duration_seconds": 12,
        "started_local": datetime(2026, 10, 5, 8, 0, second),  # noqa: DTZ001
        "utc_offset_minutes": 480, "trunk_group_in": "3", "trunk_group_out": "4",
        "call_reference": f"{exporter}|100.64.0.1|40000|203.0.113.9|443|6"
        "|2026-10-05T00:00:00.000+00:00",
        "_decode_error": None,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert "service" not in row
    is_biflow = content[-8:] == struct.pack("!Q", 77)
    assert row["downlink_octets"] == (77 if is_biflow else None)


def test_a_sampled_count_is_multiplied_by_the_interval() -> None:
    (row,) = rows(CAPTURES, capture(packet(v5(sampling=1 << 14 | 100))))
    assert row["uplink_octets"] == 500_000


def test_a_template_serves_later_messages_and_its_lack_is_told() -> None:
    late = capture(packet(v9(template=False)), packet(v9(data=False)), packet(v9(template=False)))
    found = rows(CAPTURES, late)
    assert [row["_decode_error"] for row in found] == [MALFORMED, None]
    assert found[0]["_decode_detail"] == (
        "record at byte 24: flows whose template was not sent before them"
    )
    assert len(rows(FILES, MESSAGES)) == 4


def test_fragments_and_strange_datagrams_are_told_and_other_packets_passed_over() -> None:
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    other = struct.pack("<IIII", EXPORTED, 5, len(arp), len(arp)) + arp
    odd = packet(b"\x00\x05 no export message")
    found = rows(CAPTURES, capture(packet(v5()), other, packet(v5(), fragment=0x2000), odd))
    assert [row["_decode_error"] for row in found] == [None, MALFORMED, MALFORMED]
    assert "fragment" in str(found[1]["_decode_detail"])


def test_a_damaged_packet_costs_no_other_one() -> None:
    good = packet(v5())
    broken = good[:8] + b"\xff\xff\xff\xff" + good[12:]
    found = rows(CAPTURES, capture(good, broken, good))
    assert [row["_decode_error"] for row in found] == [None, MALFORMED, None]
    assert found[1]["_byte_offset"] == 24 + len(good)
    assert found[1]["_byte_length"] == len(good)


def test_a_damaged_message_costs_no_other_one() -> None:
    whole = ipfix()
    broken = whole[:18] + b"\xff\xff" + whole[20:]
    found = rows(FILES, whole + broken + whole)
    assert [row["_decode_error"] for row in found] == [None, MALFORMED, None]
    assert found[1]["_byte_length"] == len(broken)


def test_what_is_cut_off_is_truncated() -> None:
    assert rows(CAPTURES, ALL[:-5])[-1]["_decode_error"] == TRUNCATED
    assert rows(FILES, MESSAGES[:-5])[-1]["_decode_error"] == TRUNCATED


def test_the_size_of_reads_changes_nothing() -> None:
    for raw_format, content in ((NetflowFormat, ALL), (IpfixFormat, MESSAGES)):
        whole = rows(raw_format(), content)
        assert rows(raw_format(block_octets=10), content, slow=True) == whole


def test_the_facts_are_when_the_first_was_exported() -> None:
    for raw_format, content in ((CAPTURES, ALL), (FILES, MESSAGES)):
        facts = raw_format.read_facts(raw_file(content))
        assert facts.created_at == datetime.fromtimestamp(EXPORTED, UTC)
        with pytest.raises(UnreadableFileError, match="at byte 0"):
            raw_format.read_facts(raw_file(b"text"))


def test_damaged_files_are_accounted_for() -> None:
    assert check_damaged(CAPTURES, [ALL], 1000, shares_octets=True) > 100
    assert check_damaged(FILES, [MESSAGES], 1000, shares_octets=True) > 100


RADIUS = b"Mon Oct  5 08:30:30 2026\n\tAcct-Status-Type = Stop\n\n"
NRTRDE = application(1, application(41, b"\x02"), application(38, b"CHNCU"), constructed=True)
TAP = application(1, application(4, application(196, b"CHNCU"), constructed=True), constructed=True)
NOTICE = application(2, application(196, b"CHNCU"), constructed=True)
ACKNOWLEDGEMENT = application(535, application(196, b"CHNCU"), constructed=True)
SAMPLES = {
    "netflow": ALL, "ipfix": MESSAGES, "nrtrde": NRTRDE, "tap3": TAP, "notice": NOTICE,
    "rap": ACKNOWLEDGEMENT, "radius_detail": RADIUS,
    # A file header of TS 32.297 that is 52 octets long, and text.
    "other": struct.pack("!II", 655_362, 52) + bytes(60), "text": b"HDR|MSC-44|000001\nCDR|voice\n",
    "empty": b"", "zeros": bytes(200), "a": b"a" * 500,
}  # fmt: skip


@pytest.mark.parametrize("name", list(SAMPLES))
def test_no_two_formats_claim_one_file(name: str) -> None:
    formats = (
        CAPTURES, FILES, NrtrdeFormat(), RadiusDetailFormat(), RapFormat(), TapFormat(),
    )  # fmt: skip
    claims = [each.name for each in formats if each.recognises(SAMPLES[name])]
    owner = "tap3" if name == "notice" else name
    assert claims == ([owner] if owner in {each.name for each in formats} else [])


@pytest.mark.skipif(not SHARED.exists(), reason="the shared sample files are not here")
def test_a_capture_of_something_else_is_not_claimed() -> None:
    for path in (SHARED / "gtpp.pcap", SHARED / "pgw.ber"):
        head = path.read_bytes()
        for each in (
            CAPTURES,
            FILES,
            NrtrdeFormat(),
            RadiusDetailFormat(),
            RapFormat(),
            TapFormat(),
        ):
            assert not each.recognises(head)
