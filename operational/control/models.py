"""Tables of schema control.

Who writes what: `ingestion` sources, files, land batches and alarms; the pipeline its runs and
which files each mediation run took; people, through this room, rules, corrections and rollbacks.
"""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import DateTime, ForeignKey, Index, Integer, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from operational.columns import Document, Key, Large, Moment, Price, String, Timestamped
from operational.database import Base
from tollhouse.file_reasons import FileReason, kept_reason, reason_of


class Source(Timestamped, Base):
    """One network element or partner that sends files."""

    __tablename__ = "source"
    __table_args__ = {"schema": "control"}  # noqa: RUF012 - SQLAlchemy's convention

    source_id: Mapped[Key]
    format: Mapped[String]
    province_code: Mapped[String]
    sequence_rule: Mapped[String | None]
    late_after_hours: Mapped[int]
    name_zh: Mapped[String]
    name_en: Mapped[String]
    location: Mapped[String | None]  # URL files are fetched from; null = its landing folder
    timezone: Mapped[str] = mapped_column(Text, server_default="Asia/Shanghai")
    country_code: Mapped[str] = mapped_column(Text, server_default="86")
    area_code: Mapped[String | None]
    expected_every_minutes: Mapped[int | None]  # without a file for longer, one is missing
    split_at_midnight: Mapped[bool] = mapped_column(server_default=text("false"))
    file_name: Mapped[String | None]  # pattern of its files' names; null until registered again
    sender: Mapped[String | None]  # what its files say they are from; null = its id
    settle_minutes: Mapped[int] = mapped_column(server_default=text("10"))
    done_marker: Mapped[String | None]
    archive_days: Mapped[int | None]  # null = as all are kept
    duplicate_window_days: Mapped[int] = mapped_column(server_default=text("90"))
    long_call_timeout_hours: Mapped[int] = mapped_column(server_default=text("48"))
    sequence_first: Mapped[int | None]  # null = numbers rise for ever
    sequence_last: Mapped[int | None]
    sequence_restarts: Mapped[str] = mapped_column(Text, server_default="never")
    after_collection: Mapped[str] = mapped_column(Text, server_default="keep")


class SourceVersion(Timestamped, Base):
    """What a source was from a moment on; the database adds one at every change. Append-only."""

    __tablename__ = "source_version"
    __table_args__ = {"schema": "control"}  # noqa: RUF012 - SQLAlchemy's convention

    source_id: Mapped[str] = mapped_column(
        Text, ForeignKey("control.source.source_id"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[Document]
    changed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class UsageFile(Timestamped, Base):
    """One file as collected, and what became of it."""

    @property
    def reason(self) -> FileReason | None:
        """Why it is as it is."""
        return reason_of(self.status_reason_code, self.status_reason_values)

    __tablename__ = "usage_file"
    __table_args__ = (
        Index("usage_file_status", "status", "received_at"),
        Index("usage_file_name", "source_id", "file_name"),
        Index(
            "usage_file_content", "source_id", "sha256", unique=True,
            postgresql_where=text("status in ('collected', 'landed', 'mediated')"),
        ),
        {"schema": "control"},
    )  # fmt: skip

    file_id: Mapped[Key]
    source_id: Mapped[String]
    file_name: Mapped[String]
    format: Mapped[String | None]
    province_code: Mapped[String]
    sha256: Mapped[String]
    size_bytes: Mapped[Large]
    sequence_number: Mapped[int | None]
    sequence_date: Mapped[date | None]  # the day it is a number of, where numbers begin anew daily
    created_at_source: Mapped[Moment | None]
    received_at: Mapped[Moment]
    collected_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    status: Mapped[String]
    status_reason_code: Mapped[String | None]  # its text: tollhouse.file_reasons
    status_reason_values: Mapped[Document] = mapped_column(
        server_default=text("'{}'"), default=dict
    )
    duplicate_of_file_id: Mapped[String | None]
    declared_record_count: Mapped[int | None]
    decoded_record_count: Mapped[int | None]
    batch_id: Mapped[String | None]
    landed_at: Mapped[Moment | None]
    # Raised by one when the file is landed, corrected or rolled back: what mediation goes by.
    revision: Mapped[int] = mapped_column(server_default="0", default=0)
    # Those of the source when the file was landed.
    duplicate_window_days: Mapped[int] = mapped_column(server_default="90", default=90)
    long_call_timeout_hours: Mapped[int] = mapped_column(server_default="48", default=48)


class Batch(Timestamped, Base):
    """One batch of files landed together."""

    __tablename__ = "batch"
    __table_args__ = {"schema": "control"}  # noqa: RUF012 - SQLAlchemy's convention

    batch_id: Mapped[Key]
    purpose: Mapped[String]
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    ended_at: Mapped[Moment | None]
    file_count: Mapped[int] = mapped_column(server_default="0")
    record_count: Mapped[Large] = mapped_column(server_default="0")


class PipelineRun(Timestamped, Base):
    """One run of one pipeline step; while it runs, `detail` says in which process."""

    __tablename__ = "pipeline_run"
    __table_args__ = (
        Index(
            "pipeline_run_running", "started_at", postgresql_where=text("status = 'running'")
        ),
        {"schema": "control"},
    )  # fmt: skip

    run_id: Mapped[Key]
    step: Mapped[String]
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    ended_at: Mapped[Moment | None]
    status: Mapped[String]
    detail: Mapped[Document] = mapped_column(server_default=text("'{}'"))


class MediationWork(Timestamped, Base):
    """One file in one mediation run (batch of purpose `mediate`), in the revision it then had."""

    __tablename__ = "mediation_work"
    __table_args__ = (
        Index("mediation_work_file", "file_id", "revision"), {"schema": "control"},
    )  # fmt: skip

    batch_id: Mapped[Key]
    file_id: Mapped[Key]
    revision: Mapped[int]
    is_again: Mapped[bool]
    is_changed: Mapped[bool]


class Overrides:
    """The fields of a record that a person may correct, as text; null = as it was received."""

    service: Mapped[String | None] = mapped_column(sort_order=50)
    direction: Mapped[String | None] = mapped_column(sort_order=51)
    served_msisdn: Mapped[String | None] = mapped_column(sort_order=52)
    served_imsi: Mapped[String | None] = mapped_column(sort_order=53)
    other_party: Mapped[String | None] = mapped_column(sort_order=54)
    started_local: Mapped[String | None] = mapped_column(sort_order=55)  # yyyymmddhhmmss
    utc_offset_minutes: Mapped[String | None] = mapped_column(sort_order=56)
    duration_seconds: Mapped[String | None] = mapped_column(sort_order=57)
    uplink_octets: Mapped[String | None] = mapped_column(sort_order=58)
    downlink_octets: Mapped[String | None] = mapped_column(sort_order=59)
    serving_plmn: Mapped[String | None] = mapped_column(sort_order=60)
    call_reference: Mapped[String | None] = mapped_column(sort_order=61)


class RejectedRecord(Overrides, Timestamped, Base):
    """One rejected record as mediation last judged it; the fields are those it judged by."""

    __tablename__ = "rejected_record"
    __table_args__ = (
        Index("rejected_record_reason", "reason_code", "received_at"),
        Index("rejected_record_source", "source_id", "received_at"),
        {"schema": "control"},
    )

    file_id: Mapped[Key]
    record_number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    record_format: Mapped[String | None]
    source_id: Mapped[String]
    province_code: Mapped[String]
    reason_code: Mapped[String]
    severity: Mapped[String | None]
    decode_detail: Mapped[String | None]
    raw_record: Mapped[String | None]
    received_at: Mapped[Moment]
    byte_offset: Mapped[Large | None]
    byte_length: Mapped[int | None]
    status: Mapped[str] = mapped_column(Text, server_default="open", default="open")

    @property
    def detail(self) -> FileReason | None:
        """What the decoder found wrong and where, None if nothing."""
        return kept_reason(self.decode_detail)


class Correction(Overrides, Timestamped, Base):
    """One correction of one record by a person. Append-only; the latest of a record counts.

    Without overrides the record is judged again as it was received.
    """

    __tablename__ = "correction"
    __table_args__ = (
        UniqueConstraint("action_id", "file_id", "record_number"),
        Index("correction_record", "file_id", "record_number", "corrected_at"),
        {"schema": "control"},
    )

    correction_id: Mapped[Key]
    file_id: Mapped[str] = mapped_column(Text, ForeignKey("control.usage_file.file_id"))
    record_number: Mapped[int]
    action_id: Mapped[String]
    land_batch_id: Mapped[String | None]  # of these records: a landing anew decodes others
    revision: Mapped[int]
    corrected_by: Mapped[String]
    corrected_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    reason: Mapped[String]


class ValidationRule(Timestamped, Base):
    """One version of one validation rule. Append-only but for the end of its validity."""

    __tablename__ = "validation_rule"
    __table_args__ = (
        Index(
            "validation_rule_in_force", "rule_id", unique=True,
            postgresql_where=text("valid_to is null"),
        ),
        {"schema": "control"},
    )  # fmt: skip

    rule_id: Mapped[Key]  # <rule_code>[@<source_id>][/<service>]
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    rule_code: Mapped[String]
    source_id: Mapped[String | None]
    service: Mapped[String | None]
    limit_value: Mapped[Large | None]
    severity: Mapped[String]
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    changed_by: Mapped[String]
    change_reason: Mapped[String]


class Rollback(Timestamped, Base):
    """Files taken back together, by whom and why; complete when the warehouse has followed."""

    __tablename__ = "rollback"
    __table_args__ = {"schema": "control"}  # noqa: RUF012 - SQLAlchemy's convention

    rollback_id: Mapped[Key]
    scope: Mapped[String]  # file or batch
    target: Mapped[String]
    reason: Mapped[String]
    requested_by: Mapped[String]
    requested_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    completed_at: Mapped[Moment | None]
    counts: Mapped[Document] = mapped_column(server_default=text("'{}'"))


class RollbackFile(Timestamped, Base):
    """One file of a rollback, with what hung on it before. Append-only."""

    __tablename__ = "rollback_file"
    __table_args__ = (Index("rollback_file_file", "file_id"), {"schema": "control"})

    rollback_id: Mapped[str] = mapped_column(
        Text, ForeignKey("control.rollback.rollback_id"), primary_key=True
    )
    file_id: Mapped[str] = mapped_column(
        Text, ForeignKey("control.usage_file.file_id"), primary_key=True
    )
    raw_records: Mapped[Large]
    usage_records: Mapped[Large]
    charges: Mapped[Large]
    charge_amount: Mapped[Price]


class FileAlarm(Timestamped, Base):
    """Something about the files of a source that somebody has to look at, until it is cleared."""

    __tablename__ = "file_alarm"
    __table_args__ = (
        Index("file_alarm_source", "source_id", "raised_at"),
        Index(
            "file_alarm_raised", "source_id", "kind", postgresql_where=text("cleared_at is null")
        ),
        {"schema": "control"},
    )

    alarm_id: Mapped[str] = mapped_column(
        Text, primary_key=True, server_default=text("gen_random_uuid()::text")
    )
    source_id: Mapped[String]
    # late, missing, gap, out_of_order, quarantined, original_unavailable
    kind: Mapped[String]
    detail_zh: Mapped[String]
    detail_en: Mapped[String]
    sequence_number: Mapped[int | None]
    sequence_date: Mapped[date | None]
    file_id: Mapped[String | None]
    raised_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    cleared_at: Mapped[Moment | None]
    settled_by: Mapped[String | None]  # who cleared it, where its cause did not go away
    settled_reason: Mapped[String | None]
