"""Files of every format, written here independently of the decoders, and a home to land them in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingestion.sources import register_sources
from operational.database import upgrade
from tollhouse.file_reasons import reason_of
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.settings import Settings

RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)


def switch_record(**changed: str) -> str:
    """One sound line of a switch file."""
    fields = {
        "service": "voice", "direction": "mo", "served_msisdn": "8618600000001",
        "served_imsi": "460010000000001", "served_imei": "8600000000000017",
        "other_party": "13912345678", "started_local": "20261005083000", "utc_offset": "+0800",
        "duration_s": "61", "serving_plmn": "46001", "cell_id": "28F1-0A2B",
        "trunk_group_in": "", "trunk_group_out": "CMCC-44-OUT1", "call_reference": "0001",
        "partial_sequence": "0", "is_last_partial": "1", "cause_for_closing": "0",
    }  # fmt: skip
    unknown = changed.keys() - fields.keys()
    assert not unknown, f"no such field: {unknown}"
    return "|".join(("CDR", *{**fields, **changed}.values()))


def switch_file(
    lines: Sequence[str], *, source: str = "MSC-44", sequence: int = 1, count: int | None = None
) -> bytes:
    """A switch file with a right trailer, unless `count` says otherwise."""
    head = f"HDR|{source}|{sequence:06d}|20261006000000|+0800"
    tail = f"TRL|{len(lines) if count is None else count}|61"
    return ("\n".join((head, *lines, tail)) + "\n").encode()


def roaming_file(lines: Sequence[str], *, sequence: int = 1) -> bytes:
    """A file of the clearing house."""
    head = (
        f"#DCH-00,{sequence:06d},20261005160000,+0000\n"
        "record_id,service,direction,served_imsi,served_msisdn,other_party,started_local,"
        "utc_offset,duration_s,uplink_octets,downlink_octets,serving_plmn"
    )
    return ("\n".join((head, *lines, f"#END,{len(lines)}")) + "\n").encode()


def element(number: int, value: bytes, *, constructed: bool = False) -> bytes:
    """A context-specific BER element."""
    leading = 0xA0 if constructed else 0x80
    tag = bytes([leading | number]) if number < 31 else bytes([leading | 0x1F, number])
    return tag + _length(len(value)) + value


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def integer(value: int) -> bytes:
    """The shortest two's complement octets of a number."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def tbcd(digits: str) -> bytes:
    """Telephony digits, low half first, filled up with F."""
    even = digits + "f" * (len(digits) % 2)
    return bytes(int(even[at + 1] + even[at], 16) for at in range(0, len(even), 2))


def service(group: int = 9, uplink: int = 1000, downlink: int = 900_000) -> bytes:
    """One ChangeOfServiceCondition."""
    value = (
        element(1, integer(group))
        + element(8, bytes.fromhex("0080000000"))
        + element(12, integer(uplink))
        + element(13, integer(downlink))
        + element(14, bytes.fromhex("2610050900002b0800"))
    )
    return b"\x30" + _length(len(value)) + value


def packet_record(
    *,
    charging_id: int = 1001,
    msisdn: str = "8618600000001",
    imsi: str = "460010000000001",
    duration: int = 3600,
    part: int | None = None,
    services: Sequence[bytes] | None = None,
    more: bytes = b"",
) -> bytes:
    """A PGWRecord with every field we use."""
    value = (
        element(0, integer(85))
        + element(3, tbcd(imsi))
        + element(4, element(0, bytes([10, 44, 0, 1])), constructed=True)
        + element(5, integer(charging_id))
        + element(6, element(0, bytes([172, 16, 255, 9])), constructed=True)
        + element(7, b"3gnet")
        + element(13, bytes.fromhex("2610050830002b0800"))
        + element(14, integer(duration))
        + element(15, integer(0))
        + (b"" if part is None else element(17, integer(part)))
        + element(22, b"\x91" + tbcd(msisdn))
        + element(23, b"\x08\x00")
        + element(27, bytes.fromhex("64f010"))
        + element(29, tbcd("8600000000000017"))
        + element(30, integer(6))
        + element(34, b"".join([service()] if services is None else services), constructed=True)
        + element(35, b"\x0a\x01\x02", constructed=True)
        + more
        + element(37, bytes.fromhex("64f010"))
    )
    return element(79, value, constructed=True)


def framed(record: bytes, *, extended: bool = False) -> bytes:
    """A record behind its TS 32.297 header."""
    release = 7 if extended else 6
    header = len(record).to_bytes(2, "big") + bytes([release << 5 | 15, 1 << 5 | 7])
    return header + (b"\x05" if extended else b"") + record


def packet_file(frames: Sequence[bytes], *, sequence: int = 1, count: int | None = None) -> bytes:
    """A TS 32.297 file, closed on 5 October at 23:30 +0800."""
    body = b"".join(frames)
    moment = 10 << 28 | 5 << 23 | 23 << 18 | 30 << 12 | 1 << 11 | 8 << 6
    header = (
        bytes([0xC1, 0xC1])
        + moment.to_bytes(4, "big") * 2
        + (len(frames) if count is None else count).to_bytes(4, "big")
        + sequence.to_bytes(4, "big")
        + bytes([2])
        + bytes(20)
        + b"\x00"
        + b"\x00\x00"
        + b"\x00\x00"
    )
    size = len(header) + 8
    return (size + len(body)).to_bytes(4, "big") + size.to_bytes(4, "big") + header + body


@pytest.fixture(scope="session")
def build() -> Any:
    """The builders of this module, for tests."""
    return SimpleNamespace(
        switch_record=switch_record, switch_file=switch_file, roaming_file=roaming_file,
        element=element, integer=integer, tbcd=tbcd, service=service,
        packet_record=packet_record, framed=framed, packet_file=packet_file,
    )  # fmt: skip


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with an operational database that the tests of this folder share."""
    path = tmp_path_factory.mktemp("ingestion")
    settings = Settings(home=path)
    try:
        upgrade(settings)
        register_sources(settings)
        yield path
    finally:
        EmbeddedServer(path).remove()


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings of an empty installation: nothing landed, nothing journalled."""
    settings = Settings(home=home)
    for folder in (
        settings.landing_dir, settings.archive_dir, settings.quarantine_dir, settings.raw_dir,
        settings.seed_dir,
    ):  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
    settings.warehouse_file.unlink(missing_ok=True)
    with connect(settings) as connection:
        for table in ("rejected_record", "mediation_work", "file_alarm", "usage_file", "batch"):
            connection.execute(f"delete from control.{table}")
    return settings


@pytest.fixture
def deliver(settings: Settings) -> Any:
    """Put a file into a landing folder: ``deliver(source, name, content, received=RECEIVED)``."""

    def put(source: str, name: str, content: bytes, received: datetime = RECEIVED) -> Path:
        path = settings.landing_dir / source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (received.timestamp(), received.timestamp()))
        return path

    return put


@pytest.fixture
def journal(settings: Settings) -> Any:
    """The file journal as dictionaries by file id."""

    def read() -> dict[str, dict[str, Any]]:
        with connect(settings) as connection:
            cursor = connection.execute("select * from control.usage_file order by file_id")
            names = [column.name for column in cursor.description or []]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        for row in rows:
            reason = reason_of(row["status_reason_code"], row["status_reason_values"])
            row["status_reason"] = reason.en if reason else None
        return {row["file_id"]: row for row in rows}

    return read
