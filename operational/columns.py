"""Column types that the tables of all rooms share."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from sqlalchemy import BigInteger, DateTime, Numeric, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

String = Annotated[str, mapped_column(Text)]
Key = Annotated[str, mapped_column(Text, primary_key=True)]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Large = Annotated[int, mapped_column(BigInteger)]
Price = Annotated[Decimal, mapped_column(Numeric(18, 6))]  # before rounding to fen
Money = Annotated[Decimal, mapped_column(Numeric(18, 2))]
Document = Annotated[dict[str, Any], mapped_column(JSONB)]


class Timestamped:
    """When a row was made and last changed; the database keeps both."""

    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), sort_order=90
    )
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), sort_order=91
    )


class Versioned(Timestamped):
    """A row people edit: a stale copy is not saved (optimistic locking)."""

    version: Mapped[int] = mapped_column(server_default="1", default=1, sort_order=89)

    @declared_attr.directive
    def __mapper_args__(self) -> dict[str, Any]:
        return {"version_id_col": self.version}
