"""Files to try decoders with: BER elements, damaged copies, and what must hold of any of them."""

from __future__ import annotations

import io
import random
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ingestion.formats.interface import (
    HEAD_BYTES,
    RECORD_COLUMNS,
    USAGE_COLUMNS,
    RawFile,
    RawFormat,
    UnreadableFileError,
)
from tollhouse.file_reasons import kept_reason

RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")
SECONDS_A_CASE = 30.0  # the usual time is a thousandth of it


def application(number: int, *values: bytes, constructed: bool = False) -> bytes:
    """An element of class APPLICATION, of definite length."""
    value = b"".join(values)
    leading = 0x60 if constructed else 0x40
    if number < 31:
        tag = bytes([leading | number])
    elif number < 128:
        tag = bytes([leading | 31, number])
    else:
        tag = bytes([leading | 31, 0x80 | number >> 7, number & 0x7F])
    size = len(value)
    if size < 128:
        return tag + bytes([size]) + value
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return tag + bytes([0x80 | len(octets)]) + octets + value


def indefinite(content: bytes) -> bytes:
    """The same elements, each constructed one with an indefinite length."""
    result, at = b"", 0
    while at < len(content):
        start = at
        is_constructed = content[at] & 0x20
        is_long = content[at] & 0x1F == 0x1F
        at += 1
        if is_long:
            while content[at] & 0x80:
                at += 1
            at += 1
        tag = content[start:at]
        length = content[at]
        at += 1
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(content[at : at + count], "big")
            at += count
        value = content[at : at + length]
        at += length
        if is_constructed:
            result += tag + b"\x80" + indefinite(value) + b"\0\0"
        else:
            result += content[start:at]
    return result


class SlowStream(io.BytesIO):
    """A stream that gives fewer octets than asked for, as a socket does."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 7) if size and size > 0 else size)


def raw_file(content: bytes, name: str = "FILE", *, slow: bool = False) -> RawFile:
    """A file of these octets."""
    stream = SlowStream if slow else io.BytesIO
    return RawFile(
        name, len(content), content[:HEAD_BYTES], content[-HEAD_BYTES:], RECEIVED,
        lambda: stream(content), ZONE,
    )  # fmt: skip


def rows(raw_format: RawFormat, content: bytes, *, slow: bool = False) -> list[dict[str, object]]:
    """All rows of a file; every table has known columns of the right types."""
    found: list[dict[str, object]] = []
    for table in raw_format.decode(raw_file(content, slow=slow)):
        assert set(table.column_names) <= (RECORD_COLUMNS | USAGE_COLUMNS).keys()
        found += told(table.to_pylist())
    return found


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the English text of what is wrong with them; there is a Chinese one as well."""
    for row in rows:
        reason = kept_reason(row["_decode_detail"])
        if reason is not None:
            assert re.search(r"[\u4e00-\u9fff]", reason.zh), reason
            row["_decode_detail"] = reason.en
    return rows


def damaged_copy(content: bytes, rng: random.Random) -> bytes:
    """A copy cut off, with flipped bits, false lengths, lost or inserted octets, or all random."""
    octets = bytearray(content)
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(octets[: rng.randrange(len(octets))])
    if kind == 1:
        return rng.randbytes(rng.randrange(1, 600))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(octets))
        if kind == 2:
            octets[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            octets[at] = rng.choice((0x00, 0x80, 0x84, 0xFF))
        elif kind == 4:
            del octets[at : at + rng.randrange(1, 40)]
            if not octets:
                return b"\xff"
        else:
            octets[at:at] = rng.randbytes(rng.randrange(1, 40))
    return bytes(octets)


def check_damaged(
    raw_format: RawFormat, samples: Sequence[bytes], cases: int, *, shares_octets: bool = False
) -> int:
    """Decode damaged copies; returns how many were decoded in part.

    Nothing hangs or raises but `UnreadableFileError` with the octet in it; rows are in file order,
    inside the file and apart from each other (`shares_octets`: or of the same message); a row that
    could not be decoded says where, and has no usage in it.
    """
    rng = random.Random(20261006)
    partly = 0
    for _ in range(cases):
        content = damaged_copy(rng.choice(samples), rng)
        begun = time.monotonic()
        try:
            if raw_format.recognises(content[:HEAD_BYTES]):
                raw_format.read_facts(raw_file(content))
            found = rows(raw_format, content)
        except UnreadableFileError as error:
            assert "at byte" in str(error)
            continue
        assert time.monotonic() - begun < SECONDS_A_CASE
        last = (-1, 0)
        for row in found:
            place = (row["_byte_offset"], row["_byte_length"])
            assert isinstance(place[0], int)
            assert isinstance(place[1], int)
            assert place[0] >= sum(last) if last[0] >= 0 and place != last else True
            assert shares_octets or place != last
            assert place[0] + place[1] <= len(content)
            last = (place[0], place[1])
            if row["_decode_error"]:
                assert f"at byte {place[0]}:" in str(row["_decode_detail"])
                assert row["_raw_record"] is not None
                assert not any(row.get(name) for name in USAGE_COLUMNS)
        errors = [row["_decode_error"] for row in found]
        partly += any(errors) and not all(errors)
    return partly
