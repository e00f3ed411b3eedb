"""Alarms about files 采集告警: late, missing, out of order, unreadable now, quarantined.

An alarm is raised once, while its cause is there, and cleared when that is gone:

====================  ======================================  ====================================
kind                  raised for                              cleared when
====================  ======================================  ====================================
late                  a file on its way to mediation that     its records are mediated, or it was
                      came later than it may                  taken back or refused
out_of_order          a file on its way to mediation that     the same
                      came after one with a higher number
gap                   a run of sequence numbers that no       a file with the number came
                      file has
missing               a source without a file for longer      a file came
                      than it may be
original_unavailable  a collected file whose archived         it was landed, taken back or refused
                      original the disk did not give
quarantined           a rejected file whose original stands   a good file of the same name came, the
                      in the quarantine folder                original is gone, or somebody settled
                                                              it since it was rejected
====================  ======================================  ====================================

Whoever was never expected to be on time (no `expected_every_minutes`, numbers that mean nothing)
has no such alarms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import psycopg

from ingestion import archive
from ingestion.sources import Source
from tollhouse.file_reasons import FileReason, reason_of
from tollhouse.settings import Settings

# A jump of the sequence numbers by more than this is no loss but a counter that began anew.
LARGEST_GAP = 10_000
# Numbers are watched in the files of a source's latest days: an older gap nobody will fill.
WATCHED_DAYS = 45
KEPT_DETAIL = 1000  # characters of a file's reason that go into an alarm


@dataclass(frozen=True)
class Text:
    """What people are told, in Chinese and English."""

    zh: str
    en: str


@dataclass(frozen=True)
class Alarm:
    """A cause that is there now. What it is about tells it from others; `text` is for people."""

    source_id: str
    kind: str
    sequence_number: int | None
    file_id: str | None
    text: Text = field(compare=False)
    sequence_date: date | None = None


@dataclass(frozen=True)
class AlarmChanges:
    """Alarms raised now, and how many were cleared."""

    raised: list[Alarm]
    cleared: int


def update_alarms(
    settings: Settings, connection: psycopg.Connection, sources: Mapping[str, Source]
) -> AlarmChanges:
    """Make ``control.file_alarm`` say what is wrong now, within the caller's transaction.

    One at a time: the caller holds the right to collect.
    """
    causes = {
        alarm: alarm.text for alarm in _causes(settings, connection, sources, datetime.now(UTC))
    }
    rows = connection.execute(
        "select alarm_id, source_id, kind, sequence_number, file_id, sequence_date, detail_zh,"
        " detail_en from control.file_alarm where cleared_at is null"
    ).fetchall()
    standing = {}
    for identity, source_id, kind, number, file_id, day, *texts in rows:
        alarm = Alarm(source_id, kind, number, file_id, Text(*texts), day)
        standing[alarm] = identity, alarm.text
    gone = [identity for alarm, (identity, _) in standing.items() if alarm not in causes]
    connection.execute(
        "update control.file_alarm set cleared_at = clock_timestamp() where alarm_id = any(%s)",
        (gone,),
    )
    raised = [alarm for alarm in causes if alarm not in standing]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into control.file_alarm"
            " (source_id, kind, sequence_number, sequence_date, file_id, detail_zh, detail_en)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    each.source_id,
                    each.kind,
                    each.sequence_number,
                    each.sequence_date,
                    each.file_id,
                    each.text.zh,
                    each.text.en,
                )
                for each in raised
            ],
        )
        cursor.executemany(
            "update control.file_alarm set detail_zh = %s, detail_en = %s where alarm_id = %s",
            [
                (causes[alarm].zh, causes[alarm].en, identity)
                for alarm, (identity, text) in standing.items()
                if alarm in causes and causes[alarm] != text
            ],
        )
    return AlarmChanges(raised, len(gone))


def _causes(
    settings: Settings,
    connection: psycopg.Connection,
    sources: Mapping[str, Source],
    now: datetime,
) -> Iterator[Alarm]:
    yield from _late(connection, sources)
    numbered = [key for key, each in sources.items() if each.sequence_rule == "continuous"]
    yield from _out_of_order(connection, numbered)
    yield from _gaps(connection, numbered)
    yield from _missing(connection, sources, now)
    yield from _unavailable(connection)
    yield from _quarantined(settings, connection)


def _late(connection: psycopg.Connection, sources: Mapping[str, Source]) -> Iterator[Alarm]:
    rows = connection.execute(
        "select source_id, file_id, received_at - created_at_source from control.usage_file"
        " where status in ('collected', 'landed') and created_at_source is not null"
    )
    for source_id, file_id, delay in rows:
        source = sources.get(source_id)
        if source is not None and delay > timedelta(hours=source.late_after_hours):
            hours = delay.total_seconds() / 3600
            yield Alarm(
                source_id, "late", None, file_id,
                Text(
                    f"{file_id} 在生成 {hours:.1f} 小时后到达，限 {source.late_after_hours} 小时",
                    f"{file_id} came {hours:.1f} hours after its creation; it may take"
                    f" {source.late_after_hours}",
                ),
            )  # fmt: skip


# The numbered files of the latest days of each source, each at its place. Numbers that begin anew
# after a last one go round (`span`): each file stands the shorter way round from the one that came
# before it, up or down. Numbers that begin anew every day are a sequence a day, and rise within it.
_WATCHED = """
with latest as (
    -- A file from a clock that is ahead came no later than it was collected.
    select source_id, max(least(received_at, collected_at)) as latest_at
    from control.usage_file
    where source_id = any(%(numbered)s)
    group by source_id
),
watched as (
    select file.source_id, file.file_id, file.status, file.received_at, file.sequence_number,
        file.sequence_date, source.sequence_first, source.sequence_last, source.sequence_restarts,
        case
            when file.sequence_date is null then source.sequence_last - source.sequence_first + 1
        end as span,
        latest.latest_at - %(watched)s * interval '1 day' as watched_since
    from control.usage_file as file
    inner join latest on file.source_id = latest.source_id
    inner join control.source on file.source_id = source.source_id
    where file.sequence_number is not null
        and file.status in ('collected', 'landed', 'mediated', 'rolled_back')
        and file.received_at > latest.latest_at - %(watched)s * interval '1 day'
),
followed as (
    select watched.*,
        first_value(sequence_number) over arrival as beginning,
        min(sequence_date) over (partition by source_id) as first_date,
        mod(
            mod(sequence_number - lag(sequence_number) over arrival, span) + span, span
        ) as step_up
    from watched
    window arrival as (
        partition by source_id, sequence_date order by received_at, sequence_number, file_id
    )
),
placed as (
    select followed.*,
        case when span is null then sequence_number
            else beginning + sum(
                case when 2 * step_up > span then step_up - span else coalesce(step_up, 0) end
            ) over (
                partition by source_id, sequence_date order by received_at, sequence_number, file_id
            )
        end as place
    from followed
)
"""


def _out_of_order(connection: psycopg.Connection, numbered: list[str]) -> Iterator[Alarm]:
    rows = connection.execute(
        _WATCHED  # noqa: S608 - a constant
        + """
        select source_id, file_id, sequence_number,
            case when span is null then before
                else sequence_first + mod(mod(before - sequence_first, span) + span, span)
            end
        from (
            select placed.*,
                max(place) over (
                    partition by source_id, sequence_date order by received_at, place
                    rows between unbounded preceding and 1 preceding
                ) as before
            from placed
        ) as numbers
        where status in ('collected', 'landed')
            and before > place and before - place <= %(largest)s
        """,
        {"numbered": numbered, "watched": WATCHED_DAYS, "largest": LARGEST_GAP},
    )
    for source_id, file_id, number, before in rows:
        yield Alarm(
            source_id, "out_of_order", number, file_id,
            Text(
                f"{file_id} 的序号 {number} 晚于序号 {before} 到达",
                f"{file_id} has sequence number {number} and came after number {before}",
            ),
        )  # fmt: skip


def _gaps(connection: psycopg.Connection, numbered: list[str]) -> Iterator[Alarm]:
    rows = connection.execute(
        _WATCHED  # noqa: S608 - a constant
        + """
        select source_id, sequence_date,
            case when span is null then before + 1
                else sequence_first + mod(mod(before + 1 - sequence_first, span) + span, span)
            end,
            case when span is null then place - 1
                else sequence_first + mod(mod(place - 1 - sequence_first, span) + span, span)
            end
        from (
            select placed.*,
                -- The first number of a day is due as well, once files of days before are watched.
                lag(
                    place, 1,
                    case
                        when sequence_restarts = 'daily'
                            and sequence_date > first_date
                            and sequence_date > watched_since::date + 2
                            then sequence_first - 1
                    end
                ) over (partition by source_id, sequence_date order by place) as before
            from placed
        ) as numbers
        where place - before between 2 and %(largest)s
        """,
        {"numbered": numbered, "watched": WATCHED_DAYS, "largest": LARGEST_GAP},
    )
    for source_id, day, first, last in rows:
        lost_zh, lost_en = f"{first} 至 {last}", f"numbers {first} to {last} are"
        if first == last:
            lost_zh, lost_en = f"{first}", f"number {first} is"
        of_zh, of_en = ("", "") if day is None else (f" {day:%Y-%m-%d} 的", f" of {day:%Y-%m-%d}")
        yield Alarm(
            source_id, "gap", first, None,
            Text(
                f"{source_id} 缺少{of_zh}序号 {lost_zh}，请 {source_id} 补送",
                f"{source_id}: sequence {lost_en} missing{of_en}; ask {source_id} to send what it"
                " has not sent",
            ),
            day,
        )  # fmt: skip


def _missing(
    connection: psycopg.Connection, sources: Mapping[str, Source], now: datetime
) -> Iterator[Alarm]:
    expected = {key: each for key, each in sources.items() if each.expected_every_minutes}
    rows = connection.execute(
        # A source that never sent anything is waited for from when it became known.
        "select source_id, coalesce("
        " (select max(collected_at) from control.usage_file as file"
        " where file.source_id = source.source_id), created_at)"
        " from control.source as source where source_id = any(%s)",
        (list(expected),),
    )
    for source_id, latest_at in rows:
        minutes = expected[source_id].expected_every_minutes or 0
        if now - latest_at > timedelta(minutes=minutes):
            since = f"{latest_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            yield Alarm(
                source_id, "missing", None, None,
                Text(
                    f"{source_id} 自 {since} 起没有文件，应每 {minutes} 分钟一个",
                    f"{source_id}: no file since {since}; one is expected every {minutes} minutes",
                ),
            )  # fmt: skip


def raise_unavailable(connection: psycopg.Connection, reasons: Mapping[str, FileReason]) -> None:
    """Raise an alarm for each collected file whose original could not be read, once."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into control.file_alarm (source_id, kind, file_id, detail_zh, detail_en)"
            " select source_id, 'original_unavailable', file_id, %(zh)s, %(en)s"
            " from control.usage_file as file where file_id = %(file)s and not exists ("
            " select from control.file_alarm as alarm where alarm.file_id = file.file_id"
            " and alarm.kind = 'original_unavailable' and alarm.cleared_at is null)",
            [
                {
                    "file": file_id,
                    "zh": f"{file_id}：{reason.zh[:KEPT_DETAIL]}；请检查归档磁盘，下次入库时重试",
                    "en": f"{file_id}: {reason.en[:KEPT_DETAIL]}; look at the disk of the archive:"
                    " the next landing tries again",
                }
                for file_id, reason in reasons.items()
            ],
        )


def _unavailable(connection: psycopg.Connection) -> Iterator[Alarm]:
    rows = connection.execute(
        "select alarm.source_id, alarm.sequence_number, alarm.file_id, alarm.detail_zh,"
        " alarm.detail_en"
        " from control.file_alarm as alarm"
        " join control.usage_file as file on file.file_id = alarm.file_id"
        " where alarm.kind = 'original_unavailable' and alarm.cleared_at is null"
        " and file.status = 'collected'"
    )
    for source_id, number, file_id, *texts in rows:
        yield Alarm(source_id, "original_unavailable", number, file_id, Text(*texts))


def _quarantined(settings: Settings, connection: psycopg.Connection) -> Iterator[Alarm]:
    """Of refused files; an original that a kill left in the archive goes to the quarantine."""
    rows = connection.execute(
        "select source_id, file_id, status_reason_code, status_reason_values, not exists ("
        " select from control.usage_file as better where better.source_id = file.source_id"
        " and better.file_name = file.file_name"
        " and better.status in ('collected', 'landed', 'mediated')"
        " and better.collected_at > file.collected_at)"
        # Whatever became of the file since it was settled is another matter.
        " and not exists (select from control.file_alarm as settled"
        " where settled.file_id = file.file_id and settled.kind = 'quarantined'"
        " and settled.settled_by is not null and settled.cleared_at >= file.updated_at)"
        " from control.usage_file as file where status = 'rejected'"
    )
    for source_id, file_id, code, values, is_open in rows:
        path = archive.quarantine_path(settings, file_id)
        if not path.exists() and archive.archive_path(settings, file_id).exists():
            archive.quarantine(settings, file_id)
        if is_open and path.exists():
            reason = reason_of(code, values)
            zh, en = (reason.zh, reason.en) if reason else ("", "")
            yield Alarm(
                source_id, "quarantined", None, file_id,
                Text(
                    f"{file_id} 被拒收：{zh[:KEPT_DETAIL]}；原件在 {path}",
                    f"{file_id} was refused: {en[:KEPT_DETAIL]}; its original is {path}",
                ),
            )  # fmt: skip
