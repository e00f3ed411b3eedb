"""The lists of sources: the shipped one and one of the user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingestion import collect, land
from ingestion.sources import (
    Source,
    SourcesError,
    load_sources,
    raw_formats,
    register_sources,
)
from tollhouse.postgres import connect
from tollhouse.settings import Settings

OWN = {
    "source_id": "MSC-99", "name_zh": "测试", "name_en": "Test", "format": "switch_cdr",
    "province_code": "44", "file_name": r"MSC-99_.*\.cdr", "sequence_rule": "continuous",
    "late_after_hours": 24,
}  # fmt: skip


def own(tmp_path: Path, *entries: dict[str, Any], home: Path | None = None) -> Settings:
    """Settings with a folder of the user's own that lists these sources."""
    text = json.dumps({"sources": list(entries)})  # JSON is YAML
    (tmp_path / "sources.yaml").write_text(text, encoding="utf-8")
    return Settings(home=home or tmp_path, sources_dir=tmp_path)


def test_every_shipped_source_names_a_format_and_a_province() -> None:
    sources = load_sources(Settings())

    assert set(sources) == {
        "MSC-11", "MSC-44", "MSC-51", "PGW-11", "PGW-44", "PGW-51", "DCH-00",
    }  # fmt: skip
    assert {source.format for source in sources.values()} <= set(raw_formats(Settings()))
    assert {source.province_code for source in sources.values()} == {"00", "11", "44", "51"}


def test_file_names_are_those_of_their_source_alone() -> None:
    sources = load_sources(Settings())

    assert sources["MSC-44"].names_its_files("MSC-44_20261005_000123.cdr")
    assert sources["PGW-44"].names_its_files("PGW-44_-_123.20261005_-_0130+0800")
    assert not sources["MSC-11"].names_its_files("MSC-44_20261005_000123.cdr")
    assert not sources["MSC-44"].names_its_files("MSC-44_20261005_000123.cdr.bak")


def test_own_sources_come_in_addition(tmp_path: Path) -> None:
    sources = load_sources(own(tmp_path, OWN))

    assert "MSC-44" in sources
    assert sources["MSC-99"].name == "测试 Test"
    assert sources["MSC-99"].name_in_files == "MSC-99"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "tap9"}, "source MSC-99: no raw format is called 'tap9'; there are "),
        ({"source_id": "MSC-44"}, "the source MSC-44 is listed twice"),
        ({"location": "sftp://me:geheim@host/out"}, "a password does not belong into a URL"),
        ({"location": "gopher://host/out"}, "gopher:// is unknown"),
        ({"location": "out"}, "neither an absolute path nor a URL"),
        ({"credentials": {"password": "geheim"}}, "not the name of an environment variable"),
        ({"credentials": {"password": "TOLLHOUSE_X"}}, "not beginning with TOLLHOUSE_"),
        ({"credentials": {"pin": "PIN"}}, "'pin' is none of user, password"),
        ({"timezone": "Asia/Atlantis"}, "no time zone is called 'Asia/Atlantis'"),
        ({"expected_every_minutes": 0}, "source MSC-99, expected_every_minutes"),
        ({"duplicate_window_days": 0}, "source MSC-99, duplicate_window_days"),
        (
            {"file_name": r"(?P<number>\d+)"},
            "source MSC-99, file_name: Value error, the group 'number' means nothing",
        ),
        (
            {"sequence_first": 1},
            "source MSC-99, sequence_last: Value error, numbers that begin anew have both",
        ),
        (
            {"sequence_first": 9, "sequence_last": 9},
            "source MSC-99, sequence_last: Value error, 9 is not above sequence_first",
        ),
        ({"sequence_restarts": "weekly"}, "source MSC-99, sequence_restarts"),
        ({"after_collection": "burn"}, "source MSC-99, after_collection"),
        (
            {"sequence_restarts": "daily"},
            "source MSC-99, sequence_restarts: Value error, numbers that begin anew every day need",
        ),
        ({"long_call_timeout_hours": "two"}, "source MSC-99, long_call_timeout_hours"),
        ({"file_name": "("}, "source MSC-99, file_name: Value error, is no regular expression: "),
        ({"province_code": "99"}, "the province reference data has no code '99'"),
        (
            {"format": "radius_detail"},
            "source MSC-99, sequence_rule: files of format radius_detail have no sequence number",
        ),
        ({"format": "ipdr"}, "files of format ipdr have no sequence number"),
        (
            {"format": "ipdr", "sequence_rule": "none", "sequence_first": 1, "sequence_last": 9},
            "source MSC-99, sequence_first: files of format ipdr have no sequence number",
        ),
        (
            {
                "format": "ipdr",
                "sequence_rule": "none",
                "sequence_restarts": "daily",
                "file_name": r"(?P<date>\d{8})\.ipdr",
            },
            "source MSC-99, sequence_restarts: files of format ipdr have no sequence number",
        ),
        ({"colour": "red"}, "source MSC-99, colour"),
    ],
)
def test_a_wrong_entry_is_refused_with_file_and_entry_and_without_secrets(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SourcesError) as refusal:
        load_sources(own(tmp_path, OWN | change))

    assert reason in str(refusal.value)
    assert str(tmp_path / "sources.yaml") in str(refusal.value)
    assert "geheim" not in str(refusal.value)


def test_a_format_that_numbers_no_file_is_taken_without_a_rule(tmp_path: Path) -> None:
    change = {"format": "radius_detail", "sequence_rule": "none"}
    assert load_sources(own(tmp_path, OWN | change))["MSC-99"].format == "radius_detail"


def test_an_own_folder_without_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourcesError, match=r"there is no .*sources\.yaml"):
        load_sources(Settings(sources_dir=tmp_path))


LAYOUT = r"""
name: own_cdr
kind: delimited
delimiter: ";"
header:
  - 'OWN;(?P<source_id>[A-Z0-9-]+);(?P<sequence_number>\d+);(?P<created>\d{14});(?P<utc_offset>.+)'
trailer:
  mark: END
  pattern: 'END;(?P<record_count>\d{1,9})'
columns: [kind, msisdn, started_local, offset, seconds, reference]
fields:
  service: kind
  direction: {constant: mo}
  served_msisdn: msisdn
  started_local: {column: started_local, format: "%Y%m%d%H%M%S"}
  utc_offset_minutes: offset
  duration_seconds: seconds
  call_reference: reference
"""
CONTENT = (
    b"OWN;SWITCH9;000001;20261006000000;+0800\n"
    b"voice;8618600000001;20261005083000;+0800;61;a1\n"
    b"END;1\n"
)


def test_a_format_and_source_of_ones_own_land_without_a_line_of_code(
    settings: Settings, deliver: Any, tmp_path: Path
) -> None:
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "own_cdr.yaml").write_text(LAYOUT, encoding="utf-8")
    entry = OWN | {"format": "own_cdr", "sender": "SWITCH9"}
    with_own = own(tmp_path, entry, home=settings.home)
    deliver("MSC-99", "MSC-99_1.cdr", CONTENT)

    assert collect(with_own).collected == ["MSC-99/MSC-99_1.cdr"]
    assert land(with_own).records == 1


def test_a_layout_with_the_name_of_a_shipped_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "formats").mkdir()
    text = LAYOUT.replace("name: own_cdr", "name: tap3")
    (tmp_path / "formats" / "tap3.yaml").write_text(text, encoding="utf-8")

    with pytest.raises(SourcesError, match="a format called tap3 is there already"):
        load_sources(own(tmp_path, OWN))


def versions(settings: Settings, source_id: str) -> int:
    with connect(settings) as connection:
        row = connection.execute(
            "select count(*) from control.source_version where source_id = %s", (source_id,)
        ).fetchone()
    return row[0] if row else 0


def test_registering_twice_leaves_one_row_and_one_version_a_source(settings: Settings) -> None:
    register_sources(settings)
    before = versions(settings, "DCH-00")

    assert register_sources(settings) == 7
    assert versions(settings, "DCH-00") == before
    with connect(settings) as connection:
        row = connection.execute(
            "select name_zh, name_en, timezone, country_code, location, split_at_midnight"
            " from control.source where source_id = 'DCH-00'"
        ).fetchone()
    assert row == (
        "国际漫游数据清算所", "Clearing house of international roaming", "Asia/Shanghai", "86",
        None, False,
    )  # fmt: skip


PARAMETERS = set(Source.model_fields) - {"credentials"}


def latest_version(settings: Settings, source_id: str) -> tuple[int, dict[str, Any]]:
    with connect(settings) as connection:
        row = connection.execute(
            "select version, content from control.source_version where source_id = %s"
            " order by version desc limit 1",
            (source_id,),
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_every_parameter_but_credentials_is_kept_with_a_version(
    settings: Settings, tmp_path: Path
) -> None:
    entry = OWN | {
        "source_id": "MSC-98", "sender": "SWITCH8", "settle_minutes": 3, "done_marker": ".done",
        "archive_days": 90, "credentials": {"password": "PASSWORD_OF_98"},
    }  # fmt: skip
    register_sources(own(tmp_path, entry, home=settings.home))

    _, content = latest_version(settings, "MSC-98")
    assert set(content) == PARAMETERS
    assert {name: content[name] for name in entry if name in PARAMETERS} == {
        name: value for name, value in entry.items() if name != "credentials"
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"file_name": r"MSC-97-.*\.cdr"}, {"sender": "SWITCH7"}, {"settle_minutes": 0},
        {"done_marker": ".ok"}, {"archive_days": 7},
        {"duplicate_window_days": 30}, {"long_call_timeout_hours": 24},
        {"sequence_first": 1, "sequence_last": 9999}, {"after_collection": "move"},
        {"archive_days": 8, "sender": None, "late_after_hours": 48},
    ],
)  # fmt: skip
def test_a_changed_parameter_is_a_new_version_and_the_log_says_who_changed_what(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "collector")
    entry = OWN | {"source_id": "MSC-97", "sender": "SWITCH6"}
    register_sources(own(tmp_path, entry, home=settings.home))
    number, before = latest_version(settings, "MSC-97")
    for _ in range(2):  # the second time nothing changes
        register_sources(own(tmp_path, entry | changes, home=settings.home))

    version, content = latest_version(settings, "MSC-97")
    assert version == number + 1
    assert {name for name in content if content[name] != before[name]} == set(changes)
    told = {
        name: f"{'–' if before[name] is None else before[name]} → {'–' if value is None else value}"
        for name, value in changes.items()
    }
    with connect(settings) as connection:
        logged = connection.execute(
            "select username, province_code, detail from identity.audit_log"
            " where action = 'change_source' and entity_id = 'MSC-97' order by id desc limit 2"
        ).fetchall()
    assert logged[0] == ("collector", "44", {"version": version, "changes": told})
    assert logged[1][2]["version"] == number


def test_the_first_version_of_a_source_is_logged_and_a_user_without_a_name_is_the_system(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    register_sources(own(tmp_path, OWN | {"source_id": "MSC-96"}, home=settings.home))

    with connect(settings) as connection:
        logged = connection.execute(
            "select username, detail from identity.audit_log"
            " where action = 'change_source' and entity_id = 'MSC-96'"
        ).fetchall()
    assert logged == [("system", {"version": 1, "changes": None})]


def test_a_file_keeps_the_parameters_in_force_when_it_was_landed(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any
) -> None:
    source = OWN | {"source_id": "MSC-93", "file_name": r"MSC-93_\d+\.cdr"}

    def land_one(number: int, **parameters: int) -> None:
        changed = own(tmp_path, source | parameters, home=settings.home)
        content = build.switch_file(
            [build.switch_record(call_reference=str(number))], source="MSC-93", sequence=number
        )
        deliver("MSC-93", f"MSC-93_{number}.cdr", content)
        collect(changed)
        land(changed)

    land_one(1)
    land_one(2, duplicate_window_days=7, long_call_timeout_hours=72)
    land_one(3, duplicate_window_days=8)
    with connect(settings) as connection:
        kept = connection.execute(
            "select duplicate_window_days, long_call_timeout_hours from control.usage_file"
            " where source_id = 'MSC-93' order by file_name"
        ).fetchall()
        told = connection.execute(
            "select detail -> 'changes' from identity.audit_log"
            " where action = 'change_source' and entity_id = 'MSC-93' order by id"
        ).fetchall()
    assert kept == [(90, 48), (7, 72), (8, 48)]
    assert [changes for (changes,) in told] == [
        None,
        {"duplicate_window_days": "90 → 7", "long_call_timeout_hours": "48 → 72"},
        {"duplicate_window_days": "7 → 8", "long_call_timeout_hours": "72 → 48"},
    ]
