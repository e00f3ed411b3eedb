"""Alarms about files: raised once, cleared when their cause is gone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion import collect, land
from ingestion.alarms import LARGEST_GAP, raise_unavailable
from ingestion.archive import quarantine_path
from tollhouse.postgres import connect
from tollhouse.settings import Settings

RECEIVED = datetime(2026, 10, 6, 1, 0, tzinfo=UTC)


@pytest.fixture
def send(deliver: Any, build: Any) -> Any:
    """Deliver a switch file with a sequence number: ``send(7)``; an hour after its creation."""

    def put(number: int, received: datetime | None = None) -> str:
        name = f"MSC-44_20261005_{number:06d}.cdr"
        line = build.switch_record(call_reference=str(number))
        moment = received or RECEIVED.replace(microsecond=number % 1_000_000)
        deliver("MSC-44", name, build.switch_file([line], sequence=number), moment)
        return f"MSC-44/{name}"

    return put


def standing(settings: Settings) -> list[tuple[str, int | None, str | None]]:
    """Kind, number and file of the alarms that are not cleared."""
    with connect(settings) as connection:
        return connection.execute(
            "select kind, sequence_number, file_id from control.file_alarm"
            " where cleared_at is null order by 1, 2, 3"
        ).fetchall()


def raised_ever(settings: Settings) -> int:
    with connect(settings) as connection:
        row = connection.execute("select count(*) from control.file_alarm").fetchone()
    return row[0] if row else 0


def set_status(settings: Settings, file_id: str, status: str) -> None:
    with connect(settings) as connection:
        connection.execute(
            "update control.usage_file set status = %s where file_id = %s", (status, file_id)
        )


def test_a_gap_is_raised_once_split_by_what_comes_and_cleared_when_all_came(
    settings: Settings, send: Any
) -> None:
    for number in (1, 2, 6):
        send(number)
    result = collect(settings)
    assert standing(settings) == [("gap", 3, None)]
    assert len(result.alarms) == 1
    assert "numbers 3 to 5 are missing" in result.alarms[0].text.en
    assert collect(settings).alarms == []

    send(4, RECEIVED + timedelta(minutes=1))
    collect(settings)
    assert [each for each in standing(settings) if each[0] == "gap"] == [
        ("gap", 3, None), ("gap", 5, None),
    ]  # fmt: skip

    send(3, RECEIVED + timedelta(minutes=2))
    send(5, RECEIVED + timedelta(minutes=3))
    assert collect(settings).cleared_alarms == 2
    assert [each for each in standing(settings) if each[0] == "gap"] == []


def test_a_file_from_a_clock_years_ahead_clears_no_gap(settings: Settings, send: Any) -> None:
    lately = datetime.now(UTC) - timedelta(days=2)
    send(1, lately)
    send(3, lately + timedelta(minutes=1))
    collect(settings)
    assert ("gap", 2, None) in standing(settings)

    send(4, lately + timedelta(days=1000))
    assert collect(settings).cleared_alarms == 0
    assert ("gap", 2, None) in standing(settings)


def test_a_counter_that_begins_anew_is_no_gap(settings: Settings, send: Any) -> None:
    send(LARGEST_GAP + 10)
    send(1, RECEIVED + timedelta(minutes=1))
    collect(settings)

    assert standing(settings) == []


def test_a_file_after_one_with_a_higher_number_is_out_of_order_until_it_is_mediated(
    settings: Settings, send: Any
) -> None:
    send(2)
    early = send(1, RECEIVED + timedelta(hours=1))
    collect(settings)
    assert standing(settings) == [("out_of_order", 1, early)]

    land(settings)
    collect(settings)
    assert standing(settings) == [("out_of_order", 1, early)]
    set_status(settings, early, "mediated")
    assert collect(settings).cleared_alarms == 1
    assert standing(settings) == []
    assert raised_ever(settings) == 1


def test_a_late_file_is_named_with_its_delay_until_it_is_taken_back(
    settings: Settings, send: Any
) -> None:
    late = send(1, datetime(2026, 10, 5, 16, 0, tzinfo=UTC) + timedelta(hours=24, seconds=1))
    result = collect(settings)
    assert standing(settings) == [("late", None, late)]
    assert "came 24.0 hours after its creation; it may take 24" in result.alarms[0].text.en

    set_status(settings, late, "rolled_back")
    collect(settings)
    assert standing(settings) == []


def test_a_file_that_is_just_in_time_raises_nothing(settings: Settings, send: Any) -> None:
    send(1, datetime(2026, 10, 5, 16, 0, tzinfo=UTC) + timedelta(hours=24))
    collect(settings)

    assert standing(settings) == []


def test_every_alarm_says_the_same_in_chinese_and_english(
    settings: Settings, send: Any, deliver: Any
) -> None:
    send(2)
    send(1, RECEIVED + timedelta(hours=1))
    unreadable = send(4, RECEIVED + timedelta(days=2))
    send(8, RECEIVED + timedelta(days=2, hours=1))
    deliver("MSC-44", "MSC-44_20261005_000009.cdr", b"nonsense")
    result = collect(settings)
    with connect(settings) as connection:
        raise_unavailable(connection, {unreadable: "[Errno 5] input/output error"})
    collect(settings)
    with connect(settings) as connection:
        told = connection.execute(
            "select kind, detail_zh, detail_en from control.file_alarm where cleared_at is null"
        ).fetchall()
    assert {(alarm.kind, alarm.text.zh, alarm.text.en) for alarm in result.alarms} < set(told)
    assert {kind for kind, _, _ in told} >= {
        "late", "out_of_order", "gap", "quarantined", "original_unavailable",
    }  # fmt: skip
    for _, chinese, english in told:
        assert re.search(r"[\u4e00-\u9fff]", chinese)
        assert not re.search(r"[\u4e00-\u9fff]", english)
        assert sorted(re.findall(r"\d+", chinese)) == sorted(re.findall(r"\d+", english))


def test_a_silent_source_is_missing_a_file_until_one_comes(
    settings: Settings, deliver: Any, build: Any, tmp_path: Path
) -> None:
    entry = {
        "source_id": "MSC-99", "name_zh": "测试", "name_en": "Test", "format": "switch_cdr",
        "province_code": "44", "file_name": "MSC-99_.*", "sequence_rule": "none",
        "late_after_hours": 24, "expected_every_minutes": 60,
    }  # fmt: skip
    (tmp_path / "sources.yaml").write_text(json.dumps({"sources": [entry]}), encoding="utf-8")
    own = settings.model_copy(update={"sources_dir": tmp_path})
    collect(own)
    assert standing(settings) == []  # it became known just now

    with connect(settings) as connection:
        connection.execute(
            "update control.source set created_at = now() - interval '61 minutes'"
            " where source_id = 'MSC-99'"
        )
    result = collect(own)
    assert standing(settings) == [("missing", None, None)]
    assert "one is expected every 60 minutes" in result.alarms[0].text.en

    deliver("MSC-99", "MSC-99_1", build.switch_file([build.switch_record()], source="MSC-99"))
    collect(own)
    assert standing(settings) == []


def test_a_quarantined_file_is_named_until_a_good_one_of_its_name_comes(
    settings: Settings, deliver: Any, build: Any
) -> None:
    name = "MSC-44_20261005_000001.cdr"
    deliver("MSC-44", name, b"nonsense")
    result = collect(settings)
    assert standing(settings) == [("quarantined", None, f"MSC-44/{name}")]
    assert str(quarantine_path(settings, f"MSC-44/{name}")) in result.alarms[0].text.en

    good = build.switch_file([build.switch_record()])
    deliver("MSC-44", name, good, RECEIVED + timedelta(days=1))
    collect(settings)
    assert "quarantined" not in {each[0] for each in standing(settings)}


def test_an_original_that_somebody_removed_is_quarantined_no_more(
    settings: Settings, deliver: Any
) -> None:
    deliver("MSC-44", "MSC-44_20261005_000001.cdr", b"nonsense")
    collect(settings)
    quarantine_path(settings, "MSC-44/MSC-44_20261005_000001.cdr").unlink()
    collect(settings)

    assert standing(settings) == []
