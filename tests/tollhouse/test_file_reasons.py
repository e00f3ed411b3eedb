"""Why a file is as it is can be told in both languages, whatever the reason is."""

from __future__ import annotations

import json
import re
from string import Formatter

import pytest

from tollhouse.file_reasons import INCOMPLETE, TEXTS, FileReason, kept_reason, reason_of
from tollhouse.settings import PROJECT_ROOT

GIVERS = r"FileReason|UnreadableFileError|_misnumbered|\.said"


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("code", TEXTS)
def test_both_languages_tell_the_reason(code: str) -> None:
    zh, en = TEXTS[code]
    values = {name: f"<{name}>" for name in places(zh) | places(en)}
    told = FileReason(code, values)
    assert re.search(r"[\u4e00-\u9fff]", zh) or code in ("told", "both")
    for name in places(zh) ^ places(en):
        assert name.endswith(("_zh", "_en")) or (code, name) == ("reloaded_incomplete", "source_id")
    assert all(f"<{name}>" in told.en for name in places(en))
    assert all(f"<{name}>" in told.zh for name in places(zh))


def test_every_code_that_is_given_has_a_text_and_every_text_is_given() -> None:
    given = set(INCOMPLETE) | {"told"}
    for room in ("ingestion", "expectations", "operational"):
        for path in (PROJECT_ROOT / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            given |= set(re.findall(rf'(?:{GIVERS})\(\s*"(\w+)"', text))
            given |= set(re.findall(r"status_reason_code = [\"'](\w+)[\"']", text))
    assert given == set(TEXTS)


def test_what_stands_in_a_value_is_never_read_as_a_place() -> None:
    reason = FileReason("misnamed", {"source_id": "M", "pattern": r"M_\d{8}_{x}"})
    assert reason.en == r"files of M are named like M_\d{8}_{x}"
    assert reason_of(None, {}) is None


def test_a_reason_within_a_reason_is_told_in_the_same_language_and_kept_with_it() -> None:
    lacks = FileReason("lacks_octets", {"octets": "7", "length": "90"})
    reason = FileReason("incomplete", {"lacks": lacks, "source_id": "M"})
    assert "lacks 7 of the 90 octets its header declares, so" in reason.en
    assert "文件缺少文件头声明的 90 字节中的 7 字节，" in reason.zh
    document = json.loads(json.dumps(reason.document()))
    assert reason_of("incomplete", document) == reason


def test_what_a_record_keeps_is_the_reason_again() -> None:
    twice = FileReason("twice", {"name": "recordType", "what": FileReason("the_record")})
    why = FileReason("both", {"first": FileReason("empty_line"), "then": twice})
    reason = FileReason("record_at", {"at": "52", "why": why})
    assert reason.en == "record at byte 52: an empty line; recordType stands twice in the record"
    assert reason.zh == "第 52 字节处的记录：空行；recordType 在该记录中出现两次"
    assert kept_reason(reason.kept()) == reason
    assert kept_reason(None) is kept_reason("") is None


def test_what_a_file_has_in_it_is_kept_as_text_that_a_database_holds() -> None:
    kept = FileReason("no_header_number", {"text": "1\0\udcff"}).document()
    assert kept == {"text": "1\\x00\\udcff"}
