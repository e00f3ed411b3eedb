"""Rejected records: publishing them, looking at them, correcting and recycling them.

A correction is a row beside the record, never a change of it: who, when, why and which fields are
to be read differently. The file's revision goes up with it, so that the next mediation run judges
the file again. Corrections add up: a later one keeps what an earlier one set, unless it says
`as_received`. They are of the records of one landing: loaded again, a file may be decoded into
others.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Subquery,
    Text,
    any_,
    cast,
    func,
    insert,
    literal,
    null,
    select,
    text,
    true,
    update,
)  # fmt: skip
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from operational import audit
from operational.bulk import add_to_temporary, copy_to_temporary
from operational.control.models import Correction, RejectedRecord, UsageFile
from operational.control.record_fields import (
    CHECKS,
    FIELDS,
    FieldValueError,
    check_values,
    require_fields,
)  # fmt: skip
from operational.database import driver_transaction, transaction
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

PAGE_ROWS = 50
SAMPLES = 5  # records shown before many are corrected at once
STATEMENT_LIMIT_MS = 120_000  # a pattern that takes longer is refused
PATTERN_LIMIT = 500  # characters
PORTION_BYTES = 1 << 20  # of rejected records, published at a time
# A file in another state has no records that a mediation run would take.
_LIVE = ("landed", "mediated")

_REJECT = "control.rejected_record"
_PUBLISHED = "published_reject"  # temporary: what a run publishes
_TEXTS = (
    "file_id", "record_format", "source_id", "province_code", "reason_code", "severity",
    "decode_detail", "raw_record",
)  # fmt: skip
_NUMBERS = ("record_number", "byte_offset", "byte_length")
_COLUMNS = (*_TEXTS, *_NUMBERS, "received_at", *FIELDS)


@dataclass(frozen=True)
class Selection:
    """Which rejected records: all of them, or those that agree with every value given."""

    source_id: str | None = None
    reason_code: str | None = None
    file_id: str | None = None
    file_part: str | None = None  # a part of the file's id
    record_number: int | None = None
    record_format: str | None = None
    since: datetime | None = None  # received at or after
    status: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on `RejectedRecord`."""
        columns: dict[str, Any] = {
            name: getattr(RejectedRecord, name)
            for name in ("source_id", "reason_code", "file_id", "record_number", "record_format",
                         "status")
        }  # fmt: skip
        found = [
            column == getattr(self, name)
            for name, column in columns.items() if getattr(self, name) is not None
        ]  # fmt: skip
        if self.file_part is not None:
            found.append(RejectedRecord.file_id.contains(self.file_part, autoescape=True))
        if self.since is not None:
            found.append(RejectedRecord.received_at >= self.since)
        return found

    def as_document(self) -> dict[str, str]:
        """The values given, for the audit log."""
        return {name: str(value) for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Replacement:
    """A part of a field's value replaced, wherever the pattern (PostgreSQL's) matches."""

    field: str
    pattern: str
    replacement: str


@dataclass(frozen=True)
class Change:
    """What is done with the records: fields set, a part of one replaced, or only judged again."""

    values: Mapping[str, str] = field(default_factory=dict)
    replacement: Replacement | None = None
    as_received: bool = False  # forget what was corrected before

    @property
    def fields(self) -> list[str]:
        """The fields that get another value."""
        replaced = [self.replacement.field] if self.replacement else []
        return [*self.values, *replaced]

    def check(self) -> None:
        """Raise InvalidRequestError unless this can be done."""
        check_values(self.values)
        if self.replacement is None:
            return
        require_fields((self.replacement.field,))
        if self.replacement.field in self.values:
            raise InvalidRequestError("set_and_replaced", field=self.replacement.field)
        if not 0 < len(self.replacement.pattern) <= PATTERN_LIMIT:
            raise InvalidRequestError("pattern_length", limit=PATTERN_LIMIT)


@dataclass(frozen=True)
class Sample:
    """One record of a dry run: field → (value now, value then)."""

    file_id: str
    record_number: int
    values: dict[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class DryRun:
    """What a change would do: how many records of how many files, and a few of them."""

    records: int
    files: int
    samples: list[Sample]


@dataclass(frozen=True)
class Corrected:
    """What a change did."""

    action_id: str
    records: int
    file_ids: list[str]


@dataclass(frozen=True)
class RejectView:
    """One record with its file and what people did to it; `record` is None once it is accepted."""

    record: RejectedRecord | None
    file: UsageFile
    record_number: int
    corrections: list[Correction]


# Publishing ---------------------------------------------------------------------------------------


def publish_rejects(settings: Settings, rows: pa.RecordBatchReader, *, batch_id: str) -> int:
    """Replace the rejected records of the files that a mediation run took.

    A record that was corrected after the run had taken its file stays `corrected`: it waits for the
    next run. Files that were rolled back meanwhile have none.

    Args:
        settings: says where.
        rows: `mediation.rejected_record`, all of it or the rows of the run, batch by batch: memory
            does not grow with them; times are UTC.
        batch_id: the run, as in `control.mediation_work`.

    Returns:
        How many rejected records the files of the run have now.
    """
    with driver_transaction(settings) as connection:
        # Copied before anything is locked: corrections need not wait for that.
        names = copy_to_temporary(
            connection, data=_published(rows.schema.empty_table()), like=_REJECT,
            temporary=_PUBLISHED,
        )  # fmt: skip
        for data in _portions(rows):
            add_to_temporary(connection, data=_published(data), like=_REJECT, temporary=_PUBLISHED)
        files = connection.execute(
            "select work.file_id from control.mediation_work as work where work.batch_id = %s",
            (batch_id,),
        ).fetchall()
        taken = sorted(file_id for (file_id,) in files)
        # The rows of the journal keep corrections of the same files away until this is done.
        connection.execute(
            "select 1 from control.usage_file where file_id = any(%s) order by file_id for update",
            (taken,),
        )
        connection.execute("delete from control.rejected_record where file_id = any(%s)", (taken,))
        columns = ", ".join(names)
        return _insert_published(connection, columns, batch_id)


def _insert_published(connection: psycopg.Connection[Any], columns: str, batch_id: str) -> int:
    count = connection.execute(
        f"insert into {_REJECT} ({columns}, status)"  # noqa: S608 - our columns
        f" select {', '.join(f'rej.{name}' for name in columns.split(', '))},"
        " case when exists ("
        "     select 1 from control.correction as cor"
        "     where cor.file_id = rej.file_id and cor.record_number = rej.record_number"
        "         and cor.revision > work.revision"
        " ) then 'corrected' else 'open' end"
        f" from {_PUBLISHED} as rej"
        " join control.mediation_work as work"
        "     on work.file_id = rej.file_id and work.batch_id = %s"
        " join control.usage_file as fil on fil.file_id = rej.file_id"
        " where fil.status in ('landed', 'mediated')",
        (batch_id,),
    ).rowcount
    connection.execute(f"drop table {_PUBLISHED}")
    return count


def _portions(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The batches, small ones put together: each portion costs round trips and a conversion."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= PORTION_BYTES:
            yield pa.Table.from_batches(waiting).combine_chunks()
            waiting, size = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _published(rows: pa.Table) -> pa.Table:
    """The warehouse's columns by the names and types of the operational table."""
    rows = rows.rename_columns([name.lstrip("_") for name in rows.column_names])
    if missing := [name for name in _COLUMNS if name not in rows.column_names]:
        raise ValueError(f"mediation.rejected_record lacks {', '.join(missing)}")
    columns: dict[str, pa.ChunkedArray] = {}
    for name in _COLUMNS:
        column = rows[name]
        if name == "received_at":
            column = pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")
        elif name == "started_local" and pa.types.is_timestamp(column.type):
            column = pc.strftime(column.cast(pa.timestamp("s"), safe=False), "%Y%m%d%H%M%S")
        elif name not in _NUMBERS:
            # PostgreSQL's texts hold no NUL, and a binary record shown as text may.
            column = pc.replace_substring(column.cast(pa.string()), "\0", "\\x00")
        columns[name] = column
    return pa.table(columns)


# Looking ------------------------------------------------------------------------------------------


def list_rejects(
    session: Session, *, principal: Principal, selection: Selection, limit: int = PAGE_ROWS,
    offset: int = 0,
) -> list[RejectedRecord]:  # fmt: skip
    """Rejected records of the user's province, last received first."""
    query = _visible(principal, select(RejectedRecord), selection)
    return list(session.scalars(_ordered(query).limit(limit).offset(offset)))


def every_reject(
    session: Session, *, principal: Principal, selection: Selection
) -> Iterator[RejectedRecord]:
    """All of them, one after the other, for an export: memory does not grow with their number."""
    query = _visible(principal, select(RejectedRecord), selection)
    yield from session.scalars(_ordered(query).execution_options(yield_per=5_000))


def count_rejects(session: Session, *, principal: Principal, selection: Selection) -> int:
    """How many there are."""
    query = _visible(principal, select(func.count()).select_from(RejectedRecord), selection)
    return session.scalar(query) or 0


def rejects_by_reason(
    session: Session, *, principal: Principal, selection: Selection
) -> dict[str, int]:
    """How many of a selection there are for each reason, the most first."""
    query = select(RejectedRecord.reason_code, func.count()).group_by(RejectedRecord.reason_code)
    query = _visible(principal, query, selection)
    return {
        row[0]: row[1]
        for row in session.execute(query.order_by(func.count().desc(), RejectedRecord.reason_code))
    }


def find_reject(
    session: Session, *, principal: Principal, file_id: str, record_number: int
) -> RejectView:
    """One record and what people did to it.

    Raises NotFoundError for one that is not rejected and never was corrected.
    """
    principal.require("reject.read")
    file = session.get(UsageFile, file_id)
    record = session.get(RejectedRecord, (file_id, record_number))
    corrections = list(
        session.scalars(
            select(Correction)
            .where(Correction.file_id == file_id, Correction.record_number == record_number)
            .order_by(Correction.corrected_at, Correction.correction_id)
        )
    )
    is_known = record is not None or corrections
    if file is None or not is_known or not principal.sees(file.province_code):
        raise NotFoundError("no_reject", file_id=file_id, record_number=record_number)
    return RejectView(record, file, record_number, corrections)


def _visible(principal: Principal, query: Any, selection: Selection) -> Any:
    principal.require("reject.read")
    query = query.where(*selection.conditions())
    return principal.only_own_province(query, RejectedRecord.province_code)


def _ordered(query: Any) -> Any:
    return query.order_by(
        RejectedRecord.received_at.desc(), RejectedRecord.file_id, RejectedRecord.record_number
    )


# Correcting ---------------------------------------------------------------------------------------


def try_change(
    session: Session, *, principal: Principal, selection: Selection, change: Change
) -> DryRun:
    """What `apply_change` would do, without doing it; raises what it would raise."""
    principal.require("reject.correct")
    change.check()
    with _bounded(session, change):
        return _dry_run(session, _chosen(principal, selection, change), change)


def apply_change(
    settings: Settings, *, principal: Principal, selection: Selection, change: Change, reason: str
) -> Corrected:
    """Correct, or only recycle, every rejected record chosen: all of them, or none on an error.

    Every record gets a correction row; each file's revision goes up by one, so that the next
    mediation run judges its records again; the records wait as `corrected`.

    Raises:
        InvalidRequestError: no reason given, or a value that is not one of its field.
        ConflictError: no record is chosen.
    """
    principal.require("reject.correct")
    change.check()
    reason = reason.strip()
    if not reason:
        raise InvalidRequestError("reason_missing")
    with transaction(settings) as session, _bounded(session, change):
        files = _lock_files(session, principal, selection, change)
        # A run may have published rejects of other files meanwhile: those are not locked.
        chosen = _chosen(principal, selection, change).where(_among(UsageFile.file_id, files))
        found = _dry_run(session, chosen, change)
        if not found.records:
            raise ConflictError("nothing_to_correct")
        # Taken after the locks, so that of two corrections of a record the later one is the latest.
        now = datetime.now(UTC)
        action_id = f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
        rows = chosen.subquery("chosen")
        session.execute(
            insert(Correction).from_select(
                ["correction_id", "file_id", "record_number", "action_id", "land_batch_id",
                 "revision", "corrected_by", "corrected_at", "reason", *FIELDS],
                select(
                    func.concat(action_id, "/", rows.c.file_id, "/", rows.c.record_number),
                    rows.c.file_id, rows.c.record_number, literal(action_id),
                    rows.c.land_batch_id, rows.c.revision + 1, literal(principal.username),
                    literal(now), literal(reason), *(rows.c[_then(name)] for name in FIELDS),
                ),
                include_defaults=False,
            )
        )  # fmt: skip
        _mark_corrected(session, action_id, files)
        _audit(
            session, principal=principal, selection=selection, change=change, action_id=action_id,
            found=found, reason=reason,
        )  # fmt: skip
    return Corrected(action_id, found.records, files)


@contextlib.contextmanager
def _bounded(session: Session, change: Change) -> Iterator[None]:
    """Statements inside end in time; what PostgreSQL says of a pattern becomes our message."""
    session.execute(text(f"set local statement_timeout = {STATEMENT_LIMIT_MS:d}"))
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.InvalidRegularExpression) and change.replacement:
            raise InvalidRequestError(
                "pattern_wrong", pattern=change.replacement.pattern,
                detail=error.orig.diag.message_primary or "",
            ) from None  # fmt: skip
        if isinstance(error.orig, psycopg.errors.QueryCanceled):
            raise InvalidRequestError("correction_too_long") from None
        raise


def _lock_files(
    session: Session, principal: Principal, selection: Selection, change: Change
) -> list[str]:
    """Keep the files of the chosen records as they are until the end; always in the same order."""
    chosen = _chosen(principal, selection, change).subquery("chosen")
    query = (
        select(UsageFile.file_id)
        .where(UsageFile.file_id.in_(select(chosen.c.file_id)))
        .order_by(UsageFile.file_id)
        .with_for_update()
    )
    return list(session.scalars(query))


def _chosen(principal: Principal, selection: Selection, change: Change) -> Select[Any]:
    """One row a record to be corrected: its file's revision, each field now and then.

    `now_<field>` is what the record says with its corrections, `then_<field>` the override it gets.
    """
    latest = (
        select(*(getattr(Correction, name) for name in FIELDS))
        .where(
            Correction.file_id == RejectedRecord.file_id,
            Correction.record_number == RejectedRecord.record_number,
            Correction.land_batch_id == UsageFile.batch_id,
        )
        .order_by(Correction.corrected_at.desc(), Correction.correction_id.desc())
        .limit(1)
        .lateral("latest")
    )
    now = {name: func.coalesce(latest.c[name], getattr(RejectedRecord, name)) for name in FIELDS}
    kept = {name: null() if change.as_received else latest.c[name] for name in FIELDS}
    then: dict[str, ColumnElement[Any]] = {
        name: literal(change.values[name], Text) if name in change.values else kept[name]
        for name in FIELDS
    }
    query: Any = (
        select(RejectedRecord.file_id, RejectedRecord.record_number)
        .join(UsageFile, UsageFile.file_id == RejectedRecord.file_id)
        .outerjoin(latest, true())
        .where(UsageFile.status.in_(_LIVE), *selection.conditions())
    )
    if (part := change.replacement) is not None:
        value = now[part.field]
        replaced = func.regexp_replace(value, part.pattern, part.replacement, "g")
        then[part.field] = replaced
        query = query.where(value.op("~")(part.pattern), replaced != value)
    query = query.add_columns(
        UsageFile.batch_id.label("land_batch_id"), UsageFile.revision.label("revision"),
        UsageFile.province_code.label("province_code"),
        *(now[name].label(_now(name)) for name in FIELDS),
        *(cast(then[name], Text).label(_then(name)) for name in FIELDS),
    )  # fmt: skip
    restricted: Select[Any] = principal.only_own_province(query, RejectedRecord.province_code)
    return restricted


def _among(column: Any, values: list[str]) -> ColumnElement[bool]:
    """`in`, with one parameter however many values there are."""
    return column == any_(literal(values, ARRAY(Text)))  # type: ignore[no-any-return]


def _now(name: str) -> str:
    return f"now_{name}"


def _then(name: str) -> str:
    return f"then_{name}"


def _dry_run(session: Session, chosen: Select[Any], change: Change) -> DryRun:
    rows = chosen.subquery("chosen")
    if (part := change.replacement) is not None:
        _check_replaced(session, rows, part)
    count = session.execute(
        select(func.count(), func.count(rows.c.file_id.distinct())).select_from(rows)
    ).one()
    query = select(rows).order_by(rows.c.file_id, rows.c.record_number).limit(SAMPLES)
    return DryRun(
        records=count[0], files=count[1],
        samples=[
            Sample(
                row["file_id"], row["record_number"],
                {
                    name: (row[_now(name)], row[_then(name)])
                    for name in FIELDS
                    if name in change.fields
                },
            )
            for row in session.execute(query).mappings()
        ],
    )  # fmt: skip


def _check_replaced(session: Session, rows: Subquery, part: Replacement) -> None:
    """Refuse a replacement that makes, of any record, something its field does not take."""
    column = rows.c[_then(part.field)]
    values: Iterable[str | None] = session.scalars(
        select(column).distinct().execution_options(yield_per=5_000)
    )
    for value in values:
        if not CHECKS[part.field](value or ""):
            raise FieldValueError({part.field: value or ""})


def _mark_corrected(session: Session, action_id: str, files: list[str]) -> None:
    session.execute(
        update(UsageFile)
        .where(_among(UsageFile.file_id, files))
        .values(revision=UsageFile.revision + 1)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(RejectedRecord)
        .where(
            RejectedRecord.file_id == Correction.file_id,
            RejectedRecord.record_number == Correction.record_number,
            Correction.action_id == action_id,
        )
        .values(status="corrected")
        .execution_options(synchronize_session=False)
    )


def _audit(
    session: Session, *, principal: Principal, selection: Selection, change: Change,
    action_id: str, found: DryRun, reason: str,
) -> None:  # fmt: skip
    """Who did what to how many records, and why; the values themselves are in the corrections."""
    province = session.scalars(
        select(UsageFile.province_code)
        .where(UsageFile.file_id.in_(
            select(Correction.file_id).where(Correction.action_id == action_id)
        ))
        .distinct()
    ).all()  # fmt: skip
    audit.record(
        session, username=principal.username,
        action="correct_records" if change.fields else "recycle_records",
        entity_type="rejected_record",
        entity_id=action_id,
        province_code=province[0] if len(province) == 1 else HEADQUARTERS,
        detail={
            "records": found.records, "files": found.files, "fields": change.fields,
            "selection": selection.as_document(), "reason": reason,
        },
    )  # fmt: skip
