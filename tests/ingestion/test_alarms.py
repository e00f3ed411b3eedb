"""Alarms about files: raised once, cleared when their cause is gone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion import alarms as file_alarms
from ingestion import collect, land
from ingestion.alarms import LARGEST_GAP, raise_unavailable
from ingestion.archive import quarantine_path
from operational.control.service import settle_alarm
from operational.permissions import Principal
from operational.problems import NotFoundError
from tollhouse.file_reasons import FileReason
from tollhouse.postgres import connect
from tollhouse.settings import Settings

OPERATOR = Principal("operator", "Operator", "operator", "00")
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
        raise_unavailable(
            connection,
            {unreadable: FileReason("original_unavailable", {"path": "/a", "detail": "I/O error"})},
        )
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


def test_a_refused_file_that_somebody_settled_is_named_again_only_when_refused_again(
    settings: Settings, deliver: Any
) -> None:
    file_id = "MSC-44/MSC-44_20261005_000001.cdr"
    deliver("MSC-44", "MSC-44_20261005_000001.cdr", b"nonsense")
    collect(settings)
    settle_alarm(settings, principal=OPERATOR, file_id=file_id, reason="put there by mistake")
    for _ in range(2):
        assert collect(settings).alarms == []
    assert standing(settings) == []
    with connect(settings) as connection:
        kept = connection.execute(
            "select settled_by, settled_reason, cleared_at is not null from control.file_alarm"
        ).fetchall()
    assert kept == [("operator", "put there by mistake", True)]
    with pytest.raises(NotFoundError):
        settle_alarm(settings, principal=OPERATOR, file_id=file_id, reason="again")

    set_status(settings, file_id, "collected")
    set_status(settings, file_id, "rejected")
    collect(settings)
    assert standing(settings) == [("quarantined", None, file_id)]


def numbered_by_name(settings: Settings, folder: Path, **numbering: Any) -> Settings:
    """With a source whose files have their number, and their day, in the name."""
    source = {
        "source_id": "MSC-94", "name_zh": "测试", "name_en": "Test", "format": "switch_cdr",
        "province_code": "44", "file_name": r"MSC-94_(?P<date>\d{8})_(?P<sequence>\d+)\.cdr",
        "sequence_rule": "continuous", "late_after_hours": 90_000,
    }  # fmt: skip
    text = json.dumps({"sources": [source | numbering]})
    (folder / "sources.yaml").write_text(text, encoding="utf-8")
    return Settings(home=settings.home, sources_dir=folder)


def send_named(deliver: Any, build: Any, names: list[str], first: int = 0) -> None:
    """Deliver files, one a minute, whose header has another number than their name."""
    for minute, name in enumerate(names, first):
        line = build.switch_record(call_reference=f"{name}-{minute}")
        content = build.switch_file([line], source="MSC-94", sequence=7)
        deliver("MSC-94", f"MSC-94_{name}.cdr", content, RECEIVED + timedelta(minutes=minute))


def gaps(settings: Settings) -> list[tuple[int, str | None]]:
    with connect(settings) as connection:
        rows = connection.execute(
            "select sequence_number, sequence_date from control.file_alarm"
            " where cleared_at is null and kind = 'gap' order by sequence_date, sequence_number"
        ).fetchall()
    return [(number, str(day) if day else None) for number, day in rows]


@given(
    start=st.integers(1, 12),
    count=st.integers(2, 40),
    lost=st.sets(st.integers(1, 38), max_size=4),
    swapped=st.integers(0, 30),
)
@hypothesis_settings(max_examples=12, suppress_health_check=list(HealthCheck))
def test_what_is_lost_or_late_is_told_however_often_numbers_begin_anew(
    home: Path, start: int, count: int, lost: set[int], swapped: int
) -> None:
    """Numbers from 1 to 12, sent in turn but for some; two neighbours change places."""
    sent = [each for each in range(count) if each not in lost or each == count - 1]
    if swapped + 1 < len(sent):
        sent[swapped], sent[swapped + 1] = sent[swapped + 1], sent[swapped]
    numbers = [(start - 1 + each) % 12 + 1 for each in sent]
    with connect(Settings(home=home)) as connection:
        connection.execute("delete from control.file_alarm")
        connection.execute("delete from control.usage_file")
        connection.execute(
            "insert into control.source (source_id, name_zh, name_en, format, province_code,"
            " sequence_rule, late_after_hours, sequence_first, sequence_last) values"
            " ('WRAP', '绕', 'Wrap', 'switch_cdr', '44', 'continuous', 1, 1, 12)"
            " on conflict do nothing"
        )
        for at, number in enumerate(numbers):
            connection.execute(
                "insert into control.usage_file (file_id, source_id, file_name, province_code,"
                " sha256, size_bytes, sequence_number, received_at, collected_at, status)"
                " values (%(id)s, 'WRAP', %(id)s, '44', %(id)s, 1, %(number)s, %(at)s, %(at)s,"
                " 'collected')",
                {"id": f"WRAP/{at}", "number": number, "at": RECEIVED + timedelta(minutes=at)},
            )
        lines = list(file_alarms._gaps(connection, ["WRAP"]))
        late = list(file_alarms._out_of_order(connection, ["WRAP"]))
        connection.rollback()
    runs = [
        (start + before) % 12 + 1 for before, after in pairwise(sorted(sent)) if after - before > 1
    ]
    assert sorted(each.sequence_number or 0 for each in lines) == sorted(runs)
    swaps = [at for at in range(1, len(sent)) if sent[at] < max(sent[:at])]
    assert sorted(each.file_id or "" for each in late) == sorted(f"WRAP/{at}" for at in swaps)


def test_the_number_in_the_name_counts_and_is_watched_beyond_the_last_one(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any
) -> None:
    own = numbered_by_name(settings, tmp_path, sequence_first=1, sequence_last=9999)
    day = "20261005"
    send_named(deliver, build, [f"{day}_{each}" for each in ("9997", "9999", "0002", "0001")])
    result = collect(own)
    assert len(result.collected) == 4
    assert gaps(own) == [(9998, None)]
    (late,) = [each for each in result.alarms if each.kind == "out_of_order"]
    assert late.file_id == f"MSC-94/MSC-94_{day}_0001.cdr"
    assert "has sequence number 1 and came after number 2" in late.text.en


def test_numbers_of_a_day_begin_anew_with_the_first(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any
) -> None:
    own = numbered_by_name(
        settings, tmp_path, sequence_first=1, sequence_last=99, sequence_restarts="daily"
    )
    names = ["20261003_07", "20261003_09", "20261004_01", "20261004_02", "20261005_03"]
    send_named(deliver, build, names)
    result = collect(own)
    # Of the first day that is known nobody says where it began; of the others it is known.
    assert gaps(own) == [(8, "2026-10-03"), (1, "2026-10-05")]
    texts = [each.text.en for each in result.alarms if each.kind == "gap"]
    assert any("numbers 1 to 2 are missing of 2026-10-05" in text for text in texts)
    send_named(deliver, build, ["20261005_01", "20261005_02", "20261003_08"], first=50)
    assert collect(own).cleared_alarms == 2
    assert gaps(own) == []


def test_of_a_day_most_of_whose_numbers_are_lost_it_is_told_which(
    settings: Settings, tmp_path: Path, deliver: Any, build: Any
) -> None:
    own = numbered_by_name(
        settings, tmp_path, sequence_first=1, sequence_last=99, sequence_restarts="daily"
    )
    send_named(deliver, build, ["20261003_01", "20261003_60"])
    result = collect(own)
    assert gaps(own) == [(2, "2026-10-03")]
    (text,) = [each.text.en for each in result.alarms if each.kind == "gap"]
    assert "numbers 2 to 59 are missing of 2026-10-03" in text
    assert [each for each in result.alarms if each.kind == "out_of_order"] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("20261005_0", "its number is 0, not one from 1 to 99"),
        ("20261005_100", "its number is 100, not one from 1 to 99"),
        ("20261005_99999999999999999999", "the name has '99999999999999999999' where its number"),
        ("20261332_5", "the name has '20261332' where its day should be"),
    ],
)
def test_a_file_without_a_number_of_its_source_is_refused_with_what_its_name_says(  # noqa: PLR0917
    settings: Settings, tmp_path: Path, deliver: Any, build: Any, name: str, reason: str
) -> None:
    own = numbered_by_name(
        settings, tmp_path, sequence_first=1, sequence_last=99, sequence_restarts="daily"
    )
    send_named(deliver, build, [name])
    (told,) = collect(own).rejected.values()
    assert told.startswith("files of MSC-94 are numbered: ")
    assert reason in told
