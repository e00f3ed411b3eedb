"""`tollhouse rejects`: what is typed, shown, exported and done."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from operational import database
from operational.control.rejects import Replacement
from tollhouse import cli
from tollhouse.postgres import EmbeddedServer, database_url, operational_url
from tollhouse.recycle import (
    COLUMNS,
    TypedError,
    change_of,
    pairs_of,
    replacement_of,
    selection_of,
)
from tollhouse.settings import Profile, Settings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("rejects")
    settings = Settings(home=folder)
    try:
        database.upgrade(settings)
        yield settings
    finally:
        EmbeddedServer(folder).remove()


@pytest.fixture
def settings(home: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two rejected records of one file, one with a line feed in what was received."""
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: home)
    with psycopg.connect(operational_url(home)) as connection:
        connection.execute("set local session_replication_role = replica")
        for table in ("correction", "rejected_record", "usage_file"):
            connection.execute(f"delete from control.{table}")
        connection.execute(
            "insert into control.usage_file (file_id, source_id, file_name, province_code, sha256,"
            " size_bytes, received_at, status, revision)"
            " values ('M-44/a', 'M-44', 'a', '44', 's', 1, now(), 'mediated', 1)"
        )
        connection.execute(
            "insert into control.rejected_record (file_id, record_number, record_format, source_id,"
            " province_code, reason_code, raw_record, received_at, byte_offset, byte_length,"
            " served_msisdn)"
            " values ('M-44/a', 1, 'switch_cdr', 'M-44', '44', 'invalid_msisdn', E'1,\"x\ny',"
            " '2026-10-02 00:00+00', 812, 120, '17951139'),"
            " ('M-44/a', 2, 'switch_cdr', 'M-44', '44', 'too_old', null,"
            " '2026-10-03 00:00+00', null, null, '138')"
        )
    return home


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["rejects", *arguments])


def statuses(settings: Settings) -> list[str]:
    with psycopg.connect(operational_url(settings)) as connection:
        rows = connection.execute(
            "select status from control.rejected_record order by record_number"
        )
        return [status for (status,) in rows]


def test_the_list_is_filtered_by_every_option(settings: Settings) -> None:
    for option, value, count in (
        ("--source", "M-44", 2), ("--source", "M-11", 0), ("--reason", "too_old", 1),
        ("--file", "M-44/a", 2), ("--since", "2026-10-03", 1), ("--format", "tap3", 0),
        ("--status", "open", 2), ("--status", "corrected", 0),
    ):  # fmt: skip
        found = json.loads(run(option, value, "--json").stdout)
        assert (found["count"], len(found["records"])) == (count, count), (option, value)
    assert "计费号码无效 Served number is not valid" in run().stdout


def test_the_export_holds_every_record_whole(settings: Settings, tmp_path: Path) -> None:
    target = tmp_path / "rejects.csv"
    assert run("--csv", str(target)).exit_code == 0
    with target.open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    assert list(rows[0]) == list(COLUMNS)
    assert {row["record_number"]: row["raw_record"] for row in rows} == {"1": '1,"x\ny', "2": ""}


def test_an_export_that_cannot_be_written_says_so(settings: Settings, tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "rejects.csv"
    answer = run("--csv", str(target))
    assert (answer.exit_code, type(answer.exception)) == (1, SystemExit)
    assert f"{target} cannot be written" in answer.stderr
    assert "No such file or directory" in answer.stderr


def test_one_record_is_shown_with_its_place_and_history(settings: Settings) -> None:
    done = run("correct", "M-44/a", "1", "--set", "served_msisdn=8613900000001", "--why", "prefix")
    assert done.exit_code == 0, done.output
    shown = run("show", "M-44/a", "1").stdout
    for text in ("byte 812, 120 bytes", '1,"x\ny', "prefix", "served_msisdn=8613900000001"):
        assert text in shown
    document = json.loads(run("show", "M-44/a", "1", "--json").stdout)
    assert document["corrections"][0]["fields"] == {"served_msisdn": "8613900000001"}
    assert statuses(settings) == ["corrected", "open"]
    missing = run("show", "M-44/a", "9")
    assert (missing.exit_code, "is not a rejected one" in missing.stderr) == (1, True)


def test_many_records_are_corrected_only_with_yes(settings: Settings) -> None:
    typed = ("correct", "--where", "source=M-44,reason=invalid_msisdn", "--replace",
             r"served_msisdn:^17951(\d+):+86\1", "--why", "prefix")  # fmt: skip
    shown = run(*typed)
    assert "17951139" in shown.stdout
    assert "+86139" in shown.stdout
    assert statuses(settings) == ["open", "open"]
    done = run(*typed, "--yes", "--json")
    assert json.loads(done.stdout)["records"] == 1
    assert "tollhouse run mediate" in done.stderr
    assert statuses(settings) == ["corrected", "open"]


def test_records_are_recycled_without_a_change(settings: Settings) -> None:
    assert run("recycle", "--where", "reason=too_old", "--why", "new limit", "--yes").exit_code == 0
    assert statuses(settings) == ["open", "corrected"]
    history = json.loads(run("show", "M-44/a", "2", "--json").stdout)["corrections"]
    assert [row["fields"] for row in history] == [{}]


def test_now_runs_mediation_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(
        "tollhouse.pipeline.run_step", lambda name, *_rest: ran.append(name) or {"files": 1}
    )
    assert run("recycle", "M-44/a", "2", "--why", "x", "--now").exit_code == 0
    assert ran == ["mediate"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("correct", "--why", "x", "--set", "service=sms"), 2, "name one record"),
        (("correct", "M-44/a", "--why", "x", "--set", "service=sms"), 2, "name one record"),
        (("correct", "M-44/a", "1", "--why", "x"), 1, "say what is to be corrected"),
        (("correct", "M-44/a", "1", "--why", "x", "--set", "service"), 1, "--set name=value"),
        (("correct", "M-44/a", "1", "--why", "x", "--set", "service=fax"), 1, "voice, sms"),
        (("correct", "M-44/a", "1", "--why", "x", "--replace", "a:b"), 1, "field:pattern:repl"),
        (("recycle", "--where", "colour=red", "--why", "x"), 1, "not chosen by colour"),
        (("--since", "yesterday"), 1, "write the day as 2026-10-31"),
        (("correct", "M-44/a", "1", "--why", " ", "--set", "service=sms"), 1, "give a reason"),
    ],
)
def test_what_is_typed_wrong_is_answered_with_how_it_is_written(
    settings: Settings, arguments: tuple[str, ...], code: int, message: str
) -> None:
    answer = run(*arguments)
    assert answer.exit_code == code, answer.output
    assert message in answer.stderr
    assert statuses(settings) == ["open", "open"]


plain = st.text(st.characters(codec="ascii", exclude_characters="\\"), max_size=8)


@given(st.lists(plain.filter(bool), min_size=2, max_size=2), plain)
def test_any_replacement_can_be_typed_with_its_colons_escaped(
    first: list[str], replacement: str
) -> None:
    parts = [*first, replacement]
    typed = ":".join(part.replace(":", r"\:") for part in parts)
    assert replacement_of(typed) == Replacement(*parts)


def test_backslashes_of_a_pattern_stay() -> None:
    assert replacement_of(r"a:^(\d+)\\$:\1") == Replacement("a", r"^(\d+)\\$", r"\1")


def test_a_comma_parts_conditions_but_stays_in_a_value() -> None:
    assert pairs_of(["a=1,b=2", "c=3"], "--where") == {"a": "1", "b": "2", "c": "3"}
    assert pairs_of(["a=1,b=2"], "--set") == {"a": "1,b=2"}
    with pytest.raises(TypedError, match="twice"):
        pairs_of(["a=1", "a=2"], "--set")
    assert change_of(["service=sms"], None, as_received=True).fields == ["service"]


def test_a_state_or_reason_that_there_is_not_is_refused(settings: Settings) -> None:
    for option, value, told in (
        ("--status", "foo", "open or corrected, not foo"), ("--reason", "foo", "no reason foo"),
    ):  # fmt: skip
        answer = run(option, value)
        assert answer.exit_code != 0
        assert told in " ".join(answer.stderr.split())


def test_a_day_begins_at_midnight_of_the_settings_zone(settings: Settings) -> None:
    since = selection_of(settings, {"since": "2026-10-03"}).since
    assert since is not None
    assert since.astimezone(UTC) == datetime(2026, 10, 2, 16, tzinfo=UTC)


def test_without_tables_the_answer_says_what_to_run_first(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = settings.model_copy(
        update={
            "profile": Profile.server,
            "operational_url": database_url(settings, "not_prepared"),
        }
    )
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: empty)
    answer = run()
    assert (answer.exit_code, "tollhouse run prepare" in answer.stderr) == (1, True)
