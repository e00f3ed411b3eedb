"""Delimited text files: what is sound is decoded, what is not is kept and explained."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.formats import FORMATS, UnreadableFileError, recognise
from ingestion.formats.delimited import load_layouts

SWITCH = FORMATS["switch_cdr"]
ROAMING = FORMATS["roaming_cdr"]
RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)


def faults(content: bytes) -> list[str | None]:
    errors: list[str | None] = SWITCH.decode(content).column("_decode_error").to_pylist()
    return errors


def test_a_sound_line_gives_every_field_as_text(build: Any) -> None:
    (row,) = SWITCH.decode(build.switch_file([build.switch_record(duration_s="-5")])).to_pylist()

    assert row["_record_number"] == 1
    assert row["_decode_error"] is None
    assert row["served_msisdn"] == "8618600000001"
    assert row["duration_s"] == "-5"  # judged later, where a reject gets its reason
    assert row["cause_for_closing"] == "0"
    assert row["trunk_group_in"] is None  # an empty field


def test_offset_and_length_point_at_the_original_line(build: Any) -> None:
    lines = [build.switch_record(call_reference=str(number)) for number in range(5)]
    content = build.switch_file(lines)

    for row, line in zip(SWITCH.decode(content).to_pylist(), lines, strict=True):
        at, length = row["_byte_offset"], row["_byte_length"]
        assert content[at : at + length].decode() == line


def test_a_damaged_line_does_not_touch_its_neighbours(build: Any) -> None:
    good = [build.switch_record(call_reference=str(number)) for number in range(3)]
    lines = [
        good[0], "CDR|voice|mo", "XYZ|1", "", good[1], build.switch_record(cell_id="a\x00b"),
        good[2], build.switch_record() + "|more",
    ]  # fmt: skip
    rows = SWITCH.decode(build.switch_file(lines)).to_pylist()

    assert [row["_decode_error"] for row in rows] == [
        None, "field_count", "malformed", "malformed", None, "malformed", None, "field_count",
    ]  # fmt: skip
    assert [row["_record_number"] for row in rows] == list(range(1, 9))
    assert [row["call_reference"] for row in rows if not row["_decode_error"]] == ["0", "1", "2"]


def test_an_undecodable_record_keeps_its_text_and_says_what_is_wrong(build: Any) -> None:
    content = build.switch_file([build.switch_record(), "CDR|voice|mo"])
    row = SWITCH.decode(content).to_pylist()[1]

    assert row["_raw_record"] == "CDR|voice|mo"
    assert row["_decode_detail"] == f"line 3 at byte {row['_byte_offset']}: 3 fields instead of 18"
    assert {row[name] for name in SWITCH.columns} == {None}


def test_text_that_is_not_utf8_spoils_only_its_own_line(build: Any) -> None:
    content = build.switch_file([build.switch_record(cell_id="北京")] * 3)
    at = content.index("北".encode(), content.index("北".encode()) + 10)
    broken = content[:at] + b"\xff" + content[at + 1 :]

    assert faults(broken) == [None, "malformed", None]


def test_a_file_cut_inside_a_record_has_one_truncated_record_and_no_declared_count(
    build: Any,
) -> None:
    content = build.switch_file([build.switch_record()] * 3)
    cut = content[: content.index(b"TRL") - 10]

    assert faults(cut) == [None, None, "truncated"]
    assert SWITCH.read_facts(cut, "name", RECEIVED).declared_record_count is None


def test_a_file_cut_inside_its_trailer_has_lost_no_record(build: Any) -> None:
    content = build.switch_file([build.switch_record()] * 3)
    trailer = content.index(b"TRL")

    for end in range(trailer + 1, len(content)):
        assert faults(content[:end]) == [None, None, None]


def test_a_trailer_in_the_middle_is_a_malformed_record(build: Any) -> None:
    content = build.switch_file([build.switch_record(), "TRL|1|61", build.switch_record()])

    assert faults(content) == [None, "malformed", None]


def test_windows_line_ends_change_nothing_but_positions(build: Any) -> None:
    content = build.switch_file([build.switch_record(), "CDR|short", build.switch_record()])
    positions = ["_byte_offset", "_decode_detail"]
    unix = SWITCH.decode(content).drop_columns(positions)
    windows = SWITCH.decode(content.replace(b"\n", b"\r\n")).drop_columns(positions)

    assert unix.equals(windows)


def test_a_file_without_records_gives_an_empty_table(build: Any) -> None:
    table = SWITCH.decode(build.switch_file([]))

    assert table.num_rows == 0
    assert set(SWITCH.columns) < set(table.column_names)


def test_header_and_trailer_give_the_facts(build: Any) -> None:
    content = build.switch_file([build.switch_record()], source="MSC-51", sequence=42, count=7)
    facts = SWITCH.read_facts(content, "name", RECEIVED)

    assert (facts.source_id, facts.sequence_number) == ("MSC-51", 42)
    assert facts.created_at == datetime(2026, 10, 5, 16, 0, tzinfo=UTC)
    assert facts.declared_record_count == 7


def test_a_creation_time_that_does_not_exist_is_refused_with_the_time(build: Any) -> None:
    content = build.switch_file([]).replace(b"20261006000000", b"20261306000000")

    with pytest.raises(UnreadableFileError, match="20261306000000"):
        SWITCH.read_facts(content, "name", RECEIVED)


def test_roaming_records_are_the_lines_between_column_names_and_end(build: Any) -> None:
    data = "r1,data,mo,460010000000001,8618600000001,,20261005083000,+0900,60,10,20,44010"
    content = build.roaming_file([data, "r2,data", "#comment", data.replace("r1", "r3")])
    rows = ROAMING.decode(content).to_pylist()

    assert [row["_decode_error"] for row in rows] == [None, "field_count", "malformed", None]
    assert (rows[0]["record_id"], rows[0]["other_party"]) == ("r1", None)
    assert rows[3]["serving_plmn"] == "44010"
    assert ROAMING.read_facts(content, "name", RECEIVED).declared_record_count == 4


def test_a_new_delimited_source_needs_only_a_layout(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text(
        "name: card\ntable: raw.card\ndelimiter: ';'\n"
        "header: ['CARD;(?P<source_id>[A-Z0-9-]+);(?P<sequence_number>\\d+);"
        "(?P<created>\\d{14});(?P<utc_offset>[+-]\\d{4})']\n"
        "record_type: null\ntrailer_type: END\ntrailer: 'END;(?P<record_count>\\d+)'\n"
        "columns: [card_number, amount]\n"
    )
    (card,) = load_layouts(tmp_path)
    content = b"CARD;VC-00;7;20261006000000;+0800\n123;50\n124;100\nEND;2\n"

    assert card.recognises(content)
    assert card.read_facts(content, "x", RECEIVED).declared_record_count == 2
    assert card.decode(content).column("amount").to_pylist() == ["50", "100"]


@given(noise=st.binary(max_size=300))
def test_no_bytes_between_header_and_end_raise_or_get_lost(build: Any, noise: bytes) -> None:
    header = build.switch_file([])[:39]
    table = SWITCH.decode(header + noise)

    expected = noise.rstrip(b"\r\n").split(b"\n") if noise.rstrip(b"\r\n") else []
    assert table.num_rows in (len(expected), len(expected) - 1)  # the last may be a trailer
    for row in table.to_pylist():
        assert row["_decode_error"] or row["service"] is not None or b"CDR||" in noise


@given(data=st.data())
def test_a_flipped_bit_spoils_at_most_the_lines_it_joins(build: Any, data: st.DataObject) -> None:
    lines = [build.switch_record(call_reference=str(number)) for number in range(6)]
    content = bytearray(build.switch_file(lines))
    at = data.draw(st.integers(39, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    rows = SWITCH.decode(bytes(content)).to_pylist()

    intact = {row["call_reference"] for row in rows if not row["_decode_error"]}
    assert len(intact & {str(number) for number in range(6)}) >= 4


@given(end=st.integers(0, 2000))
def test_any_cut_leaves_the_whole_lines_before_it(build: Any, end: int) -> None:
    lines = [build.switch_record(call_reference=str(number)) for number in range(6)]
    content = build.switch_file(lines)[:end]
    if recognise(content) is None:
        assert content.count(b"\n") == 0  # the header itself is cut
        return
    whole = content.count(b"\n") - 1  # line feeds behind the header
    errors = faults(content)

    assert errors[: min(whole, 6)] == [None] * min(whole, 6)
    assert set(errors[min(whole, 6) :]) <= {"truncated"}
    assert len(errors) <= min(whole, 6) + 1
