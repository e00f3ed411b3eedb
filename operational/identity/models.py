"""Tables of schema identity."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from operational.columns import Document, String, Timestamped, Versioned
from operational.database import Base


class AppUser(Versioned, Base):
    """One person who may sign in."""

    __tablename__ = "app_user"
    __table_args__ = {"schema": "identity"}  # noqa: RUF012 - SQLAlchemy's convention

    user_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    username: Mapped[str] = mapped_column(Text, unique=True)
    password_hash: Mapped[String]
    display_name: Mapped[String]
    role: Mapped[String]
    province_code: Mapped[String]
    language: Mapped[str] = mapped_column(Text, server_default="zh")
    is_active: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    # Raised at sign-out; a session cookie counts only in the epoch it was signed in.
    session_epoch: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class AuditLog(Timestamped, Base):
    """One change made by one person. Append-only."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_entity", "entity_type", "entity_id"), {"schema": "identity"})

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    username: Mapped[String]
    action: Mapped[String]
    entity_type: Mapped[String]
    entity_id: Mapped[String]
    detail: Mapped[Document] = mapped_column(server_default=text("'{}'"))
    province_code: Mapped[String]
