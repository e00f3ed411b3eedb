"""Tables of schema control."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from operational.columns import Document, Key, Large, Moment, String, Timestamped
from operational.database import Base


class Source(Timestamped, Base):
    """One network element or partner that sends files."""

    __tablename__ = "source"
    __table_args__ = {"schema": "control"}  # noqa: RUF012 - SQLAlchemy's convention

    source_id: Mapped[Key]
    name: Mapped[String]
    format: Mapped[String]
    province_code: Mapped[String]
    sequence_rule: Mapped[String | None]
    late_after_hours: Mapped[int]


class UsageFile(Timestamped, Base):
    """One file as collected, and what became of it."""

    __tablename__ = "usage_file"
    __table_args__ = (
        Index("usage_file_status", "status", "received_at"),
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
    created_at_source: Mapped[Moment | None]
    received_at: Mapped[Moment]
    collected_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    status: Mapped[String]
    status_reason: Mapped[String | None]
    duplicate_of_file_id: Mapped[String | None]
    declared_record_count: Mapped[int | None]
    decoded_record_count: Mapped[int | None]
    batch_id: Mapped[String | None]
    landed_at: Mapped[Moment | None]


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
    """One run of one pipeline step."""

    __tablename__ = "pipeline_run"
    __table_args__ = {"schema": "control"}  # noqa: RUF012 - SQLAlchemy's convention

    run_id: Mapped[Key]
    step: Mapped[String]
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    ended_at: Mapped[Moment | None]
    status: Mapped[String]
    detail: Mapped[Document] = mapped_column(server_default=text("'{}'"))
