"""Text files described by YAML: what is sound is decoded, what is not is kept and explained."""

from __future__ import annotations

import io
import json
import pickle
import random
import re
import time
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.formats import text, try_layout
from ingestion.formats.interface import (
    ARROW_TYPES,
    BATCH_RECORDS,
    HEAD_BYTES,
    RECORD_COLUMNS,
    USAGE_COLUMNS,
    RawFile,
    UnreadableFileError,
)
from ingestion.formats.text import TextFormat, load_layouts
from ingestion.formats.text_layout import Layout, LayoutError
from ingestion.formats.text_lines import LONGEST_LINE
from tests.ingestion.damage import told
from tollhouse.file_reasons import FileReason

SHIPPED = {layout.name: layout for layout in load_layouts(Path(text.__file__).parent)}
SWITCH, ROAMING = SHIPPED["switch_cdr"], SHIPPED["roaming_cdr"]
RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "add-a-source.md"
HEADER_OCTETS = 39  # of a switch file

SWITCH_FIELDS = {
    "service": "voice", "direction": "mo", "served_msisdn": "8618600000001",
    "served_imsi": "460010000000001", "served_imei": "8600000000000017",
    "other_party": "13912345678", "started_local": "20261005083000", "utc_offset": "+0800",
    "duration_s": "61", "serving_plmn": "46001", "cell_id": "28F1-0A2B",
    "trunk_group_in": "", "trunk_group_out": "CMCC-44-OUT1", "call_reference": "0001",
    "partial_sequence": "0", "is_last_partial": "1", "cause_for_closing": "0",
}  # fmt: skip


def switch_record(**changed: str) -> str:
    assert not changed.keys() - SWITCH_FIELDS.keys()
    return "|".join(("CDR", *{**SWITCH_FIELDS, **changed}.values()))


def switch_file(lines: Sequence[str], *, count: int | None = None) -> bytes:
    head = "HDR|MSC-44|000042|20261006000000|+0800"
    tail = f"TRL|{len(lines) if count is None else count}|61"
    return ("\n".join((head, *lines, tail)) + "\n").encode()


def roaming_file(lines: Sequence[str]) -> bytes:
    head = (
        "#DCH-00,000001,20261005160000,+0000\n"
        "record_id,service,direction,served_imsi,served_msisdn,other_party,started_local,"
        "utc_offset,duration_s,uplink_octets,downlink_octets,serving_plmn"
    )
    return ("\n".join((head, *lines, f"#END,{len(lines)}")) + "\n").encode()


ASTERISK = (
    '"","1001","02161234567","from-internal","""Li Lei"" <1001>","PJSIP/1001-1","PJSIP/out-2",'
    '"Dial","PJSIP/021,30","2026-10-05 08:30:00","2026-10-05 08:30:05","2026-10-05 08:31:00",60,55,'
    '"ANSWERED","DOCUMENTATION","1791.1",""\n'
    '"","13912345678","88001","from-trunk","13912345678","PJSIP/out-3","","Dial","",'
    '"2026-10-05 09:30:00",,"2026-10-05 09:31:00",60,0,"NO ANSWER","DOCUMENTATION"\n'
)
FREESWITCH = (
    '"Li Lei","1001","02161234567","default","2026-10-05 08:30:00","2026-10-05 08:30:05",'
    '"2026-10-05 08:31:00","60","55","NORMAL_CLEARING","c60a1f09","c60a1f10","","PCMA","PCMA"\n'
    '"","13912345678","88001","public","2026-10-05 09:30:00","","2026-10-05 09:31:00","60","0",'
    '"NO_ANSWER","c60a1f11","","","",""\n'
)
IPDR = (
    "serviceOctetsPassed,CMTShostName,CMmacAddress,unknown,IPDRcreationTime,RecType,"
    "serviceIdentifier,serviceDirection\n"
    "12345,cmts-1,00-11-22-33-44-55,x,2026-10-05T00:30:00Z,2,7,2\n"
    "999,cmts-1,00-11-22-33-44-55,x,2026-10-05T00:45:00Z,1,7,1\n"
)


def fixed_record(number: int, direction: int = 1, **changed: str) -> bytes:
    values = {
        "calling": "01066001234", "called": "13912345678", "started": "20261005083000",
        "duration": "010101", "office": "西单局",
    } | changed  # fmt: skip
    places = [
        ("20", 2), (str(number), 10), (str(direction), 1), (values["calling"], 20),
        (values["called"], 20), (values["started"], 14), (values["duration"], 6), ("T-1", 6),
        ("T-2", 6), ("0", 3), (values["office"], 12),
    ]  # fmt: skip
    return b"".join(value.encode("gb18030").ljust(size) for value, size in places)


def fixed_file(records: Sequence[bytes]) -> bytes:
    head = b"00" + "北京西单局".encode("gb18030").ljust(30) + b"PST-11    00000720261005083000"
    tail = f"99{len(records):08d}".encode()
    return b"\n".join([head.ljust(100), *records, tail.ljust(100)]) + b"\n"


def content_file(lines: Sequence[str]) -> bytes:
    head = "SPHDR|SPG-44|000001|20261005160000|+0800"
    body = [f"SP|{line}" for line in lines]
    return ("\n".join((head, *body, f"SPTRL|{len(lines)}")) + "\n").encode()


SAMPLES = {
    "switch_cdr": switch_file([switch_record(call_reference=str(at)) for at in range(6)]),
    "roaming_cdr": roaming_file(
        [f"r{at},data,,460,861,,20261005083000,+0900,60,10,20,44010" for at in range(6)]
    ),
    "asterisk_cdr": (ASTERISK * 3).encode(),
    "freeswitch_cdr": (FREESWITCH * 3).encode(),
    "ipdr": IPDR.encode(),
    "fixed_line_cdr": fixed_file([fixed_record(at) for at in range(6)]),
    "content_cdr": content_file(
        [f"8613000000001|901001|RBT001|20261005083000|+0800|t{at}|0" for at in range(6)]
    ),
}


def raw_file(content: bytes, zone: str = "Asia/Shanghai") -> RawFile:
    return RawFile.of_bytes(content, "sample", RECEIVED, ZoneInfo(zone))


def decode(text_format: TextFormat, content: bytes, zone: str = "Asia/Shanghai") -> pa.Table:
    """All batches of a file as one table of one chunk a column."""
    batches = list(text_format.decode(raw_file(content, zone)))
    assert all(batch.num_rows <= BATCH_RECORDS for batch in batches)
    return pa.concat_tables(batches).combine_chunks() if batches else pa.table({})


def rows_of(
    text_format: TextFormat, content: bytes, zone: str = "Asia/Shanghai"
) -> list[dict[str, Any]]:
    return told(decode(text_format, content, zone).to_pylist())


def errors_of(content: bytes) -> list[str | None]:
    return [row["_decode_error"] for row in rows_of(SWITCH, content)]


def layout(**keys: Any) -> TextFormat:
    """A format of a layout with the header line HEAD and these keys."""
    base = {"name": "sample", "kind": "delimited", "delimiter": ";", "header": ["HEAD"]}
    return TextFormat(Layout.model_validate(base | keys))


def field(rule: Any, *values: str, name: str = "duration_seconds", **keys: Any) -> list[Any]:
    """What a rule makes of the values of column `a`, one record each."""
    sample = layout(columns=["a", "b"], fields={name: rule}, **keys)
    content = "HEAD\n" + "".join(f"{value};x\n" for value in values)
    return [row[name] for row in rows_of(sample, content.encode())]


# ---- lines and their faults


def test_a_sound_line_gives_every_field_in_its_type() -> None:
    (row,) = rows_of(SWITCH, switch_file([switch_record(duration_s="-5")]))

    assert row["_decode_error"] is None
    assert row["_raw_record"] is None
    assert row["served_msisdn"] == "8618600000001"
    assert row["started_local"] == datetime(2026, 10, 5, 8, 30)  # noqa: DTZ001 local by meaning
    assert row["utc_offset_minutes"] == 480
    assert row["duration_seconds"] == -5  # judged later, where a reject gets its reason
    assert row["cause_for_closing"] == 0
    assert row["is_last_partial"] is True
    assert row["trunk_group_in"] is None  # an empty field


def test_a_batch_has_the_columns_of_the_contract_in_their_types() -> None:
    for name, content in SAMPLES.items():
        (batch,) = SHIPPED[name].decode(raw_file(content))
        kinds = {**RECORD_COLUMNS, **USAGE_COLUMNS}
        assert set(RECORD_COLUMNS) - set(batch.column_names) == {"_record_number"}
        assert {f.name: f.type for f in batch.schema} == {
            column: ARROW_TYPES[kinds[column]] for column in batch.column_names
        }


def test_offset_and_length_point_at_the_original_line() -> None:
    lines = [switch_record(call_reference=str(number)) for number in range(5)]
    content = switch_file(lines)

    for row, line in zip(rows_of(SWITCH, content), lines, strict=True):
        at, length = row["_byte_offset"], row["_byte_length"]
        assert content[at : at + length].decode() == line


def test_a_damaged_line_does_not_touch_its_neighbours() -> None:
    good = [switch_record(call_reference=str(number)) for number in range(3)]
    lines = [
        good[0], "CDR|voice|mo", "XYZ|1", "", good[1], switch_record(cell_id="a\x00b"),
        good[2], switch_record() + "|more",
    ]  # fmt: skip
    rows = rows_of(SWITCH, switch_file(lines))

    assert [row["_decode_error"] for row in rows] == [
        None, "field_count", "malformed", "malformed", None, "malformed", None, "field_count",
    ]  # fmt: skip
    assert [row["call_reference"] for row in rows if not row["_decode_error"]] == ["0", "1", "2"]


def test_an_undecodable_record_keeps_its_text_and_says_what_is_wrong() -> None:
    row = rows_of(SWITCH, switch_file([switch_record(), "CDR|voice|mo"]))[1]

    assert row["_raw_record"] == "CDR|voice|mo"
    assert row["_decode_detail"] == f"line 3 at byte {row['_byte_offset']}: 3 fields instead of 18"
    assert {value for name, value in row.items() if name in USAGE_COLUMNS} == {None}


def test_a_value_nobody_can_read_is_null_and_the_record_keeps_its_text() -> None:
    broken = switch_record(
        duration_s="6x", started_local="20260230083000", cause_for_closing="9" * 12
    )
    rows = rows_of(SWITCH, switch_file([switch_record(), broken, switch_record()]))

    assert [row["_raw_record"] for row in rows] == [None, broken, None]
    assert rows[1]["_decode_error"] is None
    assert rows[1]["served_msisdn"] == "8618600000001"
    assert (rows[1]["duration_seconds"], rows[1]["started_local"]) == (None, None)
    assert rows[1]["cause_for_closing"] is None


def test_text_that_is_not_utf8_spoils_only_its_own_line() -> None:
    content = switch_file([switch_record(cell_id="北京")] * 3)
    at = content.index("北".encode(), content.index("北".encode()) + 10)

    assert errors_of(content[:at] + b"\xff" + content[at + 1 :]) == [None, "malformed", None]


def test_a_file_cut_inside_a_record_has_one_truncated_record_and_no_declared_count() -> None:
    content = switch_file([switch_record()] * 3)
    cut = content[: content.index(b"TRL") - 10]
    facts = SWITCH.read_facts(raw_file(cut))

    assert errors_of(cut) == [None, None, "truncated"]
    assert (facts.declared_record_count, facts.lacks) == (
        None, FileReason("lacks_trailer", {"mark": "TRL"}),
    )  # fmt: skip


def test_a_file_cut_inside_its_trailer_has_lost_no_record() -> None:
    content = switch_file([switch_record()] * 3)

    for end in range(content.index(b"TRL") + 1, len(content)):
        assert errors_of(content[:end]) == [None, None, None]
        assert SWITCH.read_facts(raw_file(content[:end])).lacks is not None


def test_a_trailer_in_the_middle_is_a_malformed_record() -> None:
    assert errors_of(switch_file([switch_record(), "TRL|1|61", switch_record()])) == [
        None, "malformed", None,
    ]  # fmt: skip
    line = "r1,data,,460,861,,20261005083000,+0900,60,10,20,44010"
    rows = rows_of(ROAMING, roaming_file([line, "#END,1", line]))
    assert [row["_decode_error"] for row in rows] == [None, "malformed", None]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing_but_positions() -> None:
    content = switch_file([switch_record(), "CDR|short", switch_record()])
    positions = ["_byte_offset", "_decode_detail"]
    unix = decode(SWITCH, content).drop_columns(positions)
    windows = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")

    assert SWITCH.recognises(windows)
    assert unix.equals(decode(SWITCH, windows).drop_columns(positions))
    for row in rows_of(SWITCH, windows):
        at = row["_byte_offset"]
        assert windows[at : at + 3] == b"CDR"


def test_a_byte_order_mark_inside_the_file_is_part_of_its_value() -> None:
    sample = layout(columns=["a", "b"], fields={"cell_id": "a"})

    (row,) = rows_of(sample, "HEAD\n\ufeff1;x\n".encode())
    assert row["cell_id"] == "\ufeff1"


def test_a_file_without_records_gives_no_rows_and_its_facts() -> None:
    assert decode(SWITCH, switch_file([])).num_rows == 0
    assert SWITCH.read_facts(raw_file(switch_file([]))).declared_record_count == 0


def test_a_line_beyond_the_limit_is_one_malformed_record_however_it_is_read() -> None:
    long_line = "CDR|" + "x" * (LONGEST_LINE + 1)
    content = switch_file([switch_record(), long_line, switch_record()])

    for block in (1 << 12, 1 << 16, 1 << 23):
        rows = rows_of(TextFormat(SWITCH.layout, block_octets=block), content)
        assert [row["_decode_error"] for row in rows] == [None, "malformed", None]
        assert rows[1]["_byte_length"] == len(long_line)
        assert rows[1]["_decode_detail"] == (
            f"line 3 at byte {rows[1]['_byte_offset']}: a line longer than 1048576 bytes"
        )
        assert len(rows[1]["_raw_record"]) == 65_536


class _Endless(io.RawIOBase):
    """A header and then one line that does not end, without ever being held in memory."""

    def __init__(self, head: bytes, size: int) -> None:
        self._head, self._left = head, size - len(head)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
            return part
        count = min(size, self._left)
        self._left -= count
        return b"x" * count


def test_memory_is_bounded_by_the_block_for_a_line_longer_than_any() -> None:
    size = 256 * 2**20
    head = switch_file([])[:HEADER_OCTETS]
    edge = head + b"x" * (HEAD_BYTES - len(head))
    file = RawFile("long", size, edge, b"x" * HEAD_BYTES, RECEIVED, lambda: _Endless(head, size))  # type: ignore[arg-type,return-value]
    sample = TextFormat(SWITCH.layout, block_octets=2**20)
    tracemalloc.start()
    (batch,) = sample.decode(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert batch.column("_decode_error").to_pylist() == ["truncated"]
    assert batch.column("_byte_length").to_pylist() == [size - len(head)]
    assert peak < 16 * 2**20


def test_a_file_that_has_become_shorter_is_refused_with_the_byte() -> None:
    content = switch_file([switch_record()] * 3)
    file = raw_file(content)
    shorter = RawFile(
        file.name, file.size, file.head, file.tail, RECEIVED, lambda: io.BytesIO(content[:100])
    )

    with pytest.raises(UnreadableFileError, match="ends at byte 100"):
        list(SWITCH.decode(shorter))


def test_more_lines_than_a_batch_holds_come_in_several_batches() -> None:
    count = BATCH_RECORDS + 10
    content = b"HEAD\n" + b"1;x\n" * count
    sample = layout(columns=["a", "b"], fields={"duration_seconds": "a"})
    sizes = [batch.num_rows for batch in sample.decode(raw_file(content))]

    assert sum(sizes) == count
    assert max(sizes) <= BATCH_RECORDS


# ---- header and trailer


def test_header_and_trailer_give_the_facts() -> None:
    facts = SWITCH.read_facts(raw_file(switch_file([switch_record()], count=7)))

    assert (facts.source_id, facts.sequence_number) == ("MSC-44", 42)
    assert facts.created_at == datetime(2026, 10, 5, 16, 0, tzinfo=UTC)
    assert (facts.declared_record_count, facts.lacks) == (7, None)


def test_a_creation_time_without_offset_is_in_the_zone_of_the_source() -> None:
    content = SAMPLES["fixed_line_cdr"]
    shipped = SHIPPED["fixed_line_cdr"]

    assert shipped.read_facts(raw_file(content)).created_at == datetime(
        2026, 10, 5, 0, 30, tzinfo=UTC
    )
    assert shipped.read_facts(raw_file(content, "Asia/Tokyo")).created_at == datetime(
        2026, 10, 4, 23, 30, tzinfo=UTC
    )


def test_a_creation_time_that_does_not_exist_is_refused_with_the_time() -> None:
    content = switch_file([]).replace(b"20261006000000", b"20261306000000")

    with pytest.raises(UnreadableFileError, match="20261306000000"):
        SWITCH.read_facts(raw_file(content))


def test_each_sample_is_recognised_by_its_own_layout_only() -> None:
    for name, content in SAMPLES.items():
        claims = [other for other, shipped in SHIPPED.items() if shipped.recognises(content)]
        assert claims == [name]


def test_a_format_can_be_sent_to_a_worker_process() -> None:
    for name, content in SAMPLES.items():
        sent = pickle.loads(pickle.dumps(SHIPPED[name]))  # noqa: S301 our own
        assert decode(sent, content).equals(decode(SHIPPED[name], content))


@given(head=st.binary(max_size=200))
def test_no_layout_claims_noise(head: bytes) -> None:
    assert not [name for name, shipped in SHIPPED.items() if shipped.recognises(head)]


def test_lines_before_the_header_and_comments_are_passed_over_and_counted() -> None:
    sample = layout(
        preamble="!.*", comment="#", columns=["a", "b"], fields={"duration_seconds": "a"}
    )
    rows = rows_of(sample, b"! banner\n! more\nHEAD\n1;x\n# remark;\x01\n2;x\n3\n# end\n")

    assert [row["duration_seconds"] for row in rows] == [1, 2, None]
    assert rows[2]["_decode_detail"] == "line 7 at byte 40: 1 fields instead of 2"


def test_a_last_line_without_its_line_feed_counts_if_the_layout_says_so() -> None:
    keys: dict[str, Any] = {"columns": ["a", "b"], "fields": {"duration_seconds": "a"}}
    content = b"HEAD\n1;x\n2;x"
    lenient = layout(ends_with_line_feed=False, **keys)

    assert [row["_decode_error"] for row in rows_of(layout(**keys), content)] == [None, "truncated"]
    assert [row["duration_seconds"] for row in rows_of(lenient, content)] == [1, 2]
    assert lenient.read_facts(raw_file(content)).lacks is None
    assert layout(**keys).read_facts(raw_file(content)).lacks == FileReason("lacks_feed_of_record")


# ---- the rules of fields


def test_a_smaller_unit_is_rounded_as_declared() -> None:
    values = ("1", "1000", "1499", "1500", "-1")
    rule = {"column": "a", "divide_by": 1000}

    assert field(rule | {"rounding": "up"}, *values) == [1, 1, 2, 2, -1]
    assert field(rule | {"rounding": "down"}, *values) == [0, 1, 1, 1, 0]
    assert field(rule | {"rounding": "half_up"}, *values) == [0, 1, 1, 2, 0]


def test_a_larger_unit_is_multiplied_and_what_64_bits_cannot_hold_is_unreadable() -> None:
    rule = {"column": "a", "multiply_by": 1024}

    assert field(rule, "2", "9" * 18, "", name="uplink_octets") == [2048, None, None]


def test_only_decimal_digits_are_numbers() -> None:
    values = ("007", "-12", "+1", "0x1F", "1.0", " 1", "1e3", "٣", "9" * 18, "9" * 19, "-")

    assert field("a", *values) == [7, -12, *[None] * 6, 10**18 - 1, None, None]


def test_a_duration_may_be_a_clock_or_lie_between_two_times() -> None:
    assert field({"column": "a", "format": "%H:%M:%S"}, "01:01:01", "99:00:00", "00:61:00") == [
        3661, 356_400, None,
    ]  # fmt: skip
    sample = layout(
        columns=["a", "b"],
        fields={"duration_seconds": {"elapsed": {"start": "a", "end": "b"}}},
    )
    content = b"HEAD\n20261231235950;20270101000010\n20261231235950;\n2026;20270101000010\n"
    rows = rows_of(sample, content)
    assert [row["duration_seconds"] for row in rows] == [20, None, None]
    assert [row["_raw_record"] for row in rows] == [None, None, "2026;20270101000010"]


@given(
    moment=st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31, 23, 59, 59)),  # noqa: DTZ001
    form=st.sampled_from(
        ["%Y%m%d%H%M%S", "%Y-%m-%d %H:%M:%S", "%d/%m/%Y %H:%M", "%Y-%m-%dT%H:%M:%S.%f"]
    ),
)
def test_times_are_read_as_strptime_reads_them(moment: datetime, form: str) -> None:
    written = moment.strftime(form)
    if "%Y" in form and moment.year < 1000:
        return
    (value,) = field({"column": "a", "format": form}, written, name="started_local")

    assert value == datetime.strptime(written, form)  # noqa: DTZ007 local by meaning


@given(
    digits=st.from_regex(r"(19|20)[0-9]{2}[0-3][0-9][0-4][0-9][0-2][0-9][0-9]{4}", fullmatch=True)
)
def test_a_time_is_read_if_and_only_if_it_exists(digits: str) -> None:
    try:
        expected = datetime.strptime(digits, "%Y%m%d%H%M%S")  # noqa: DTZ007 local by meaning
    except ValueError:
        expected = None  # type: ignore[assignment]
    if digits.endswith(("60", "61")):
        expected = None  # type: ignore[assignment]  # strptime lets leap seconds pass

    assert field("a", digits, name="started_local") == [expected]


def test_a_time_in_utc_becomes_the_local_time_of_the_source() -> None:
    def read(rule: dict[str, Any], value: str, zone: str) -> tuple[Any, Any]:
        sample = layout(columns=["a", "b"], fields={"started_local": rule})
        (row,) = rows_of(sample, f"HEAD\n{value};x\n".encode(), zone)
        return row["started_local"].isoformat(), row["utc_offset_minutes"]

    utc = {"column": "a", "format": "%Y-%m-%dT%H:%M:%SZ", "in_utc": True}
    assert read(utc, "2026-07-01T00:00:00Z", "Asia/Shanghai") == ("2026-07-01T08:00:00", 480)
    assert read(utc, "2026-07-01T00:00:00Z", "Europe/Berlin") == ("2026-07-01T02:00:00", 120)
    assert read(utc, "2026-01-01T00:00:00Z", "Europe/Berlin") == ("2026-01-01T01:00:00", 60)
    epoch = {"column": "a", "format": "epoch"}
    assert read(epoch, "1782864000", "Asia/Shanghai") == ("2026-07-01T08:00:00", 480)
    assert read(epoch | {"format": "epoch_ms"}, "1782864000250", "UTC") == (
        "2026-07-01T00:00:00.250000", 0,
    )  # fmt: skip
    written = {"column": "a", "format": "%Y-%m-%dT%H:%M:%S%z"}
    assert read(written, "2026-07-01T08:00:00+09:30", "UTC") == ("2026-07-01T08:00:00", 570)


def test_a_local_time_has_the_offset_its_zone_had_then() -> None:
    sample = layout(columns=["a", "b"], fields={"started_local": "a"})
    content = b"HEAD\n20260329013000;x\n20260329033000;x\n20261025023000;x\n19000101000000;x\n"
    offsets = [row["utc_offset_minutes"] for row in rows_of(sample, content, "Europe/Berlin")]

    assert offsets[:3] == [60, 120, 120]  # of the hour that happens twice, the first
    fixed = layout(
        columns=["a", "b"],
        fields={"started_local": "a", "utc_offset_minutes": {"zone": "Asia/Tokyo"}},
    )
    assert {row["utc_offset_minutes"] for row in rows_of(fixed, content)} == {540}


def test_values_are_exchanged_chosen_joined_and_filled_in() -> None:
    sample = layout(
        columns=["a", "b"],
        fields={
            "service": {"column": "a", "map": {"V": "voice"}},
            "direction": {"column": "a", "map": {"V": "mo", "": "mt"}, "otherwise": None},
            "served_msisdn": {"choose": {"by": "a", "cases": {"V": "b"}, "otherwise": "a"}},
            "cell_id": {"column": "b", "when_empty": {"constant": 7}},
            "call_reference": {"columns": ["a", "b"]},
        },
    )
    rows = rows_of(sample, b"HEAD\nV;1\nx;\n;\n")
    names = ("service", "direction", "served_msisdn", "cell_id", "call_reference")

    assert [tuple(row[name] for name in names) for row in rows] == [
        ("voice", "mo", "1", "1", "V|1"),
        ("x", None, "x", "7", "x|"),
        (None, "mt", None, "7", None),
    ]


def test_a_truth_is_one_of_the_values_declared_for_it() -> None:
    rule = {"column": "a", "true_values": ["Y"], "false_values": ["N"]}

    assert field(rule, "Y", "N", "", "?", name="is_last_partial") == [True, False, None, None]


# ---- the shipped layouts


def test_a_data_session_abroad_is_outgoing_and_a_call_abroad_has_no_octets() -> None:
    lines = [
        "r1,data,,460,861,,20261005083000,+0900,60,10,,44010",
        "r2,voice,mt,460,861,,20261005083000,+0900,60,,,44010",
        "r2,data",
    ]
    rows = rows_of(ROAMING, roaming_file(lines))
    names = ("direction", "uplink_octets", "downlink_octets", "call_reference")

    assert [tuple(row[name] for name in names) for row in rows] == [
        ("mo", 10, None, "r1|44010"), ("mt", 0, 0, "r2|44010"), (None, None, None, None),
    ]  # fmt: skip
    assert rows[0]["utc_offset_minutes"] == 540
    assert rows[2]["_decode_error"] == "field_count"


@pytest.mark.parametrize("name", ["asterisk_cdr", "freeswitch_cdr"])
def test_a_call_of_an_office_exchange_is_outgoing_or_incoming_by_its_context(name: str) -> None:
    out, into = rows_of(SHIPPED[name], SAMPLES[name])[:2]

    assert (out["direction"], out["served_msisdn"], out["other_party"]) == (
        "mo", "1001", "02161234567",
    )  # fmt: skip
    assert (into["direction"], into["served_msisdn"], into["other_party"]) == (
        "mt", "88001", "13912345678",
    )  # fmt: skip
    assert (out["duration_seconds"], out["cause_for_closing"]) == (55, 0)
    assert (into["duration_seconds"], into["cause_for_closing"]) == (0, 3)
    assert out["started_local"].isoformat() == "2026-10-05T08:30:05"  # the answer
    assert into["started_local"].isoformat() == "2026-10-05T09:30:00"  # nobody answered
    assert out["call_reference"] != into["call_reference"]
    assert not any(row["_raw_record"] for row in (out, into))


def test_columns_of_ipdr_are_found_by_their_names_and_interim_records_are_no_usage() -> None:
    stop, interim = rows_of(SHIPPED["ipdr"], SAMPLES["ipdr"])

    assert (stop["service"], stop["uplink_octets"], stop["downlink_octets"]) == ("data", 0, 12_345)
    assert (stop["record_type"], interim["record_type"]) == ("ipdr_stop", "ipdr_interim")
    assert interim["service"] is None
    assert stop["started_local"].isoformat() == "2026-10-05T08:30:00"
    without = SAMPLES["ipdr"].replace(b"CMmacAddress", b"somethingElse")
    assert not SHIPPED["ipdr"].recognises(without)


def test_places_of_a_fixed_width_file_count_octets_of_chinese_text() -> None:
    records = [fixed_record(1), fixed_record(2, direction=2, office="复兴门"), fixed_record(3)[:-1]]
    rows = rows_of(SHIPPED["fixed_line_cdr"], fixed_file(records))

    assert [row["cell_id"] for row in rows] == ["西单局", "复兴门", None]
    assert (rows[0]["served_msisdn"], rows[1]["served_msisdn"]) == ("01066001234", "13912345678")
    assert rows[0]["duration_seconds"] == 3661
    assert rows[2]["_decode_detail"].endswith("99 bytes instead of 100")
    assert "西单局" in rows[2]["_raw_record"]
    facts = SHIPPED["fixed_line_cdr"].read_facts(raw_file(fixed_file(records)))
    assert (facts.source_id, facts.sequence_number, facts.declared_record_count) == ("PST-11", 7, 3)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('"a', "a quoted field that does not end in this line"),
        ('"a"b;c', "a quote inside a field that is not doubled"),
        ('a"b";c', "a quote inside a field that is not doubled"),
        ('"a;b"', "1 fields instead of 2"),
    ],
)
def test_a_quote_out_of_place_spoils_only_its_own_line(line: str, why: str) -> None:
    sample = layout(
        quote='"', columns=["a", "b"], fields={"cell_id": "a", "other_party": "b"}
    )  # fmt: skip
    rows = rows_of(sample, f'HEAD\n"x;""1""";2\n{line}\n3;"4"\n'.encode())

    assert [(row["cell_id"], row["other_party"]) for row in rows] == [
        ('x;"1"', "2"), (None, None), ("3", "4"),
    ]  # fmt: skip
    assert rows[1]["_decode_detail"].endswith(why)


# ---- properties

TEXT_FIELDS = [name for name, kind in USAGE_COLUMNS.items() if kind == "varchar"]


@st.composite
def delimited_files(draw: st.DrawFn) -> tuple[TextFormat, bytes, list[list[str]]]:
    encoding = draw(st.sampled_from(["utf-8", "gb18030"]))
    delimiter = draw(st.sampled_from(list(",;|\t")))
    quote = draw(st.sampled_from([None, '"', "'"]))
    record_type = draw(st.sampled_from([None, "R", "话"]))
    width = draw(st.integers(2, 6))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    excluded = "" if quote else delimiter
    value = st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=excluded), max_size=8
    )
    records = draw(st.lists(st.lists(value, min_size=width, max_size=width), max_size=12))
    names = [f"c{at}" for at in range(width)]

    def write(text_value: str, must: bool) -> str:
        if quote is None:
            return text_value
        if must or delimiter in text_value or quote in text_value:
            return quote + text_value.replace(quote, quote * 2) + quote
        return text_value

    lines = ["HEAD"]
    for record in records:
        quoted = draw(st.booleans())
        kind = [] if record_type is None else [record_type]
        lines.append(delimiter.join([*kind, *(write(item, quoted) for item in record)]))
    content = "".join(line + end for line in lines).encode(encoding)
    sample = Layout.model_validate(
        {
            "name": "sample",
            "kind": "delimited",
            "encoding": encoding,
            "delimiter": delimiter,
            "quote": quote,
            "header": ["HEAD"],
            "record_type": record_type,
            "columns": names,
            "fields": dict(zip(TEXT_FIELDS, names, strict=False)),
        }
    )
    block = draw(st.integers(1, 64))
    return TextFormat(sample, block_octets=block), content, records


@settings(max_examples=200)
@given(drawn=delimited_files())
def test_what_is_written_delimited_is_what_is_decoded_in_any_block_size(
    drawn: tuple[TextFormat, bytes, list[list[str]]],
) -> None:
    sample, content, records = drawn
    rows = rows_of(sample, content)
    names = list(sample.layout.fields)

    # Blanks at the end of the file would be no records: every record here has a delimiter.
    assert [row["_decode_error"] for row in rows] == [None] * len(records)
    assert [[row[name] for name in names] for row in rows] == [
        [item or None for item in record] for record in records
    ]


@st.composite
def fixed_files(draw: st.DrawFn) -> tuple[TextFormat, bytes, list[list[str]]]:
    encoding = draw(st.sampled_from(["utf-8", "gb18030", "ascii"]))
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    kinds = st.characters(
        exclude_categories=["Cs", "Cc", "Zs"], max_codepoint=127 if encoding == "ascii" else 0xFFFF
    )
    records = []
    for _ in range(draw(st.integers(0, 12))):
        record = []
        for size in sizes:
            value = draw(st.text(kinds, max_size=size))
            while len(value.encode(encoding)) > size:
                value = value[:-1]
            record.append(value)
        records.append(record)
    columns, start = [], 1
    for at, size in enumerate(sizes):
        columns.append({"name": f"c{at}", "start": start, "length": size})
        start += size
    lines = [b"HEAD"] + [
        b"".join(
            value.encode(encoding).ljust(size) for value, size in zip(record, sizes, strict=True)
        )
        for record in records
    ]
    sample = Layout.model_validate(
        {
            "name": "sample",
            "kind": "fixed_width",
            "encoding": encoding,
            "header": ["HEAD"],
            "columns": columns,
            "fields": {
                name: f"c{at}" for at, name in zip(range(len(sizes)), TEXT_FIELDS, strict=False)
            },
        }
    )
    block = draw(st.integers(1, 64))
    return TextFormat(sample, block_octets=block), b"\n".join([*lines, b""]), records


@settings(max_examples=200)
@given(drawn=fixed_files())
def test_what_is_written_in_fixed_width_is_what_is_decoded_in_any_block_size(
    drawn: tuple[TextFormat, bytes, list[list[str]]],
) -> None:
    sample, content, records = drawn
    rows = rows_of(sample, content)

    assert [row["_decode_error"] for row in rows] == [None] * len(records)
    assert [[row[name] for name in sample.layout.fields] for row in rows] == [
        [item or None for item in record] for record in records
    ]


def assert_every_line_is_accounted_for(
    sample: Layout, content: bytes, rows: list[dict[str, Any]]
) -> None:
    """Every line behind the header is one row, in order; only blank ends and a trailer are none."""
    expected = {}
    at = 0
    for line in content.split(b"\n"):
        expected[at] = line.removesuffix(b"\r")
        at += len(line) + 1
    for place in list(expected)[: len(sample.header)]:
        del expected[place]
    last = -1
    for row in rows:
        place = row["_byte_offset"]
        assert place > last
        last = place
        assert row["_byte_length"] == len(expected.pop(place))
        assert row["_decode_error"] in (None, "field_count", "malformed", "truncated")
        assert (row["_decode_error"] is None) == (row["_decode_detail"] is None)
        if row["_decode_error"]:
            assert row["_raw_record"] is not None
            number = content[:place].count(b"\n") + 1
            assert row["_decode_detail"].startswith(f"line {number} at byte {place}: ")
    assert all(place > last for place in expected)
    left = [line for line in expected.values() if line.strip(b"\r")]
    if left:
        assert sample.trailer is not None
        (trailer,) = left
        mark = sample.trailer.mark.encode()
        assert trailer.startswith(mark) or mark.startswith(trailer)


def corrupt(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four wounds of the kinds that lines and discs inflict."""
    broken = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(broken) + 1)
        match chance.randrange(7):
            case 0 if at < len(broken):
                broken[at] ^= 1 << chance.randrange(8)
            case 1:
                broken[at : at + chance.randrange(40)] = b""
            case 2:
                broken[at:at] = chance.randbytes(chance.randrange(1, 30))
            case 3:
                broken[at:at] = chance.choice([b"\n", b"\r\n", b"\0", b'"', b"|", b",", b"\xff"])
            case 4:
                broken[at:at] = broken[at : at + chance.randrange(200)]
            case 5:
                del broken[max(at, len(broken) // 2) :]
            case _:
                broken[at : at + 20] = bytes(20)
    return bytes(broken)


@pytest.mark.parametrize("name", list(SAMPLES))
def test_a_thousand_corruptions_neither_crash_nor_hang_nor_lose_a_line(name: str) -> None:
    chance = random.Random(f"corruptions of {name}")
    began = time.monotonic()
    recognised = 0
    for _ in range(1000):
        content = corrupt(SAMPLES[name], chance)
        sample = TextFormat(SHIPPED[name].layout, block_octets=chance.choice([7, 100, 2**20]))
        if not sample.recognises(content[:HEAD_BYTES]):
            with pytest.raises(UnreadableFileError):
                sample.read_facts(raw_file(content))
            continue
        recognised += 1
        try:
            sample.read_facts(raw_file(content))
        except UnreadableFileError as error:
            assert "sample" in str(error)
        assert_every_line_is_accounted_for(sample.layout, content, rows_of(sample, content))

    assert recognised > 300
    assert time.monotonic() - began < 120


@given(noise=st.binary(max_size=300), block=st.integers(1, 50))
def test_any_bytes_behind_the_header_give_the_same_rows_in_any_block_size(
    noise: bytes, block: int
) -> None:
    content = switch_file([])[:HEADER_OCTETS] + noise
    whole = decode(SWITCH, content)

    assert decode(TextFormat(SWITCH.layout, block_octets=block), content).equals(whole)
    assert_every_line_is_accounted_for(SWITCH.layout, content, told(whole.to_pylist()))


@given(data=st.data())
def test_a_flipped_bit_spoils_at_most_the_lines_it_joins(data: st.DataObject) -> None:
    content = bytearray(SAMPLES["switch_cdr"])
    at = data.draw(st.integers(HEADER_OCTETS, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    rows = rows_of(SWITCH, bytes(content))

    intact = {row["call_reference"] for row in rows if not row["_decode_error"]}
    assert len(intact & {str(number) for number in range(6)}) >= 4


@given(end=st.integers(0, 2000))
def test_any_cut_leaves_the_whole_lines_before_it(end: int) -> None:
    content = SAMPLES["switch_cdr"][:end]
    if not SWITCH.recognises(content):
        assert content.count(b"\n") == 0  # the header itself is cut
        return
    whole = content.count(b"\n") - 1  # line feeds behind the header
    errors = errors_of(content)

    assert errors[: min(whole, 6)] == [None] * min(whole, 6)
    assert set(errors[min(whole, 6) :]) <= {"truncated"}
    assert len(errors) <= min(whole, 6) + 1


# ---- wrong layouts

GOOD = {
    "name": "sample", "kind": "delimited", "delimiter": ";", "header": ["HEAD"],
    "columns": ["a", "b"], "fields": {"service": "a"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "name: Input should be a valid string, not None: correct it"),
        ({"colour": 1}, "colour: is no key of a layout: remove it or correct its name"),
        ({"delimiter": None}, "'delimiter' is missing: add it"),
        ({"header": []}, "has neither 'header' nor 'first_line'"),
        ({"header": ["(a"]}, r"header: '\(a' is no regular expression"),
        ({"header": ["(?P<who>a)"]}, "header: group 'who' is not known here"),
        ({"columns": ["a", "a"]}, "columns: a stands twice"),
        ({"encoding": "utf-16"}, "encoding: .*'utf-16': correct it"),
        ({"fields": {"tariff": "a"}}, "fields: 'tariff' is none of record_type"),
        ({"fields": {"service": "c"}}, "service uses 'c', which is no column: add it to 'columns'"),
        ({"fields": {"service": {}}}, "fields.service: has none of them: give exactly one of"),
        (
            {"fields": {"duration_seconds": {"column": "a", "divide_by": 1000}}},
            "duration_seconds: a smaller unit needs both 'divide_by' and 'rounding'",
        ),
        (
            {"fields": {"started_local": {"column": "a", "format": "%H:%M"}}},
            "started_local: format '%H:%M' has no whole date",
        ),
        (
            {"fields": {"started_local": {"column": "a", "format": "%Y%j"}}},
            "started_local: format '%Y%j' has '%j': give %Y",
        ),
        (
            {"fields": {"service": {"column": "a", "in_utc": True}}},
            "service: 'in_utc' says nothing about service: remove it",
        ),
        (
            {"fields": {"utc_offset_minutes": {"zone": "Asia/Nowhere"}}},
            "'Asia/Nowhere' is no time zone",
        ),
        ({"kind": "fixed_width"}, "'delimiter' is for delimited files: remove it"),
        ({"kind": "fixed_width", "delimiter": None}, "columns: a needs 'start' and 'length'"),
    ],
)
def test_a_wrong_layout_is_refused_with_file_key_and_what_to_do(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "sample.yaml"
    path.write_text(json.dumps(GOOD | change), encoding="utf-8")

    with pytest.raises(LayoutError, match=f"{re.escape(str(path))}: .*{message}"):
        load_layouts(tmp_path)


def test_yaml_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "sample.yaml").write_text("name: a\nkind: [delimited\n", encoding="utf-8")

    with pytest.raises(LayoutError, match=r"sample\.yaml: line 3, column 1: .*correct the YAML"):
        load_layouts(tmp_path)


def test_a_map_key_that_yaml_takes_for_a_truth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sample.yaml").write_text(
        json.dumps(GOOD).replace('"a"}', "{column: a, map: {yes: voice}}}"), encoding="utf-8"
    )

    with pytest.raises(LayoutError, match="reads as true or false: put it in quotes"):
        load_layouts(tmp_path)


def test_two_layouts_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(json.dumps(GOOD), encoding="utf-8")

    with pytest.raises(LayoutError, match=r"b\.yaml: name: 'sample' is already that of a\.yaml"):
        load_layouts(tmp_path)


# ---- the runbook


def test_the_runbook_followed_to_the_letter_reads_its_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = {
        kind: [re.sub(r"(?m)^   ", "", block) for block in found]
        for kind in ("yaml", "text", "sh", "json")
        if (found := re.findall(rf"```{kind}\n(.*?) *```", RUNBOOK.read_text("utf-8"), re.S))
    }
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "vas_cdr.yaml").write_text(blocks["yaml"][0], encoding="utf-8")
    (tmp_path / "sample.txt").write_bytes(blocks["text"][0].encode("gb18030"))
    monkeypatch.chdir(tmp_path)
    command = blocks["sh"][0].split()

    assert command[:3] == ["python", "-m", try_layout.__name__]
    assert try_layout.main(command[3:]) == 1  # a value could not be read
    facts, good, wrong, totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert totals == json.loads(blocks["json"][0])
    assert facts["file"]["source_id"] == "VAC-44"
    assert facts["file"]["declared_record_count"] == 2
    assert (good["service"], good["duration_seconds"], good["downlink_octets"]) == ("vas", 62, 0)
    assert (wrong["service"], wrong["downlink_octets"]) == ("data", 2_097_152)
    assert "started_local" not in wrong
    (vas,) = load_layouts(tmp_path / "formats")
    assert vas.recognises((tmp_path / "sample.txt").read_bytes())


def test_a_layout_or_file_that_cannot_be_used_ends_the_trial_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sample.yaml"
    path.write_text(json.dumps(GOOD | {"colour": 1}), encoding="utf-8")

    assert try_layout.main([str(path), str(path)]) == 2
    assert f"{path}: colour: is no key" in capsys.readouterr().err
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert try_layout.main([str(path), str(path)]) == 2
    assert "does not begin as a file of sample" in capsys.readouterr().err
