"""Charging files of TS 32.297: read as a stream, and no record lost to its neighbour."""

from __future__ import annotations

import io
import random
import time
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestion.formats import charging_file
from ingestion.formats.charging_record import ChargingRecordFormat
from ingestion.formats.interface import (
    BATCH_RECORDS,
    HEAD_BYTES,
    RawFile,
    UnreadableFileError,
)
from tests.ingestion.damage import told

FORMAT = ChargingRecordFormat()
RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)
HEADER = 52
FRAMES = 8  # records of the files that are damaged below
FUZZ_CASES = 1000
FUZZ_SECONDS = 90  # for all of them; the usual time is a tenth of it
QUANTITIES = ("duration_seconds", "uplink_octets", "downlink_octets")


def file_of(content: bytes, name: str = "records", received: datetime = RECEIVED) -> RawFile:
    return RawFile.of_bytes(content, name, received)


def decode(content: bytes, raw_format: ChargingRecordFormat = FORMAT) -> list[dict[str, Any]]:
    batches = list(raw_format.decode(file_of(content)))
    return told([row for batch in batches for row in batch.to_pylist()])


def numbers(rows: list[dict[str, Any]]) -> list[int | None]:
    """The charging ids, None for what could not be decoded."""
    return [
        None if row["_decode_error"] else int(row["call_reference"].split("|")[-1]) for row in rows
    ]


def assert_every_octet_is_in_one_record(rows: list[dict[str, Any]], size: int) -> None:
    at = HEADER
    for row in rows:
        assert row["_byte_offset"] == at
        assert row["_byte_length"] > 0
        at += row["_byte_length"]
    assert at == size


# --- the file header -----------------------------------------------------------------------------


def test_the_file_header_gives_the_facts(build: Any) -> None:
    content = build.packet_file([build.framed(build.packet_record())], sequence=123, count=9)
    facts = FORMAT.read_facts(file_of(content))

    assert (facts.source_id, facts.sequence_number) == (None, 123)
    assert facts.declared_record_count == 9
    assert facts.created_at == datetime(2026, 10, 5, 15, 30, tzinfo=UTC)
    assert facts.lacks is None


def test_a_file_shorter_than_its_header_says_lacks_the_rest(build: Any) -> None:
    content = build.packet_file([build.framed(build.packet_record())])
    facts = FORMAT.read_facts(file_of(content[:-7]))

    assert facts.lacks is not None
    assert facts.lacks.en == f"7 of the {len(content)} octets its header declares"


def test_a_file_closed_before_new_year_belongs_to_the_old_year(build: Any) -> None:
    received = datetime(2027, 1, 2, 3, 0, tzinfo=UTC)
    facts = FORMAT.read_facts(file_of(build.packet_file([]), received=received))

    assert facts.created_at == datetime(2026, 10, 5, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "content",
    [b"", b"CDR|voice|mo|8618600000001\n" * 20, bytes(200), b"\xd4\xc3\xb2\xa1" + bytes(200),
     b"\x61\x82\x01\x70" + bytes(366), b"\n" * 200],
)  # fmt: skip
def test_a_file_without_the_header_is_not_recognised_and_refused_by_name(content: bytes) -> None:
    assert not FORMAT.recognises(content[:HEAD_BYTES])
    with pytest.raises(UnreadableFileError, match=r"records has no file header .* at byte 0"):
        list(FORMAT.decode(file_of(content)))
    with pytest.raises(UnreadableFileError, match=r"records has no file header"):
        FORMAT.read_facts(file_of(content))


def test_a_file_of_no_records_has_none(build: Any) -> None:
    assert decode(build.packet_file([])) == []


# --- reading as a stream -------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [1, 7, 61, 1000, 4096, 10**6])
def test_any_block_size_gives_the_same_rows(build: Any, octets: int) -> None:
    frames = [
        build.framed(build.packet_record(charging_id=number, duration=number * 7))
        for number in range(40)
    ]
    frames[7] = b"\x00\x09" + frames[7][2:]  # a wrong length
    frames[20] = frames[20][:60]  # cut in the middle
    frames.insert(30, b"noise of no record at all")
    content = build.packet_file(frames) + frames[0][:50]  # cut at the end

    blockwise = ChargingRecordFormat(block_octets=octets)

    assert decode(content, blockwise) == decode(content)
    assert_every_octet_is_in_one_record(decode(content, blockwise), len(content))


@pytest.mark.parametrize("octets", [5000, 70_000])
def test_damage_longer_than_a_block_is_the_same_in_any(
    build: Any, monkeypatch: pytest.MonkeyPatch, octets: int
) -> None:
    monkeypatch.setattr(charging_file, "REPAIR_WINDOW", 10_000)
    monkeypatch.setattr(charging_file, "SEARCH_STEPS", (4096, 10_000))
    frame = build.framed(build.packet_record())
    noise = random.Random(1).randbytes(25_000)
    content = build.packet_file([frame, noise, frame, frame])
    rows = decode(content, ChargingRecordFormat(block_octets=octets))

    assert [row["_decode_error"] for row in rows if row["_byte_length"] == len(frame)] == [None] * 3
    assert max(row["_byte_length"] for row in rows) <= 10_000
    assert rows == decode(content)
    assert_every_octet_is_in_one_record(rows, len(content))


def test_a_stream_that_gives_less_than_asked_is_read_to_its_end(build: Any) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 100))

    content = build.packet_file([build.framed(build.packet_record())] * 50)
    file = RawFile("x", len(content), content, content, RECEIVED, lambda: Slow(content))

    assert sum(batch.num_rows for batch in FORMAT.decode(file)) == 50


def test_batches_and_memory_are_bounded_by_the_block_and_not_by_the_file(build: Any) -> None:
    frames = b"".join(
        build.framed(build.packet_record(charging_id=number)) for number in range(1000)
    )
    peaks = []
    for times in (20, 60):
        content = build.packet_file([frames] * times)
        file = file_of(content)
        small = ChargingRecordFormat(block_octets=2**20, block_records=5000)
        tracemalloc.start()
        rows = [batch.num_rows for batch in small.decode(file)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

        assert sum(rows) == 1000 * times
        assert max(rows) <= 5000 <= BATCH_RECORDS
    assert peaks[1] < 1.2 * peaks[0]


def test_many_records_in_blocks_are_decoded_like_few(build: Any) -> None:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(50)]
    tables = list(FORMAT.decode(file_of(build.packet_file(frames * 800))))
    table = pa.concat_tables(tables)

    assert len(tables) > 1
    references = [f"10.44.0.1|{number}" for number in range(50)] * 800
    assert table.column("call_reference").to_pylist() == references
    assert table.column("_decode_error").null_count == 40_000


# --- damage --------------------------------------------------------------------------------------


def test_a_cut_file_ends_in_one_truncated_record(build: Any) -> None:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(3)]
    content = build.packet_file(frames)
    for missing in range(1, len(frames[-1])):
        rows = decode(content[:-missing])

        assert [row["_decode_error"] for row in rows] == [None, None, "truncated"]
        assert rows[-1]["_byte_length"] == len(frames[-1]) - missing
        assert (
            f"record at byte {rows[-1]['_byte_offset']}: the file ends"
            in (rows[-1]["_decode_detail"])
        )


def test_wrong_lengths_in_a_record_header_lose_no_other_record(build: Any) -> None:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(5)]
    for wrong in (0, 1, 60, len(frames[2]) - 3, len(frames[2]) + 40, 0xFFFF):
        damaged = [*frames]
        damaged[2] = wrong.to_bytes(2, "big") + frames[2][2:]
        rows = decode(build.packet_file(damaged))

        assert numbers(rows) == [0, 1, None, 3, 4]
        assert rows[2]["_decode_error"] == "malformed"


def test_header_octets_with_a_release_extension_are_understood(build: Any) -> None:
    frames = [
        build.framed(build.packet_record(charging_id=number), extended=number % 2 == 0)
        for number in range(6)
    ]

    assert numbers(decode(build.packet_file(frames))) == list(range(6))


def test_a_record_in_another_encoding_is_malformed_and_says_which(build: Any) -> None:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(3)]
    frames[1] = frames[1][:3] + bytes([2 << 5 | 7]) + frames[1][4:]
    rows = decode(build.packet_file(frames))

    assert numbers(rows) == [0, None, 2]
    assert "encoding 2, and only 1 (BER)" in rows[1]["_decode_detail"]


def test_a_record_of_indefinite_length_is_found_behind_damage(build: Any) -> None:
    record = build.packet_record(charging_id=7)
    body = record[record.index(b"\x80\x01") :]
    indefinite = b"\xbf\x4f\x80" + body + b"\x00\x00"
    sound = build.framed(build.packet_record(charging_id=1))
    rows = decode(build.packet_file([sound, b"noise", build.framed(indefinite), sound]))

    assert numbers(rows) == [1, None, 7, 1]


def damaged_file(build: Any) -> tuple[bytes, int]:
    frames = [build.framed(build.packet_record(charging_id=number)) for number in range(FRAMES)]
    return build.packet_file(frames), len(frames[0])


@given(data=st.data())
def test_a_flipped_bit_spoils_at_most_its_own_record(build: Any, data: st.DataObject) -> None:
    content, _ = damaged_file(build)
    at = data.draw(st.integers(HEADER, len(content) - 1))
    flipped = bytearray(content)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    rows = decode(bytes(flipped))
    whole = {row["call_reference"] for row in rows if row["record_type"] == "pGWRecord"} & {
        f"10.44.0.1|{number}" for number in range(FRAMES)
    }

    assert len(whole) >= FRAMES - 1
    assert_every_octet_is_in_one_record(rows, len(content))


@given(end=st.integers(HEADER, 1200))
def test_any_cut_leaves_the_whole_records_before_it(build: Any, end: int) -> None:
    content, size = damaged_file(build)
    rows = decode(content[:end])
    complete = min((end - HEADER) // size, FRAMES)

    assert numbers(rows)[:complete] == list(range(complete))
    assert [row["_decode_error"] for row in rows[complete:]] in ([], ["truncated"])


@given(noise=st.binary(max_size=400), at=st.integers(0, FRAMES))
@example(noise=b"\x04\x81\x00\x00\x00", at=0)  # a length that claims all the rest of the file
def test_noise_between_records_loses_none_of_them(build: Any, noise: bytes, at: int) -> None:
    content, size = damaged_file(build)
    position = HEADER + at * size
    rows = decode(content[:position] + noise + content[position:])
    found = [
        int(row["call_reference"].split("|")[-1])
        for row in rows
        if row["record_type"] == "pGWRecord" and row["call_reference"]
    ]

    assert [number for number in found if number in range(FRAMES)] == list(range(FRAMES))
    assert_every_octet_is_in_one_record(rows, len(content) + len(noise))


def spoiled(draw: random.Random, content: bytes) -> bytes:
    """The file with one kind of damage behind its header."""
    octets = bytearray(content)
    at = draw.randrange(HEADER, len(octets))
    kind = draw.choice(("cut", "flip", "length", "noise", "insert", "remove", "double"))
    if kind == "cut":
        del octets[at:]
    elif kind == "flip":
        for _ in range(draw.randrange(1, 20)):
            octets[draw.randrange(HEADER, len(octets))] ^= 1 << draw.randrange(8)
    elif kind == "length":
        octets[at : at + 4] = draw.choice(
            (b"\xff\xff\xff\xff", b"\x84\xff\xff\xff", b"\x80\x80\x80\x80", b"\x83\x00\x00\x01")
        )
    elif kind == "noise":
        octets[at : at + draw.randrange(300)] = draw.randbytes(draw.randrange(300))
    elif kind == "insert":
        octets[at:at] = draw.randbytes(draw.randrange(1, 100))
    elif kind == "remove":
        del octets[at : at + draw.randrange(1, 200)]
    else:
        octets[at:at] = octets[at : at + draw.randrange(1, 300)]
    return bytes(octets)


def test_damaged_files_are_read_in_time_and_give_no_usage_out_of_garbage(build: Any) -> None:
    records = [
        build.packet_record(charging_id=number, services=[build.service(9, number, number)] * 3)
        for number in range(12)
    ]
    record = build.packet_record(charging_id=99)
    records.append(b"\xbf\x4f\x80" + record[record.index(b"\x80\x01") :] + b"\x00\x00")
    content = build.packet_file([build.framed(record) for record in records])
    draw = random.Random(32_297)
    began = time.monotonic()
    seen: Counter[str | None] = Counter()
    for _ in range(FUZZ_CASES):
        damaged = spoiled(draw, content)
        rows = decode(damaged)

        assert_every_octet_is_in_one_record(rows, len(damaged))
        for row in rows:
            seen[row["_decode_error"]] += 1
            if row["_decode_error"]:
                assert all(row[name] is None for name in (*QUANTITIES, "service"))
                assert f"record at byte {row['_byte_offset']}: " in row["_decode_detail"]
                raw = bytes.fromhex(row["_raw_record"])
                at = row["_byte_offset"]
                assert raw == damaged[at : at + row["_byte_length"]]
            else:
                assert all(abs(row[name] or 0) < 2**50 for name in QUANTITIES)

    assert time.monotonic() - began < FUZZ_SECONDS
    assert min(seen[None], seen["malformed"], seen["truncated"]) > 50


@pytest.mark.parametrize(
    "garbage",
    [bytes(3_000_000), b"\xff" * 3_000_000, b"\x00\x04\x00\x20\xa0\x80\xa0\x80" * 300_000,
     b"\xff\xff\x00\x20\xbf\x4f\x80\x30\x80" * 300_000, random.Random(5).randbytes(3_000_000)],
    ids=["zeros", "ones", "nested", "indefinite", "random"],
)  # fmt: skip
def test_megabytes_of_garbage_are_passed_over_in_time(build: Any, garbage: bytes) -> None:
    sound = build.framed(build.packet_record(charging_id=5))
    began = time.monotonic()
    rows = decode(build.packet_file([sound, garbage, sound]))

    assert time.monotonic() - began < 60
    whole = [row for row in rows if row["record_type"] == "pGWRecord"]
    assert [row["call_reference"] for row in whole] == ["10.44.0.1|5"] * 2
    assert_every_octet_is_in_one_record(rows, HEADER + 2 * len(sound) + len(garbage))


def test_many_damaged_records_with_no_known_one_behind_them_take_no_longer_each() -> None:
    # Two elements in one frame, then a sound frame of no known kind, by turns.
    pairs = bytes.fromhex("0006c027800101810101" + "0003c027bf7900") * 40_000
    size = HEADER + len(pairs)
    header = size.to_bytes(4, "big") + HEADER.to_bytes(4, "big") + bytes(HEADER - 8)
    file = file_of(header + pairs)
    began = time.monotonic()
    batches = list(FORMAT.decode(file))

    assert time.monotonic() - began < 30
    assert sum(batch.num_rows for batch in batches) == 80_000
    assert {batch.column("_decode_error").null_count for batch in batches} == {0}
