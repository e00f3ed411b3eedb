"""Calendar months, written 'YYYY-MM': what cycles and the ledger's periods are called."""

from __future__ import annotations

from datetime import date, timedelta


def month_after(month: str) -> str:
    """The month that follows."""
    year, number = map(int, month.split("-"))
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def first_day(month: str) -> date:
    """The first day of a month."""
    return date.fromisoformat(f"{month}-01")


def last_day(month: str) -> date:
    """The last day of a month."""
    return first_day(month_after(month)) - timedelta(days=1)
