"""Charging records of TS 32.298: every kind decoded as pycrate decodes it, field by field."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from ingestion.formats.charging_record import KINDS, ChargingRecordFormat
from ingestion.formats.interface import ARROW_TYPES, USAGE_COLUMNS, RawFile
from tests.ingestion import charging_oracle as oracle
from tests.ingestion.damage import told
from tollhouse.settings import PROJECT_ROOT

RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)
SHARED = PROJECT_ROOT.parent / "shared" / "data" / "cdr"
RECORDS = 60  # of each kind; each has its own choice of optional elements
MARK_OF_PGW_RECORD = b"\xbf\x4f"
KINDS_IN_PYCRATE = [
    (module, choice, name) for (module, choice), names in oracle.DECODED.items() for name in names
]


def decode(build: Any, *records: bytes) -> list[dict[str, Any]]:
    """The rows of a file of these records."""
    content = build.packet_file([build.framed(record) for record in records])
    file = RawFile.of_bytes(content, "records", RECEIVED)
    return told(pa.concat_tables(ChargingRecordFormat().decode(file)).to_pylist())


def usage(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of the vocabulary that are not null."""
    return {name: row[name] for name in USAGE_COLUMNS if row[name] is not None}


@pytest.fixture(scope="module")
def grammar() -> Any:
    return pytest.importorskip("pycrate_asn1dir.CDR", reason="pycrate is not installed")


@pytest.fixture(params=["definite", "indefinite", "long"])
def lengths(request: pytest.FixtureRequest) -> Iterator[str]:
    """The form in which pycrate writes lengths: shortest, indefinite, or in four octets."""
    codec = pytest.importorskip("pycrate_asn1rt.codecs").ASN1CodecBER
    codec.ENC_LUNDEF = request.param == "indefinite"
    codec.ENC_LLONG = 3 if request.param == "long" else 0
    yield request.param
    codec.ENC_LUNDEF, codec.ENC_LLONG = False, 0


@pytest.mark.parametrize("place", KINDS_IN_PYCRATE, ids=lambda place: place[-1])
def test_every_kind_has_the_values_pycrate_writes(
    build: Any, grammar: Any, lengths: str, place: tuple[str, str, str]
) -> None:
    module, choice, name = place
    outermost = getattr(getattr(grammar, module), choice)
    kind = outermost._cont[name]
    draw = random.Random(name)
    values = [
        oracle.with_record_type(name, oracle.random_value(draw, kind)) for _ in range(RECORDS)
    ]
    rows = decode(build, *(outermost.to_ber((name, value)) for value in values))

    assert [row["_decode_error"] for row in rows] == [None] * RECORDS, rows[0]["_decode_detail"]
    for row, value in zip(rows, values, strict=True):
        wanted = {
            column: expected
            for column, expected in oracle.expected(name, value, kind).items()
            if expected is not None
        }
        assert usage(row) == wanted


def test_the_tables_have_the_tags_of_pycrate(grammar: Any) -> None:
    ours = {kind.name: kind.tag for kind in KINDS}
    ours |= {name: kind.tag for kind in KINDS for name in kind.namesakes.values()}
    theirs = {
        name: member._tagc[0][1]
        for module, choice in (
            *oracle.DECODED, ("LCSChargingDataTypes", "LCSRecord"),
            ("POCChargingDataTypes", "POCRecord"), ("MBMSChargingDataTypes", "MBMSRecord"),
            ("ProSeChargingDataTypes", "ProSeRecordType"),
            ("MONTEChargingDataTypes", "MERecordType"), ("CPDTChargingDataTypes", "CPDTRecord"),
        )
        for name, member in getattr(getattr(grammar, module), choice)._cont.items()
    }  # fmt: skip

    assert theirs.items() <= ours.items()
    # Of later releases than pycrate's, or of a module it does not have.
    assert ours.keys() - theirs.keys() == {"chargingFunctionRecord", "eASCERecord"}


def test_records_nobody_pays_for_are_named_and_have_no_service(build: Any) -> None:
    unrated = [kind for kind in KINDS if kind.columns is None]
    rows = decode(
        build, *(build.element(kind.tag, b"\x80\x01\x05", constructed=True) for kind in unrated)
    )

    assert [row["record_type"] for row in rows] == [kind.name for kind in unrated]
    assert {row["_decode_error"] for row in rows} == {None}
    assert {row["service"] for row in rows} == {None}


@pytest.mark.parametrize(
    ("tag", "number", "name"),
    [(20, 87, "mSCsRVCCRecord"), (22, 99, "iCSRegisterRecord"), (78, 78, "sUBBMSCRecord"),
     (79, 79, "cONTENTBMSCRecord")],
)  # fmt: skip
def test_two_kinds_under_one_tag_are_told_apart_by_their_type(
    build: Any, tag: int, number: int, name: str
) -> None:
    other = build.element(
        tag, build.element(0, build.integer(number)) + build.element(5, b"\x91"), constructed=True
    )
    rows = decode(build, build.packet_record(), other, build.packet_record())

    assert [row["record_type"] for row in rows] == ["pGWRecord", name, "pGWRecord"]
    assert rows[1]["_decode_error"] is None
    assert usage(rows[1]) == {"record_type": name}


def test_a_type_that_is_not_that_of_the_tag_is_refused(build: Any) -> None:
    record = build.element(79, build.element(0, build.integer(84)), constructed=True)
    (row,) = decode(build, record)

    assert row["_decode_error"] == "malformed"
    assert "recordType 84 is not that of a pGWRecord (85)" in row["_decode_detail"]


# --- packet gateway ------------------------------------------------------------------------------


def test_every_field_of_a_gateway_record_becomes_its_column(build: Any) -> None:
    (row,) = decode(build, build.packet_record(part=2))

    assert row["_byte_offset"] == 52
    assert row["_decode_error"] is row["_decode_detail"] is row["_raw_record"] is None
    assert usage(row) == {
        "record_type": "pGWRecord", "service": "data", "direction": "mo",
        "served_msisdn": "+8618600000001", "served_imsi": "460010000000001",
        "served_imei": "8600000000000017", "started_local": datetime(2026, 10, 5, 8, 30),  # noqa: DTZ001
        "utc_offset_minutes": 480, "duration_seconds": 3600, "uplink_octets": 1000,
        "downlink_octets": 900_000, "serving_plmn": "46001", "apn": "3gnet", "rating_group": 9,
        "cause_for_closing": 0, "call_reference": "10.44.0.1|1001", "partial_sequence": 2,
        "is_last_partial": True, "unknown_tag_count": 0,
    }  # fmt: skip


@pytest.mark.skipif(not SHARED.exists(), reason=f"the sample records of {SHARED.name} are not here")
@pytest.mark.parametrize("name", ["pgw.ber", "gtpp.pcap"])
def test_the_sample_records_are_decoded(build: Any, name: str) -> None:
    content = (SHARED / name).read_bytes()
    start = content.index(MARK_OF_PGW_RECORD)
    (row,) = decode(build, content[start : start + 4 + content[start + 3]])

    assert row["_decode_error"] is None
    assert (row["apn"], row["call_reference"]) == ("3gnet", "10.0.0.1|1001")
    assert row["started_local"] == datetime(2015, 1, 1, 8, 0)  # noqa: DTZ001 - local time
    assert (row["uplink_octets"], row["downlink_octets"]) == (1000, 900_000)
    assert (row["duration_seconds"], row["rating_group"]) == (3600, 32_000)
    assert (row["utc_offset_minutes"], row["unknown_tag_count"]) == (480, 0)


@pytest.mark.parametrize("cause", [0, 4, 5, 15, 28, 52])
def test_a_cause_that_ends_the_session_makes_the_last_part(build: Any, cause: int) -> None:
    assert closed_by(build, cause)["is_last_partial"] is True


@pytest.mark.parametrize("cause", [1, *range(16, 28)])
def test_a_cause_after_which_the_session_goes_on_does_not(build: Any, cause: int) -> None:
    assert closed_by(build, cause)["is_last_partial"] is False


def closed_by(build: Any, cause: int) -> dict[str, Any]:
    record = build.packet_record(part=1).replace(
        build.element(15, build.integer(0)), build.element(15, build.integer(cause))
    )
    (row,) = decode(build, record)
    return row


def test_services_of_one_rating_group_are_added_up(build: Any) -> None:
    services = [build.service(7, 10, 100), build.service(7, 1, 2)]
    (row,) = decode(build, build.packet_record(services=services))

    assert (row["rating_group"], row["uplink_octets"], row["downlink_octets"]) == (7, 11, 102)


def test_services_of_several_rating_groups_are_added_up_without_a_group(build: Any) -> None:
    services = [build.service(7, 10, 100), build.service(8, 1, 2)]
    (row,) = decode(build, build.packet_record(services=services))

    assert row["_decode_error"] is None
    assert (row["rating_group"], row["uplink_octets"], row["downlink_octets"]) == (None, 11, 102)


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
    record = build.packet_record(duration=value)

    assert bytes.fromhex("8e%02x" % (len(octets) // 2)) + bytes.fromhex(octets) in record
    assert decode(build, record)[0]["duration_seconds"] == value


@pytest.mark.parametrize(
    ("before", "after", "column", "explanation"),
    [
        (b"3gnet", b"3g\x00et", "apn", "accessPointNameNI at byte 95 is not printable text"),
        ("261005083000", "261305083000", "started_local", "is no time: 2613050830002b0800"),
        ("261005083000", "26100508300a", "started_local", "is no time"),
        ("261005083000", "260230083000", "started_local", "is no time"),
        ("2b0800", "200800", "utc_offset_minutes", "is no time"),
        ("0a2c0001", "0a2c00", "call_reference", None),
    ],
)
def test_a_field_that_cannot_be_read_is_missing_and_the_record_kept(
    build: Any, before: Any, after: Any, column: str, explanation: str | None
) -> None:
    old, new = (
        text if isinstance(text, bytes) else bytes.fromhex(text) for text in (before, after)
    )
    record = build.packet_record()
    if len(old) != len(new):
        old, new = build.element(0, old), build.element(0, new)
        tag = b"\xa4"
        record = rewrapped(build, record, tag + bytes([len(old)]) + old,
                           tag + bytes([len(new)]) + new)  # fmt: skip
    else:
        record = record.replace(old, new, 1)
    (row,) = decode(build, record)

    assert row["_decode_error"] is None
    assert bytes.fromhex(row["_raw_record"])[4:] == record
    assert row["record_type"] == "pGWRecord"
    if explanation:
        assert row[column] is None
        assert explanation in row["_decode_detail"]
        assert row["_decode_detail"].startswith("record at byte 52: ")
    else:
        assert row[column] == "1001"


def rewrapped(build: Any, record: bytes, old: bytes, new: bytes) -> bytes:
    """The record with an element replaced and its length made right."""
    body = record[record.index(b"\x80\x01") :]
    assert old in body
    wrapped: bytes = build.element(79, body.replace(old, new, 1), constructed=True)
    return wrapped


@pytest.mark.parametrize(
    ("damage", "explanation"),
    [
        (lambda body: body + b"\x80\x80\x00\x00", "indefinite length"),
        (lambda body: body + b"\x81\x7f\x00", "runs past the end"),
        (lambda body: body + b"\x00\x00", "end-of-contents"),
        (lambda body: body + b"\x8e\x01\x05", "duration stands twice"),
        (lambda body: body + b"\x85\x81\x00", "chargingID stands twice"),
        (lambda body: body.replace(b"\x8e\x02\x0e\x10", b"\x8e\x00"), "of 0 octets is no quantity"),
        (lambda body: body.replace(b"\x8e\x02", b"\xae\x02"), "constructed where a value"),
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
    assert usage(rows[1]) == {}
    assert rows[2]["call_reference"] == "10.44.0.1|1001"


@pytest.mark.parametrize("octets", ["7f" + "ff" * 7, "00" + "ff" * 8, "01" + "00" * 6, ""])
def test_a_volume_no_record_can_have_makes_no_usage(build: Any, octets: str) -> None:
    value = build.element(1, build.integer(9)) + build.element(12, bytes.fromhex(octets))
    service = b"\x30" + bytes([len(value)]) + value
    (row,) = decode(build, build.packet_record(services=[service]))

    assert row["_decode_error"] == "malformed"
    assert "datavolumeFBCUplink" in row["_decode_detail"]
    assert usage(row) == {}


def test_a_record_of_no_known_kind_is_malformed(build: Any) -> None:
    (row,) = decode(build, build.element(121, b"\x80\x01\x54", constructed=True))

    assert row["_decode_error"] == "malformed"
    assert "tag 0xBF79 at byte 56" in row["_decode_detail"]


# --- other domains, cases that random values do not reach ----------------------------------------


@pytest.mark.parametrize(
    ("code", "direction"),
    [(code, "forwarded") for code in (0x20, 0x21, 0x24, 0x28, 0x29, 0x2A, 0x2B)]
    + [(code, "mo") for code in (0x11, 0x1F, 0x22, 0x41, 0x51)],
)
def test_a_forwarding_service_among_those_used_makes_the_call_forwarded(
    build: Any, code: int, direction: str
) -> None:
    waiting = sequence(build.element(0, b"\x41"))
    used = waiting + sequence(build.element(0, bytes([code])))
    record = build.element(
        0,
        build.element(0, b"\x00")
        + build.element(5, b"\x91" + build.tbcd("8613912345678"))
        + build.element(17, used, constructed=True),
        constructed=True,
    )
    (row,) = decode(build, record)

    assert (row["direction"], row["other_party"]) == (direction, "+8613912345678")


def test_a_name_instead_of_a_number_is_read(build: Any) -> None:
    name = bytes.fromhex("0bd0") + packed_letters("10010x")
    record = build.element(6, build.element(0, b"\x06") + build.element(12, name), constructed=True)
    (row,) = decode(build, record)

    assert row["other_party"] == "10010x"


def packed_letters(text: str) -> bytes:
    """Letters of seven bits, low bits first (TS 23.038); these have the codes of ASCII."""
    bits = sum(ord(letter) << 7 * at for at, letter in enumerate(text))
    return bits.to_bytes((7 * len(text) + 7) // 8, "little")


def test_a_number_behind_a_presentation_octet_is_read(build: Any) -> None:
    number = b"\x11\x83" + build.tbcd("8613912345678")
    record = build.element(
        1, build.element(0, b"\x01") + build.element(4, number), constructed=True
    )
    (row,) = decode(build, record)

    assert (row["direction"], row["other_party"]) == ("mt", "+8613912345678")


def charging_function_record(build: Any, *elements: bytes) -> bytes:
    """A record of the charging function: subscriber and session as far as every one has them."""
    subscriber = build.element(0, b"\x01") + build.element(1, b"imsi-460010000000001")
    body = b"".join((
        build.element(0, build.integer(200)),
        build.element(1, b"chf-1"),
        build.element(2, subscriber, constructed=True),
        *elements,
        build.element(6, bytes.fromhex("2610050830002b0800")),
        build.element(7, build.integer(600)),
        build.element(9, build.integer(0)),
    ))  # fmt: skip
    size = len(body)
    assert size < 2**16
    return b"\xbf\x81\x48\x82" + size.to_bytes(2, "big") + body


def units(build: Any, group: int, *containers: dict[int, int]) -> bytes:
    """MultipleUnitUsage of a rating group; containers as tag -> value."""
    used = b"".join(
        sequence(b"".join(build.element(tag, build.integer(value)) for tag, value in each.items()))
        for each in containers
    )
    return sequence(
        build.element(0, build.integer(group)) + build.element(1, used, constructed=True)
    )


def sequence(value: bytes) -> bytes:
    assert len(value) < 128
    return bytes([0x30, len(value)]) + value


def test_a_session_of_the_5g_core_becomes_its_columns(build: Any) -> None:
    session = b"".join((
        build.element(0, build.integer(77)),
        build.element(1, build.element(1, b"tel:+8618600000001"), constructed=True),
        build.element(
            2, build.element(0, b"\x00") + build.element(1, b"imeisv-8600000000000017"),
            constructed=True,
        ),
        build.element(6, build.integer(5)),
        build.element(13, b"3gnet"),
        build.element(27, bytes.fromhex("64f010")),
    ))  # fmt: skip
    usages = units(build, 9, {4: 30, 5: 10, 6: 20}, {5: 1, 6: 2}) + units(build, 9, {4: 400})
    (row,) = decode(
        build,
        charging_function_record(
            build,
            build.element(5, usages, constructed=True),
            build.element(13, session, constructed=True),
        ),
    )

    assert row["_decode_error"] is None
    assert usage(row) == {
        "record_type": "chargingFunctionRecord", "service": "data", "direction": "mo",
        "served_msisdn": "+8618600000001", "served_imsi": "460010000000001",
        "served_imei": "8600000000000017", "started_local": datetime(2026, 10, 5, 8, 30),  # noqa: DTZ001
        "utc_offset_minutes": 480, "duration_seconds": 600, "uplink_octets": 11,
        "downlink_octets": 422, "serving_plmn": "46001", "apn": "3gnet", "rating_group": 9,
        "cause_for_closing": 0, "call_reference": "chf-1|5|77", "partial_sequence": 0,
        "is_last_partial": True, "unknown_tag_count": 0,
    }  # fmt: skip


def test_several_rating_groups_of_a_session_are_added_up_without_a_group(build: Any) -> None:
    session = build.element(0, build.integer(77)) + build.element(6, build.integer(5))
    usages = units(build, 1, {5: 10, 6: 20}) + units(build, 2, {5: 1, 6: 2})
    (row,) = decode(
        build,
        charging_function_record(
            build,
            build.element(5, usages, constructed=True),
            build.element(13, session, constructed=True),
        ),
    )

    assert (row["rating_group"], row["uplink_octets"], row["downlink_octets"]) == (None, 11, 22)


@pytest.mark.parametrize(("kind", "direction"), [(0, "mo"), (3, "mt")])
def test_a_message_over_the_5g_core_becomes_its_columns(
    build: Any, kind: int, direction: str
) -> None:
    origin = build.element(1, b"\x91" + build.tbcd("8618600000001"))
    recipient = build.element(1, b"\x81" + build.tbcd("10010"))
    message = b"".join((
        build.element(1, origin, constructed=True),
        build.element(2, sequence(recipient), constructed=True),
        build.element(8, bytes.fromhex("2610050831002b0800")),
        build.element(21, bytes([kind])),
        build.element(32, b"\x2a"),
    ))  # fmt: skip
    (row,) = decode(
        build,
        charging_function_record(build, build.element(15, message, constructed=True)),
    )
    parties = ("+8618600000001", "10010")

    assert row["_decode_error"] is None
    assert (row["service"], row["direction"]) == ("sms", direction)
    assert (row["served_msisdn"], row["other_party"]) == (
        parties if direction == "mo" else parties[::-1]
    )
    assert row["started_local"] == datetime(2026, 10, 5, 8, 31)  # noqa: DTZ001 - local time
    assert row["call_reference"] == "chf-1|2610050831002b0800|2a"
    assert row["unknown_tag_count"] == 0


def test_a_registration_in_the_5g_core_is_an_event_and_no_usage(build: Any) -> None:
    (row,) = decode(
        build, charging_function_record(build, build.element(19, b"", constructed=True))
    )

    assert (row["record_type"], row["service"]) == ("chargingFunctionEvent", None)


def test_usage_of_the_5g_core_of_an_unknown_kind_is_left_to_be_rejected(build: Any) -> None:
    (row,) = decode(
        build, charging_function_record(build, build.element(41, b"", constructed=True))
    )

    assert (row["record_type"], row["service"]) == ("chargingFunctionRecord", None)
    assert row["unknown_tag_count"] == 1


# --- batches -------------------------------------------------------------------------------------


def test_kinds_mixed_in_a_file_stay_in_file_order(build: Any) -> None:
    kinds = {
        "pGWRecord": build.packet_record(),
        "transitRecord": build.element(5, build.element(0, b"\x05"), constructed=True),
        "moCallRecord": build.element(0, build.element(0, b"\x00"), constructed=True),
        None: build.element(121, b"", constructed=True),
    }
    draw = random.Random(32_298)
    order = draw.choices(list(kinds), k=500)
    rows = decode(build, *(kinds[name] for name in order))

    assert [row["record_type"] for row in rows] == order


def test_every_batch_has_the_columns_and_types_of_the_raw_table(build: Any) -> None:
    frames = [
        build.framed(build.packet_record()),
        build.framed(build.element(5, b"", constructed=True)),
    ]
    content = build.packet_file(frames)
    file = RawFile.of_bytes(content, "x", RECEIVED)
    batches = list(ChargingRecordFormat(block_records=1).decode(file))

    assert len(batches) == 2
    for batch in batches:
        types = {name: batch.schema.field(name).type for name in USAGE_COLUMNS}
        assert types == {name: ARROW_TYPES[kind] for name, kind in USAGE_COLUMNS.items()}


# --- damage inside records -----------------------------------------------------------------------

FUZZ_FILES = 400
FUZZ_SECONDS = 120  # for all of them; the usual time is a tenth of it


def spoiled(draw: random.Random, record: bytes) -> bytes:
    """A record with damage inside; the length of the whole is mostly made right again."""
    octets = bytearray(record)
    for _ in range(draw.choice((0, 1, 1, 2, 5))):
        at = draw.randrange(4, len(octets))
        kind = draw.choice(("flip", "octet", "noise", "remove"))
        if kind == "flip":
            octets[at] ^= 1 << draw.randrange(8)
        elif kind == "octet":
            octets[at] = draw.choice((0, 0x80, 0xFF, 0x30, 0xA0, 0x84))
        elif kind == "noise":
            octets[at : at + draw.randrange(20)] = draw.randbytes(draw.randrange(20))
        else:
            del octets[at : at + draw.randrange(1, 10)]
        if len(octets) < 8:
            break
    body_at = 1 if octets[0] & 0x1F != 0x1F else 2
    body_at += 1 if octets[body_at] <= 0x80 else 1 + (octets[body_at] & 0x0F)
    if draw.random() < 0.3 or body_at >= len(octets):
        return bytes(octets)
    body = bytes(octets[body_at:])
    tag = octets[:1] if octets[0] & 0x1F != 0x1F else octets[:2]
    return bytes(tag) + b"\x82" + len(body).to_bytes(2, "big") + body


def test_damage_inside_a_record_of_any_kind_is_refused_or_read_and_costs_no_other(
    build: Any, grammar: Any
) -> None:
    draw = random.Random(32_298)
    pool = []
    for module, choice, name in KINDS_IN_PYCRATE:
        outermost = getattr(getattr(grammar, module), choice)
        for _ in range(3):
            value = oracle.random_value(draw, outermost._cont[name])
            pool.append(outermost.to_ber((name, oracle.with_record_type(name, value))))
    sound = build.packet_record(charging_id=4711)
    began = time.monotonic()
    outcomes: Counter[str | None] = Counter()
    for _ in range(FUZZ_FILES):
        records = [spoiled(draw, record) for record in draw.choices(pool, k=draw.randrange(1, 5))]
        rows = decode(build, *records, sound)
        lengths = [row["_byte_length"] for row in rows]

        assert [row["_byte_offset"] for row in rows] == [
            52 + sum(lengths[:at]) for at in range(len(rows))
        ]
        assert rows[-1]["call_reference"] == "10.44.0.1|4711"
        for row in rows:
            outcomes[row["_decode_error"]] += 1
            if row["_decode_error"]:
                assert usage(row) == {}
            for name in ("duration_seconds", "uplink_octets", "downlink_octets"):
                assert abs(row[name] or 0) < 2**50

    assert time.monotonic() - began < FUZZ_SECONDS
    assert min(outcomes[None] - FUZZ_FILES, outcomes["malformed"]) > 200
